//! What the command line asks of the machine about the daemon and other processes of its user.

use std::fmt;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::base::paths::Paths;
use crate::sys::connect::unix_by;
use crate::sys::lock::{self, Beside, Holder};
use crate::sys::{peer, poll, process, signals};

/// What became of a daemon that was told to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// None was running.
    NotRunning,
    Stopped {
        pid: u32,
    },
    /// It holds its lock still.
    Late {
        pid: u32,
    },
}

/// Why it could not be told.
#[derive(Debug)]
pub enum StopError {
    /// The lock is held and the file does not say by whom.
    Unknown,
    /// The lock is held, and the process that has the holder's pid here is another: the holder is in another container.
    Elsewhere {
        pid: u32,
    },
    Signal {
        pid: u32,
        err: io::Error,
    },
    Lock(io::Error),
}

impl fmt::Display for StopError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StopError::Unknown => f.write_str("a process holds the daemon's lock, and daemon.pid does not say which"),
            StopError::Elsewhere { pid } => write!(
                f,
                "a process holds the daemon's lock that can not be seen from here, as in another container (pid {pid} there): stop it there"
            ),
            StopError::Signal { pid, err } => write!(f, "failed to signal pid {pid}: {err}"),
            StopError::Lock(err) => write!(f, "the daemon's lock can not be looked at: {err}"),
        }
    }
}

impl std::error::Error for StopError {}

/// How long to wait for a socket's listener to take a connection.
const KNOCK: Duration = Duration::from_millis(500);

/// How long a process may hold its lock that was killed: what it has open can not be seen any more, and is not closed yet.
const DYING: Duration = Duration::from_secs(1);

/// How often it is looked whether it still does.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// The daemon that holds these files, by its lock; a pid file that nobody holds means nothing, unless the process that it
/// names is the one behind the socket: the reference's daemon locks nothing.
pub fn daemon(paths: &Paths) -> io::Result<Holder> {
    Ok(match lock::holder(&paths.pid_file())? {
        Holder::Nobody => behind_socket(paths).map_or(Holder::Nobody, |pid| Holder::Process(Some(pid))),
        held => held,
    })
}

/// The process of this user that listens on the daemon's socket and that `daemon.pid` names.
fn behind_socket(paths: &Paths) -> Option<u32> {
    let named = std::fs::read_to_string(paths.pid_file()).ok()?.trim().parse::<u32>().ok()?;
    let stream = unix_by(&paths.socket(), Instant::now() + KNOCK).ok()?;
    let ours = peer::user(&stream, &paths.socket()).ok()? == peer::effective_uid();
    (ours && peer::pid(&stream) == Some(named)).then_some(named)
}

/// The daemon's pid, if one runs and its file names it.
pub fn daemon_pid(paths: &Paths) -> io::Result<Option<u32>> {
    Ok(match daemon(paths)? {
        Holder::Process(pid) => pid,
        Holder::Nobody => None,
    })
}

/// The user that this process acts for.
pub fn uid() -> u32 {
    crate::sys::peer::effective_uid()
}

/// Asks the daemon to stop, and waits until its lock is free. Only a process that holds the lock, or the socket, is
/// signalled.
pub fn stop_daemon(paths: &Paths, patience: Duration) -> Result<Stopped, StopError> {
    let pid = match daemon(paths).map_err(StopError::Lock)? {
        Holder::Nobody => return Ok(Stopped::NotRunning),
        Holder::Process(None) => return Err(StopError::Unknown),
        Holder::Process(Some(pid)) => pid,
    };
    if !is_here(paths, pid)? {
        return Ok(Stopped::Stopped { pid });
    }
    let deadline = Instant::now() + patience;
    match process::terminate(pid) {
        Ok(()) => {}
        // It ended between the look and the signal.
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(Stopped::Stopped { pid }),
        Err(err) => return Err(StopError::Signal { pid, err }),
    }
    wait_free(&paths.pid_file(), &Beside::HasOpen(paths.outbox_db()), pid, deadline)
}

