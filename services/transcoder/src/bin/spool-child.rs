//! The media child alone, for this crate's tests; in production `spool` starts itself again.
//!
//! `probe DIR` shuts the cage and tells what can still be done in it; `hold DIR` is a parent whose child waits for ever;
//! `inspect FILE` inspects in this process, without a cage, for looking closely with `GST_DEBUG`.

use std::future::Future;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::Arc;

use spool_transcoder::attempt::{ChildConfig, Launcher, STALL, SourceBytes};
use spool_transcoder::cage::{self, CageMode, CageOrder, LIBRARY_DIRS, Limits};
use spool_transcoder::child::{self, source::FileRanges};
use spool_transcoder::order::{Answer, InspectLimits, Made, Order, Output, OutputClosed};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args.as_slice() {
        ["probe", dir] => probe(dir.as_ref()),
        ["inspect", file] => inspect(file.as_ref()),
        ["hold", dir] => hold(dir.as_ref()),
        rest => spool_transcoder::child::main(rest.iter().map(|&arg| arg.to_owned())),
    }
}

#[expect(clippy::print_stdout, reason = "the test reads what a caged process could do")]
fn probe(dir: &Path) -> ExitCode {
    let order = CageOrder {
        mode: CageMode::Enforce,
        limits: Limits::default(),
        library_dirs: LIBRARY_DIRS.iter().map(PathBuf::from).collect(),
        registry_dir: dir.to_owned(),
    };
    let report = match cage::shut(&order) {
        Ok(report) => report,
        Err(err) => {
            println!("refused: {err}");
            return ExitCode::FAILURE;
        }
    };
    println!("cage: {} {}", report.landlock, report.seccomp);
    let parent = rustix::process::getppid();
    let tries: [(&str, io::Result<()>); 12] = [
        ("tcp", std::net::TcpStream::connect("127.0.0.1:22").map(drop)),
        ("udp", std::net::UdpSocket::bind("127.0.0.1:0").map(drop)),
        ("unix", std::os::unix::net::UnixDatagram::unbound().map(drop)),
        ("passwd", std::fs::read("/etc/passwd").map(drop)),
        ("environ", std::fs::read("/proc/1/environ").map(drop)),
        ("own exe", std::fs::read("/proc/self/exe").map(drop)),
        ("list root", std::fs::read_dir("/").map(drop)),
        ("write", std::fs::write(dir.join("x"), b"x")),
        ("exec", std::process::Command::new("/bin/true").status().map(drop)),
        (
            "signal",
            parent
                .map_or(Ok(()), |pid| rustix::process::kill_process(pid, rustix::process::Signal::WINCH))
                .map_err(Into::into),
        ),
        ("limits", set_limit()),
        ("mount", std::fs::remove_dir(dir)),
    ];
    for (what, result) in tries {
        println!("{what}: {}", if result.is_ok() { "allowed" } else { "denied" });
    }
    let thread = std::thread::Builder::new().spawn(|| 7).map(std::thread::JoinHandle::join);
    println!("thread: {}", if matches!(thread, Ok(Ok(7))) { "allowed" } else { "denied" });
    println!("registry: {}", if std::fs::read_dir(dir).is_ok() { "allowed" } else { "denied" });
    ExitCode::SUCCESS
}

fn set_limit() -> io::Result<()> {
    let none = rustix::process::Rlimit { current: None, maximum: None };
    rustix::process::setrlimit(rustix::process::Resource::As, none).map_err(Into::into)
}

/// A source that never answers.
struct Silent;

impl SourceBytes for Silent {
    fn size_bytes(&self) -> u64 {
        1 << 20
    }

    fn read(&self, _range: Range<u64>) -> Pin<Box<dyn Future<Output = io::Result<bytes::Bytes>> + Send + '_>> {
        Box::pin(std::future::pending())
    }
}

/// Says nothing to nobody.
struct Mute;

impl Output for Mute {
    fn bytes(&self, _: &str, _: u32, _: &[bytes::Bytes]) -> Result<(), OutputClosed> {
        Ok(())
    }
    fn object_done(&self, _: &str, _: u32, _: Made) -> Result<(), OutputClosed> {
        Ok(())
    }
    fn progress(&self, _: u64) -> Result<(), OutputClosed> {
        Ok(())
    }
    fn frame_hash(&self, _: u64, _: u64) -> Result<(), OutputClosed> {
        Ok(())
    }
}

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "a developer reads it")]
fn inspect(file: &Path) -> ExitCode {
    let run = || -> Result<Answer, Box<dyn std::error::Error>> {
        gst::init()?;
        let output: Arc<dyn Output> = Arc::new(Mute);
        let order = Order::Inspect { limits: InspectLimits::default() };
        Ok(child::serve(order, FileRanges::open(file)?, &output)?)
    };
    match run() {
        Ok(answer) => println!("{answer:#?}"),
        Err(err) => eprintln!("{err}"),
    }
    ExitCode::SUCCESS
}

#[expect(clippy::print_stderr, reason = "the test shows it when it fails")]
fn hold(dir: &Path) -> ExitCode {
    let run = || -> Result<(), Box<dyn std::error::Error>> {
        let launcher = Launcher::new(ChildConfig {
            command: vec![std::env::current_exe()?.into()],
            registry_dir: dir.to_owned(),
            cage: CageMode::Enforce,
            library_dirs: vec![],
            limits: Limits::default(),
            stall: STALL,
        })?;
        let (out, _deliveries) = tokio::sync::mpsc::channel(1);
        let order = Order::Inspect { limits: InspectLimits::default() };
        tokio::runtime::Runtime::new()?.block_on(launcher.run(order, Arc::new(Silent), out))?;
        Ok(())
    };
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            eprintln!("hold: {err}");
            ExitCode::FAILURE
        }
    }
}
