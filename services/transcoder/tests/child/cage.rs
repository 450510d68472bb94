//! The cage and the ends of a child, each tried for real.

use std::future::Future;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rustix::process::{Pid, Signal};
use spool_proto::media::{Cut, NS_PER_S, Plan, Rung, SourceFacts, StillPlan, VideoPlan};
use spool_transcoder::attempt::{Delivery, SourceBytes};
use spool_transcoder::cage::OOM_SCORE;
use spool_transcoder::order::{Answer, FailureCode, InspectLimits, Order};
use tokio::sync::mpsc;

use crate::support::{Nest, Source, clip};

const GIVE_UP: Duration = Duration::from_secs(30);

fn inspect() -> Order {
    Order::Inspect { limits: InspectLimits::default() }
}

/// Children whose registry lies in `dir`: what tells those of one test from those of another.
fn children(dir: &Path) -> Vec<u32> {
    let marks = |pid: u32| {
        let read = |file| std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
        let has = |data: Vec<u8>, text: &[u8]| data.windows(text.len()).any(|w| w == text);
        has(read("cmdline"), b"\0serve\0") && has(read("environ"), dir.as_os_str().as_encoded_bytes())
    };
    let pids = std::fs::read_dir("/proc").unwrap().filter_map(|e| e.ok()?.file_name().to_str()?.parse().ok());
    pids.filter(|pid| marks(*pid)).collect()
}

/// Polls until it holds.
async fn until<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(value) = found() {
            return value;
        }
        assert!(started.elapsed() < GIVE_UP, "gave up waiting for {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Does something to the child at its first read, then answers, or never.
struct Trap {
    dir: PathBuf,
    signal: Option<Signal>,
    answers: bool,
    asked: AtomicBool,
}

impl SourceBytes for Trap {
    fn size_bytes(&self) -> u64 {
        100_000
    }

    fn read(&self, range: Range<u64>) -> Pin<Box<dyn Future<Output = io::Result<Bytes>> + Send + '_>> {
        Box::pin(async move {
            self.asked.store(true, Ordering::Release);
            if let Some(signal) = self.signal {
                for pid in children(&self.dir) {
                    rustix::process::kill_process(Pid::from_raw(pid as i32).unwrap(), signal).unwrap();
                }
            }
            if !self.answers {
                std::future::pending::<()>().await;
            }
            Ok(vec![0; (range.end - range.start) as usize].into())
        })
    }
}

fn trap(nest: &Nest, signal: Option<Signal>, answers: bool) -> Arc<Trap> {
    Arc::new(Trap { dir: nest.dir.path().canonicalize().unwrap(), signal, answers, asked: AtomicBool::new(false) })
}

