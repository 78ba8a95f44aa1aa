//! An HTTP client of the tests' own, so that the program's client and server can not agree on the same mistake.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;

use serde_json::Value;

use super::wait::PATIENCE;

/// What came back.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|err| panic!("{err} in {self:?}"))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// A request's bytes.
pub(crate) fn compose(method: &str, path: &str, headers: &[(&str, &str)], body: Option<&[u8]>) -> Vec<u8> {
    let mut text = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n");
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    if let Some(body) = body {
        text.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    text.push_str("\r\n");
    let mut bytes = text.into_bytes();
    bytes.extend_from_slice(body.unwrap_or_default());
    bytes
}

/// One request on a connection of its own.
pub(crate) fn request(
    socket: &Path,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: Option<&[u8]>,
) -> io::Result<Reply> {
    raw(socket, &compose(method, path, headers, body))
}

/// Sends these bytes, whatever they are, and reads a reply.
pub(crate) fn raw(socket: &Path, bytes: &[u8]) -> io::Result<Reply> {
    let stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    exchange(stream, bytes)
}

/// A `GET` over TCP, for the broker.
pub(crate) fn get_tcp(address: &str, path: &str) -> io::Result<Reply> {
    over_tcp(address, &compose("GET", path, &[], None))
}

/// As [`raw`], over TCP.
pub(crate) fn over_tcp(address: &str, bytes: &[u8]) -> io::Result<Reply> {
    let stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    exchange(stream, bytes)
}

/// Any request over TCP, for the broker.
pub(crate) fn request_tcp(
    address: &str,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: Option<&[u8]>,
) -> io::Result<Reply> {
    let stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    exchange(stream, &compose(method, path, headers, body))
}

fn exchange(mut stream: impl Read + Write, bytes: &[u8]) -> io::Result<Reply> {
    // A server may have answered and gone before it has read everything; its answer is what counts.
    let sent = stream.write_all(bytes);
    match read_reply(&mut stream) {
        Err(err) if err.kind() == io::ErrorKind::UnexpectedEof => Err(sent.err().unwrap_or(err)),
        other => other,
    }
}

fn read_reply(stream: &mut impl Read) -> io::Result<Reply> {
    let mut bytes = Vec::new();
    let mut piece = [0; 16 * 1024];
    loop {
        if let Some(at) = find(&bytes, b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..at]).into_owned();
            let length = header(&head, "content-length").and_then(|text| text.parse::<usize>().ok());
            if length.is_some_and(|length| at + 4 + length <= bytes.len()) {
                return reply(head, bytes.split_off(at + 4));
            }
        }
        match stream.read(&mut piece)? {
            0 => break,
            count => bytes.extend_from_slice(&piece[..count]),
        }
    }
    let at = find(&bytes, b"\r\n\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
    let head = String::from_utf8_lossy(&bytes[..at]).into_owned();
    if header(&head, "content-length").is_some() {
        return Err(io::ErrorKind::UnexpectedEof.into()); // cut off in the middle of its body
    }
    reply(head, bytes.split_off(at + 4))
}

fn reply(head: String, body: Vec<u8>) -> io::Result<Reply> {
    let status = head.split(' ').nth(1).and_then(|text| text.parse().ok());
    let status = status.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, head.clone()))?;
    Ok(Reply { status, head, body })
}

/// The value of a header.
pub(crate) fn header<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    let mut fields = head.lines().skip(1).filter_map(|line| line.split_once(':'));
    fields.find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}
