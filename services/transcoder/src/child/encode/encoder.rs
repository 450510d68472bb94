//! A small pipeline around one encoder: buffers in through a short queue, coded frames out to a writer.
//!
//! Shared by picture and sound. Pushing waits while the queue is full but never longer than the encoder lives: whoever
//! waits looks for its failure. An encoder whose writer waits for the parent waits with it: the parent alone watches
//! for stalls of its own making.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use gst::prelude::*;

use crate::child::decode::own;
use crate::order::Failure;

/// Buffers that wait for one encoder. More would only cost memory: all run as fast as the slowest.
const QUEUED: u64 = 2;
/// How often a full queue is looked at beside being woken, so that an encoder's failure is seen.
const LOOK: Duration = Duration::from_millis(100);

/// What becomes of coded frames; called from one thread, in order.
pub(crate) trait Coded: Send + 'static {
    /// The next coded frame.
    fn take(&mut self, sample: &gst::Sample) -> Result<(), Failure>;
    /// There are no more.
    fn end(&mut self) -> Result<(), Failure>;
}

/// A running encoder.
pub(crate) struct Encoder {
    name: String,
    pipeline: gst::Pipeline,
    source: gst_app::AppSrc,
    bus: gst::Bus,
    signal: Arc<Signal>,
}

#[derive(Default)]
struct Signal {
    outcome: Mutex<Outcome>,
    changed: Condvar,
}

#[derive(Default)]
struct Outcome {
    failed: Option<Failure>,
    finished: bool,
}

impl Signal {
    fn lock(&self) -> MutexGuard<'_, Outcome> {
        // Whoever panicked has broken its pipeline, which is seen by its error; the outcome stays readable.
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, result: Result<(), Failure>) -> Result<gst::FlowSuccess, gst::FlowError> {
        result.map(|()| gst::FlowSuccess::Ok).map_err(|failure| {
            self.lock().failed.get_or_insert(failure);
            self.changed.notify_all();
            gst::FlowError::Error
        })
    }
}

impl Encoder {
    /// Builds queue, `elements` and writer, and starts them. `before` is called for each buffer as it leaves the queue.
    pub(crate) fn start(
        name: &str,
        elements: &[gst::Element],
        before: impl Fn(&gst::Pad, &gst::BufferRef) + Send + Sync + 'static,
        coded: impl Coded,
    ) -> Result<Self, Failure> {
        let signal = Arc::new(Signal::default());
        let source = gst_app::AppSrc::builder().format(gst::Format::Time).max_buffers(QUEUED).max_bytes(0).build();
        let sink = sink(&signal, coded);
        let pipeline = gst::Pipeline::new();
        pipeline.add_many(elements).map_err(own)?;
        pipeline.add_many([source.upcast_ref::<gst::Element>(), sink.upcast_ref()]).map_err(own)?;
        let all = [source.upcast_ref()].into_iter().chain(elements).chain([sink.upcast_ref()]);
        gst::Element::link_many(all).map_err(own)?;
        let pad = source.static_pad("src").ok_or_else(|| Failure::own("an appsrc without src pad"))?;
        let leaving = Arc::clone(&signal);
        pad.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
            leaving.changed.notify_all();
            if let Some(buffer) = info.buffer() {
                before(pad, buffer);
            }
            gst::PadProbeReturn::Ok
        });
        let bus = pipeline.bus().ok_or_else(|| Failure::own("a pipeline without bus"))?;
        pipeline.set_state(gst::State::Playing).map_err(own)?;
        Ok(Self { name: name.to_owned(), pipeline, source, bus, signal })
    }

    /// What the next buffers are.
    pub(crate) fn set_caps(&self, caps: &gst::Caps) {
        self.source.set_caps(Some(caps));
    }

    /// Hands in the next buffer; waits while the queue is full.
    pub(crate) fn push(&self, buffer: gst::Buffer) -> Result<(), Failure> {
        let mut outcome = self.signal.lock();
        while self.source.current_level_buffers() >= QUEUED {
            self.fail_if_failed(&mut outcome)?;
            outcome = self.signal.changed.wait_timeout(outcome, LOOK).unwrap_or_else(PoisonError::into_inner).0;
        }
        drop(outcome);
        if self.source.push_buffer(buffer).is_err() {
            self.fail_if_failed(&mut self.signal.lock())?;
            return Err(Failure::own(format!("the encoder of {} takes no more", self.name)));
        }
        Ok(())
    }

    /// Says that everything was pushed.
    pub(crate) fn end(&self) -> Result<(), Failure> {
        self.source.end_of_stream().map(|_| ()).map_err(own)
    }

    /// Waits until the writer has ended.
    pub(crate) fn finish(self) -> Result<(), Failure> {
        let mut outcome = self.signal.lock();
        while !outcome.finished {
            self.fail_if_failed(&mut outcome)?;
            outcome = self.signal.changed.wait_timeout(outcome, LOOK).unwrap_or_else(PoisonError::into_inner).0;
        }
        outcome.failed.take().map_or(Ok(()), Err)
    }

    fn fail_if_failed(&self, outcome: &mut Outcome) -> Result<(), Failure> {
        if let Some(failure) = outcome.failed.take() {
            return Err(failure);
        }
        match self.bus.pop_filtered(&[gst::MessageType::Error]).as_deref().map(gst::MessageRef::view) {
            Some(gst::MessageView::Error(error)) => Err(Failure::own(format!(
                "the encoder of {} failed: {} ({})",
                self.name,
                error.error(),
                error.debug().unwrap_or_default()
            ))),
            _ => Ok(()),
        }
    }
}