#[test]
fn a_caged_process_can_do_nothing_but_think() {
    let dir = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_spool-child")).arg("probe").arg(dir.path()).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}");
    for line in said.lines().skip(1) {
        let (what, result) = line.split_once(": ").unwrap();
        let expected = if matches!(what, "thread" | "registry") { "allowed" } else { "denied" };
        assert_eq!(result, expected, "{what}\n{said}");
    }
    assert!(said.lines().count() == 15, "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_says_what_kept_it_in() {
    let nest = Nest::new(|_| {});
    let (finished, _) = nest.run(inspect(), Source::memory(b"words\n".to_vec())).await;
    let cage = finished.cage.unwrap();
    assert!(cage.seccomp && cage.landlock.ends_with("enforced"), "{cage:?}");
    assert!(finished.usage.peak_bytes > 0 && finished.usage.wall > Duration::ZERO, "{:?}", finished.usage);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_holds_no_file_of_the_source_and_dies_when_nobody_waits_for_it() {
    let nest = Nest::new(|_| {});
    let dir = nest.dir.path().canonicalize().unwrap();
    let source = trap(&nest, None, false);
    let (out, _deliveries) = mpsc::channel(1);
    {
        let run = nest.launcher.run(inspect(), Arc::clone(&source) as Arc<dyn SourceBytes>, out);
        tokio::pin!(run);
        let pid = tokio::select! {
            ended = &mut run => panic!("ended: {:?}", ended.map(|f| f.answer)),
            pid = until("the child", || {
                // Who asks for the source is caged; before that it still opens its libraries.
                source.asked.load(Ordering::Acquire).then(|| children(&dir).first().copied())?
            }) => pid,
        };
        for open in descriptors(pid) {
            let known = ["socket:", "pipe:", "anon_inode:", "/dev/null"].iter().any(|kind| open.starts_with(kind));
            assert!(known, "the child holds {open}");
        }
        let score = std::fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap();
        assert!(score.trim().parse::<i32>().unwrap() >= OOM_SCORE, "the log may be ended before it: {score}");
    }
    until("the end of the child", || children(&dir).is_empty().then_some(())).await;
}

fn descriptors(pid: u32) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(format!("/proc/{pid}/fd")) else { return vec![] };
    entries.filter_map(|e| Some(std::fs::read_link(e.ok()?.path()).ok()?.display().to_string())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_does_not_outlive_its_parent() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().canonicalize().unwrap();
    let mut parent =
        Command::new(env!("CARGO_BIN_EXE_spool-child")).arg("hold").arg(&path).stdin(Stdio::null()).spawn().unwrap();
    until("the child", || (!children(&path).is_empty()).then_some(())).await;
    parent.kill().unwrap();
    parent.wait().unwrap();
    until("the end of the child", || children(&path).is_empty().then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_an_end_from_outside_a_stall_and_a_limit_of_memory_have_their_codes() {
    let nest = Nest::new(|config| config.stall = Duration::from_secs(1));
    let cases = [
        (Signal::SEGV, FailureCode::ChildCrashed),
        (Signal::KILL, FailureCode::ChildKilled),
        (Signal::TERM, FailureCode::ChildKilled),
        (Signal::STOP, FailureCode::ChildStalled),
    ];
    for (signal, code) in cases {
        let (finished, deliveries) = nest.run(inspect(), trap(&nest, Some(signal), true)).await;
        let Answer::Failed(failure) = finished.answer else { panic!("{:?}", finished.answer) };
        assert_eq!(failure.code, code, "{failure}");
        // Who waits for a child that may still move keeps its lease meanwhile.
        assert!(code != FailureCode::ChildStalled || deliveries.contains(&Delivery::Quiet), "{deliveries:?}");
    }
    let small = Nest::new(|config| config.limits.memory_bytes = 1 << 20);
    let (finished, _) = small.run(inspect(), trap(&small, None, false)).await;
    let Answer::Failed(failure) = finished.answer else { panic!("{:?}", finished.answer) };
    assert_eq!(failure.code, FailureCode::ChildMemory, "{failure}");
    let path = small.dir.path().canonicalize().unwrap();
    assert!(children(&path).is_empty(), "it was reaped");
}

/// Longer than a child waits for a demuxer or a decoder of its own.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_hangs_is_no_stall_of_who_waits_for_it() {
    const HANGS: Duration = Duration::from_secs(16);
    struct Hangs {
        inner: Arc<dyn SourceBytes>,
        reads: AtomicUsize,
    }
    impl SourceBytes for Hangs {
        fn size_bytes(&self) -> u64 {
            self.inner.size_bytes()
        }
        fn read(&self, range: Range<u64>) -> Pin<Box<dyn Future<Output = io::Result<Bytes>> + Send + '_>> {
            Box::pin(async move {
                // The first is a look at the first bytes, the second the demuxer's.
                if self.reads.fetch_add(1, Ordering::Relaxed) == 1 {
                    tokio::time::sleep(HANGS).await;
                }
                self.inner.read(range).await
            })
        }
    }
    let nest = Nest::new(|_| {});
    let path = clip(nest.dir.path(), "short.ts", "-f lavfi -i testsrc2=s=160x90:d=1 -c:v libx264 -preset ultrafast");
    let source = Arc::new(Hangs { inner: Source::file(&path), reads: AtomicUsize::new(0) });
    let facts = nest.inspect(Arc::clone(&source) as Arc<dyn SourceBytes>).await.unwrap();
    assert_eq!(facts.video.unwrap().frames, Some(25));
    assert!(source.reads.load(Ordering::Relaxed) > 1, "nothing hung");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_store_is_no_stall() {
    struct Slow(Bytes);
    impl SourceBytes for Slow {
        fn size_bytes(&self) -> u64 {
            self.0.len() as u64
        }
        fn read(&self, range: Range<u64>) -> Pin<Box<dyn Future<Output = io::Result<Bytes>> + Send + '_>> {
            Box::pin(async move {
                tokio::time::sleep(Duration::from_secs(2)).await;
                Ok(self.0.slice(range.start as usize..range.end as usize))
            })
        }
    }
    let nest = Nest::new(|config| config.stall = Duration::from_secs(1));
    let (finished, _) = nest.run(inspect(), Arc::new(Slow(b"words\n".repeat(9).into()))).await;
    let Answer::Failed(failure) = finished.answer else { panic!("{:?}", finished.answer) };
    assert_eq!(failure.code, FailureCode::SourceNotMedia);
}

/// One chunk of which nothing but a poster is made.
fn still_plan(facts: &SourceFacts) -> Plan {
    Plan {
        zero_ns: facts.zero_ns,
        end_ns: facts.end_ns,
        segment_ns: 4 * NS_PER_S,
        chunks: vec![6],
        cut: Cut::Exact,
        video: None,
        rungs: vec![],
        audio: None,
        stills: vec![StillPlan { name: "poster".to_owned(), at_ns: 23 * NS_PER_S, width: 640, height: 360 }],
        taken_over: vec![],
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_still_is_a_jpeg_of_the_planned_size() {
    let nest = Nest::new(|_| {});
    let path = clip(
        nest.dir.path(),
        "one-keyframe.mp4",
        "-f lavfi -i testsrc2=s=1280x720:d=24 -c:v libx264 -preset ultrafast -g 9999",
    );
    let facts = nest.inspect(Source::file(&path)).await.unwrap();
    let plan = still_plan(&facts);
    let order = Order::Still { facts, plan, name: "poster".to_owned() };
    let (finished, deliveries) = nest.run(order, Source::file(&path)).await;
    let Answer::Still(made) = finished.answer else { panic!("{:?} {}", finished.answer, finished.said) };
    let jpeg: Vec<u8> = deliveries
        .into_iter()
        .flat_map(|delivery| match delivery {
            Delivery::Bytes { data, .. } => data.to_vec(),
            Delivery::ObjectDone { .. } | Delivery::Progress { .. } | Delivery::Quiet | Delivery::FrameHash { .. } => {
                vec![]
            }
        })
        .collect();
    assert_eq!((made.length, made.width, made.height), (jpeg.len() as u64, 640, 360));
    assert!(jpeg.starts_with(b"\xff\xd8\xff"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_spends_more_processor_time_than_it_may_ends_with_its_code() {
    let nest = Nest::new(|_| {});
    let path = clip(nest.dir.path(), "small.mp4", "-f lavfi -i testsrc2=s=160x90:d=24 -c:v libx264 -preset ultrafast");
    let facts = nest.inspect(Source::file(&path)).await.unwrap();
    // 600 pictures of 1080 lines, three times: several seconds on any machine, of which it gets one.
    let rung = |n: u32| Rung {
        id: format!("v{n}"),
        width: 1920,
        height: 1080,
        crf: 18,
        max_bps: 50_000_000,
        buffer_ms: 2_000,
        threads: 1,
    };
    let frame_rate = facts.video.as_ref().unwrap().frame_rate;
    let video = VideoPlan { timescale: 48_000, frame_rate, keep_every: 1, keyframe_ns: 2 * NS_PER_S };
    let rungs = (0..3).map(rung).collect();
    let plan = Plan { video: Some(video), rungs, stills: vec![], ..still_plan(&facts) };
    let short = Nest::new(|config| config.limits.cpu_s = 1);
    let order = Order::Video { facts, plan, chunks: 0..=0, frame_hashes: false };
    let (finished, _) = short.run(order, Source::file(&path)).await;
    let Answer::Failed(failure) = finished.answer else { panic!("{:?}", finished.answer) };
    assert_eq!((failure.code, failure.params["limit"].as_str()), (FailureCode::ChildCpu, "1 s"), "{failure}");
    // The kernel looks now and then; what is meant is that it did not go on.
    assert!(finished.usage.cpu < Duration::from_secs(5), "{:?}", finished.usage);
}
