//! Listening sockets and the loop that accepts from them: bounded, stoppable by a bell, and with threads at hand.

#[cfg(test)]
mod tests;
mod workers;

use std::cell::Cell;
use std::collections::HashMap;
use std::fmt;
use std::fs::Permissions;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::stream::{Shutter, Stream};
use crate::sys::poll::{Bell, Interest, wait};
use workers::Workers;

/// How long the loop rests when accepting fails for want of descriptors or memory: the waiting connection stays in the
/// kernel's queue, so that poll would report it again at once.
const REST: Duration = Duration::from_millis(100);

/// A socket that connections come to.
#[derive(Debug)]
pub enum Listener {
    Unix(UnixListener),
    Tcp(TcpListener),
}

impl Listener {
    /// A Unix socket at `path` with mode 0600. Under a umask of 077, as `sys::dirs::umask_private` sets it, there is no
    /// moment at which others could connect; without it, the directory must be private. What is at `path` is in the way
    /// (`AddrInUse`) unless `replace` says that it is stale, and then only if it is a socket.
    pub fn unix(path: &Path, replace: bool) -> io::Result<Listener> {
        if replace {
            match std::fs::symlink_metadata(path) {
                Ok(found) if found.file_type().is_socket() => std::fs::remove_file(path)?,
                Ok(_) => return Err(io::Error::new(io::ErrorKind::AddrInUse, "something that is not a socket is in the way")),
                Err(err) if err.kind() == io::ErrorKind::NotFound => {}
                Err(err) => return Err(err),
            }
        }
        let listener = UnixListener::bind(path)?;
        std::fs::set_permissions(path, Permissions::from_mode(0o600))?;
        listener.set_nonblocking(true)?;
        Ok(Listener::Unix(listener))
    }

    pub fn tcp(address: SocketAddr) -> io::Result<Listener> {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        Ok(Listener::Tcp(listener))
    }

    /// Where a TCP listener listens, with the port the system chose for port 0.
    pub fn tcp_address(&self) -> Option<SocketAddr> {
        match self {
            Listener::Unix(_) => None,
            Listener::Tcp(listener) => listener.local_addr().ok(),
        }
    }

    /// A blocking stream. `TCP_NODELAY` is set on TCP.
    fn accept(&self) -> io::Result<Stream> {
        let stream = match self {
            Listener::Unix(listener) => Stream::Unix(listener.accept()?.0),
            Listener::Tcp(listener) => {
                let stream = listener.accept()?.0;
                // Fails only for a connection that is gone already; its first read will say so.
                let _ = stream.set_nodelay(true);
                Stream::Tcp(stream)
            }
        };
        if !cfg!(target_os = "linux") {
            // Elsewhere an accepted socket inherits the listener's mode.
            stream.set_nonblocking(false)?;
        }
        Ok(stream)
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Listener::Unix(listener) => listener.as_fd(),
            Listener::Tcp(listener) => listener.as_fd(),
        }
    }
}

/// How connections are served.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    /// Threads are called this, a hyphen and a number.
    pub name: &'a str,
    /// Connections at once, without those that [outlast](Place::outlast) their request. Full: a further one gets `refusal`
    /// and is closed.
    pub max_connections: usize,
    pub refusal: &'a [u8],
    /// Bytes of stack for each thread.
    pub stack: usize,
}

/// Counts connections while they are served. Its clones count the same.
#[derive(Clone, Debug, Default)]
pub struct Count(Arc<Counter>);

#[derive(Debug, Default)]
struct Counter {
    now: Mutex<Now>,
    fewer: Condvar,
}

#[derive(Debug, Default)]
struct Now {
    /// Those that the limit is for.
    counted: usize,
    outlasting: usize,
    /// Those that have not said all they want yet, by the number of their place.
    unheard: HashMap<u64, Shutter>,
    entered: u64,
    deaf: bool,
}

impl Now {
    fn all(&self) -> usize {
        self.counted + self.outlasting
    }
}

impl Count {
    pub fn get(&self) -> usize {
        self.lock().all()
    }

    #[cfg(test)]
    fn unheard(&self) -> usize {
        self.lock().unheard.len()
    }

