//! `spoolsrc`: the source's bytes as a gstreamer element, pulled in ranges.
//!
//! A demuxer reads some hundred bytes here and some there; each read that became a request of its own was measured at 48 s
//! instead of 0.5 s for 70 MB. So bytes are asked for in blocks, the next ones ahead of their use, and kept in a small
//! cache. Blocks arrive by callback from any thread; `unlock` wakes whoever waits. Memory: [`CACHED_BLOCKS`] blocks.

use std::sync::Arc;

use bytes::Bytes;
use gst::glib;
use gst::prelude::*;

use crate::order::Failure;
use crate::wire::MAX_RANGE_BYTES;

/// Size of a block.
const BLOCK_BYTES: u64 = MAX_RANGE_BYTES as u64;
/// Blocks asked for beyond the one that is read.
const AHEAD_BLOCKS: u64 = 3;
/// Blocks kept. Interleaved files are read at two or three places at once, each with its read-ahead.
const CACHED_BLOCKS: usize = 24;
/// The one source of a child, as its stream ids see it: the same in every order, so that stream ids are too.
pub const SOURCE_URI: &str = "spool://source";

/// Called once with the bytes of a range, or with why they could not be had.
pub type RangeDone = Box<dyn FnOnce(Result<Bytes, String>) + Send>;

/// Where ranges of the source come from.
pub trait Ranges: Send + Sync {
    /// Bytes of the source.
    fn size_bytes(&self) -> u64;
    /// Asks for a range that lies within the source. Must not wait for the answer.
    fn request(&self, offset: u64, length: u32, done: RangeDone);
}

/// A source element over `ranges`, to be put in front of `parsebin`.
pub fn element(ranges: Arc<dyn Ranges>) -> Result<gst::Element, Failure> {
    let source = glib::Object::new::<SpoolSrc>();
    if gst::subclass::prelude::ObjectSubclassIsExt::imp(&source).ranges.set(ranges).is_err() {
        return Err(Failure::own("a new source already has its ranges"));
    }
    Ok(source.upcast())
}

/// Was a range asked for that has not come yet?
pub fn is_waiting(source: &gst::Element) -> bool {
    let source = source.downcast_ref::<SpoolSrc>();
    source.is_some_and(|source| gst::subclass::prelude::ObjectSubclassIsExt::imp(source).is_waiting())
}

glib::wrapper! {
    /// The element.
    pub struct SpoolSrc(ObjectSubclass<imp::SpoolSrc>)
        @extends gst_base::BaseSrc, gst::Element, gst::Object,
        @implements gst::URIHandler;
}

mod imp {
    use std::collections::VecDeque;
    use std::sync::{Arc, Condvar, LazyLock, Mutex, MutexGuard, OnceLock, PoisonError};

    use bytes::Bytes;
    use gst::glib;
    use gst::subclass::prelude::*;
    use gst_base::prelude::*;
    use gst_base::subclass::base_src::CreateSuccess;
    use gst_base::subclass::prelude::*;

    use super::{AHEAD_BLOCKS, BLOCK_BYTES, CACHED_BLOCKS, Ranges, SOURCE_URI};

    /// One block: asked for, there, or not to be had.
    enum Block {
        Asked,
        There(Bytes),
        Lost(String),
    }

    /// Blocks by index, the least lately used one first.
    #[derive(Default)]
    struct State {
        blocks: VecDeque<(u64, Block)>,
        flushing: bool,
    }

    /// What callbacks share with the element, which they may outlive.
    #[derive(Default)]
    struct Cache {
        state: Mutex<State>,
        changed: Condvar,
    }

