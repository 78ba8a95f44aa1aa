//! HTTP/1.1 for clients: one request per connection, over a Unix socket or TCP, with one deadline and bounded replies.

#[cfg(test)]
mod tests;

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::Instant;

use super::chunked::Decoder;
use super::http1::{MAX_HEAD, MAX_HEADERS, has_blank_line};
use super::stream::{Stream, Timeouts, read_by, write_all_by};
use crate::sys;

/// Bytes of a reply's body, unless the caller wants another cap.
pub const MAX_BODY: usize = 8 * 1024 * 1024;

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    Unix(PathBuf),
    Tcp(SocketAddr),
}

impl Address {
    /// A blocking stream to the server.
    pub fn connect(&self, deadline: Instant) -> io::Result<Stream> {
        match self {
            Address::Unix(path) => Ok(Stream::Unix(sys::connect::unix_by(path, deadline)?)),
            Address::Tcp(addr) => {
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return Err(io::ErrorKind::TimedOut.into());
                }
                let stream = TcpStream::connect_timeout(addr, left)?;
                stream.set_nodelay(true)?;
                Ok(Stream::Tcp(stream))
            }
        }
    }
}

/// What to ask for. `Host: localhost`, `Connection: close` and the body's length are added.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// A method in capitals.
    pub method: &'a str,
    /// Path and query, escaped.
    pub target: &'a str,
    pub headers: &'a [(&'a str, &'a str)],
    pub body: Option<&'a [u8]>,
}

/// A whole reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Response {
    /// The first header of this name, in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

/// Why there is no reply.
#[derive(Debug)]
pub enum ClientError {
    /// Nobody listens there, or the way is blocked: the request was not sent.
    Connect(io::Error),
    Timeout,
    /// The server hung up before a whole reply.
    Closed,
    /// It hung up before any of a reply, and the system says that it did not take all of the request.
    Reset,
    TooLarge,
    Malformed(&'static str),
    Io(io::Error),
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClientError::Connect(err) => write!(f, "cannot connect: {err}"),
            ClientError::Timeout => f.write_str("no answer in time"),
            ClientError::Closed | ClientError::Reset => f.write_str("the server hung up without an answer"),
            ClientError::TooLarge => f.write_str("the answer is too large"),
            ClientError::Malformed(what) => write!(f, "the answer is not HTTP: {what}"),
            ClientError::Io(err) => write!(f, "{err}"),
        }
    }
}

impl std::error::Error for ClientError {}

impl From<io::Error> for ClientError {
    fn from(err: io::Error) -> ClientError {
        match err.kind() {
            io::ErrorKind::TimedOut => ClientError::Timeout,
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => ClientError::Closed,
            _ => ClientError::Io(err),
        }
    }
}

impl ClientError {
    /// The same as an I/O error, or what was malformed.
    pub(super) fn into_io(self) -> Result<io::Error, &'static str> {
        match self {
            ClientError::Connect(err) | ClientError::Io(err) => Ok(err),
            ClientError::Timeout => Ok(io::ErrorKind::TimedOut.into()),
            ClientError::Closed => Ok(io::ErrorKind::UnexpectedEof.into()),
            ClientError::Reset => Ok(io::ErrorKind::ConnectionReset.into()),
            ClientError::TooLarge => Err("too large"),
            ClientError::Malformed(what) => Err(what),
        }
    }
}

/// Connects, asks, and reads the whole reply (at most [`MAX_BODY`]).
pub fn request(address: &Address, ask: &Ask<'_>, deadline: Instant) -> Result<Response, ClientError> {
    let mut stream = address.connect(deadline).map_err(connect_error)?;
    exchange(&mut stream, "localhost", ask, deadline, MAX_BODY)
}

/// Asks over a connected stream and reads the whole reply. The stream has no further use.
pub fn exchange<S: Read + Write + Timeouts>(
    stream: &mut S,
    host: &str,
    ask: &Ask<'_>,
    deadline: Instant,
    max_body: usize,
) -> Result<Response, ClientError> {
    let sent = send(stream, host, ask, deadline)?;
    let mut head = read_final_head(stream, deadline).map_err(|err| sent.explain(err))?;
    let body = read_reply_body(stream, &mut head, ask.method, deadline, max_body)?;
    Ok(Response { status: head.status, headers: head.headers, body })
}

/// The start of a reply that goes on: server-sent events.
#[derive(Debug)]
pub struct Streaming {
    pub head: ReplyHead,
    stream: Stream,
    chunks: Option<Decoder>,
    decoded: Vec<u8>,
}