    /// Waits until no connection is left, or until `deadline`; returns how many are left.
    pub fn wait_idle(&self, deadline: Instant) -> usize {
        let mut now = self.lock();
        while 0 < now.all() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            now = self.0.fewer.wait_timeout(now, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        now.all()
    }

    /// Listens to nobody any more: to those whose request is not there whole, now and from now on, their connection ends as
    /// if they had hung up. Those who are being answered are left alone.
    pub fn hear_no_more(&self) {
        let unheard = {
            let mut now = self.lock();
            now.deaf = true;
            std::mem::take(&mut now.unheard)
        };
        unheard.values().for_each(Shutter::deafen);
    }

    fn enter(&self, max: usize, stream: &Stream) -> Option<Place> {
        // Without a descriptor to spare it is served all the same; whoever stops waits for it a little longer.
        let shutter = stream.shutter().ok();
        let mut now = self.lock();
        if max <= now.counted {
            return None;
        }
        now.counted += 1;
        now.entered += 1;
        let number = now.entered;
        let late = match shutter {
            Some(shutter) if now.deaf => Some(shutter),
            Some(shutter) => now.unheard.insert(number, shutter),
            None => None,
        };
        drop(now);
        if let Some(late) = late {
            late.deafen();
        }
        Some(Place { count: self.clone(), number, outlasts: Cell::new(false) })
    }

    fn lock(&self) -> MutexGuard<'_, Now> {
        self.0.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One connection's place among those that are served. Dropping it leaves it.
#[derive(Debug)]
pub struct Place {
    count: Count,
    number: u64,
    outlasts: Cell<bool>,
}

impl Place {
    /// The request is there whole: from now on [`Count::hear_no_more`] means others.
    pub fn heard(&self) {
        let shutter = self.count.lock().unheard.remove(&self.number);
        // Closes a descriptor, which is nothing to do under the lock.
        drop(shutter);
    }

    /// The request has become one that stays, such as a stream: it makes room for requests, and whoever serves it limits how
    /// many of its kind there are.
    pub fn outlast(&self) {
        if !self.outlasts.replace(true) {
            let mut now = self.count.lock();
            now.counted -= 1;
            now.outlasting += 1;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.heard();
        let mut now = self.count.lock();
        match self.outlasts.get() {
            true => now.outlasting -= 1,
            false => now.counted -= 1,
        }
        drop(now);
        self.count.0.fewer.notify_all();
    }
}

/// Why accepting ended, other than by the bell.
#[derive(Debug)]
pub enum ServeError {
    /// poll(2) itself failed.
    Wait(io::Error),
}

impl fmt::Display for ServeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ServeError::Wait(err) => write!(f, "cannot wait for connections: {err}"),
        }
    }
}

impl std::error::Error for ServeError {}

/// Accepts until `bell` rings; each connection is given to `on_accept` on a thread of its own, with
/// its place, which may go on to another thread. Connections being served
/// then go on: their streams and threads are the handler's, `count` says how many are left, and ends those that have not
/// [said all they want](Place::heard). Threads that fall idle wait
/// a while for the next connection; a connection never waits for a busy one.
pub fn serve<F>(listeners: &[Listener], bell: &Bell, options: &Options<'_>, count: &Count, on_accept: F) -> Result<(), ServeError>
where
    F: Fn(Stream, Place) + Send + Sync + 'static,
{
    let on_accept = Arc::new(on_accept);
    let mut workers = Workers::new(options.name, options.stack, move |(stream, place): (Stream, Place)| on_accept(stream, place));
    let interests: Vec<_> =
        listeners.iter().map(|listener| Interest { fd: listener.as_fd(), read: true, write: false }).collect();
    loop {
        let ready = wait(&interests, Some(bell), None).map_err(ServeError::Wait)?;
        if ready.rang {
            return Ok(());
        }
        let mut tired = false;
        for (listener, _) in listeners.iter().zip(&ready.events).filter(|(_, event)| event.any()) {
            // One at a time: after the last, a second attempt would be a wasted call, and poll asks again anyway.
            match listener.accept() {
                Ok(stream) => match count.enter(options.max_connections, &stream) {
                    Some(place) => tired |= !employ(&mut workers, (stream, place), options),
                    None => refuse(stream, options.refusal),
                },
                Err(err) if is_of_the_peer(&err) => {}
                Err(err) => {
                    log::warn!("{}: cannot accept: {err}", options.name);
                    tired = true;
                }
            }
        }
        if tired && wait(&[], Some(bell), Some(REST)).map_err(ServeError::Wait)?.rang {
            return Ok(());
        }
    }
}

/// False: there was no thread to be had, and the connection was refused.
fn employ<F: Fn((Stream, Place)) + Send + Sync + 'static>(
    workers: &mut Workers<(Stream, Place), F>,
    job: (Stream, Place),
    options: &Options<'_>,
) -> bool {
    match workers.give(job) {
        Ok(()) => true,
        Err(((stream, _place), err)) => {
            log::warn!("{}: no thread for a connection: {err}", options.name);
            refuse(stream, options.refusal);
            false
        }
    }
}

/// Nothing is wrong with us: the connection went away before it was accepted, or somebody else took it.
fn is_of_the_peer(err: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    matches!(err.kind(), Kind::WouldBlock | Kind::Interrupted | Kind::ConnectionAborted | Kind::ConnectionReset)
}

/// Says why and closes, without waiting for anybody. What has come in is read first: a socket that is closed with
/// unread input resets, and that could overtake the refusal.
fn refuse(mut stream: Stream, refusal: &[u8]) {
    if stream.set_nonblocking(true).is_err() {
        return;
    }
    // A peer that is gone, or does not read, misses it.
    let _ = stream.write_all(refusal);
    let _ = stream.shutdown(Shutdown::Write);
    let mut sink = [0; 4096];
    for _ in 0..16 {
        if !matches!(stream.read(&mut sink), Ok(read) if 0 < read) {
            break;
        }
    }
}
