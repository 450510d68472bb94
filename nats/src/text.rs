//! What people typed, and requests from outside.

use async_nats::HeaderMap;
use bytes::Bytes;
use serde::Deserialize;
use spool_proto::id::TextToken;
use spool_proto::text::Text;
use spool_proto::{AssetId, TenantId, envelope, subject};

use crate::api::{self, code};
use crate::connect::Log;
use crate::message::headers;
use crate::request::{Failure, about};
use crate::streams::{INGEST_WINDOW, TEXTS};
use crate::trace;

/// How often a request is put on the stream while the server takes it for a repeat.
const INGEST_TRIES: u32 = 10;

/// A text could not be written, read or erased.
#[derive(Debug, thiserror::Error)]
pub enum TextError {
    /// The server could not be asked, or said no.
    #[error("{what} of asset {asset}")]
    Failed {
        /// What was attempted.
        what: &'static str,
        /// Asset.
        asset: AssetId,
        /// Why.
        #[source]
        source: Failure,
    },
    /// What stands there is no text.
    #[error("text {token} of asset {asset} is not understood")]
    Malformed {
        /// Asset.
        asset: AssetId,
        /// Token.
        token: TextToken,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
}

/// It is not known whether the request is on the stream.
#[derive(Debug, thiserror::Error)]
#[error("put a request of tenant {tenant} on the ingest stream")]
pub struct IngestError {
    /// Tenant.
    pub tenant: TenantId,
    /// Why.
    #[source]
    pub source: Failure,
}

impl Log {
    /// Puts a text under its token. A token's text is written once: repeating it is harmless, another text under it is not stored.
    ///
    /// # Errors
    /// When it is not known whether it stands.
    pub async fn put_text(
        &self,
        tenant: &TenantId,
        asset: &AssetId,
        token: &TextToken,
        text: &Text,
    ) -> Result<(), TextError> {
        let body = serde_json::to_vec(text).map_err(malformed(asset, token))?;
        let subject = subject::text(tenant, asset, token);
        let stored = self.store_again(&subject, HeaderMap::new(), body.into()).await;
        let failure = match stored {
            Ok(_) => return Ok(()),
            Err(failure) => failure,
        };
        // "Per subject" is one of many things that this code says, so what stands there decides.
        let taken = failure.code() == Some(code::STORE_REFUSED)
            && self.last_at_leader(TEXTS, &subject).await.map_err(failed("put a text", asset))?.is_some();
        if taken { Ok(()) } else { Err(failed("put a text", asset)(failure)) }
    }

    /// The text of a token; nothing when it was erased (a miss is asked again at the leader before it counts).
    ///
    /// # Errors
    /// When it is not known.
    pub async fn get_text(
        &self,
        tenant: &TenantId,
        asset: &AssetId,
        token: &TextToken,
    ) -> Result<Option<Text>, TextError> {
        let subject = subject::text(tenant, asset, token);
        let stored = self.last(TEXTS, &subject).await.map_err(failed("read a text", asset))?;
        let Some(stored) = stored else { return Ok(None) };
        serde_json::from_slice(&stored.body).map(Some).map_err(malformed(asset, token))
    }

    /// Erases every text of an asset; how many there were.
    ///
    /// # Errors
    /// When it is not known that they are gone.
    pub async fn purge_texts(&self, tenant: &TenantId, asset: &AssetId) -> Result<u64, TextError> {
        #[derive(Deserialize)]
        struct Purged {
            #[serde(default)]
            purged: u64,
        }
        let filter = serde_json::json!({ "filter": subject::asset_texts(tenant, asset) });
        let purged: Result<Purged, _> = self.ask_again(&api::stream_purge(TEXTS), filter.to_string().into()).await;
        purged.map(|purged| purged.purged).map_err(failed("erase the texts", asset))
    }

    /// Puts a request on the ingest stream, stored when this returns. `headers` are names of [`spool_proto::envelope`]. After a time-out it may stand there
    /// twice: its natural key makes that harmless.
    ///
    /// # Errors
    /// When it is not known whether it stands.
    pub async fn put_ingest(
        &self,
        tenant: &TenantId,
        request: &[u8],
        message_id: &str,
        extra: &[(&str, String)],
    ) -> Result<(), IngestError> {
        let mut pairs = vec![(envelope::MSG_ID, message_id.to_owned())];
        pairs.extend(extra.iter().cloned());
        pairs.extend(trace::current().map(|trace| (envelope::TRACEPARENT, trace)));
        let (subject, headers, body) = (subject::ingest(tenant), headers(pairs), Bytes::copy_from_slice(request));
        let failed = |source| IngestError { tenant: tenant.clone(), source };
        // Dedup ids are those of the whole stream, so another tenant's may be in the way for a moment; a real repeat does no harm.
        for _ in 0..INGEST_TRIES {
            if !self.store_again(&subject, headers.clone(), body.clone()).await.map_err(failed)?.duplicate {
                return Ok(());
            }
            about(INGEST_WINDOW.saturating_mul(2)).await;
        }
        Err(failed(Failure::timed_out(&subject)))
    }
}

fn failed(what: &'static str, asset: &AssetId) -> impl FnOnce(Failure) -> TextError + use<> {
    let asset = asset.clone();
    move |source| TextError::Failed { what, asset, source }
}

fn malformed(asset: &AssetId, token: &TextToken) -> impl FnOnce(serde_json::Error) -> TextError + use<> {
    let (asset, token) = (asset.clone(), token.clone());
    move |source| TextError::Malformed { asset, token, source }
}
