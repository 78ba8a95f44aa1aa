//! One HTTP/1.1 request over the daemon's socket, and its reply: bounded, and with a deadline. The reference's daemon frames
//! some replies in chunks, so those are read too.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::base::ids::Token;
use crate::sys::connect::unix_by;
use crate::wire::ipc::{SESSION_SCHEME, VERSION_HEADER};
use crate::wire::limits::MAX_REPLY;

use super::Error;

/// Longest line of a head; a head is at most [`MAX_HEADERS`] of them.
const MAX_LINE: u64 = 8 * 1024;
const MAX_HEADERS: usize = 64;

/// Replies are small or end in a large body that is read past the buffer.
const BUFFER: usize = 4 * 1024;

/// What to ask.
#[derive(Debug)]
pub(super) struct Ask<'a> {
    pub(super) method: &'a str,
    /// With the query.
    pub(super) path: &'a str,
    pub(super) token: Option<&'a Token>,
    pub(super) body: Option<String>,
    pub(super) stream: Option<Resume>,
}

/// The reply wanted is a stream of events, from after this one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Resume {
    pub(super) after: Option<u64>,
}

/// What a reply says about itself.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) status: u16,
    pub(super) daemon_version: Option<String>,
    framing: Framing,
}

/// How the end of a body is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    Length(usize),
    Chunked,
    UntilEnd,
}

/// A whole reply.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) head: Head,
    pub(super) body: Vec<u8>,
}

/// A connection on which nothing was said yet.
#[derive(Debug)]
pub(super) struct Connection(UnixStream);

impl Connection {
    pub(super) fn open(socket: &Path, deadline: Instant) -> Result<Connection, Error> {
        unix_by(socket, deadline).map(Connection).map_err(|err| Error::of_connect(err, socket))
    }

    /// Asks, and reads the whole answer.
    pub(super) fn exchange(self, ask: &Ask<'_>, deadline: Instant) -> Result<Reply, Error> {
        let (head, mut body) = self.ask(ask, deadline)?;
        let mut bytes = Vec::new();
        (&mut body).take(MAX_REPLY as u64 + 1).read_to_end(&mut bytes)?;
        if MAX_REPLY < bytes.len() {
            return Err(Error::Protocol("a reply larger than any".to_owned()));
        }
        Ok(Reply { head, body: bytes })
    }

    /// Asks, and reads the head of the answer.
    pub(super) fn ask(mut self, ask: &Ask<'_>, deadline: Instant) -> Result<(Head, Body), Error> {
        self.0.set_write_timeout(Some(left(deadline)?))?;
        let sent = self.0.write_all(ask.to_text().as_bytes());
        let mut input = BufReader::with_capacity(BUFFER, Timed { stream: self.0, wait: Wait::Until(deadline) });
        // A daemon may answer and close before it took the whole request; then the answer is worth more than the error.
        let head = match (read_head(&mut input), sent) {
            (Err(_), Err(err)) => return Err(err.into()),
            (head, _) => head?,
        };
        let left = match head.framing {
            Framing::Length(length) => Some(length),
            Framing::Chunked => Some(0),
            Framing::UntilEnd => None,
        };
        let chunks = if head.framing == Framing::Chunked { Chunks::First } else { Chunks::None };
        Ok((head, Body { input, left, chunks }))
    }

    /// A second handle, for the thread that may want to end the exchange.
    pub(super) fn handle(&self) -> io::Result<UnixStream> {
        self.0.try_clone()
    }
}

/// The time left, never zero: the standard library takes a timeout of zero for an error.
fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

