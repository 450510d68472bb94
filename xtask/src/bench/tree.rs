//! What a process and everything that it started uses: CPU time and memory, read from `/proc`.

use std::collections::HashMap;
use std::fs;
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::Failure;
use crate::run::ask;

/// How often memory is looked at. A peak that is shorter stays unseen, on both sides alike.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// CPU seconds of everything below `root` and of itself, with what they have waited for.
///
/// A process that ended without being waited for is missing; Spool's supervisor and ffmpeg's caller both wait.
pub(super) fn cpu_s(root: u32) -> Result<f64, Failure> {
    let ticks: u64 = family(root).iter().filter_map(|pid| cpu_ticks(*pid)).sum();
    Ok(ticks as f64 / ticks_a_second()?)
}

/// CPU seconds of the children that this process has waited for.
pub(super) fn cpu_of_children_s() -> Result<f64, Failure> {
    let fields = stat("self").ok_or("/proc/self/stat can't be read")?;
    Ok((fields.of_children as f64) / ticks_a_second()?)
}

/// Looks at the memory of a tree until it is told to stop.
pub(super) struct Peak {
    stop: Arc<AtomicBool>,
    greatest_kib: Arc<AtomicU64>,
    looker: JoinHandle<()>,
}

impl Peak {
    pub(super) fn watch(root: u32) -> Self {
        let (stop, greatest_kib) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, greatest) = (Arc::clone(&stop), Arc::clone(&greatest_kib));
        let looker = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let now = family(root).iter().filter_map(|pid| proportional_kib(*pid)).sum();
                greatest.fetch_max(now, Ordering::Relaxed);
                std::thread::sleep(LOOK_EVERY);
            }
        });
        Self { stop, greatest_kib, looker }
    }

    /// The greatest sum seen, in MiB.
    pub(super) fn mib(self) -> f64 {
        self.stop.store(true, Ordering::Relaxed);
        let _it_only_reads = self.looker.join();
        self.greatest_kib.load(Ordering::Relaxed) as f64 / 1024.0
    }
}

/// Waits for a process; an end other than a good one is a failure that names it.
pub(super) fn wait(mut child: Child, name: &str) -> Result<(), Failure> {
    let status = child.wait()?;
    if status.success() { Ok(()) } else { Err(format!("{name} ended with {status}").into()) }
}

/// `root` and everything below it that lives.
fn family(root: u32) -> Vec<u32> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        if let Some(stat) = stat(&pid.to_string()) {
            children.entry(stat.parent).or_default().push(pid);
        }
    }
    let mut family = vec![root];
    let mut next = 0;
    while let Some(pid) = family.get(next) {
        family.extend(children.get(pid).into_iter().flatten());
        next += 1;
    }
    family
}

struct Stat {
    parent: u32,
    own: u64,
    of_children: u64,
}

/// Fields 4 and 14 to 17 of `/proc/PID/stat` (proc(5)).
fn stat(pid: &str) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold spaces and brackets; it ends with the last one.
    let fields: Vec<&str> = text.rsplit_once(") ")?.1.split(' ').collect();
    let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    Some(Stat {
        parent: u32::try_from(number(4)?).ok()?,
        own: number(14)? + number(15)?,
        of_children: number(16)? + number(17)?,
    })
}

fn cpu_ticks(pid: u32) -> Option<u64> {
    stat(&pid.to_string()).map(|stat| stat.own + stat.of_children)
}

/// Memory of a process, what it shares counted by its share.
fn proportional_kib(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    text.lines().find_map(|line| line.strip_prefix("Pss:")?.split_whitespace().next()?.parse().ok())
}

fn ticks_a_second() -> Result<f64, Failure> {
    let text = ask(Command::new("getconf").arg("CLK_TCK")).ok_or("getconf CLK_TCK says nothing")?;
    Ok(text.trim().parse()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_seen_with_its_children() {
        let mut shell = Command::new("sh").args(["-c", "sleep 30 & wait"]).spawn().expect("a shell");
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        while family(shell.id()).len() < 2 {
            assert!(std::time::Instant::now() < deadline, "no child was seen");
            std::thread::sleep(Duration::from_millis(5));
        }
        let family = family(shell.id());
        for pid in &family {
            assert!(proportional_kib(*pid).is_some_and(|kib| kib > 0), "{pid} of {family:?}");
        }
        for pid in family.into_iter().rev() {
            let _gone_with_its_parent = Command::new("kill").arg(pid.to_string()).status();
        }
        shell.wait().expect("its end");
    }
}
