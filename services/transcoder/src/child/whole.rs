//! The whole source as a reader of tables sees it: bytes from a place, waited for.

use std::sync::{Arc, mpsc};

use super::formats::mp4;
use super::source::Ranges;
use crate::order::{Failure, FailureCode};
use crate::wire::MAX_RANGE_BYTES;

/// The whole source, as its ranges give it.
pub(super) struct Whole<'a>(pub(super) &'a Arc<dyn Ranges>);

/// The source can't be had, which is not its own fault.
pub(super) fn unreadable(why: String) -> Failure {
    Failure::new(FailureCode::SourceUnreadable, why.clone()).with("detail", why)
}

impl mp4::Bytes for Whole<'_> {
    fn read(&self, offset: u64, length: usize) -> Result<Vec<u8>, String> {
        let mut data = Vec::with_capacity(length);
        while data.len() < length {
            let (done, wait) = mpsc::channel();
            let part = (length - data.len()).min(MAX_RANGE_BYTES as usize) as u32;
            self.0.request(offset + data.len() as u64, part, Box::new(move |read| drop(done.send(read))));
            let read = wait.recv().map_err(|_| "the parent has gone".to_owned())??;
            if read.is_empty() {
                return Err("an empty range".to_owned());
            }
            data.extend_from_slice(&read);
        }
        Ok(data)
    }

    fn size_bytes(&self) -> u64 {
        self.0.size_bytes()
    }
}
