//! The whole walk on one machine: build, start, push, watch.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::run::{cargo, must, root, target};
use crate::server::Server;
use crate::{Failure, setup};

/// Where `spool` expects its server when nothing else is said.
const ADDRESS: &str = "127.0.0.1:7070";
/// Any free port.
const ANYWHERE: &str = "127.0.0.1:0";

/// Runs the demo; with `once` it stops everything at the end.
pub(crate) fn run(file: Option<&Path>, once: bool) -> Result<(), Failure> {
    if let Some(file) = file {
        // Before minutes of building.
        fs::File::open(file).map_err(|error| format!("open {}: {error}", file.display()))?;
    }
    let nats = setup::run(setup::For::Use)?;
    must(cargo().args(["build", "--release", "--locked", "--package", "spool"]))?;
    let spool = target().join("release/spool");
    let home = root().join("target/demo");
    fs::create_dir_all(&home)?;
    let video = match file {
        Some(file) => file.to_path_buf(),
        None => clip(&home)?,
    };
    // Its usual address, so that `spool ls` in another terminal finds it; any other if that one is taken.
    let listen = if TcpListener::bind(ADDRESS).is_ok() { ADDRESS } else { ANYWHERE };
    let mut server = Server::start(&spool, &home, &nats, listen)?;
    println!("Spool is ready at {} (log: {})", server.url, server.log.display());
    let pushed = must(Command::new(&spool).args(["push", "--wait", "--server", &server.url]).arg(&video));
    if once {
        let stopped = server.stop();
        return pushed.and(stopped);
    }
    if let Err(failure) = pushed {
        println!("{failure}");
    }
    println!("Spool serves at {} until you press Ctrl-C", server.url);
    let status = server.process.wait()?;
    Err(format!("spool up ended by itself with {status}; its log is {}", server.log.display()).into())
}

/// 20 s of moving picture and sound, made once.
fn clip(home: &Path) -> Result<PathBuf, Failure> {
    let clip = home.join("clip.mp4");
    if clip.is_file() {
        return Ok(clip);
    }
    println!("making a clip of 20 s: {}", clip.display());
    // Bars that wander, with their corner of noise: 600 frames at 30 fps and as much sound.
    const DESCRIPTION: &str = "videotestsrc pattern=smpte horizontal-speed=4 num-buffers=600 ! video/x-raw,width=1280,height=720,framerate=30/1 ! \
         videoconvert ! x264enc speed-preset=veryfast key-int-max=60 ! h264parse ! queue ! mux. \
         audiotestsrc wave=sine freq=440 volume=0.2 samplesperbuffer=1600 num-buffers=600 ! \
         audio/x-raw,rate=48000,channels=2 ! audioconvert ! avenc_aac ! aacparse ! queue ! mux. \
         mp4mux name=mux ! filesink location=clip.part";
    let mut launch = Command::new("gst-launch-1.0");
    launch.args(["--quiet", "--eos-on-shutdown"]).args(DESCRIPTION.split_whitespace());
    // From within: the way there may hold blanks, which divide a description.
    must(launch.current_dir(home))?;
    fs::rename(home.join("clip.part"), &clip)?;
    Ok(clip)
}
