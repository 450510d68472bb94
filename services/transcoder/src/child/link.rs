//! The child's ends of the two sockets: ranges in, output out.
//!
//! Both are plain descriptors read and written by `read` and `write`: the cage denies every call of the socket family.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::source::{RangeDone, Ranges};
use crate::order::{Made, Output, OutputClosed};
use crate::wire::{
    self, MAX_MESSAGE_BYTES, MAX_PAYLOAD_BYTES, MAX_RANGE_BYTES, MAX_RANGE_ERROR_BYTES, MAX_RANGES_OPEN, Message,
    RANGE_ANSWER_HEAD_BYTES, RangeRequest,
};

/// Exit code of a child whose parent has gone.
pub(crate) const EXIT_ORPHANED: i32 = 71;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads the assignment from the output socket.
pub(crate) fn read_assignment(socket: &mut File) -> std::io::Result<wire::Assignment> {
    let mut length = [0; 4];
    socket.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length) as usize;
    if length > MAX_MESSAGE_BYTES {
        return Err(std::io::Error::other("assignment is too long"));
    }
    let mut json = vec![0; length];
    socket.read_exact(&mut json)?;
    serde_json::from_slice(&json).map_err(std::io::Error::other)
}

/// The output socket.
pub(crate) struct OutputLink {
    socket: Mutex<File>,
}

impl OutputLink {
    pub(crate) fn new(socket: File) -> Self {
        Self { socket: Mutex::new(socket) }
    }

    /// Sends a message; blocks while the parent is slow.
    pub(crate) fn send(&self, message: &Message) -> Result<(), OutputClosed> {
        let frame = wire::message_frame(message);
        lock(&self.socket).write_all(&frame).map_err(|_| OutputClosed)
    }
}

impl Output for OutputLink {
    fn bytes(&self, rendition: &str, chunk: u32, data: &[Bytes]) -> Result<(), OutputClosed> {
        for part in data {
            for piece in part.chunks(MAX_PAYLOAD_BYTES) {
                let head = wire::payload_head(rendition, chunk, piece.len());
                // One lock over head and data: renditions write from threads of their own.
                let mut socket = lock(&self.socket);
                socket.write_all(&head).and_then(|()| socket.write_all(piece)).map_err(|_| OutputClosed)?;
            }
        }
        Ok(())
    }

    fn object_done(&self, rendition: &str, chunk: u32, made: Made) -> Result<(), OutputClosed> {
        self.send(&Message::ObjectDone { rendition: rendition.to_owned(), chunk, made })
    }

    fn progress(&self, at_ns: u64) -> Result<(), OutputClosed> {
        self.send(&Message::Progress { at_ns })
    }

    fn frame_hash(&self, at_ns: u64, hash: u64) -> Result<(), OutputClosed> {
        self.send(&Message::FrameHash { at_ns, hash })
    }
}

/// Requests on their way, and those that wait for a place.
#[derive(Default)]
struct Open {
    asked: HashMap<u64, RangeDone>,
    closed: bool,
}

/// The range socket. `request` waits only while [`MAX_RANGES_OPEN`] are on their way.
pub(crate) struct RangeLink {
    requests: Mutex<File>,
    open: Arc<(Mutex<Open>, Condvar)>,
    next_id: AtomicU64,
    size_bytes: u64,
}

impl RangeLink {
    /// Starts the thread that takes answers. When the parent goes, its end of the socket closes and the whole process
    /// ends here, whatever the decoders are doing: the second string behind the parent-death signal.
    pub(crate) fn start(socket: File, size_bytes: u64) -> std::io::Result<Arc<Self>> {
        let answers = socket.try_clone()?;
        let open = Arc::new((Mutex::new(Open::default()), Condvar::new()));
        let link = Arc::new(Self {
            requests: Mutex::new(socket),
            open: Arc::clone(&open),
            next_id: AtomicU64::new(0),
            size_bytes,
        });
        std::thread::Builder::new().name("ranges".to_owned()).spawn(move || {
            take_answers(answers, &open);
            super::run::leave(EXIT_ORPHANED)
        })?;
        Ok(link)
    }
}

impl Ranges for RangeLink {
    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    fn request(&self, offset: u64, length: u32, done: RangeDone) {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        {
            let (open, freed) = &*self.open;
            let mut open = lock(open);
            while open.asked.len() >= MAX_RANGES_OPEN && !open.closed {
                open = freed.wait(open).unwrap_or_else(PoisonError::into_inner);
            }
            if open.closed {
                drop(open);
                return done(Err("the parent has gone".to_owned()));
            }
            open.asked.insert(id, done);
        }
        let request = RangeRequest { id, offset, length }.to_bytes();
        let sent = lock(&self.requests).write_all(&request);
        if let Err(err) = sent
            && let Some(done) = lock(&self.open.0).asked.remove(&id)
        {
            done(Err(err.to_string()));
        }
    }
}

/// Until the socket closes or says something that is not an answer.
fn take_answers(mut socket: File, open: &(Mutex<Open>, Condvar)) {
    loop {
        let mut head = [0; RANGE_ANSWER_HEAD_BYTES];
        let Ok(()) = socket.read_exact(&mut head) else { break };
        let id = head[..8].iter().fold(0_u64, |n, b| (n << 8) | u64::from(*b));
        let ok = head[8] == 1;
        let length = u32::from_be_bytes([head[9], head[10], head[11], head[12]]) as usize;
        if length > if ok { MAX_RANGE_BYTES as usize } else { MAX_RANGE_ERROR_BYTES } {
            break;
        }
        let mut data = vec![0; length];
        let Ok(()) = socket.read_exact(&mut data) else { break };
        let asked = lock(&open.0).asked.remove(&id);
        open.1.notify_all();
        let Some(done) = asked else { break };
        done(if ok { Ok(Bytes::from(data)) } else { Err(String::from_utf8_lossy(&data).into_owned()) });
    }
    lock(&open.0).closed = true;
    open.1.notify_all();
}
