//! The life of one child: shut in, serve one order, say the last word, end.
//!
//! `child serve PARENT_PID` is the caged child; its standard input is the range socket, its standard output the output
//! socket. `child registry DIR` runs at start-up, sees no source and is not caged: it writes the plugin registry.

use std::fs::File;
use std::os::fd::AsFd as _;
use std::process::ExitCode;
use std::sync::Arc;

use super::link::{self, OutputLink, RangeLink};
use super::source::Ranges;
use crate::order::{Answer, Failure, Order, Output};
use crate::wire::Message;
use crate::{cage, registry};

/// Exit code for arguments that are not ours.
const EXIT_USAGE: u8 = 64;
/// Exit code for what stopped the child before it could speak.
const EXIT_BROKEN: u8 = 70;

/// Entry point of the hidden subcommand; `args` are those behind it.
pub fn main(args: impl IntoIterator<Item = String>) -> ExitCode {
    let args: Vec<String> = args.into_iter().collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args.as_slice() {
        ["serve", parent] => match parent.parse() {
            Ok(parent) => end(serve(parent)),
            Err(_) => ExitCode::from(EXIT_USAGE),
        },
        ["registry", dir] => end(registry::write(dir.as_ref()).map_err(std::io::Error::other)),
        _ => ExitCode::from(EXIT_USAGE),
    }
}

#[expect(clippy::print_stderr, reason = "standard error is the child's log; the parent keeps its tail")]
fn end(result: std::io::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            eprintln!("media child: {err}");
            ExitCode::from(EXIT_BROKEN)
        }
    }
}

fn serve(parent: u32) -> std::io::Result<()> {
    die_with(parent)?;
    let (ranges, mut output) = take_sockets()?;
    let assignment = link::read_assignment(&mut output)?;
    let output = Arc::new(OutputLink::new(output));
    let gone = std::io::Error::other;

    match cage::shut(&assignment.cage) {
        Ok(report) => output.send(&Message::Caged(report)).map_err(gone)?,
        Err(refused) => {
            return output.send(&Message::CageRefused(spool_proto::chain(&refused))).map_err(gone);
        }
    }
    // Threads only from here on: the cage covers those that are started inside it.
    let ranges = RangeLink::start(ranges, assignment.size_bytes)?;
    let answer = answer(assignment.order, ranges, &output);
    output.send(&Message::Answer(answer)).map_err(gone)?;
    // Leave without the libraries' own tidying up: the last word is said, and an exit handler that hangs or crashes
    // after hostile input would turn a good answer into a crash.
    leave(0)
}

fn answer(order: Order, ranges: Arc<RangeLink>, output: &Arc<OutputLink>) -> Answer {
    if let Err(err) = gst::init() {
        return Answer::Failed(Failure::own(format!("initialise gstreamer: {err}")));
    }
    let output: Arc<dyn Output> = Arc::clone(output) as Arc<dyn Output>;
    super::serve(order, ranges as Arc<dyn Ranges>, &output).unwrap_or_else(Answer::Failed)
}

/// The kernel ends this process when the thread that started it ends; if that happened already, it ends now.
fn die_with(parent: u32) -> std::io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    let actual = rustix::process::getppid().map(rustix::process::Pid::as_raw_nonzero);
    if actual.is_none_or(|pid| pid.get().unsigned_abs() != parent) {
        leave(link::EXIT_ORPHANED);
    }
    Ok(())
}

/// Moves the sockets away from the standard descriptors, so that nothing a library prints can land between frames, and
/// closes whatever else was inherited.
fn take_sockets() -> std::io::Result<(File, File)> {
    close_inherited();
    let ranges = std::io::stdin().as_fd().try_clone_to_owned()?;
    let output = std::io::stdout().as_fd().try_clone_to_owned()?;
    let null = File::options().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(std::io::stderr())?;
    Ok((ranges.into(), output.into()))
}

#[expect(unsafe_code, reason = "close_range has no safe form: it closes descriptors that no value owns")]
fn close_inherited() {
    // SAFETY: first thing that the process does; nothing in it owns a descriptor above the standard ones. An older
    // kernel without the call leaves them open, which are none: the parent opens all of its own close-on-exec.
    unsafe { libc::syscall(libc::SYS_close_range, 3_u32, u32::MAX, 0_u32) };
}

/// Ends the process at once, whatever other threads do.
#[expect(unsafe_code, reason = "_exit has no safe form in std")]
pub(super) fn leave(code: i32) -> ! {
    // SAFETY: ends the process; that no destructor or exit handler runs is the purpose.
    unsafe { libc::_exit(code) }
}
