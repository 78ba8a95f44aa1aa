//! Waiting for descriptors, and the bell by which another thread ends the wait.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};

/// The sleeping thread's end. Reading and ringing are both safe from any thread, but only one should wait on it.
#[derive(Debug)]
pub struct Bell(Arc<Shared>);

/// The other threads' end. Cheap to clone; ringing twice costs one system call.
#[derive(Clone, Debug)]
pub struct Ringer(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    rung: AtomicBool,
    /// Linux: one eventfd serves both ends. Elsewhere: a pipe.
    read: OwnedFd,
    write: Option<OwnedFd>,
}

/// A bell that has not been rung.
pub fn bell() -> io::Result<(Ringer, Bell)> {
    let (read, write) = descriptors()?;
    let shared = Arc::new(Shared { rung: AtomicBool::new(false), read, write });
    Ok((Ringer(shared.clone()), Bell(shared)))
}

#[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
fn descriptors() -> io::Result<(OwnedFd, Option<OwnedFd>)> {
    use rustix::event::{EventfdFlags, eventfd};
    Ok((eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?, None))
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
fn descriptors() -> io::Result<(OwnedFd, Option<OwnedFd>)> {
    let (read, write) = std::os::unix::net::UnixStream::pair()?;
    read.set_nonblocking(true)?;
    write.set_nonblocking(true)?;
    Ok((read.into(), Some(write.into())))
}

impl Ringer {
    /// Ends the current wait on the bell, or the next one. Never blocks.
    pub fn ring(&self) {
        if !self.0.rung.swap(true, Ordering::AcqRel) {
            // Eight bytes, because an eventfd takes no less. A full pipe is a rung bell: the error says nothing new.
            let _ = rustix::io::write(self.0.write.as_ref().unwrap_or(&self.0.read), &1_u64.to_ne_bytes());
        }
    }
}

impl Bell {
    /// Silences the bell. It must come before the queue behind the bell is read: the reverse order loses a wake-up. The
    /// waits below do it themselves for a bell that they report.
    pub fn quiet(&self) {
        let mut sink = [0; 64];
        while matches!(rustix::io::read(&self.0.read, &mut sink), Ok(read) if read == sink.len()) {}
        // After the drain, never before: a ring between the two would find the flag up and the descriptor empty, and
        // every later ring would be lost. A swap, so that what was queued before an unheard ring is visible from here on.
        self.0.rung.swap(false, Ordering::AcqRel);
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.read.as_fd()
    }
}

/// A descriptor and what to wait for on it. With neither flag it still reports a hang-up.
#[derive(Clone, Copy, Debug)]
pub struct Interest<'a> {
    pub fd: BorrowedFd<'a>,
    pub read: bool,
    pub write: bool,
}

/// What was found for one descriptor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Event {
    pub readable: bool,
    pub writable: bool,
    /// Hung up or in error: the next read or write says which.
    pub hung_up: bool,
}

impl Event {
    pub fn any(self) -> bool {
        self.readable || self.writable || self.hung_up
    }
}

/// What ended a wait. All false: the timeout, or a signal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ready {
    /// The bell rang; it has been silenced.
    pub rang: bool,
    /// One entry for each `Interest`, in the same order.
    pub events: Vec<Event>,
}

/// Waits until one of `fds` is ready, `bell` rings, or `timeout` passes (none: for ever). Timeouts are rounded up to
/// the millisecond, because a wait that is cut short would make its caller spin.
pub fn wait(fds: &[Interest<'_>], bell: Option<&Bell>, timeout: Option<Duration>) -> io::Result<Ready> {
    let mut polled: Vec<PollFd<'_>> =
        fds.iter().map(|interest| PollFd::from_borrowed_fd(interest.fd, flags(interest.read, interest.write))).collect();
    polled.extend(bell.map(|bell| PollFd::new(bell, PollFlags::IN)));
    poll(&mut polled, timeout)?;
    let events = polled.iter().take(fds.len()).map(event).collect();
    let rang = bell.is_some() && polled.last().is_some_and(|fd| event(fd).any());
    Ok(Ready { rang: silence(bell, rang), events })
}

/// What ended a wait on one descriptor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadyOne {
    /// The bell rang; it has been silenced.
    pub rang: bool,
    pub event: Event,
}

