//! A launcher over the real child, files as sources, and clips made by ffmpeg.

use std::future::Future;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::Command;
use std::sync::Arc;

use bytes::Bytes;
use spool_proto::media::SourceFacts;
use spool_transcoder::attempt::{ChildConfig, Delivery, Finished, Launcher, STALL, SourceBytes};
use spool_transcoder::cage::{CageMode, Limits};
use spool_transcoder::order::{Answer, Failure, InspectLimits, Order};
use tokio::sync::mpsc;

/// A source in memory or in a file.
pub enum Source {
    Memory(Bytes),
    File(std::fs::File, u64),
}

impl Source {
    pub fn file(path: &Path) -> Arc<dyn SourceBytes> {
        let file = std::fs::File::open(path).unwrap();
        let size = file.metadata().unwrap().len();
        Arc::new(Self::File(file, size))
    }

    pub fn memory(data: Vec<u8>) -> Arc<dyn SourceBytes> {
        Arc::new(Self::Memory(data.into()))
    }
}

impl SourceBytes for Source {
    fn size_bytes(&self) -> u64 {
        match self {
            Self::Memory(data) => data.len() as u64,
            Self::File(_, size) => *size,
        }
    }

    fn read(&self, range: Range<u64>) -> Pin<Box<dyn Future<Output = io::Result<Bytes>> + Send + '_>> {
        Box::pin(async move {
            match self {
                Self::Memory(data) => Ok(data.slice(range.start as usize..range.end as usize)),
                Self::File(file, _) => {
                    let mut data = vec![0; (range.end - range.start) as usize];
                    file.read_exact_at(&mut data, range.start)?;
                    Ok(data.into())
                }
            }
        })
    }
}

pub fn config(dir: &Path) -> ChildConfig {
    ChildConfig {
        command: vec![env!("CARGO_BIN_EXE_spool-child").into()],
        registry_dir: dir.join("registry"),
        cage: CageMode::Enforce,
        library_dirs: vec![],
        limits: Limits::default(),
        stall: STALL,
    }
}

/// A launcher with a directory of its own, which lives as long as it.
pub struct Nest {
    pub launcher: Launcher,
    pub dir: tempfile::TempDir,
}

impl Nest {
    pub fn new(change: impl FnOnce(&mut ChildConfig)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = config(dir.path());
        change(&mut config);
        Self { launcher: Launcher::new(config).unwrap(), dir }
    }

    pub async fn run(&self, order: Order, source: Arc<dyn SourceBytes>) -> (Finished, Vec<Delivery>) {
        let (out, mut deliveries) = mpsc::channel(16);
        let collect = tokio::spawn(async move {
            let mut all = Vec::new();
            while let Some(delivery) = deliveries.recv().await {
                if !matches!(delivery, Delivery::Progress { .. }) {
                    all.push(delivery);
                }
            }
            all
        });
        let finished = self.launcher.run(order, source, out).await.unwrap();
        (finished, collect.await.unwrap())
    }

    pub async fn inspect(&self, source: Arc<dyn SourceBytes>) -> Result<SourceFacts, Failure> {
        self.inspect_within(InspectLimits::default(), source).await
    }

    pub async fn inspect_within(
        &self,
        limits: InspectLimits,
        source: Arc<dyn SourceBytes>,
    ) -> Result<SourceFacts, Failure> {
        let (finished, _) = self.run(Order::Inspect { limits }, source).await;
        match finished.answer {
            Answer::Inspected(facts) => Ok(facts),
            Answer::Failed(failure) => Err(failure),
            other @ (Answer::Encoded | Answer::Still(_)) => panic!("{other:?} to inspect"),
        }
    }
}

/// A clip that ffmpeg makes in `dir`.
pub fn clip(dir: &Path, name: &str, args: &str) -> PathBuf {
    let path = dir.join(name);
    let status = Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin", "-y"])
        .args(args.split_whitespace())
        .arg(&path)
        .status()
        .expect("ffmpeg is installed (cargo xtask setup)");
    assert!(status.success(), "ffmpeg {args}");
    path
}