/// Connects and asks; `deadline` is for the reply's head, after which [`Streaming::read_by`] reads what comes. A reply
/// that is no stream is read the same way.
pub fn open_stream(address: &Address, ask: &Ask<'_>, deadline: Instant) -> Result<Streaming, ClientError> {
    follow(address.connect(deadline).map_err(connect_error)?, ask, deadline)
}

/// As [`open_stream`], over a stream that is connected already.
pub fn follow(mut stream: Stream, ask: &Ask<'_>, deadline: Instant) -> Result<Streaming, ClientError> {
    let sent = send(&mut stream, "localhost", ask, deadline)?;
    let mut head = read_final_head(&mut stream, deadline).map_err(|err| sent.explain(err))?;
    let mut chunks = head.is_chunked()?.then(Decoder::default);
    let rest = head.take_rest();
    let mut decoded = Vec::new();
    match &mut chunks {
        Some(decoder) => drop(decoder.push(&rest, &mut decoded).map_err(|_| BROKEN)?),
        None => decoded = rest,
    }
    Ok(Streaming { head, stream, chunks, decoded })
}

impl Streaming {
    /// The next bytes of the body, as they come; `None` at its end.
    pub fn read_by(&mut self, deadline: Instant) -> Result<Option<Vec<u8>>, ClientError> {
        loop {
            if !self.decoded.is_empty() {
                return Ok(Some(std::mem::take(&mut self.decoded)));
            }
            if self.chunks.as_ref().is_some_and(Decoder::is_done) {
                return Ok(None);
            }
            let mut chunk = [0; 4096];
            let read = read_by(&mut self.stream, &mut chunk, deadline)?;
            match &mut self.chunks {
                _ if read == 0 => return if self.chunks.is_some() { Err(ClientError::Closed) } else { Ok(None) },
                Some(decoder) => drop(decoder.push(&chunk[..read], &mut self.decoded).map_err(|_| BROKEN)?),
                None => self.decoded.extend_from_slice(&chunk[..read]),
            }
        }
    }

    /// By which another thread ends a read.
    pub fn shutter(&self) -> io::Result<super::stream::Shutter> {
        self.stream.shutter()
    }
}

const BROKEN: ClientError = ClientError::Malformed("broken chunked coding");

fn connect_error(err: io::Error) -> ClientError {
    if err.kind() == io::ErrorKind::TimedOut { ClientError::Timeout } else { ClientError::Connect(err) }
}

/// How much of a request the server's end took.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sent {
    Whole,
    Part,
}

impl Sent {
    /// Why there was no reply to it.
    fn explain(self, err: ClientError) -> ClientError {
        if matches!((self, &err), (Sent::Part, ClientError::Closed)) { ClientError::Reset } else { err }
    }
}

fn send<S: Write + Timeouts>(stream: &mut S, host: &str, ask: &Ask<'_>, deadline: Instant) -> Result<Sent, ClientError> {
    let line_break = |text: &str| text.contains(['\r', '\n']);
    let broken = |(name, value): &(&str, &str)| line_break(name) || line_break(value);
    if line_break(ask.target) || ask.target.contains(' ') || line_break(host) || ask.headers.iter().any(broken) {
        return Err(ClientError::Io(io::Error::new(io::ErrorKind::InvalidInput, "line break in a request")));
    }
    let body = ask.body.unwrap_or_default();
    let mut bytes = Vec::with_capacity(256 + body.len());
    write!(bytes, "{} {} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n", ask.method, ask.target)?;
    for (name, value) in ask.headers {
        write!(bytes, "{name}: {value}\r\n")?;
    }
    if ask.body.is_some() {
        write!(bytes, "Content-Length: {}\r\n", body.len())?;
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(body);
    match write_all_by(stream, &bytes, deadline) {
        // The server may have refused before it read everything; what it said is in our receive queue.
        Err(err) if matches!(err.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) => Ok(Sent::Part),
        sent => Ok(sent.map(|()| Sent::Whole)?),
    }
}

/// Status and headers of a reply.
#[derive(Debug)]
pub struct ReplyHead {
    pub status: u16,
    headers: Vec<(String, String)>,
    rest: Vec<u8>,
}

impl ReplyHead {
    /// The first header of this name, in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub(super) fn take_rest(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.rest)
    }

    fn is_chunked(&self) -> Result<bool, ClientError> {
        match self.header("transfer-encoding") {
            None => Ok(false),
            Some(coding) if coding.eq_ignore_ascii_case("chunked") => Ok(true),
            Some(_) => Err(ClientError::Malformed("unknown transfer coding")),
        }
    }
}

