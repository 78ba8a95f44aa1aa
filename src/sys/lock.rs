//! One process at a time: flock(2) on an open file. The kernel releases it when the holder ends in whatever way, so a
//! lock is never stale; the pid inside is for people and for the tools that read it. The reference's programs lock nothing
//! and only write their pid: where they may have, [`Beside`] says by what one is known to be at work.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use rustix::fs::{FlockOperation, flock};

use super::process;

/// How often a bounded wait looks again: flock(2) itself knows no deadline.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// How much later than its own file a process may seem to have begun: what file systems and `/proc` round away.
const ROUNDING: Duration = Duration::from_secs(2);

/// How long a process may take from its beginning to its pid, and from there to its files.
const SETTLING: Duration = Duration::from_secs(5);

/// Who may hold a file without locking it. That a process lives whose number the file names proves nothing: the one that wrote
/// it may have gone with its container, and its number means another one here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Beside {
    /// Only this program writes the file.
    Nobody,
    /// Whoever it names that has this other file open, or wrote its pid only now, right after it began.
    HasOpen(PathBuf),
    /// Whoever it names, for this long after it was written.
    For(Duration),
}

/// Holds the lock until dropped.
#[derive(Debug)]
pub struct Lock {
    file: File,
    path: PathBuf,
    beside: Beside,
}

/// Why the lock was not acquired.
#[derive(Debug)]
pub enum Refused {
    /// Another process has it; its pid, if the file names one.
    Held {
        pid: Option<u32>,
    },
    Io(io::Error),
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refused::Held { pid: Some(pid) } => write!(f, "held by process {pid}"),
            Refused::Held { pid: None } => f.write_str("held by another process"),
            Refused::Io(err) => write!(f, "cannot lock: {err}"),
        }
    }
}

impl std::error::Error for Refused {}

impl From<io::Error> for Refused {
    fn from(err: io::Error) -> Refused {
        Refused::Io(err)
    }
}

/// Takes the lock at `path` (created with mode 0600) or says who has it. The file then holds this process's pid in
/// decimal, without a newline.
pub fn acquire(path: &Path, beside: &Beside) -> Result<Lock, Refused> {
    loop {
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        if !try_flock(&file)? {
            return Err(Refused::Held { pid: read_pid(&mut file) });
        }
        // The last holder may have removed the file between our open and our lock; then ours is a file without a name.
        if !names(path, &file)? {
            continue;
        }
        if let Some(pid) = writer_at_work(&mut file, beside)? {
            return Err(Refused::Held { pid: Some(pid) });
        }
        file.rewind()?;
        file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
        file.set_len(0)?;
        file.write_all(std::process::id().to_string().as_bytes())?;
        return Ok(Lock { file, path: path.to_owned(), beside: beside.clone() });
    }
}

/// As [`acquire`], trying again until `deadline`.
pub fn acquire_by(path: &Path, beside: &Beside, deadline: Instant) -> Result<Lock, Refused> {
    loop {
        let refused = match acquire(path, beside) {
            Err(refused @ Refused::Held { .. }) => refused,
            settled => return settled,
        };
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(refused);
        }
        super::poll::wait(&[], None, Some(left.min(LOOK_AGAIN)))?;
    }
}

/// Who holds the lock at `path`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    Nobody,
    /// The pid that the file names, if it names one.
    Process(Option<u32>),
}

/// Looks without taking the lock away from anybody: for an instant a free lock is held in shared mode, which an
/// [`acquire`] at that instant sees as held; [`acquire_by`] does not mind.
pub fn holder(path: &Path) -> io::Result<Holder> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(Holder::Nobody),
        Err(err) => return Err(err),
    };
    match flock(&file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => Ok(Holder::Nobody),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(Holder::Process(read_pid(&mut file))),
        Err(err) => Err(err.into()),
    }
}

/// Who keeps [`acquire`] from taking the lock at `path`: its holder, or a process that locks nothing and wrote its pid there.
pub fn in_the_way(path: &Path, beside: &Beside) -> io::Result<Holder> {
    let held = holder(path)?;
    if held != Holder::Nobody {
        return Ok(held);
    }
    match File::open(path) {
        Ok(mut file) => Ok(writer_at_work(&mut file, beside)?.map_or(Holder::Nobody, |pid| Holder::Process(Some(pid)))),
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(Holder::Nobody),
        Err(err) => Err(err),
    }
}

