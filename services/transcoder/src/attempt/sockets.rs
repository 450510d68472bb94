//! The parent's ends of the two sockets. Nothing that a child sends is trusted: lengths and ranges are checked first.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;

use super::watch::Motion;
use super::{Delivery, SourceBytes};
use crate::cage::CageReport;
use crate::order::Answer;
use crate::wire::{
    self, Broken, FRAME_HEAD_BYTES, Head, MAX_RANGE_ERROR_BYTES, MAX_RANGES_OPEN, Message, RANGE_REQUEST_BYTES,
    RangeRequest,
};

/// Why ranges are no longer served.
#[derive(Debug)]
pub(super) enum ServeError {
    /// The source could not be read.
    Source { range: Range<u64>, source: io::Error },
    /// The child asked for what does not exist.
    Broken(Broken),
}

/// Answers range requests until the child closes its end.
pub(super) async fn serve_ranges(
    socket: UnixStream,
    source: Arc<dyn SourceBytes>,
    motion: Arc<Motion>,
) -> Result<(), ServeError> {
    let (mut requests, answers) = socket.into_split();
    let answers = Arc::new(Mutex::new(answers));
    let mut reads: JoinSet<Result<(), ServeError>> = JoinSet::new();
    let mut request = [0; RANGE_REQUEST_BYTES];
    let mut filled = 0;
    loop {
        tokio::select! {
            // `read` into the rest of the request is safe to drop between two of its returns; `read_exact` is not.
            read = requests.read(&mut request[filled..]), if reads.len() < MAX_RANGES_OPEN => match read {
                Ok(0) | Err(_) => return Ok(()),
                Ok(read) => {
                    filled += read;
                    if filled < RANGE_REQUEST_BYTES {
                        continue;
                    }
                    filled = 0;
                    let request = RangeRequest::parse(request, source.size_bytes()).map_err(ServeError::Broken)?;
                    reads.spawn(answer(request, Arc::clone(&source), Arc::clone(&answers), Arc::clone(&motion)));
                }
            },
            Some(done) = reads.join_next(), if !reads.is_empty() => match done {
                Ok(result) => result?,
                Err(err) => {
                    let source = io::Error::other(err);
                    return Err(ServeError::Source { range: 0..0, source });
                }
            },
        }
    }
}

async fn answer(
    request: RangeRequest,
    source: Arc<dyn SourceBytes>,
    answers: Arc<Mutex<tokio::net::unix::OwnedWriteHalf>>,
    motion: Arc<Motion>,
) -> Result<(), ServeError> {
    let range = request.offset..request.offset + u64::from(request.length);
    let read = {
        let _busy = motion.parent_busy();
        source.read(range.clone()).await
    };
    let read = match read {
        Ok(data) if data.len() == request.length as usize => {
            motion.read(range.start);
            Ok(data)
        }
        Ok(data) => Err(io::Error::new(io::ErrorKind::UnexpectedEof, format!("got {} bytes", data.len()))),
        Err(err) => Err(err),
    };
    let (ok, data) = match &read {
        Ok(data) => (true, data.clone()),
        Err(err) => {
            let mut text = err.to_string().into_bytes();
            text.truncate(MAX_RANGE_ERROR_BYTES);
            (false, Bytes::from(text))
        }
    };
    let head = wire::range_answer_head(request.id, ok, data.len());
    let mut socket = answers.lock().await;
    // A child that has ended needs no answer; its output tells why it ended.
    if socket.write_all(&head).await.is_ok() {
        let _gone = socket.write_all(&data).await;
    }
    read.map(|_| ()).map_err(|source| ServeError::Source { range, source })
}

/// What came over the output socket besides deliveries.
#[derive(Debug, Default)]
pub(super) struct Taken {
    pub(super) cage: Option<CageReport>,
    pub(super) refused: Option<String>,
    pub(super) answer: Option<Answer>,
}

/// Why no more output is taken.
#[derive(Debug)]
pub(super) enum TakeError {
    /// Nobody wants it.
    ReceiverGone,
    /// It is not ours.
    Broken(Broken),
}

/// Sends the assignment, then hands on deliveries until the last word or the child's end.
pub(super) async fn take_output(
    mut socket: UnixStream,
    assignment: Vec<u8>,
    out: mpsc::Sender<Delivery>,
    motion: Arc<Motion>,
) -> Result<Taken, TakeError> {
    let mut taken = Taken::default();
    // A child that died before it read its order shows in the reading below.
    let _gone = socket.write_all(&assignment).await;
    let mut socket = tokio::io::BufReader::with_capacity(64 << 10, socket);
    loop {
        let mut head = [0; FRAME_HEAD_BYTES];
        if socket.read_exact(&mut head).await.is_err() {
            return Ok(taken);
        }
        motion.moved();
        let head = wire::head(head).map_err(TakeError::Broken)?;
        let length = match head {
            Head::Message(length) | Head::Payload(length) => length,
        };
        let mut body = vec![0; length];
        if socket.read_exact(&mut body).await.is_err() {
            return Ok(taken);
        }
        motion.moved();
        let delivery = match head {
            Head::Payload(_) => {
                let (rendition, chunk, data) = wire::parse_payload(body.into()).map_err(TakeError::Broken)?;
                Delivery::Bytes { rendition, chunk, data }
            }
            Head::Message(_) => match wire::parse_message(&body).map_err(TakeError::Broken)? {
                Message::Caged(report) => {
                    taken.cage = Some(report);
                    continue;
                }
                Message::CageRefused(why) => {
                    taken.refused = Some(why);
                    return Ok(taken);
                }
                Message::Answer(answer) => {
                    taken.answer = Some(answer);
                    return Ok(taken);
                }
                Message::ObjectDone { rendition, chunk, made } => Delivery::ObjectDone { rendition, chunk, made },
                Message::Progress { at_ns } => {
                    motion.reached(at_ns);
                    Delivery::Progress { at_ns }
                }
                Message::FrameHash { at_ns, hash } => Delivery::FrameHash { at_ns, hash },
            },
        };
        let _busy = motion.parent_busy();
        out.send(delivery).await.map_err(|_| TakeError::ReceiverGone)?;
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::Pin;

    use super::*;

    /// A source of that many zeros.
    struct Zeros(u64);

    impl SourceBytes for Zeros {
        fn size_bytes(&self) -> u64 {
            self.0
        }

        fn read(&self, range: Range<u64>) -> Pin<Box<dyn Future<Output = io::Result<Bytes>> + Send + '_>> {
            Box::pin(async move { Ok(vec![0; (range.end - range.start) as usize].into()) })
        }
    }

    #[tokio::test]
    async fn a_child_that_reads_on_and_says_nothing_moves() {
        let (mut child, parent) = UnixStream::pair().unwrap();
        let motion = Arc::new(Motion::default());
        let served = tokio::spawn(serve_ranges(parent, Arc::new(Zeros(1 << 40)), Arc::clone(&motion)));
        let mut moves = Vec::new();
        for offset in [0, 8, 1 << 30, 1 << 39, 16] {
            child.write_all(&RangeRequest { id: 1, offset, length: 4 }.to_bytes()).await.unwrap();
            child.read_exact(&mut [0; wire::RANGE_ANSWER_HEAD_BYTES + 4]).await.unwrap();
            moves.push(motion.has_moved());
        }
        assert_eq!(moves, [true, false, true, true, false]);
        drop(child);
        assert!(served.await.unwrap().is_ok());
    }
}
