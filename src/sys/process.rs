//! Other processes: whether one still runs, whether it is still the same one, and how it is told to stop.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::OnceLock;
use std::time::SystemTime;

use rustix::io::Errno;
use rustix::process::{Pid, Signal};

/// When a process started, in a unit that only this machine's current boot understands: two equal values for one pid
/// are the same process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StartTime(u64);

impl StartTime {
    /// None: no such process, or a system that does not tell. Elsewhere than on Linux it takes calls that rustix does not offer
    /// without `unsafe`, so that there a pid is all there is to know a process by.
    pub fn of(pid: u32) -> Option<StartTime> {
        stat(pid).map(|stat| stat.start)
    }

    pub fn from_ticks(ticks: u64) -> StartTime {
        StartTime(ticks)
    }

    /// Clock ticks since boot (Linux: field 22 of `/proc/<pid>/stat`).
    pub fn ticks(self) -> u64 {
        self.0
    }
}

/// Names the time from this start of the machine to its end. None: a system that does not tell.
pub fn boot_id() -> Option<&'static str> {
    static ID: OnceLock<Option<String>> = OnceLock::new();
    let read = || {
        let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        Some(text.trim().to_owned()).filter(|id| !id.is_empty())
    };
    ID.get_or_init(read).as_deref()
}

/// Ticks in a second, as Linux shows them to programs whatever its own clock does.
#[cfg(target_os = "linux")]
const TICKS_PER_SECOND: u64 = 100;

/// When a process began, by today's reading of the clock; good to a fraction of a second. None: no such process, or a system
/// that does not tell.
#[cfg(target_os = "linux")]
pub fn began(pid: u32) -> Option<SystemTime> {
    let since_boot = std::time::Duration::from_millis(StartTime::of(pid)?.0.checked_mul(1000 / TICKS_PER_SECOND)?);
    let up = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let up = std::time::Duration::new(u64::try_from(up.tv_sec).ok()?, u32::try_from(up.tv_nsec).ok()?);
    SystemTime::now().checked_sub(up.saturating_sub(since_boot))
}

/// When a process began. None: this system does not tell.
#[cfg(not(target_os = "linux"))]
pub fn began(_pid: u32) -> Option<SystemTime> {
    None
}

struct Stat {
    state: u8,
    start: StartTime,
}

fn stat(pid: u32) -> Option<Stat> {
    if !cfg!(target_os = "linux") {
        return None;
    }
    parse_stat(&std::fs::read(format!("/proc/{pid}/stat")).ok()?)
}

/// proc_pid_stat(5). The second field is the program's name in parentheses and may itself hold parentheses and spaces,
/// so fields are counted from the last one.
fn parse_stat(text: &[u8]) -> Option<Stat> {
    let after = text.iter().rposition(|byte| *byte == b')')? + 1;
    let mut fields = std::str::from_utf8(text.get(after..)?).ok()?.split_ascii_whitespace();
    let state = *fields.next()?.as_bytes().first()?; // field 3
    let start = fields.nth(18)?.parse().ok()?; // field 22
    Some(Stat { state, start: StartTime(start) })
}

/// Whether a process with this pid runs. One that we may not signal runs; one that only waits to be reaped does not.
pub fn alive(pid: u32) -> bool {
    let Some(target) = to_pid(pid) else { return false };
    match rustix::process::test_kill_process(target) {
        Ok(()) | Err(Errno::PERM) => stat(pid).is_none_or(|stat| !is_dead(stat.state)),
        Err(_) => false,
    }
}

/// The user that a process acts as. None: no such process, or a system that does not tell.
pub fn owner(pid: u32) -> Option<u32> {
    use std::os::unix::fs::MetadataExt;
    if !cfg!(target_os = "linux") {
        return None;
    }
    std::fs::metadata(format!("/proc/{pid}")).ok().map(|meta| meta.uid())
}

/// Whether `pid` runs and is the process that started at `start`.
pub fn same(pid: u32, start: StartTime) -> bool {
    match stat(pid) {
        Some(stat) => stat.start == start && !is_dead(stat.state),
        None if cfg!(target_os = "linux") => false,
        None => alive(pid),
    }
}

fn is_dead(state: u8) -> bool {
    matches!(state, b'Z' | b'X' | b'x')
}

/// Whether the process that has this pid here has the file at `path` open. A pid that was written down may be that of
/// another process by now, and in another pid namespace it always was. True where the system does not tell.
pub fn has_open(pid: u32, path: &Path) -> io::Result<bool> {
    if !cfg!(target_os = "linux") {
        return Ok(true);
    }
    let wanted = std::fs::metadata(path)?;
    let open = match std::fs::read_dir(format!("/proc/{pid}/fd")) {
        Ok(open) => open,
        // No such process, or somebody else's.
        Err(err) if matches!(err.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied) => return Ok(false),
        Err(err) => return Err(err),
    };
    // What is closed meanwhile is not what is looked for.
    let mut found = open.filter_map(Result::ok).filter_map(|entry| std::fs::metadata(entry.path()).ok());
    Ok(found.any(|found| (found.dev(), found.ino()) == (wanted.dev(), wanted.ino())))
}