/// As [`wait`] for one descriptor, without allocating. A descriptor that is wanted for neither reading nor writing is
/// left out altogether, so that a hung-up one cannot make its owner spin.
pub fn wait_one(
    fd: BorrowedFd<'_>,
    want_read: bool,
    want_write: bool,
    bell: Option<&Bell>,
    timeout: Option<Duration>,
) -> io::Result<ReadyOne> {
    let first = PollFd::from_borrowed_fd(fd, flags(want_read, want_write));
    let wanted = want_read || want_write;
    match bell {
        Some(bell) => {
            let mut both = [PollFd::new(bell, PollFlags::IN), first];
            let count = if wanted { 2 } else { 1 };
            poll(&mut both[..count], timeout)?;
            let rang = silence(Some(bell), event(&both[0]).any());
            Ok(ReadyOne { rang, event: event(&both[1]) })
        }
        None => {
            let mut only = [first];
            poll(if wanted { &mut only } else { &mut [] }, timeout)?;
            Ok(ReadyOne { rang: false, event: event(&only[0]) })
        }
    }
}

fn poll(fds: &mut [PollFd<'_>], timeout: Option<Duration>) -> io::Result<()> {
    let timeout = timeout.map(|left| {
        let millis = i32::try_from(left.as_nanos().div_ceil(1_000_000)).unwrap_or(i32::MAX);
        Timespec { tv_sec: (millis / 1000).into(), tv_nsec: (millis % 1000 * 1_000_000).into() }
    });
    match rustix::event::poll(fds, timeout.as_ref()) {
        Ok(_) => Ok(()),
        // The kernel leaves the answers alone then; they were empty.
        Err(rustix::io::Errno::INTR) => Ok(()),
        Err(err) => Err(err.into()),
    }
}

fn silence(bell: Option<&Bell>, rang: bool) -> bool {
    if let (Some(bell), true) = (bell, rang) {
        bell.quiet();
    }
    rang
}

fn flags(read: bool, write: bool) -> PollFlags {
    let mut flags = PollFlags::empty();
    flags.set(PollFlags::IN, read);
    flags.set(PollFlags::OUT, write);
    flags
}

fn event(fd: &PollFd<'_>) -> Event {
    let found = fd.revents();
    Event {
        readable: found.contains(PollFlags::IN),
        writable: found.contains(PollFlags::OUT),
        hung_up: found.intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixStream;
    use std::sync::atomic::AtomicU64;
    use std::thread;
    use std::time::Instant;

    use super::*;

    const SOON: Option<Duration> = Some(Duration::from_secs(5));

    #[test]
    fn a_bell_rung_before_the_wait_ends_it_once() {
        let (ringer, bell) = bell().unwrap();
        ringer.ring();
        ringer.clone().ring();
        assert!(wait(&[], Some(&bell), SOON).unwrap().rang);
        assert!(!wait(&[], Some(&bell), Some(Duration::ZERO)).unwrap().rang);
        ringer.ring();
        assert!(wait(&[], Some(&bell), SOON).unwrap().rang);
    }

    #[test]
    fn no_ring_is_lost_between_threads() {
        const ROUNDS: u64 = 20_000;
        let (ringer, bell) = bell().unwrap();
        let posted = Arc::new(AtomicU64::new(0));
        let poster = thread::spawn({
            let posted = posted.clone();
            move || {
                for _ in 0..ROUNDS {
                    posted.fetch_add(1, Ordering::Relaxed);
                    ringer.ring();
                }
            }
        });
        let mut seen = 0;
        while seen < ROUNDS {
            assert!(wait(&[], Some(&bell), SOON).unwrap().rang, "a wake-up was lost at {seen}");
            seen = posted.load(Ordering::Relaxed);
        }
        poster.join().unwrap();
    }

    #[test]
    fn reports_each_descriptor() {
        let (mut near, far) = UnixStream::pair().unwrap();
        let (idle, _other) = UnixStream::pair().unwrap();
        near.write_all(b"x").unwrap();
        let interests = [
            Interest { fd: far.as_fd(), read: true, write: false },
            Interest { fd: idle.as_fd(), read: true, write: true },
            Interest { fd: idle.as_fd(), read: false, write: false },
        ];
        let ready = wait(&interests, None, SOON).unwrap();
        assert_eq!(ready.events[0], Event { readable: true, ..Event::default() });
        assert_eq!(ready.events[1], Event { writable: true, ..Event::default() });
        assert_eq!(ready.events[2], Event::default());
        drop(near);
        let one = wait_one(far.as_fd(), true, false, None, SOON).unwrap();
        assert!(one.event.readable && one.event.hung_up);
    }

    #[test]
    fn timeouts_are_never_cut_short() {
        let (idle, _other) = UnixStream::pair().unwrap();
        let (_ringer, bell) = bell().unwrap();
        for micros in [1, 900, 1100, 3500] {
            let timeout = Duration::from_micros(micros);
            let start = Instant::now();
            assert_eq!(wait_one(idle.as_fd(), true, false, Some(&bell), Some(timeout)).unwrap(), ReadyOne::default());
            assert!(timeout <= start.elapsed());
        }
        drop(_other);
        assert_eq!(wait_one(idle.as_fd(), false, false, Some(&bell), Some(Duration::ZERO)).unwrap(), ReadyOne::default());
    }
}