impl Drop for Encoder {
    fn drop(&mut self) {
        // Nothing is left to do with a refusal: its threads end with the process.
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

fn sink(signal: &Arc<Signal>, coded: impl Coded) -> gst_app::AppSink {
    let coded = Arc::new(Mutex::new(coded));
    let (at_end, signal_at_end, signal) = (Arc::clone(&coded), Arc::clone(signal), Arc::clone(signal));
    let callbacks = gst_app::AppSinkCallbacks::builder()
        .new_sample(move |sink| {
            let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
            let taken = coded.lock().unwrap_or_else(PoisonError::into_inner).take(&sample);
            signal.note(taken)
        })
        .eos(move |_| {
            let ended = at_end.lock().unwrap_or_else(PoisonError::into_inner).end();
            // A failure is kept in the outcome; at the end of a stream there is nobody else to tell.
            let _ = signal_at_end.note(ended);
            signal_at_end.lock().finished = true;
            signal_at_end.changed.notify_all();
        })
        .build();
    gst_app::AppSink::builder().sync(false).async_(false).max_buffers(2).callbacks(callbacks).build()
}

/// The decoder configuration that the caps carry: `avcC`, or AudioSpecificConfig.
pub(crate) fn codec_data(sample: &gst::Sample) -> Result<Vec<u8>, Failure> {
    sample
        .caps()
        .and_then(|caps| caps.structure(0))
        .and_then(|s| s.get::<gst::Buffer>("codec_data").ok())
        .and_then(|buffer| buffer.map_readable().ok().map(|map| map.to_vec()))
        .ok_or_else(|| Failure::own("an encoder that states no configuration"))
}

/// A coded frame's bytes, without a copy.
pub(crate) fn payload(buffer: gst::Buffer) -> Result<bytes::Bytes, Failure> {
    struct Mapped(gst::MappedBuffer<gst::buffer::Readable>);
    impl AsRef<[u8]> for Mapped {
        fn as_ref(&self) -> &[u8] {
            self.0.as_slice()
        }
    }
    let mapped = buffer.into_mapped_buffer_readable().map_err(|_| Failure::own("map a coded frame"))?;
    Ok(bytes::Bytes::from_owner(Mapped(mapped)))
}