/// A descriptor that becomes readable when the process ends. `Unsupported` where the kernel has none.
#[cfg(target_os = "linux")]
pub fn pidfd(pid: u32) -> io::Result<OwnedFd> {
    let target = to_pid(pid).ok_or(io::ErrorKind::NotFound)?;
    match rustix::process::pidfd_open(target, rustix::process::PidfdFlags::empty()) {
        Ok(fd) => Ok(fd),
        Err(Errno::NOSYS) => Err(io::ErrorKind::Unsupported.into()),
        Err(Errno::SRCH) => Err(io::ErrorKind::NotFound.into()),
        Err(err) => Err(err.into()),
    }
}

/// A descriptor that becomes readable when the process ends. `Unsupported` where the kernel has none.
#[cfg(not(target_os = "linux"))]
pub fn pidfd(_pid: u32) -> io::Result<OwnedFd> {
    Err(io::ErrorKind::Unsupported.into())
}

/// The signals this program sends to others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    Terminate,
    Interrupt,
    Hangup,
    Kill,
}

/// Asks a process to end (SIGTERM).
pub fn terminate(pid: u32) -> io::Result<()> {
    kill(pid, Order::Terminate)
}

/// Sends a signal. `NotFound`: no such process.
pub fn kill(pid: u32, order: Order) -> io::Result<()> {
    let target = to_pid(pid).ok_or(io::ErrorKind::NotFound)?;
    let signal = match order {
        Order::Terminate => Signal::TERM,
        Order::Interrupt => Signal::INT,
        Order::Hangup => Signal::HUP,
        Order::Kill => Signal::KILL,
    };
    match rustix::process::kill_process(target, signal) {
        Ok(()) => Ok(()),
        Err(Errno::SRCH) => Err(io::ErrorKind::NotFound.into()),
        Err(err) => Err(err.into()),
    }
}

/// The process that started this one, or that adopted it. None: outside our pid namespace.
pub fn parent_pid() -> Option<u32> {
    rustix::process::getppid().and_then(|pid| u32::try_from(pid.as_raw_pid()).ok())
}

/// Leaves the terminal: makes this process the leader of a new session. To be called early in a child that was started
/// to stay behind; it fails in a process that leads its group, so such a child must not be given a group of its own.
pub fn new_session() -> io::Result<()> {
    rustix::process::setsid()?;
    Ok(())
}

/// This machine's name, as the kernel has it.
pub fn hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Zero would mean the caller's own group, and what exceeds an `i32` would mean a group too: neither is a process.
fn to_pid(pid: u32) -> Option<Pid> {
    Pid::from_raw(i32::try_from(pid).ok()?)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::os::fd::AsFd;
    use std::process::Command;
    use std::time::Duration;

    use tempfile::tempdir;

    use super::*;
    use crate::sys::poll;

    #[test]
    fn reads_the_start_time_whatever_the_program_is_called() {
        let tail = "S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20 21";
        for name in ["cat", "a b", "a) S 9 9", ")(", "(((", "é"] {
            let stat = parse_stat(format!("77 ({name}) {tail}").as_bytes()).unwrap();
            assert_eq!((stat.state, stat.start), (b'S', StartTime(4711)), "{name}");
        }
        for bad in ["", ")", "77 (cat", "77 (cat) S 1 2", "77 (cat) "] {
            assert!(parse_stat(bad.as_bytes()).is_none(), "{bad}");
        }
        assert!(parse_stat(b"77 (cat) \xff\xfe").is_none());
    }

    #[test]
    fn knows_the_living_the_dead_and_the_unreaped() {
        let me = std::process::id();
        let start = StartTime::of(me).unwrap();
        assert!(alive(me) && same(me, start) && !same(me, StartTime(start.0 + 1)));
        assert!(alive(1));
        assert!(!alive(0) && !alive(u32::MAX) && !alive(i32::MAX as u32));

        let mut child = Command::new("cat").stdin(std::process::Stdio::piped()).spawn().unwrap();
        let (pid, begun) = (child.id(), StartTime::of(child.id()).unwrap());
        let ended = pidfd(pid).unwrap();
        assert!(same(pid, begun));
        terminate(pid).unwrap();
        let found = poll::wait_one(ended.as_fd(), true, false, None, Some(Duration::from_secs(5))).unwrap();
        assert!(found.event.readable);
        assert!(!alive(pid) && !same(pid, begun), "an unreaped child counts as gone");
        child.wait().unwrap();
        assert!(!alive(pid));
        assert_eq!(kill(pid, Order::Kill).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(pidfd(pid).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn knows_who_has_a_file_open() {
        let dir = tempdir().unwrap();
        let path = dir.path().join("open");
        let file = std::fs::File::create(&path).unwrap();
        let me = std::process::id();
        assert!(has_open(me, &path).unwrap());
        drop(file);
        assert!(!has_open(me, &path).unwrap() && !has_open(i32::MAX as u32, &path).unwrap());
        std::fs::remove_file(&path).unwrap();
        assert!(has_open(me, &path).is_err());
    }

    #[test]
    fn knows_when_a_process_began() {
        let before = SystemTime::now();
        let mut child = Command::new("cat").stdin(std::process::Stdio::piped()).spawn().unwrap();
        let began = began(child.id()).unwrap();
        let slack = Duration::from_secs(1);
        assert!(before - slack <= began && began <= SystemTime::now() + slack, "{before:?} {began:?}");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn knows_its_own_surroundings() {
        assert!(!hostname().is_empty());
        assert_ne!(parent_pid(), Some(std::process::id()));
    }
}
