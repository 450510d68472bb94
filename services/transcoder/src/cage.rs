//! The cage of the media child: Landlock, seccomp and rlimits, shut by the child itself before `gst::init`.
//!
//! Hostile bytes are decoded by millions of lines of C. So the process that does it holds two sockets to its parent and a
//! pipe for what it complains about, and can get nothing else: no file but its libraries and the plugin registry, no
//! socket, no second program, no signal to others, no memory or processor time without end. What the kernel cannot do is
//! an error by name ([`CageRefused`]); to go on without it is a choice in the configuration ([`CageMode::Off`]).
//!
//! The seccomp list names what is denied, not what is allowed: the libraries differ by distribution, and an allow list
//! that is one call short kills good videos. Landlock and the empty descriptor table carry the weight beside it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, CompatLevel, Compatible as _, Ruleset, RulesetAttr as _,
    RulesetCreatedAttr as _, RulesetStatus, Scope, path_beneath_rules,
};
use rustix::process::{Resource, Rlimit};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
};
use serde::{Deserialize, Serialize};

/// Directories of libraries on the systems that Spool runs on; those that do not exist are left out.
pub const LIBRARY_DIRS: [&str; 5] = ["/usr/lib", "/usr/lib64", "/usr/local/lib", "/lib", "/lib64"];
/// Files that libraries read to size themselves.
const SYSTEM_FILES: [&str; 6] =
    ["/etc/ld.so.cache", "/dev/null", "/dev/urandom", "/proc/cpuinfo", "/proc/meminfo", "/sys/devices/system/cpu"];
/// Seconds between the soft limit of processor time, which names itself, and the hard one.
const CPU_GRACE_S: u64 = 5;

/// Is the cage shut?
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CageMode {
    /// Yes, or the child refuses to work.
    #[default]
    Enforce,
    /// No. Limits of memory and time hold all the same.
    Off,
}

/// How much one child may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Resident memory at which the parent ends it.
    pub memory_bytes: u64,
    /// Address space, the kernel's limit behind it; a multiple, because threads and arenas reserve much and use little.
    pub address_space_bytes: u64,
    /// Processor time over all threads.
    pub cpu_s: u64,
    /// Open descriptors.
    pub open_files: u64,
}

impl Limits {
    /// For an order with so many hours of video.
    #[must_use]
    pub fn for_hours(self, hours: u64) -> Self {
        Self { cpu_s: self.cpu_s.saturating_mul(hours), ..self }
    }
}

impl Default for Limits {
    /// A ladder from 2160p was measured at about 1 GiB; twice that, and an hour of processor time.
    fn default() -> Self {
        Self { memory_bytes: 2 << 30, address_space_bytes: 8 << 30, cpu_s: 3600, open_files: 256 }
    }
}

/// What the child is told about its cage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CageOrder {
    /// Shut or not.
    pub mode: CageMode,
    /// Limits, which hold in both modes.
    pub limits: Limits,
    /// Directories whose files may be read and mapped as code.
    pub library_dirs: Vec<PathBuf>,
    /// Directory of the plugin registry, to be read.
    pub registry_dir: PathBuf,
}

/// What the kernel enforces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CageReport {
    /// Landlock: `fully enforced`, `partially enforced` or `off`.
    pub landlock: String,
    /// The seccomp filters are in place.
    pub seccomp: bool,
}

