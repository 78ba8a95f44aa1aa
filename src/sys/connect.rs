//! Connecting to a Unix socket with a deadline, which the standard library does not offer.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Instant;

use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, socket};

/// Connects to the socket at `path`. A listener whose queue is full keeps us waiting no longer than `deadline`
/// (`TimedOut`) on Linux; other systems refuse at once.
pub fn unix_by(path: &Path, deadline: Instant) -> io::Result<UnixStream> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(io::ErrorKind::TimedOut.into());
    }
    let address = SocketAddrUnix::new(path)?;
    let fd = socket(AddressFamily::UNIX, SocketType::STREAM, None)?;
    rustix::io::fcntl_setfd(&fd, rustix::io::FdFlags::CLOEXEC)?;
    // Linux bounds a Unix connect by the send timeout.
    set_socket_timeout(&fd, Timeout::Send, Some(left))?;
    loop {
        match rustix::net::connect(&fd, &address) {
            Ok(()) => break,
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::AGAIN) => return Err(io::ErrorKind::TimedOut.into()),
            Err(err) => return Err(err.into()),
        }
    }
    set_socket_timeout(&fd, Timeout::Send, None)?;
    Ok(UnixStream::from(fd))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::time::Duration;

    use tempfile::tempdir;

    use super::*;

    #[test]
    fn connects_and_says_why_not() {
        let dir = tempdir().unwrap();
        let path = dir.path().join("s");
        let soon = Instant::now() + Duration::from_secs(5);
        assert_eq!(unix_by(&path, soon).unwrap_err().kind(), io::ErrorKind::NotFound);
        let listener = UnixListener::bind(&path).unwrap();
        unix_by(&path, soon).unwrap();
        assert_eq!(unix_by(&path, Instant::now()).unwrap_err().kind(), io::ErrorKind::TimedOut);
        drop(listener);
        assert_eq!(unix_by(&path, soon).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_queue_costs_no_more_than_the_deadline() {
        let dir = tempdir().unwrap();
        let path = dir.path().join("s");
        let _listener = UnixListener::bind(&path).unwrap();
        let mut held = Vec::new();
        let refused = loop {
            match unix_by(&path, Instant::now() + Duration::from_millis(30)) {
                Ok(stream) => held.push(stream),
                Err(err) => break err,
            }
            assert!(held.len() < 10_000, "the queue never filled");
        };
        assert_eq!(refused.kind(), io::ErrorKind::TimedOut);
    }
}
