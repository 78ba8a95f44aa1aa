//! The opening handshake of RFC 6455, 4, on blocking streams. The stream becomes non-blocking after it, not before: a
//! handshake that must survive being interrupted is a second state machine that nobody needs.

use std::fmt;
use std::io::{self, Read, Write};
use std::time::Instant;

use tungstenite::handshake::client::generate_key;
use tungstenite::handshake::derive_accept_key;

use super::{Limits, WebSocket};
use crate::net::http_client::{ReplyHead, read_reply_head};
use crate::net::http1::{self, Head, Method};
use crate::net::stream::{Stream, Timeouts, write_all_by};

/// Why a request was not upgraded. It has been answered, except for `Io`.
#[derive(Debug)]
pub enum UpgradeError {
    /// Not a valid opening handshake (400).
    Bad(&'static str),
    /// A version other than 13 (426).
    Version,
    Io(io::Error),
}

impl fmt::Display for UpgradeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            UpgradeError::Bad(what) => write!(f, "not a WebSocket handshake: {what}"),
            UpgradeError::Version => f.write_str("not version 13 of the WebSocket protocol"),
            UpgradeError::Io(err) => write!(f, "{err}"),
        }
    }
}

impl std::error::Error for UpgradeError {}

impl From<io::Error> for UpgradeError {
    fn from(err: io::Error) -> UpgradeError {
        UpgradeError::Io(err)
    }
}

/// Answers a request that [`Head::wants_websocket`], and makes the stream non-blocking.
pub fn accept(mut stream: Stream, head: &mut Head, limits: Limits, deadline: Instant) -> Result<WebSocket<Stream>, UpgradeError> {
    let key = match check(head) {
        Ok(key) => key,
        Err(refusal) => {
            let (status, headers): (_, &[_]) = match &refusal {
                UpgradeError::Version => (426, &[("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13")]),
                _ => (400, &[]),
            };
            let reply = http1::response(status, headers, refusal.to_string().as_bytes())?;
            write_all_by(&mut stream, &reply, deadline)?;
            return Err(refusal);
        }
    };
    let reply = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {}\r\n\r\n",
        derive_accept_key(key.as_bytes())
    );
    write_all_by(&mut stream, reply.as_bytes(), deadline)?;
    stream.set_nonblocking(true)?;
    Ok(WebSocket::server(stream, head.take_rest(), limits))
}

fn check(head: &Head) -> Result<String, UpgradeError> {
    if head.method != Method::Get {
        return Err(UpgradeError::Bad("not a GET"));
    }
    if !head.wants_websocket() {
        return Err(UpgradeError::Bad("no upgrade to websocket"));
    }
    if head.header("sec-websocket-version") != Some("13") {
        return Err(UpgradeError::Version);
    }
    match head.header("sec-websocket-key") {
        // Sixteen bytes in base64.
        Some(key) if key.len() == 24 && key.ends_with("==") => Ok(key.to_owned()),
        _ => Err(UpgradeError::Bad("no key")),
    }
}

/// Why a server did not upgrade the connection.
#[derive(Debug)]
pub enum Rejected {
    /// It answered with another status than 101; the head says more (`Retry-After`, say).
    Status(ReplyHead),
    Malformed(&'static str),
    Io(io::Error),
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Rejected::Status(head) => write!(f, "the server answered {} {}", head.status, http1::reason(head.status)),
            Rejected::Malformed(what) => write!(f, "the server's answer is no WebSocket handshake: {what}"),
            Rejected::Io(err) => write!(f, "{err}"),
        }
    }
}

impl std::error::Error for Rejected {}

