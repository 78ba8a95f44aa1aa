//! HTTP/1.1 for servers: bounded, with one deadline for a whole request, one request per connection. RFC 9112; where it
//! leaves a choice between leniency and certainty about where a message ends, this takes certainty.

#[cfg(test)]
mod tests;

use std::fmt;
use std::io::{self, Read, Write};
use std::time::Instant;

use super::chunked::Decoder;
use super::stream::{Timeouts, read_by, write_all_by};
use super::target::Target;

/// Bytes of request line and headers together.
pub const MAX_HEAD: usize = 16 * 1024;
pub const MAX_HEADERS: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    Get,
    Post,
    Put,
    Patch,
    Delete,
    /// Well-formed, and nothing that any route here answers.
    Other,
}

/// A request without its body.
#[derive(Debug)]
pub struct Head {
    pub method: Method,
    pub target: Target,
    headers: Vec<(String, String)>,
    body: Framing,
    expects_continue: bool,
    /// Bytes read past the head: of the body, or of the protocol that the request upgrades to.
    rest: Vec<u8>,
}

/// A request with its body.
#[derive(Debug)]
pub struct Request {
    pub head: Head,
    pub body: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    Length(u64),
    Chunked,
}

/// Why there is no request.
#[derive(Debug)]
pub enum ReadError {
    /// The client hung up before a whole request.
    Closed,
    Timeout,
    HeadTooLarge,
    BodyTooLarge,
    Malformed(&'static str),
    /// A transfer coding other than chunked.
    UnknownCoding,
    /// An `Expect` other than 100-continue.
    UnknownExpectation,
    Io(io::Error),
}

impl ReadError {
    /// The status to answer with; None: there is nobody to answer.
    pub fn status(&self) -> Option<u16> {
        match self {
            ReadError::Closed | ReadError::Io(_) => None,
            ReadError::Malformed(_) => Some(400),
            ReadError::Timeout => Some(408),
            ReadError::BodyTooLarge => Some(413),
            ReadError::UnknownExpectation => Some(417),
            ReadError::HeadTooLarge => Some(431),
            ReadError::UnknownCoding => Some(501),
        }
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReadError::Closed => f.write_str("the client hung up"),
            ReadError::Timeout => f.write_str("the request took too long"),
            ReadError::HeadTooLarge => f.write_str("headers too large"),
            ReadError::BodyTooLarge => f.write_str("body too large"),
            ReadError::Malformed(what) => write!(f, "malformed request: {what}"),
            ReadError::UnknownCoding => f.write_str("unknown transfer coding"),
            ReadError::UnknownExpectation => f.write_str("unknown expectation"),
            ReadError::Io(err) => write!(f, "{err}"),
        }
    }
}

impl std::error::Error for ReadError {}

impl From<io::Error> for ReadError {
    fn from(err: io::Error) -> ReadError {
        match err.kind() {
            io::ErrorKind::TimedOut => ReadError::Timeout,
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => ReadError::Closed,
            _ => ReadError::Io(err),
        }
    }
}

impl Head {
    /// The first header of this name, in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The last header of this name, in any case.
    pub fn last_header(&self, name: &str) -> Option<&str> {
        self.headers.iter().rfind(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// Whether a comma-separated header lists `token`, in any case.
    pub fn lists(&self, name: &str, token: &str) -> bool {
        let values = self.headers.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name));
        values.flat_map(|(_, value)| value.split(',')).any(|item| item.trim().eq_ignore_ascii_case(token))
    }

    /// The request asks to go on as a WebSocket.
    pub fn wants_websocket(&self) -> bool {
        self.lists("connection", "upgrade") && self.lists("upgrade", "websocket")
    }

    /// Takes what was read past the head, for the protocol that comes next.
    pub fn take_rest(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.rest)
    }
}

/// Reads head and body. Use [`read_head`] and [`read_body`] where the route decides how long a body may be.
pub fn read_request<S: Read + Write + Timeouts>(
    stream: &mut S,
    deadline: Instant,
    max_body: usize,
) -> Result<Request, ReadError> {
    let mut head = read_head(stream, deadline)?;
    let body = read_body(stream, &mut head, deadline, max_body)?;
    Ok(Request { head, body })
}