/// The kernel cannot shut the cage.
#[derive(Debug, thiserror::Error)]
pub enum CageRefused {
    /// Landlock is missing or too old.
    #[error("restrict files with landlock (needs linux 5.13 or newer with landlock enabled, or `cage = \"off\"`)")]
    Landlock(#[source] landlock::RulesetError),
    /// Landlock took the rules and enforces nothing.
    #[error("restrict files with landlock: the kernel enforces nothing of it (enable it, or `cage = \"off\"`)")]
    NotEnforced,
    /// Seccomp is missing.
    #[error("restrict system calls with seccomp (needs a kernel with CONFIG_SECCOMP_FILTER, or `cage = \"off\"`)")]
    Seccomp(#[source] seccompiler::Error),
    /// The kernel does not list what the filters need.
    #[error("restrict system calls with seccomp: the kernel lists no filter action `errno` (or `cage = \"off\"`)")]
    NoFilters,
    /// The processor is not one that the filter knows.
    #[error("restrict system calls with seccomp: {0} is not x86_64 or aarch64 (or `cage = \"off\"`)")]
    Arch(String),
    /// A limit could not be set.
    #[error("set the limit of {0}")]
    Limit(&'static str, #[source] rustix::io::Errno),
}

/// Can this kernel shut the cage? Asked at start-up, so that a machine that cannot says so before the first video.
///
/// Restricts nothing: a ruleset is made and thrown away, and the kernel's list of seccomp actions is read.
pub fn probe() -> Result<(), CageRefused> {
    ruleset()?;
    target_arch()?;
    match std::fs::read_to_string("/proc/sys/kernel/seccomp/actions_avail") {
        Ok(actions) if !actions.contains("errno") => Err(CageRefused::NoFilters),
        // Without /proc the child itself is the judge; it refuses by the same names.
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Shuts the cage around this process. To be called while it has one thread.
pub fn shut(order: &CageOrder) -> Result<CageReport, CageRefused> {
    go_first_when_memory_is_out();
    limit(&order.limits)?;
    match order.mode {
        CageMode::Off => Ok(CageReport { landlock: "off".to_owned(), seccomp: false }),
        CageMode::Enforce => {
            let landlock = restrict_files(order)?;
            restrict_calls()?;
            Ok(CageReport { landlock, seccomp: true })
        }
    }
}

/// How much more willing than with others the kernel is to end a child when memory is used up; 1000 is the most
/// (proc(5), `oom_score_adj`).
pub const OOM_SCORE: i32 = 500;

/// What a child loses is done again. The log's server and the roles beside it should never be the ones that are ended.
fn go_first_when_memory_is_out() {
    const SCORE: &str = "/proc/self/oom_score_adj";
    let now = std::fs::read_to_string(SCORE).ok().and_then(|text| text.trim().parse::<i32>().ok());
    if now.is_some_and(|now| now < OOM_SCORE) {
        // Where it can't be said the kernel chooses by size, which mostly comes to the same.
        let _ = std::fs::write(SCORE, OOM_SCORE.to_string());
    }
}

fn limit(limits: &Limits) -> Result<(), CageRefused> {
    // A limit that is there already and lower holds: it can't be raised, and need not be.
    let both = |value: u64| Rlimit { current: Some(value), maximum: Some(value) };
    let at_most = |resource, value: u64| {
        let allowed = rustix::process::getrlimit(resource).maximum.unwrap_or(u64::MAX);
        both(value.min(allowed))
    };
    let cpu = Rlimit { current: Some(limits.cpu_s), maximum: Some(limits.cpu_s + CPU_GRACE_S) };
    for (name, resource, value) in [
        ("address space", Resource::As, at_most(Resource::As, limits.address_space_bytes)),
        ("processor time", Resource::Cpu, cpu),
        ("open files", Resource::Nofile, at_most(Resource::Nofile, limits.open_files)),
        ("file size", Resource::Fsize, both(0)),
        ("core size", Resource::Core, both(0)),
    ] {
        rustix::process::setrlimit(resource, value).map_err(|err| CageRefused::Limit(name, err))?;
    }
    Ok(())
}

/// Everything that Landlock knows is handled, so that nothing is allowed but by rule. The first ABI's file rights must be
/// there; later rights (refer, truncate, network, scopes) are taken where the kernel has them, and seccomp stands behind.
fn ruleset() -> Result<landlock::RulesetCreated, CageRefused> {
    Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(ABI::V1))
        .and_then(|rules| rules.set_compatibility(CompatLevel::BestEffort).handle_access(AccessFs::from_all(ABI::V6)))
        .and_then(|rules| rules.handle_access(AccessNet::from_all(ABI::V6)))
        .and_then(|rules| rules.scope(Scope::from_all(ABI::V6)))
        .and_then(Ruleset::create)
        .map_err(CageRefused::Landlock)
}

fn restrict_files(order: &CageOrder) -> Result<String, CageRefused> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let status = ruleset()?
        .add_rules(path_beneath_rules(&order.library_dirs, read | AccessFs::Execute))
        .and_then(|rules| rules.add_rules(path_beneath_rules([&order.registry_dir], read)))
        .and_then(|rules| rules.add_rules(path_beneath_rules(SYSTEM_FILES, read)))
        .and_then(landlock::RulesetCreated::restrict_self)
        .map_err(CageRefused::Landlock)?;
    match status.ruleset {
        RulesetStatus::FullyEnforced => Ok("fully enforced".to_owned()),
        RulesetStatus::PartiallyEnforced => Ok("partially enforced".to_owned()),
        RulesetStatus::NotEnforced => Err(CageRefused::NotEnforced),
    }
}

fn restrict_calls() -> Result<(), CageRefused> {
    let arch = target_arch()?;
    for program in [filter(denied(), libc::EPERM, arch)?, filter(absent(), libc::ENOSYS, arch)?] {
        seccompiler::apply_filter_all_threads(&program).map_err(CageRefused::Seccomp)?;
    }
    Ok(())
}

fn target_arch() -> Result<TargetArch, CageRefused> {
    std::env::consts::ARCH.try_into().map_err(|_| CageRefused::Arch(std::env::consts::ARCH.to_owned()))
}

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

fn filter(rules: Rules, errno: i32, arch: TargetArch) -> Result<BpfProgram, CageRefused> {
    SeccompFilter::new(rules, SeccompAction::Allow, SeccompAction::Errno(errno as u32), arch)
        .and_then(BpfProgram::try_from)
        .map_err(|err| CageRefused::Seccomp(err.into()))
}

/// Calls that fail with EPERM.
#[expect(clippy::too_many_lines, reason = "a flat table: one name a line, with why")]
fn denied() -> Rules {
    let mut calls = vec![
        // No network, no other way to reach a process.
        libc::SYS_socket,
        libc::SYS_connect,
        libc::SYS_bind,
        libc::SYS_listen,
        libc::SYS_accept,
        libc::SYS_accept4,
        libc::SYS_sendto,
        libc::SYS_sendmsg,
        libc::SYS_sendmmsg,
        libc::SYS_recvmsg,
        libc::SYS_recvmmsg,
        libc::SYS_mq_open,
        libc::SYS_shmget,
        libc::SYS_shmat,
        libc::SYS_msgget,
        libc::SYS_semget,
        // No other program, no look into one, no signal to one.
        libc::SYS_execve,
        libc::SYS_execveat,
        libc::SYS_ptrace,
        libc::SYS_process_vm_readv,
        libc::SYS_process_vm_writev,
        libc::SYS_kill,
        libc::SYS_tkill,
        libc::SYS_rt_sigqueueinfo,
        libc::SYS_rt_tgsigqueueinfo,
        libc::SYS_pidfd_open,
        libc::SYS_pidfd_getfd,
        libc::SYS_pidfd_send_signal,
        libc::SYS_kcmp,
        libc::SYS_setpgid,
        libc::SYS_setsid,
        libc::SYS_setpriority,
        libc::SYS_setrlimit,
        // No other view of the system and no door to rarely tried kernel code.
        libc::SYS_mount,
        libc::SYS_umount2,
        libc::SYS_open_tree,
        libc::SYS_move_mount,
        libc::SYS_fsopen,
        libc::SYS_fsmount,
        libc::SYS_pivot_root,
        libc::SYS_chroot,
        libc::SYS_unshare,
        libc::SYS_setns,
        libc::SYS_open_by_handle_at,
        libc::SYS_bpf,
        libc::SYS_perf_event_open,
        libc::SYS_userfaultfd,
        libc::SYS_io_uring_setup,
        libc::SYS_io_uring_enter,
        libc::SYS_io_uring_register,
        libc::SYS_io_setup,
        libc::SYS_fanotify_init,
        libc::SYS_inotify_init1,
        libc::SYS_keyctl,
        libc::SYS_add_key,
        libc::SYS_request_key,
        libc::SYS_init_module,
        libc::SYS_finit_module,
        libc::SYS_delete_module,
        libc::SYS_kexec_load,
        libc::SYS_reboot,
        libc::SYS_swapon,
        libc::SYS_swapoff,
        libc::SYS_acct,
        libc::SYS_quotactl,
        libc::SYS_syslog,
        libc::SYS_settimeofday,
        libc::SYS_clock_settime,
        libc::SYS_adjtimex,
        libc::SYS_clock_adjtime,
        libc::SYS_sethostname,
        libc::SYS_setdomainname,
        libc::SYS_personality,
        libc::SYS_vhangup,
        // Landlock (before its third ABI) does not stop truncating; nothing is to be written anyway.
        libc::SYS_truncate,
    ];
    #[cfg(target_arch = "x86_64")]
    calls.extend([libc::SYS_fork, libc::SYS_vfork, libc::SYS_inotify_init, libc::SYS_ioperm, libc::SYS_iopl]);

    let mut rules: Rules = calls.into_iter().map(|call| (call, Vec::new())).collect();
    // A thread is welcome, a process is not.
    rules.insert(
        libc::SYS_clone,
        vec![when(0, SeccompCmpOp::MaskedEq(libc::CLONE_THREAD as u64), 0, SeccompCmpArgLen::Qword)],
    );
    // Gstreamer's message bus wakes itself over a pair of local sockets: a pipe by another name, both ends in this process,
    // and no descriptor can be passed over it, since sendmsg is denied.
    let local = libc::AF_UNIX.unsigned_abs().into();
    rules.insert(libc::SYS_socketpair, vec![when(0, SeccompCmpOp::Ne, local, SeccompCmpArgLen::Dword)]);
    // abort() signals a thread of its own process; no other one.
    let own = u64::from(std::process::id());
    rules.insert(libc::SYS_tgkill, vec![when(0, SeccompCmpOp::Ne, own, SeccompCmpArgLen::Dword)]);
    // Limits may be read, not set: root could raise them again.
    rules.insert(libc::SYS_prlimit64, vec![when(2, SeccompCmpOp::Ne, 0, SeccompCmpArgLen::Qword)]);
    with_second_table(rules)
}

/// Calls that do not exist in the cage, so that libc takes the older one, whose arguments a filter can see.
fn absent() -> Rules {
    with_second_table([(libc::SYS_clone3, Vec::new())].into())
}

/// On x86_64 a kernel may answer each call under a second number (x32); what is denied is denied there too.
fn with_second_table(rules: Rules) -> Rules {
    /// `__X32_SYSCALL_BIT` of the kernel.
    const X32: i64 = 0x4000_0000;
    if cfg!(target_arch = "x86_64") {
        let second: Vec<_> = rules.iter().map(|(call, rules)| (call | X32, rules.clone())).collect();
        return rules.into_iter().chain(second).collect();
    }
    rules
}

fn when(argument: u8, op: SeccompCmpOp, value: u64, length: SeccompCmpArgLen) -> SeccompRule {
    let condition = SeccompCondition::new(argument, length, op, value).expect("a call has six arguments");
    SeccompRule::new(vec![condition]).expect("one condition is not none")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filters_compile_for_both_processors() {
        for arch in [TargetArch::x86_64, TargetArch::aarch64] {
            filter(denied(), libc::EPERM, arch).unwrap();
            filter(absent(), libc::ENOSYS, arch).unwrap();
        }
    }

    #[test]
    fn this_kernel_can_shut_the_cage() {
        probe().unwrap();
    }
}