impl Ask<'_> {
    fn to_text(&self) -> String {
        let body = self.body.as_deref().unwrap_or("");
        let mut text = String::with_capacity(256 + body.len());
        text.push_str(&format!("{} {} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n", self.method, self.path));
        if let Some(token) = self.token {
            text.push_str(&format!("Authorization: {SESSION_SCHEME} {}\r\n", token.reveal()));
        }
        match self.stream {
            Some(Resume { after }) => {
                text.push_str("Accept: text/event-stream\r\n");
                if let Some(after) = after {
                    text.push_str(&format!("Last-Event-ID: {after}\r\n"));
                }
            }
            None => text.push_str("Accept: application/json\r\n"),
        }
        if self.body.is_some() {
            text.push_str(&format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len()));
        }
        text.push_str("\r\n");
        text.push_str(body);
        text
    }
}

/// How long a read may wait.
#[derive(Debug, Clone, Copy)]
enum Wait {
    Until(Instant),
    /// For each read anew.
    For(Duration),
}

/// Reads that end: the timeout is set before each.
#[derive(Debug)]
struct Timed {
    stream: UnixStream,
    wait: Wait,
}

impl Read for Timed {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let timeout = match self.wait {
            Wait::Until(deadline) => left(deadline)?,
            Wait::For(span) => span,
        };
        self.stream.set_read_timeout(Some(timeout))?;
        self.stream.read(buf)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Chunks {
    None,
    First,
    Between,
    Ended,
}

/// The bytes of a reply's body, unframed.
#[derive(Debug)]
pub(super) struct Body {
    input: BufReader<Timed>,
    /// Until the body's end or the chunk's; `None` when only the connection's end tells.
    left: Option<usize>,
    chunks: Chunks,
}

impl Body {
    /// From here on each read may wait this long, however long the whole takes.
    pub(super) fn wait_for(&mut self, span: Duration) {
        self.input.get_mut().wait = Wait::For(span);
    }

    fn next_chunk(&mut self) -> io::Result<()> {
        if self.chunks == Chunks::Between && !read_line(&mut self.input)?.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a chunk without its end"));
        }
        let line = read_line(&mut self.input)?;
        let digits = line.split(';').next().unwrap_or("").trim();
        let size = usize::from_str_radix(digits, 16)
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "a chunk without its size"))?;
        self.left = Some(size);
        self.chunks = if size == 0 { Chunks::Ended } else { Chunks::Between };
        Ok(())
    }
}

impl Read for Body {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.left == Some(0) && matches!(self.chunks, Chunks::First | Chunks::Between) {
            self.next_chunk()?;
        }
        let Some(left) = self.left else { return self.input.read(buf) };
        let room = buf.len().min(left);
        if room == 0 {
            return Ok(0);
        }
        let count = self.input.read(&mut buf[..room])?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left = Some(left - count);
        Ok(count)
    }
}

fn read_head(input: &mut BufReader<Timed>) -> Result<Head, Error> {
    let malformed = || Error::Protocol("no HTTP".to_owned());
    let first = read_line(input)?;
    let status = first.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5)).and_then(|digits| digits.parse().ok());
    let mut head = Head { status: status.ok_or_else(malformed)?, daemon_version: None, framing: Framing::UntilEnd };
    for _ in 0..=MAX_HEADERS {
        let line = read_line(input)?;
        if line.is_empty() {
            return Ok(head);
        }
        let (name, value) = line.split_once(':').ok_or_else(malformed)?;
        let value = value.trim();
        if name.eq_ignore_ascii_case("transfer-encoding") && value.eq_ignore_ascii_case("chunked") {
            head.framing = Framing::Chunked;
        } else if name.eq_ignore_ascii_case("content-length") && head.framing != Framing::Chunked {
            head.framing = Framing::Length(value.parse().map_err(|_| malformed())?);
        } else if name.eq_ignore_ascii_case(VERSION_HEADER) {
            head.daemon_version = Some(value.chars().take(64).collect());
        }
    }
    Err(malformed())
}

/// One line without its end.
fn read_line(input: &mut BufReader<Timed>) -> io::Result<String> {
    let mut line = Vec::new();
    input.by_ref().take(MAX_LINE).read_until(b'\n', &mut line)?;
    if line.pop() != Some(b'\n') {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    String::from_utf8(line).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "a header that is no text"))
}