fn try_flock(file: &File) -> io::Result<bool> {
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
        Err(err) => Err(err.into()),
    }
}

/// Whether `path` is (still) the name of the open `file`.
fn names(path: &Path, file: &File) -> io::Result<bool> {
    let open = file.metadata()?;
    match std::fs::symlink_metadata(path) {
        Ok(named) => Ok((named.dev(), named.ino()) == (open.dev(), open.ino())),
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(err) => Err(err),
    }
}

/// The process that wrote its pid into the file that nobody locks, if it is at work. A process that began after the file was
/// written only has the same number, and one of another user wrote it on another machine.
fn writer_at_work(file: &mut File, beside: &Beside) -> io::Result<Option<u32>> {
    if *beside == Beside::Nobody {
        return Ok(None);
    }
    let written = file.metadata()?.modified()?;
    let Some(pid) = read_pid(file).filter(|pid| {
        *pid != std::process::id() && process::alive(*pid) && process::owner(*pid) == Some(super::peer::effective_uid())
    }) else {
        return Ok(None);
    };
    let Some(began) = process::began(pid).filter(|began| *began <= written + ROUNDING) else { return Ok(None) };
    let at_work = match beside {
        Beside::Nobody => false,
        Beside::For(time) => passed(written) < *time,
        Beside::HasOpen(other) => settles(began, written) || has_open(pid, other)?,
    };
    Ok(at_work.then_some(pid))
}

/// Whether a process that began then and wrote its pid then may be on its way to opening its files.
fn settles(began: SystemTime, written: SystemTime) -> bool {
    // It can not have begun later, only seem to.
    let took = written.duration_since(began).unwrap_or_default();
    took < SETTLING && passed(written) < SETTLING
}

/// A time that is still to come is one of a clock that was set back: long ago.
fn passed(since: SystemTime) -> Duration {
    since.elapsed().unwrap_or(Duration::MAX)
}

fn has_open(pid: u32, path: &Path) -> io::Result<bool> {
    match process::has_open(pid, path) {
        // What is not there has nobody opened.
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(false),
        found => found,
    }
}

fn read_pid(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.take(32).read_to_string(&mut text).ok()?;
    text.trim().parse().ok().filter(|pid| *pid != 0)
}

impl Lock {
    /// Sees to it that the lock stands under its name, where whoever starts looks for it: a file that was removed is made
    /// again. False when another process has taken the name meanwhile.
    pub fn keep_name(&mut self) -> io::Result<bool> {
        if names(&self.path, &self.file)? {
            return Ok(true);
        }
        match acquire(&self.path, &self.beside) {
            Ok(mut again) => {
                // What goes with `again` is the file without a name.
                std::mem::swap(&mut self.file, &mut again.file);
                Ok(true)
            }
            Err(Refused::Held { .. }) => Ok(false),
            Err(Refused::Io(err)) => Err(err),
        }
    }
}

