//! Ways out of a root, each tried.

use std::io::Read as _;
use std::os::unix::fs::symlink;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

struct Yard {
    _dir: tempfile::TempDir,
    base: PathBuf,
    root: PathBuf,
}

/// `base/root` is allowed and holds `a.mp4` and `sub/b.mp4`; `base/outside/secret.mp4` is not.
fn yard() -> Yard {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let base = dir.path().canonicalize().expect("a real path");
    let root = base.join("root");
    for directory in [root.join("sub"), base.join("outside"), base.join("root-not")] {
        std::fs::create_dir_all(directory).expect("a directory");
    }
    for (name, text) in [
        ("root/a.mp4", "inside"),
        ("root/sub/b.mp4", "inside"),
        ("outside/secret.mp4", "secret"),
        ("root-not/c.mp4", "secret"),
    ] {
        std::fs::write(base.join(name), text).expect("a file");
    }
    Yard { _dir: dir, base, root }
}

fn read(opened: Result<Opened, Problem>) -> Result<String, Code> {
    let mut text = String::new();
    opened.map_err(|problem| problem.code)?.file.read_to_string(&mut text).expect("readable");
    Ok(text)
}

#[test]
fn files_inside_are_opened_by_absolute_and_by_relative_path() {
    let yard = yard();
    let roots = Roots::open(&[yard.base.join("outside"), yard.root.clone()]).expect("roots");
    let absolute = yard.root.join("sub/b.mp4");
    for path in ["a.mp4", "sub/b.mp4", "./sub/./b.mp4", absolute.to_str().expect("text")] {
        assert_eq!(read(roots.open_file(path)), Ok("inside".to_owned()), "{path}");
    }
    assert_eq!(roots.open_file("sub/b.mp4").expect("a file").name, "b.mp4");
}

#[test]
fn no_path_leads_out() {
    let yard = yard();
    let (base, root) = (&yard.base, &yard.root);
    symlink(base.join("outside/secret.mp4"), root.join("link.mp4")).expect("a link");
    symlink("../outside", root.join("out")).expect("a link");
    symlink("sub/b.mp4", root.join("inner.mp4")).expect("a link");
    let roots = Roots::open(std::slice::from_ref(root)).expect("a root");
    let text = |path: PathBuf| path.to_str().expect("text").to_owned();
    for path in [
        "../outside/secret.mp4".to_owned(),
        "sub/../../outside/secret.mp4".to_owned(),
        "sub/../a.mp4".to_owned(),
        text(root.join("../outside/secret.mp4")),
        text(base.join("outside/secret.mp4")),
        text(base.join("root-not/c.mp4")),
        "/etc/passwd".to_owned(),
        "/proc/self/root/etc/passwd".to_owned(),
        String::new(),
        "a.mp4\0.txt".to_owned(),
    ] {
        assert_eq!(read(roots.open_file(&path)), Err(Code::PathNotAllowed), "{path:?}");
    }
    // Named as what they are, wherever they lead: who put them there wonders else which root is meant.
    for path in ["link.mp4", "out/secret.mp4", "inner.mp4", &text(root.join("link.mp4"))] {
        assert_eq!(read(roots.open_file(path)), Err(Code::PathNotFile), "{path:?}");
    }
    assert_eq!(read(Roots::default().open_file("a.mp4")), Err(Code::PathNotAllowed), "no roots, no files");
}

#[test]
fn only_plain_files_are_opened_and_nothing_waits() {
    let yard = yard();
    let pipe = yard.root.join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status().expect("mkfifo of coreutils");
    assert!(made.success());
    let _socket = std::os::unix::net::UnixListener::bind(yard.root.join("socket")).expect("a socket");
    let roots = Roots::open(std::slice::from_ref(&yard.root)).expect("a root");
    for (path, code) in [
        ("sub", Code::PathNotFile),
        (".", Code::PathNotFile),
        ("pipe", Code::PathNotFile),
        ("socket", Code::PathNotFile),
        ("nothing.mp4", Code::PathNotFound),
        ("a.mp4/b", Code::PathNotFound),
    ] {
        assert_eq!(read(roots.open_file(path)), Err(code), "{path}");
    }
    let found = roots.open_file("sub").expect_err("a directory").params["found"].clone();
    assert_eq!(found, "a directory");
}

#[test]
fn a_directory_that_is_swapped_for_a_link_all_the_time_never_leads_out() {
    let yard = yard();
    let (door, real, link) = (yard.root.join("door"), yard.root.join("real"), yard.root.join("swap"));
    std::fs::create_dir(&real).expect("a directory");
    std::fs::write(real.join("secret.mp4"), "inside").expect("a file");
    symlink(yard.base.join("outside"), &link).expect("a link");
    std::fs::rename(&real, &door).expect("the door is a directory at first");
    let roots = Roots::open(std::slice::from_ref(&yard.root)).expect("a root");
    let stop = Arc::new(AtomicBool::new(false));
    let swapper = std::thread::spawn({
        let (stop, door) = (Arc::clone(&stop), door.clone());
        move || {
            while !stop.load(Ordering::Relaxed) {
                std::fs::rename(&door, &real).expect("swap");
                std::fs::rename(&link, &door).expect("swap");
                std::fs::rename(&door, &link).expect("swap");
                std::fs::rename(&real, &door).expect("swap");
            }
        }
    });
    let (mut inside, mut refused) = (0, 0);
    for _ in 0..20_000 {
        match read(roots.open_file("door/secret.mp4")) {
            Ok(text) => {
                assert_eq!(text, "inside", "the race led out of the root");
                inside += 1;
            }
            Err(_) => refused += 1,
        }
    }
    stop.store(true, Ordering::Relaxed);
    swapper.join().expect("the swapper ends");
    assert!(inside > 0 && refused > 0, "both states were met: {inside} inside, {refused} refused");
}

#[test]
fn a_root_that_is_no_directory_is_named() {
    let error = Roots::open(&[PathBuf::from("/nowhere/at/all")]).err().expect("no such root");
    assert_eq!(error.to_string(), "open the root /nowhere/at/all");
}