/// Reads up to the blank line.
pub fn read_head<S: Read + Timeouts>(stream: &mut S, deadline: Instant) -> Result<Head, ReadError> {
    let mut buf = Vec::with_capacity(1024);
    // Parsing starts over each time, so it is tried when the head may be complete and, to refuse garbage early, each
    // time the input has doubled: a client that sends single bytes costs no more than any other.
    let mut try_at = 64;
    loop {
        let seen = buf.len();
        fill(stream, deadline, &mut buf)?;
        if try_at <= buf.len() || has_blank_line(&buf[seen.saturating_sub(3)..]) {
            try_at = buf.len() * 2;
            if let Some(head) = parse_head(&mut buf)? {
                return Ok(head);
            }
        }
        if MAX_HEAD < buf.len() {
            return Err(ReadError::HeadTooLarge);
        }
    }
}

/// Reads the body that `head` announces, asking for it first if the client waits to be asked.
pub fn read_body<S: Read + Write + Timeouts>(
    stream: &mut S,
    head: &mut Head,
    deadline: Instant,
    max: usize,
) -> Result<Vec<u8>, ReadError> {
    if let Framing::Length(length) = head.body
        && (max as u64) < length
    {
        return Err(ReadError::BodyTooLarge);
    }
    if head.expects_continue && head.rest.is_empty() && head.body != Framing::Length(0) {
        write_all_by(stream, b"HTTP/1.1 100 Continue\r\n\r\n", deadline)?;
    }
    let mut input = head.take_rest();
    match head.body {
        Framing::Length(length) => {
            // At most `max`, which is a usize.
            let length = usize::try_from(length).map_err(|_| ReadError::BodyTooLarge)?;
            input.reserve_exact(length.saturating_sub(input.len()).min(64 * 1024));
            while input.len() < length {
                fill(stream, deadline, &mut input)?;
            }
            input.truncate(length);
            Ok(input)
        }
        Framing::Chunked => {
            let (mut decoder, mut body) = (Decoder::default(), Vec::new());
            loop {
                decoder.push(&input, &mut body).map_err(|_| ReadError::Malformed("broken chunked coding"))?;
                if max < body.len() {
                    return Err(ReadError::BodyTooLarge);
                }
                if decoder.is_done() {
                    return Ok(body);
                }
                input.clear();
                fill(stream, deadline, &mut input)?;
            }
        }
    }
}

fn fill<S: Read + Timeouts>(stream: &mut S, deadline: Instant, buf: &mut Vec<u8>) -> Result<(), ReadError> {
    let mut chunk = [0; 4096];
    match read_by(stream, &mut chunk, deadline)? {
        0 => Err(ReadError::Closed),
        read => {
            buf.extend_from_slice(&chunk[..read]);
            Ok(())
        }
    }
}

/// Whether a head may end here, with either line end.
pub(super) fn has_blank_line(bytes: &[u8]) -> bool {
    bytes.windows(2).any(|pair| pair == b"\n\n") || bytes.windows(3).any(|three| three == b"\n\r\n")
}

/// None: not complete. What follows the head moves into it.
fn parse_head(buf: &mut Vec<u8>) -> Result<Option<Head>, ReadError> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut parsed = httparse::Request::new(&mut headers);
    let length = match parsed.parse(buf) {
        Ok(httparse::Status::Complete(length)) if MAX_HEAD < length => return Err(ReadError::HeadTooLarge),
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(ReadError::HeadTooLarge),
        Err(_) => return Err(ReadError::Malformed("not HTTP/1")),
    };
    let method = match parsed.method.unwrap_or_default() {
        "GET" => Method::Get,
        "POST" => Method::Post,
        "PUT" => Method::Put,
        "PATCH" => Method::Patch,
        "DELETE" => Method::Delete,
        _ => Method::Other,
    };
    let target = Target::parse(parsed.path.unwrap_or_default()).ok_or(ReadError::Malformed("bad target"))?;
    let one_one = parsed.version == Some(1);
    let text = |header: &httparse::Header<'_>| {
        let value = std::str::from_utf8(header.value).map_err(|_| ReadError::Malformed("header is not UTF-8"))?;
        Ok((header.name.to_owned(), value.trim().to_owned()))
    };
    let headers = parsed.headers.iter().map(text).collect::<Result<Vec<_>, ReadError>>()?;
    let body = framing(&headers, one_one)?;
    let expects_continue = match one(&headers, "expect")? {
        Some(what) if what.eq_ignore_ascii_case("100-continue") => one_one,
        Some(_) => return Err(ReadError::UnknownExpectation),
        None => false,
    };
    if one(&headers, "host")?.is_none() && one_one {
        return Err(ReadError::Malformed("no Host"));
    }
    // By these two a request is let in: whoever asks must find what whoever answers does.
    one(&headers, "origin")?;
    Ok(Some(Head { method, target, headers, body, expects_continue, rest: buf.split_off(length) }))
}