/// Whether the holder of the lock is the process of this pid here. False: it holds it no more.
fn is_here(paths: &Paths, pid: u32) -> Result<bool, StopError> {
    let dead_by = Instant::now() + DYING;
    loop {
        match process::has_open(pid, &paths.pid_file()) {
            Ok(true) => return Ok(true),
            Ok(false) => {}
            Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(err) => return Err(StopError::Lock(err)),
        }
        // The reference's daemon keeps no file open; it answers at the socket.
        if behind_socket(paths) == Some(pid) {
            return Ok(true);
        }
        if daemon(paths).map_err(StopError::Lock)? != Holder::Process(Some(pid)) {
            return Ok(false);
        }
        if dead_by <= Instant::now() {
            return Err(StopError::Elsewhere { pid });
        }
        poll::wait(&[], None, Some(LOOK_AGAIN)).map_err(StopError::Lock)?;
    }
}

/// Waits until the lock is free, without taking it: whoever starts a daemon would find it held.
fn wait_free(path: &Path, beside: &Beside, pid: u32, deadline: Instant) -> Result<Stopped, StopError> {
    loop {
        match lock::in_the_way(path, beside).map_err(StopError::Lock)? {
            Holder::Nobody => return Ok(Stopped::Stopped { pid }),
            // Another one took over at once, as a service manager has it.
            Holder::Process(Some(other)) if other != pid => return Ok(Stopped::Stopped { pid }),
            Holder::Process(_) if deadline <= Instant::now() => return Ok(Stopped::Late { pid }),
            Holder::Process(_) => drop(poll::wait(&[], None, Some(LOOK_AGAIN)).map_err(StopError::Lock)?),
        }
    }
}

/// Asks a process that the caller started, and has not waited for yet, to end.
pub fn terminate(pid: u32) -> io::Result<()> {
    process::terminate(pid)
}

/// Calls `end` when this process is asked to end (SIGTERM, SIGINT), or its terminal goes (SIGHUP) and it was not started to
/// outlive that, for as long as the returned value lives. A second SIGTERM or SIGINT ends the process at once.
pub fn on_end(mut end: impl FnMut() + Send + 'static) -> io::Result<OnEnd> {
    let outlives = signals::outlives_terminal();
    let watch = signals::watch(move |signal| {
        if signal != signals::Signal::Hangup || !outlives {
            end();
        }
    })?;
    Ok(OnEnd { _watch: watch })
}

/// While this lives, being asked to end is an event and not the end.
#[derive(Debug)]
pub struct OnEnd {
    _watch: signals::Watch,
}

#[cfg(test)]
mod tests {
    use tempfile::tempdir;

    use super::*;

    #[test]
    fn a_pid_file_that_nobody_holds_is_no_daemon_and_nobody_is_signalled() {
        let root = tempdir().unwrap();
        let paths = Paths::under(root.path());
        std::fs::create_dir_all(paths.daemon_dir()).unwrap();
        assert_eq!(stop_daemon(&paths, Duration::ZERO).unwrap(), Stopped::NotRunning);
        // Were it signalled, the test itself would end.
        std::fs::write(paths.pid_file(), std::process::id().to_string()).unwrap();
        assert_eq!(daemon_pid(&paths).unwrap(), None);
        assert_eq!(stop_daemon(&paths, Duration::ZERO).unwrap(), Stopped::NotRunning);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_pid_that_means_another_process_here_is_not_signalled() {
        let root = tempdir().unwrap();
        let paths = Paths::under(root.path());
        std::fs::create_dir_all(paths.daemon_dir()).unwrap();
        let held = lock::acquire(&paths.pid_file(), &Beside::Nobody).unwrap();
        let mut bystander = std::process::Command::new("cat").stdin(std::process::Stdio::piped()).spawn().unwrap();
        // As a holder in another pid namespace has it.
        std::fs::write(paths.pid_file(), bystander.id().to_string()).unwrap();
        assert!(matches!(stop_daemon(&paths, Duration::ZERO), Err(StopError::Elsewhere { pid }) if pid == bystander.id()));
        drop((bystander.stdin.take(), held));
        assert!(bystander.wait().unwrap().success());
    }

    #[test]
    fn waits_for_the_lock_and_says_when_it_is_late() {
        let root = tempdir().unwrap();
        let path = root.path().join("lock");
        let held = lock::acquire(&path, &Beside::Nobody).unwrap();
        let pid = std::process::id();
        assert_eq!(wait_free(&path, &Beside::Nobody, pid, Instant::now()).unwrap(), Stopped::Late { pid });
        assert_eq!(wait_free(&path, &Beside::Nobody, pid + 1, Instant::now()).unwrap(), Stopped::Stopped { pid: pid + 1 });
        drop(held);
        assert_eq!(wait_free(&path, &Beside::Nobody, pid, Instant::now()).unwrap(), Stopped::Stopped { pid });
    }
}
