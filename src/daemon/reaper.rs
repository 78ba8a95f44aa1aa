//! Notices the end of a session's process at once: one thread that waits on a descriptor per process, and where there is
//! none looks at start times now and then.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use crate::base::thread::{self, Running};
use crate::sys::poll::{self, Bell, Interest, Ringer};
use crate::sys::process::{self, StartTime};

use super::sessions::{Serial, Session};
use super::supervisor;

/// Commands that wait for the reaper. When full, the supervisor tries again on its next round.
const QUEUE: usize = 1024;

/// How often processes without a descriptor are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// What the reaper is told.
#[derive(Debug)]
pub(super) enum Cmd {
    Watch { serial: Serial, pid: u32, started: Option<StartTime> },
    Forget(Serial),
    Stop,
}

impl Cmd {
    pub(super) fn watch(session: &Session) -> Cmd {
        Cmd::Watch { serial: session.serial, pid: session.pid, started: session.started }
    }
}

/// The reaper's queue and bell.
#[derive(Debug, Clone)]
pub(super) struct Reaper {
    commands: Sender<Cmd>,
    ringer: Ringer,
}

impl Reaper {
    /// Never waits; gives the command back when the queue is full.
    pub(super) fn tell(&self, cmd: Cmd) -> Result<(), Cmd> {
        match self.commands.try_send(cmd) {
            Ok(()) | Err(TrySendError::Disconnected(_)) => {
                self.ringer.ring();
                Ok(())
            }
            Err(TrySendError::Full(cmd)) => Err(cmd),
        }
    }
}

struct Watched {
    pid: u32,
    started: Option<StartTime>,
    /// Readable once the process has ended.
    ended: Option<OwnedFd>,
}

/// Starts the thread. It tells `supervisor` of every process that ended.
pub(super) fn start(supervisor: Sender<supervisor::Event>) -> io::Result<(Reaper, Running)> {
    let (ringer, bell) = poll::bell()?;
    let (commands, queue) = bounded(QUEUE);
    let alarm = supervisor::Alarm { thread: "reaper", supervisor: supervisor.clone() };
    let running = thread::spawn("reaper", thread::CONNECTION_STACK, move || {
        let _alarm = alarm;
        Worker { queue, bell, supervisor, watched: HashMap::new() }.run();
    })?;
    Ok((Reaper { commands, ringer }, running))
}

struct Worker {
    queue: Receiver<Cmd>,
    bell: Bell,
    supervisor: Sender<supervisor::Event>,
    watched: HashMap<Serial, Watched>,
}

impl Worker {
    fn run(mut self) {
        let mut look_at = Instant::now() + LOOK_EVERY;
        loop {
            self.bell.quiet();
            for cmd in self.queue.try_iter().collect::<Vec<_>>() {
                match cmd {
                    Cmd::Watch { serial, pid, started } => self.watch(serial, pid, started),
                    Cmd::Forget(serial) => drop(self.watched.remove(&serial)),
                    Cmd::Stop => return,
                }
            }
            let unaided = self.watched.values().any(|process| process.ended.is_none());
            let now = Instant::now();
            if look_at <= now {
                look_at = now + LOOK_EVERY;
            }
            let timeout = unaided.then(|| look_at.saturating_duration_since(now));
            if !self.wait(timeout) {
                return;
            }
        }
    }

    fn watch(&mut self, serial: Serial, pid: u32, started: Option<StartTime>) {
        // Opened first and compared after: the descriptor can not come to mean another process.
        let ended = process::pidfd(pid).ok();
        let watched = Watched { pid, started, ended };
        if watched.is_gone() {
            self.gone(serial);
        } else {
            self.watched.insert(serial, watched);
        }
    }

    /// Waits for an end, the bell or the timeout. False when nobody listens any more.
    fn wait(&mut self, timeout: Option<Duration>) -> bool {
        let (serials, fds): (Vec<Serial>, Vec<Interest<'_>>) = self
            .watched
            .iter()
            .filter_map(|(serial, process)| {
                Some((*serial, Interest { fd: process.ended.as_ref()?.as_fd(), read: true, write: false }))
            })
            .unzip();
        let ready = match poll::wait(&fds, Some(&self.bell), timeout) {
            Ok(ready) => ready,
            Err(err) => {
                log::error!("waiting for processes: {err}");
                return false;
            }
        };
        let mut gone: Vec<Serial> =
            serials.into_iter().zip(ready.events).filter(|(_, event)| event.any()).map(|(serial, _)| serial).collect();
        gone.extend(
            self.watched.iter().filter(|(_, process)| process.ended.is_none() && process.is_gone()).map(|(serial, _)| *serial),
        );
        for serial in gone {
            self.watched.remove(&serial);
            self.gone(serial);
        }
        true
    }

    fn gone(&self, serial: Serial) {
        // The supervisor's queue ends when it stops, and then nothing needs reaping.
        let _ = self.supervisor.send(supervisor::Event::Gone(serial));
    }
}

impl Watched {
    fn is_gone(&self) -> bool {
        match self.started {
            Some(started) => !process::same(self.pid, started),
            None => !process::alive(self.pid),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn an_end_is_noticed_at_once_and_a_dead_process_is_never_watched() {
        let (sender, events) = bounded(8);
        let (reaper, running) = start(sender).unwrap();
        let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let serial = Serial(1);
        reaper.tell(Cmd::Watch { serial, pid: child.id(), started: StartTime::of(child.id()) }).unwrap();
        drop(child.stdin.take());
        let gone = events.recv_timeout(Duration::from_secs(5)).unwrap();
        assert!(matches!(gone, supervisor::Event::Gone(gone) if gone == serial));
        child.wait().unwrap();
        reaper.tell(Cmd::Watch { serial, pid: child.id(), started: None }).unwrap();
        assert!(matches!(events.recv_timeout(Duration::from_secs(5)).unwrap(), supervisor::Event::Gone(_)));
        reaper.tell(Cmd::Stop).unwrap();
        assert!(matches!(running.join_by(Instant::now() + Duration::from_secs(5)), thread::Joined::Ended(())));
    }
}