/// Reads heads until one is not an interim reply (1xx).
fn read_final_head<S: Read + Timeouts>(stream: &mut S, deadline: Instant) -> Result<ReplyHead, ClientError> {
    let mut head = read_reply_head(stream, deadline)?;
    for _ in 0..8 {
        if 200 <= head.status {
            return Ok(head);
        }
        head = head_from(stream, head.take_rest(), deadline)?;
    }
    Err(ClientError::Malformed("interim replies without end"))
}

/// Reads one reply's head, interim or not.
pub(super) fn read_reply_head<S: Read + Timeouts>(stream: &mut S, deadline: Instant) -> Result<ReplyHead, ClientError> {
    head_from(stream, Vec::new(), deadline)
}

fn head_from<S: Read + Timeouts>(stream: &mut S, mut buf: Vec<u8>, deadline: Instant) -> Result<ReplyHead, ClientError> {
    // As for requests: parsing starts over, so it waits for the input to double or for what may be the end.
    let (mut try_at, mut seen) = (16, 0_usize);
    loop {
        if try_at <= buf.len() || has_blank_line(&buf[seen.saturating_sub(3)..]) {
            try_at = buf.len() * 2;
            if let Some(head) = parse_head(&mut buf)? {
                return Ok(head);
            }
        }
        if MAX_HEAD < buf.len() {
            return Err(ClientError::TooLarge);
        }
        seen = buf.len();
        let mut chunk = [0; 4096];
        let read = read_by(stream, &mut chunk, deadline).map_err(|err| match err.kind() {
            io::ErrorKind::ConnectionReset if buf.is_empty() => ClientError::Reset,
            _ => ClientError::from(err),
        });
        match read? {
            0 if buf.is_empty() => return Err(ClientError::Closed),
            0 => return parse_head(&mut buf)?.ok_or(ClientError::Closed),
            read => buf.extend_from_slice(&chunk[..read]),
        }
    }
}

fn parse_head(buf: &mut Vec<u8>) -> Result<Option<ReplyHead>, ClientError> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut parsed = httparse::Response::new(&mut headers);
    let length = match parsed.parse(buf) {
        Ok(httparse::Status::Complete(length)) if MAX_HEAD < length => return Err(ClientError::TooLarge),
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(ClientError::TooLarge),
        Err(_) => return Err(ClientError::Malformed("bad head")),
    };
    let status = parsed.code.unwrap_or_default();
    let text = |header: &httparse::Header<'_>| (header.name.to_owned(), String::from_utf8_lossy(header.value).trim().to_owned());
    let headers = parsed.headers.iter().map(text).collect();
    Ok(Some(ReplyHead { status, headers, rest: buf.split_off(length) }))
}

fn read_reply_body<S: Read + Timeouts>(
    stream: &mut S,
    head: &mut ReplyHead,
    method: &str,
    deadline: Instant,
    max: usize,
) -> Result<Vec<u8>, ClientError> {
    if method == "HEAD" || head.status == 204 || head.status == 304 {
        return Ok(Vec::new());
    }
    let mut chunks = head.is_chunked()?.then(Decoder::default);
    let length = match head.header("content-length") {
        _ if chunks.is_some() => None,
        Some(text) => Some(text.parse::<usize>().map_err(|_| ClientError::Malformed("bad Content-Length"))?),
        None => None,
    };
    if length.is_some_and(|length| max < length) {
        return Err(ClientError::TooLarge);
    }
    let (mut body, mut input) = (Vec::new(), head.take_rest());
    loop {
        match &mut chunks {
            Some(decoder) => drop(decoder.push(&input, &mut body).map_err(|_| BROKEN)?),
            None => body.extend_from_slice(&input),
        }
        if chunks.as_ref().is_some_and(Decoder::is_done) {
            return Ok(body);
        }
        if let Some(length) = length
            && length <= body.len()
        {
            body.truncate(length);
            return Ok(body);
        }
        if max < body.len() {
            return Err(ClientError::TooLarge);
        }
        input.resize(16 * 1024, 0);
        let read = read_by(stream, &mut input, deadline)?;
        input.truncate(read);
        if read == 0 {
            // Only a body of unannounced length may end like this.
            return if chunks.is_none() && length.is_none() { Ok(body) } else { Err(ClientError::Closed) };
        }
    }
}
