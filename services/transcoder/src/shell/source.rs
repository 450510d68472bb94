//! A stored source as the bytes a media child asks for.

use std::future::Future;
use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use spool_kit::source::SourceReader;

use crate::attempt::SourceBytes;

/// Longest a range may take to come: a child that waits for us is not stalled, so we must be bounded ourselves.
const READ_WITHIN: Duration = Duration::from_secs(60);

/// The pieces of a source, read as one.
pub(super) struct PieceBytes {
    reader: SourceReader,
}

impl PieceBytes {
    pub(super) fn new(reader: SourceReader) -> Self {
        Self { reader }
    }
}

impl SourceBytes for PieceBytes {
    fn size_bytes(&self) -> u64 {
        self.reader.size_bytes()
    }

    fn read(&self, range: Range<u64>) -> Pin<Box<dyn Future<Output = io::Result<Bytes>> + Send + '_>> {
        Box::pin(async move {
            match tokio::time::timeout(READ_WITHIN, self.reader.read_at(range.start, range.end - range.start)).await {
                Ok(read) => read.map_err(io::Error::other),
                Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the store did not answer in time")),
            }
        })
    }
}