    impl Cache {
        fn lock(&self) -> MutexGuard<'_, State> {
            // A panic while the lock was held leaves at worst a block that is asked for again.
            self.state.lock().unwrap_or_else(PoisonError::into_inner)
        }
    }

    impl State {
        /// Is the block known? Then it counts as just used.
        fn touch(&mut self, index: u64) -> bool {
            let Some(at) = self.blocks.iter().position(|(i, _)| *i == index) else { return false };
            if let Some(entry) = self.blocks.remove(at) {
                self.blocks.push_back(entry);
            }
            true
        }
    }

    /// The element's own part.
    #[derive(Default)]
    pub struct SpoolSrc {
        pub(super) ranges: OnceLock<Arc<dyn Ranges>>,
        cache: Arc<Cache>,
    }

    impl SpoolSrc {
        fn size(&self) -> u64 {
            self.ranges.get().map_or(0, |ranges| ranges.size_bytes())
        }

        /// Is a block on its way?
        pub(super) fn is_waiting(&self) -> bool {
            self.cache.lock().blocks.iter().any(|(_, block)| matches!(block, Block::Asked))
        }

        /// Asks for the block unless it is there or on its way.
        fn ask(&self, index: u64) {
            let Some(ranges) = self.ranges.get() else { return };
            let offset = index * BLOCK_BYTES;
            let size = ranges.size_bytes();
            if offset >= size {
                return;
            }
            {
                let mut state = self.cache.lock();
                if state.touch(index) {
                    return;
                }
                state.blocks.push_back((index, Block::Asked));
                while state.blocks.len() > CACHED_BLOCKS {
                    state.blocks.pop_front();
                }
            }
            let cache = Arc::clone(&self.cache);
            let length = BLOCK_BYTES.min(size - offset) as u32;
            ranges.request(
                offset,
                length,
                Box::new(move |result| {
                    let mut state = cache.lock();
                    // Not found: pushed out before it came; whoever still wants it asks again.
                    if let Some((_, block)) = state.blocks.iter_mut().find(|(i, _)| *i == index) {
                        *block = match result {
                            Ok(data) if data.len() == length as usize => Block::There(data),
                            Ok(data) => Block::Lost(format!("{} bytes instead of {length}", data.len())),
                            Err(why) => Block::Lost(why),
                        };
                    }
                    cache.changed.notify_all();
                }),
            );
        }

        /// The block, once it is there.
        fn block(&self, index: u64) -> Result<Bytes, gst::FlowError> {
            loop {
                self.ask(index);
                for ahead in 1..=AHEAD_BLOCKS {
                    self.ask(index + ahead);
                }
                self.ask(index);
                let mut state = self.cache.lock();
                loop {
                    if state.flushing {
                        return Err(gst::FlowError::Flushing);
                    }
                    match state.blocks.iter().find(|(i, _)| *i == index).map(|(_, block)| block) {
                        Some(Block::There(data)) => return Ok(data.clone()),
                        Some(Block::Lost(why)) => {
                            let why = why.clone();
                            drop(state);
                            gst::element_imp_error!(self, gst::ResourceError::Read, ["{why}"]);
                            return Err(gst::FlowError::Error);
                        }
                        Some(Block::Asked) => {
                            // No time limit here: the parent watches, and it alone knows whether the store is slow.
                            state = self.cache.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                        }
                        None => break,
                    }
                }
            }
        }

        /// Where a read that starts at `offset` ends; short at the end of the source.
        fn end(&self, offset: u64, length: u32) -> Result<u64, gst::FlowError> {
            let size = self.size();
            if offset >= size {
                return Err(gst::FlowError::Eos);
            }
            Ok(offset.saturating_add(u64::from(length)).min(size))
        }

        /// Copies the bytes of `offset..end` into memory of gstreamer's own, which it may share in parts.
        fn fill(&self, buffer: &mut gst::BufferRef, offset: u64, end: u64) -> Result<(), gst::FlowError> {
            let mut at = offset;
            while at < end {
                let index = at / BLOCK_BYTES;
                let data = self.block(index)?;
                let from = (at - index * BLOCK_BYTES) as usize;
                let to = data.len().min((end - index * BLOCK_BYTES) as usize);
                if buffer.copy_from_slice((at - offset) as usize, &data[from..to]).is_err() {
                    return Err(gst::FlowError::Error);
                }
                at += (to - from) as u64;
            }
            if ((end - offset) as usize) < buffer.size() {
                buffer.set_size((end - offset) as usize);
            }
            buffer.set_offset(offset);
            buffer.set_offset_end(end);
            Ok(())
        }
    }

    #[glib::object_subclass]
    impl ObjectSubclass for SpoolSrc {
        const NAME: &'static str = "SpoolSrc";
        type Type = super::SpoolSrc;
        type ParentType = gst_base::BaseSrc;
        type Interfaces = (gst::URIHandler,);
    }

    impl ObjectImpl for SpoolSrc {
        fn constructed(&self) {
            self.parent_constructed();
            self.obj().set_format(gst::Format::Bytes);
        }
    }

    impl GstObjectImpl for SpoolSrc {}

    impl ElementImpl for SpoolSrc {
        fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
            static METADATA: LazyLock<gst::subclass::ElementMetadata> = LazyLock::new(|| {
                gst::subclass::ElementMetadata::new("Spool source", "Source", "Ranges of the source's bytes", "Spool")
            });
            Some(&METADATA)
        }

        fn pad_templates() -> &'static [gst::PadTemplate] {
            static TEMPLATES: LazyLock<Vec<gst::PadTemplate>> = LazyLock::new(|| {
                let any = gst::Caps::new_any();
                gst::PadTemplate::new("src", gst::PadDirection::Src, gst::PadPresence::Always, &any)
                    .into_iter()
                    .collect()
            });
            &TEMPLATES
        }
    }

    impl BaseSrcImpl for SpoolSrc {
        fn start(&self) -> Result<(), gst::ErrorMessage> {
            if self.ranges.get().is_none() {
                return Err(gst::error_msg!(gst::ResourceError::NotFound, ["source without ranges"]));
            }
            self.cache.lock().flushing = false;
            Ok(())
        }

        fn stop(&self) -> Result<(), gst::ErrorMessage> {
            self.cache.lock().blocks.clear();
            Ok(())
        }

        fn is_seekable(&self) -> bool {
            true
        }

        fn do_seek(&self, _segment: &mut gst::Segment) -> bool {
            true
        }

        fn size(&self) -> Option<u64> {
            Some(SpoolSrc::size(self))
        }

        fn query(&self, query: &mut gst::QueryRef) -> bool {
            if let gst::QueryViewMut::Scheduling(scheduling) = query.view_mut() {
                scheduling.set(gst::SchedulingFlags::SEEKABLE, 1, -1, 0);
                scheduling.add_scheduling_modes([gst::PadMode::Push, gst::PadMode::Pull]);
                return true;
            }
            BaseSrcImplExt::parent_query(self, query)
        }

        fn unlock(&self) -> Result<(), gst::ErrorMessage> {
            self.cache.lock().flushing = true;
            self.cache.changed.notify_all();
            Ok(())
        }

        fn unlock_stop(&self) -> Result<(), gst::ErrorMessage> {
            self.cache.lock().flushing = false;
            Ok(())
        }

        fn create(
            &self,
            offset: u64,
            given: Option<&mut gst::BufferRef>,
            length: u32,
        ) -> Result<CreateSuccess, gst::FlowError> {
            let end = self.end(offset, length)?;
            if let Some(given) = given {
                self.fill(given, offset, end)?;
                return Ok(CreateSuccess::FilledBuffer);
            }
            let Ok(mut buffer) = gst::Buffer::with_size((end - offset) as usize) else {
                gst::element_imp_error!(self, gst::ResourceError::NoSpaceLeft, ["no memory for a range"]);
                return Err(gst::FlowError::Error);
            };
            self.fill(buffer.get_mut().expect("a new buffer has one owner"), offset, end)?;
            Ok(CreateSuccess::NewBuffer(buffer))
        }
    }

    impl URIHandlerImpl for SpoolSrc {
        const URI_TYPE: gst::URIType = gst::URIType::Src;

        fn protocols() -> &'static [&'static str] {
            &["spool"]
        }

        fn uri(&self) -> Option<String> {
            Some(SOURCE_URI.to_owned())
        }

        fn set_uri(&self, uri: &str) -> Result<(), glib::Error> {
            if uri == SOURCE_URI {
                return Ok(());
            }
            Err(glib::Error::new(gst::URIError::BadUri, "a child has one source"))
        }
    }
}

/// A file as ranges: for tests and for the developer's own runs in one process, never in the child.
pub struct FileRanges {
    file: std::fs::File,
    size_bytes: u64,
}

impl FileRanges {
    /// Opens the file.
    pub fn open(path: &std::path::Path) -> std::io::Result<Arc<Self>> {
        let file = std::fs::File::open(path)?;
        let size_bytes = file.metadata()?.len();
        Ok(Arc::new(Self { file, size_bytes }))
    }
}

impl Ranges for FileRanges {
    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    fn request(&self, offset: u64, length: u32, done: RangeDone) {
        use std::os::unix::fs::FileExt as _;
        let mut data = vec![0; length as usize];
        let result = self.file.read_exact_at(&mut data, offset);
        done(result.map(|()| Bytes::from(data)).map_err(|err| err.to_string()));
    }
}