/// Asks the server at the other end of a blocking `stream` for a WebSocket. `host` is what the Host header says. The
/// stream stays blocking. Returns the bytes read past the handshake.
pub(crate) fn request<S: Read + Write + Timeouts>(
    stream: &mut S,
    host: &str,
    target: &str,
    deadline: Instant,
) -> Result<Vec<u8>, Rejected> {
    let key = generate_key();
    let text = format!(
        "GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n"
    );
    write_all_by(stream, text.as_bytes(), deadline).map_err(Rejected::Io)?;
    let mut head = read_reply_head(stream, deadline).map_err(|err| match err.into_io() {
        Ok(err) => Rejected::Io(err),
        Err(what) => Rejected::Malformed(what),
    })?;
    if head.status != 101 {
        return Err(Rejected::Status(head));
    }
    if head.header("upgrade").is_none_or(|value| !value.eq_ignore_ascii_case("websocket")) {
        return Err(Rejected::Malformed("it upgrades to something else"));
    }
    if head.header("sec-websocket-accept") != Some(derive_accept_key(key.as_bytes()).as_str()) {
        return Err(Rejected::Malformed("wrong Sec-WebSocket-Accept"));
    }
    // Asked for none, so given one the two ends would not understand each other.
    if head.header("sec-websocket-extensions").is_some() {
        return Err(Rejected::Malformed("an extension nobody asked for"));
    }
    Ok(head.take_rest())
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;
    use std::thread;
    use std::time::Duration;

    use super::super::tests::LIMITS;
    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(5)
    }

    fn answer(request: &str) -> (Result<WebSocket<Stream>, UpgradeError>, String) {
        let (server, mut client) = UnixStream::pair().unwrap();
        client.write_all(request.as_bytes()).unwrap();
        let mut server = Stream::Unix(server);
        let mut head = http1::read_head(&mut server, soon()).unwrap();
        let accepted = accept(server, &mut head, LIMITS, soon());
        let mut buf = [0; 1024];
        let read = client.read(&mut buf).unwrap();
        (accepted, String::from_utf8_lossy(&buf[..read]).into_owned())
    }

    #[test]
    fn answers_the_example_of_the_rfc_and_refuses_the_rest() {
        let good = "GET /chat HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
        let (accepted, reply) = answer(good);
        assert!(accepted.is_ok());
        assert!(reply.starts_with("HTTP/1.1 101 ") && reply.contains("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"));
        for (from, to, expect) in [
            ("GET", "POST", "400"),
            ("Version: 13", "Version: 8", "426"),
            ("Sec-WebSocket-Version: 13\r\n", "", "426"),
            ("dGhlIHNhbXBsZSBub25jZQ==", "short", "400"),
            ("Upgrade: websocket", "Upgrade: h2c", "400"),
            ("Connection: Upgrade", "Connection: close", "400"),
        ] {
            let (accepted, reply) = answer(&good.replace(from, to));
            assert!(accepted.is_err() && reply.starts_with(&format!("HTTP/1.1 {expect} ")), "{to}: {reply}");
        }
    }

    #[test]
    fn a_client_wants_the_right_answer() {
        let good = "HTTP/1.1 101 x\r\nUpgrade: WebSocket\r\nSec-WebSocket-Accept: KEY\r\n\r\nleft";
        for (reply, expect) in [
            (good.to_owned(), Ok(b"left".to_vec())),
            (good.replace("KEY", "wrong"), Err("Accept")),
            (good.replace("WebSocket\r", "h2c\r"), Err("something else")),
            (good.replace("\r\n\r\n", "\r\nSec-WebSocket-Extensions: x\r\n\r\n"), Err("extension")),
            ("HTTP/1.1 503 x\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n".to_owned(), Err("503 Service Unavailable")),
            ("SSH-2.0-OpenSSH\r\n\r\n".to_owned(), Err("no WebSocket handshake")),
        ] {
            let (mut near, mut far) = UnixStream::pair().unwrap();
            let server = thread::spawn(move || {
                let head = http1::read_head(&mut far, soon()).unwrap();
                let key = derive_accept_key(head.header("Sec-WebSocket-Key").unwrap().as_bytes());
                far.write_all(reply.replace("KEY", &key).as_bytes()).unwrap();
            });
            match (request(&mut near, "h", "/ws", soon()), expect) {
                (Ok(rest), Ok(expect)) => assert_eq!(rest, expect),
                (Err(err), Err(expect)) => assert!(err.to_string().contains(expect), "{err}"),
                (found, expect) => panic!("{found:?} for {expect:?}"),
            }
            server.join().unwrap();
        }
    }
}
