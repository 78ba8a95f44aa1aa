//! One byte stream, whatever carries it, and blocking reads and writes that end at a deadline.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use super::tls::Tls;
use crate::sys::poll::{Interest, wait};

/// A connected stream. The transport is fixed when it is made.
#[derive(Debug)]
pub enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
    Tls(Box<Tls>),
}

/// How long one read or write may block. A timeout of zero is an error, as in the standard library.
pub trait Timeouts {
    fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()>;
    fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()>;
}

impl Stream {
    pub fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        match self {
            Stream::Unix(stream) => stream.set_nonblocking(nonblocking),
            Stream::Tcp(stream) => stream.set_nonblocking(nonblocking),
            Stream::Tls(stream) => stream.socket().set_nonblocking(nonblocking),
        }
    }

    /// Another handle to the socket, by which another thread may shut it down.
    pub fn shutter(&self) -> io::Result<Shutter> {
        Ok(Shutter(match self {
            Stream::Unix(stream) => Stream::Unix(stream.try_clone()?),
            Stream::Tcp(stream) => Stream::Tcp(stream.try_clone()?),
            Stream::Tls(stream) => Stream::Tcp(stream.socket().try_clone()?),
        }))
    }

    /// Whether the other end has closed, as far as can be told without reading: a TCP peer that has only stopped sending
    /// may still read.
    pub fn is_gone(&self) -> bool {
        let interest = Interest { fd: self.as_fd(), read: false, write: false };
        wait(&[interest], None, Some(Duration::ZERO)).is_ok_and(|ready| ready.events.iter().any(|event| event.hung_up))
    }

    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        match self {
            Stream::Unix(stream) => stream.shutdown(how),
            Stream::Tcp(stream) => stream.shutdown(how),
            Stream::Tls(stream) => stream.socket().shutdown(how),
        }
    }
}

/// Ends the reads and writes of whichever thread uses the stream.
#[derive(Debug)]
pub struct Shutter(Stream);

impl Shutter {
    /// A stream that is gone already is as shut as one can be.
    pub fn shut(&self) {
        let _ = self.0.shutdown(Shutdown::Both);
    }

    /// Nothing more is read but what has come in; what is written still goes out.
    pub fn deafen(&self) {
        // As above.
        let _ = self.0.shutdown(Shutdown::Read);
    }
}

impl Read for Stream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Unix(stream) => stream.read(buf),
            Stream::Tcp(stream) => stream.read(buf),
            Stream::Tls(stream) => stream.read(buf),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Unix(stream) => stream.write(buf),
            Stream::Tcp(stream) => stream.write(buf),
            Stream::Tls(stream) => stream.write(buf),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Stream::Unix(stream) => stream.flush(),
            Stream::Tcp(stream) => stream.flush(),
            Stream::Tls(stream) => stream.flush(),
        }
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Stream::Unix(stream) => stream.as_fd(),
            Stream::Tcp(stream) => stream.as_fd(),
            Stream::Tls(stream) => stream.socket().as_fd(),
        }
    }
}

impl Timeouts for Stream {
    fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        match self {
            Stream::Unix(stream) => stream.set_read_timeout(timeout),
            Stream::Tcp(stream) => stream.set_read_timeout(timeout),
            Stream::Tls(stream) => stream.socket().set_read_timeout(timeout),
        }
    }

    fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        match self {
            Stream::Unix(stream) => stream.set_write_timeout(timeout),
            Stream::Tcp(stream) => stream.set_write_timeout(timeout),
            Stream::Tls(stream) => stream.socket().set_write_timeout(timeout),
        }
    }
}

impl Timeouts for UnixStream {
    fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        UnixStream::set_read_timeout(self, timeout)
    }

    fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        UnixStream::set_write_timeout(self, timeout)
    }
}

impl Timeouts for TcpStream {
    fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        TcpStream::set_read_timeout(self, timeout)
    }

    fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        TcpStream::set_write_timeout(self, timeout)
    }
}

/// Reads once from a blocking stream; `TimedOut` at the deadline.
pub fn read_by<S: Read + Timeouts>(stream: &mut S, buf: &mut [u8], deadline: Instant) -> io::Result<usize> {
    loop {
        stream.set_read_timeout(Some(left(deadline)?))?;
        match stream.read(buf) {
            Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
            // The kernel's word for "timed out"; whether it truly is so late is for the next round to say.
            Err(err) if err.kind() == io::ErrorKind::WouldBlock => {}
            other => return other,
        }
    }
}

/// Writes everything to a blocking stream, however slowly it is taken; `TimedOut` at the deadline.
pub fn write_all_by<S: Write + Timeouts>(stream: &mut S, mut bytes: &[u8], deadline: Instant) -> io::Result<()> {
    while !bytes.is_empty() {
        stream.set_write_timeout(Some(left(deadline)?))?;
        match stream.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => bytes = &bytes[written..],
            Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
            Err(err) if err.kind() == io::ErrorKind::WouldBlock => {}
            Err(err) => return Err(err),
        }
    }
    loop {
        match stream.flush() {
            Err(err) if matches!(err.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) => {
                stream.set_write_timeout(Some(left(deadline)?))?;
            }
            other => return other,
        }
    }
}

fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left.max(Duration::from_micros(1))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_writes_end_at_the_deadline() {
        let (mut near, mut far) = UnixStream::pair().unwrap();
        let at = Instant::now() + Duration::from_millis(30);
        assert_eq!(read_by(&mut near, &mut [0; 8], at).unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(at <= Instant::now());
        let at = Instant::now() + Duration::from_millis(30);
        assert_eq!(write_all_by(&mut near, &vec![0; 8 << 20], at).unwrap_err().kind(), io::ErrorKind::TimedOut);
        let soon = Instant::now() + Duration::from_secs(5);
        write_all_by(&mut far, b"hello", soon).unwrap();
        assert_eq!(read_by(&mut near, &mut [0; 8], soon).unwrap(), 5);
        let far = Stream::Unix(far);
        far.shutter().unwrap().shut();
        assert_eq!(read_by(&mut near, &mut [0; 8], soon).unwrap(), 0);
    }
}