impl Drop for Lock {
    /// Removes the file, if it is still ours, before the lock goes: the other order could remove the next holder's.
    fn drop(&mut self) {
        if names(&self.path, &self.file).unwrap_or(false) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use tempfile::tempdir;

    use super::*;

    #[test]
    fn a_name_that_was_taken_away_is_taken_back_unless_somebody_has_it() {
        let dir = tempdir().unwrap();
        let path = dir.path().join("lock");
        let mut lock = acquire(&path, &Beside::Nobody).unwrap();
        assert!(lock.keep_name().unwrap());
        std::fs::remove_file(&path).unwrap();
        assert!(lock.keep_name().unwrap());
        assert!(matches!(acquire(&path, &Beside::Nobody), Err(Refused::Held { .. })), "it holds again");
        std::fs::remove_file(&path).unwrap();
        let other = acquire(&path, &Beside::Nobody).unwrap();
        assert!(!lock.keep_name().unwrap());
        drop(lock);
        assert!(path.exists(), "what is another's stays");
        drop(other);
        assert!(!path.exists());
    }

    #[test]
    fn one_at_a_time_with_the_holders_pid() {
        let dir = tempdir().unwrap();
        let path = dir.path().join("lock");
        assert_eq!(holder(&path).unwrap(), Holder::Nobody);
        let lock = acquire(&path, &Beside::Nobody).unwrap();
        let me = std::process::id();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), me.to_string());
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(holder(&path).unwrap(), Holder::Process(Some(me)));
        assert!(matches!(acquire(&path, &Beside::Nobody), Err(Refused::Held { pid: Some(pid) }) if pid == me));
        let brief = Instant::now() + Duration::from_millis(30);
        assert!(matches!(acquire_by(&path, &Beside::Nobody, brief), Err(Refused::Held { .. })));
        assert!(brief <= Instant::now());
        drop(lock);
        assert!(!path.exists());
        drop(acquire(&path, &Beside::Nobody).unwrap());
    }

    #[test]
    fn what_a_dead_process_left_is_no_lock() {
        let dir = tempdir().unwrap();
        let path = dir.path().join("lock");
        std::fs::write(&path, "4000000000\n and a long tail that must go").unwrap();
        assert_eq!(holder(&path).unwrap(), Holder::Nobody);
        let _lock = acquire(&path, &Beside::Nobody).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), std::process::id().to_string());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_process_that_locks_nothing_holds_what_it_wrote_while_it_is_at_work() {
        use std::process::{Command, Stdio};

        let dir = tempdir().unwrap();
        let (path, other) = (dir.path().join("lock"), dir.path().join("other"));
        std::fs::write(&other, "").unwrap();
        let cat = |input: Stdio| {
            let child = Command::new("cat").stdin(Stdio::piped()).stderr(input).spawn().unwrap();
            (child.id(), child)
        };
        let (opens, mut at_work) = cat(File::open(&other).unwrap().into());
        let (idle, mut bystander) = cat(Stdio::null());
        let held = |pid: u32, written: SystemTime, beside: &Beside| {
            std::fs::write(&path, pid.to_string()).unwrap();
            File::options().write(true).open(&path).unwrap().set_modified(written).unwrap();
            match acquire(&path, beside) {
                Ok(_) => false,
                Err(Refused::Held { pid: Some(found) }) if found == pid => {
                    assert_eq!(std::fs::read_to_string(&path).unwrap(), pid.to_string(), "its file is as it was");
                    true
                }
                Err(refused) => panic!("{refused}"),
            }
        };
        let now = SystemTime::now();
        let hour = Duration::from_secs(3600);
        let beside = Beside::HasOpen(other.clone());
        // Later than both began, and not now: neither is on its way to its files.
        assert!(held(opens, now + hour, &beside) && !held(idle, now + hour, &beside));
        assert!(held(idle, now, &beside), "it only just began");
        let process = Holder::Process(Some(idle));
        assert_eq!((holder(&path).unwrap(), in_the_way(&path, &beside).unwrap()), (Holder::Nobody, process));
        assert_eq!(in_the_way(&path, &Beside::Nobody).unwrap(), Holder::Nobody);
        // Written long before this process began: by another one of the same number.
        assert!(!held(opens, now - hour, &beside));
        assert!(held(idle, now, &Beside::For(hour)) && !held(idle, now, &Beside::For(Duration::ZERO)));
        assert!(!held(opens, now, &Beside::Nobody));
        std::fs::remove_file(&other).unwrap();
        assert!(!held(opens, now + hour, &beside), "what is not there has nobody opened");
        for child in [&mut at_work, &mut bystander] {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        assert!(!held(idle, now, &beside));
    }

    #[test]
    fn only_who_just_began_and_just_wrote_is_still_on_its_way() {
        let (now, long) = (SystemTime::now(), SETTLING * 2);
        assert!(settles(now, now) && settles(now + ROUNDING / 2, now) && settles(now - SETTLING / 2, now));
        assert!(!settles(now - long, now) && !settles(now - long, now - long) && !settles(now, now + long));
    }

    #[test]
    fn a_file_that_is_no_longer_ours_stays() {
        let dir = tempdir().unwrap();
        let path = dir.path().join("lock");
        let lock = acquire(&path, &Beside::Nobody).unwrap();
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "1").unwrap();
        drop(lock);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "1");
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn contenders_take_turns() {
        let dir = tempdir().unwrap();
        let path = dir.path().join("lock");
        let inside = std::sync::atomic::AtomicU32::new(0);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..20 {
                        let _lock = acquire_by(&path, &Beside::Nobody, Instant::now() + Duration::from_secs(20)).unwrap();
                        assert_eq!(inside.fetch_add(1, std::sync::atomic::Ordering::SeqCst), 0);
                        inside.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                    }
                });
            }
        });
    }
}
