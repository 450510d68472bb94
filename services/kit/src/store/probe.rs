//! Finding out what a store can do by trying it once at the start.

use bytes::Bytes;
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt as _, PutMode, PutOptions};

/// What a store was found to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Abilities {
    /// Does a write that must not overwrite really not overwrite?
    pub conditional_put: bool,
}

/// Writes one small object twice, reads it, deletes it. Its name is new, so nothing of anybody is touched.
pub(super) async fn probe(store: &dyn ObjectStore) -> object_store::Result<Abilities> {
    let random = getrandom::u64().unwrap_or_default();
    let path = Path::from(format!("probe/{random:016x}"));
    let create = || PutOptions { mode: PutMode::Create, ..PutOptions::default() };
    let put = |text: &'static str, options| store.put_opts(&path, Bytes::from_static(text.as_bytes()).into(), options);

    let conditional_put = match put("first", create()).await {
        Err(Error::NotImplemented { .. } | Error::NotSupported { .. }) => {
            put("first", PutOptions::default()).await?;
            false
        }
        Err(error) => return Err(error),
        Ok(_) => match put("second", create()).await {
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => true,
            Err(error) => return Err(error),
            Ok(_) => false,
        },
    };
    let _readable = store.get_range(&path, 0..5).await?;
    store.delete(&path).await?;
    Ok(Abilities { conditional_put })
}