fn framing(headers: &[(String, String)], one_one: bool) -> Result<Framing, ReadError> {
    match (one(headers, "transfer-encoding")?, one(headers, "content-length")?) {
        (Some(_), Some(_)) => Err(ReadError::Malformed("both a length and a transfer coding")),
        (Some(coding), None) if !coding.eq_ignore_ascii_case("chunked") => Err(ReadError::UnknownCoding),
        (Some(_), None) if !one_one => Err(ReadError::Malformed("a transfer coding in HTTP/1.0")),
        (Some(_), None) => Ok(Framing::Chunked),
        (None, Some(text)) if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) => {
            Err(ReadError::Malformed("bad Content-Length"))
        }
        (None, Some(text)) => Ok(Framing::Length(text.parse().map_err(|_| ReadError::BodyTooLarge)?)),
        (None, None) => Ok(Framing::Length(0)),
    }
}

/// A header that may stand once at most.
fn one<'a>(headers: &'a [(String, String)], name: &str) -> Result<Option<&'a str>, ReadError> {
    let mut found = headers.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str());
    match (found.next(), found.next()) {
        (_, Some(_)) => Err(ReadError::Malformed("a header that may stand once stands twice")),
        (value, None) => Ok(value),
    }
}

/// Writes a whole reply in one call and announces that the connection closes after it. `InvalidInput`: a header with a
/// line break, of which nothing is sent.
pub fn write_response(out: &mut dyn Write, status: u16, headers: &[(&str, &str)], body: &[u8]) -> io::Result<()> {
    out.write_all(&response(status, headers, body)?)?;
    out.flush()
}

/// The bytes that [`write_response`] writes.
pub fn response(status: u16, headers: &[(&str, &str)], body: &[u8]) -> io::Result<Vec<u8>> {
    if headers.iter().any(|(name, value)| name.contains(['\r', '\n', ':']) || value.contains(['\r', '\n'])) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "line break in a header"));
    }
    let mut bytes = Vec::with_capacity(160 + body.len());
    write!(bytes, "HTTP/1.1 {status} {}\r\n", reason(status))?;
    for (name, value) in headers {
        write!(bytes, "{name}: {value}\r\n")?;
    }
    // These two have no body and announce none (RFC 9110, 8.6).
    if status != 204 && status != 304 {
        write!(bytes, "Content-Length: {}\r\n", body.len())?;
    }
    bytes.extend_from_slice(b"Connection: close\r\n\r\n");
    if status != 204 && status != 304 {
        bytes.extend_from_slice(body);
    }
    Ok(bytes)
}

/// Starts a stream of server-sent events, which lasts until the connection closes. The first comment tells clients that
/// wait for a first byte that they are connected.
pub fn start_sse(out: &mut dyn Write) -> io::Result<()> {
    out.write_all(
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache, no-transform\r\n\
          X-Accel-Buffering: no\r\nConnection: close\r\n\r\n: connected\n\n",
    )?;
    out.flush()
}

/// The reason phrase of a status, as RFC 9110 and its registry have it.
pub fn reason(status: u16) -> &'static str {
    match status {
        101 => "Switching Protocols",
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        304 => "Not Modified",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        413 => "Content Too Large",
        415 => "Unsupported Media Type",
        417 => "Expectation Failed",
        422 => "Unprocessable Content",
        426 => "Upgrade Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        507 => "Insufficient Storage",
        _ => "",
    }
}
