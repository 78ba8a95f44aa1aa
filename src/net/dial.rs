//! From a URL to an open WebSocket or a connected stream: name, TCP, TLS and handshake under one deadline.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::stream::Stream;
use super::tls::{Tls, TlsError, Trust};
use super::ws::{self, Limits, Rejected, WebSocket};
use crate::base::thread::{CONNECTION_STACK, spawn};

/// The resolver of the C library knows no deadline, so it runs on a thread that may be left behind. Full: this many are
/// left behind, and a further lookup fails at once.
const MAX_LOOKUPS: usize = 32;

/// Each address gets an equal share of the time left, but at least this.
const MIN_SHARE: Duration = Duration::from_secs(1);

/// An address to dial: `ws`, `wss`, `http` or `https`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    tls: bool,
    host: String,
    port: u16,
    explicit_port: bool,
    target: String,
}

/// Why a text is not such an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UrlError {
    Scheme,
    /// A user name or a password: they would end up in logs.
    Credentials,
    Host,
    Port,
    /// Spaces or control characters.
    Character,
}

impl fmt::Display for UrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            UrlError::Scheme => "expected ws://, wss://, http:// or https://",
            UrlError::Credentials => "a URL must not carry a user name or a password",
            UrlError::Host => "no valid host in the URL",
            UrlError::Port => "no valid port in the URL",
            UrlError::Character => "a space or control character in the URL",
        })
    }
}

impl std::error::Error for UrlError {}

impl Url {
    pub fn parse(text: &str) -> Result<Url, UrlError> {
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(UrlError::Character);
        }
        let (scheme, rest) = text.split_once("://").ok_or(UrlError::Scheme)?;
        let tls = match scheme.to_ascii_lowercase().as_str() {
            "ws" | "http" => false,
            "wss" | "https" => true,
            _ => return Err(UrlError::Scheme),
        };
        let rest = rest.split_once('#').map_or(rest, |(before, _)| before);
        let (authority, target) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        if authority.contains('@') {
            return Err(UrlError::Credentials);
        }
        let (host, port) = match authority.strip_prefix('[') {
            Some(literal) => {
                let (host, port) = literal.split_once(']').ok_or(UrlError::Host)?;
                host.parse::<std::net::Ipv6Addr>().map_err(|_| UrlError::Host)?;
                (host, port)
            }
            None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
        };
        if host.is_empty() || host.len() > 253 || !host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._:".contains(&b)) {
            return Err(UrlError::Host);
        }
        let (port, explicit_port) = match port.strip_prefix(':') {
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => match digits.parse() {
                Ok(0) | Err(_) => return Err(UrlError::Port),
                Ok(port) => (port, true),
            },
            Some(_) => return Err(UrlError::Port),
            None if port.is_empty() => (if tls { 443 } else { 80 }, false),
            None => return Err(UrlError::Port),
        };
        let target = if target.starts_with('/') { target.to_owned() } else { format!("/{target}") };
        Ok(Url { tls, host: host.to_ascii_lowercase(), port, explicit_port, target })
    }

    pub fn is_tls(&self) -> bool {
        self.tls
    }

    /// Name or address, without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Path and query; `/` at least.
    pub fn target(&self) -> &str {
        &self.target
    }

    /// The same server, another path and query.
    pub fn with_target(&self, target: &str) -> Url {
        Url { target: target.to_owned(), ..self.clone() }
    }

    /// What the Host header says.
    pub fn host_header(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        if self.explicit_port { format!("{host}:{}", self.port) } else { host }
    }
}

/// Why there is no connection.
#[derive(Debug)]
pub enum Error {
    /// The name has no address, or nobody could say.
    Resolve(io::Error),
    /// No address took the connection; the last one's answer.
    Connect(io::Error),
    Tls(TlsError),
    /// The server does not speak WebSocket here, or not now.
    Rejected(Rejected),
    Timeout,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Resolve(err) => write!(f, "cannot resolve the host's name: {err}"),
            Error::Connect(err) => write!(f, "cannot connect: {err}"),
            Error::Tls(err) => write!(f, "{err}"),
            Error::Rejected(err) => write!(f, "{err}"),
            Error::Timeout => f.write_str("no answer in time"),
        }
    }
}

impl std::error::Error for Error {}

/// An open WebSocket, already non-blocking, trusting what the system trusts.
pub fn connect(url: &Url, limits: Limits, deadline: Instant) -> Result<WebSocket<Stream>, Error> {
    let mut stream = open(url, deadline)?;
    let rest = ws::request(&mut stream, &url.host_header(), url.target(), deadline).map_err(|err| match err {
        Rejected::Io(err) if err.kind() == io::ErrorKind::TimedOut => Error::Timeout,
        err => Error::Rejected(err),
    })?;
    stream.set_nonblocking(true).map_err(Error::Connect)?;
    Ok(WebSocket::client(stream, rest, limits))
}

/// A connected, blocking stream, through TLS if the URL says so; for `http_client::exchange`.
pub fn open(url: &Url, deadline: Instant) -> Result<Stream, Error> {
    // Before anything is sent: a missing trust store is no reason to trouble a server.
    let trust = if url.tls { Some(Trust::system().map_err(Error::Tls)?) } else { None };
    open_trusting(url, trust.as_ref(), deadline)
}

/// As [`open`], with the given trust for TLS.
pub fn open_trusting(url: &Url, trust: Option<&Trust>, deadline: Instant) -> Result<Stream, Error> {
    let socket = connect_any(&resolve(&url.host, url.port, deadline)?, deadline)?;
    socket.set_nodelay(true).map_err(Error::Connect)?;
    match trust {
        None => Ok(Stream::Tcp(socket)),
        Some(trust) => match Tls::connect(trust, &url.host, socket, deadline) {
            Ok(tls) => Ok(Stream::Tls(Box::new(tls))),
            Err(TlsError::Handshake(err)) if err.kind() == io::ErrorKind::TimedOut => Err(Error::Timeout),
            Err(err) => Err(Error::Tls(err)),
        },
    }
}

fn resolve(host: &str, port: u16, deadline: Instant) -> Result<Vec<SocketAddr>, Error> {
    static LOOKUPS: AtomicUsize = AtomicUsize::new(0);
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    if MAX_LOOKUPS <= LOOKUPS.fetch_add(1, Ordering::AcqRel) {
        LOOKUPS.fetch_sub(1, Ordering::AcqRel);
        return Err(Error::Resolve(io::Error::other("too many name lookups hang")));
    }
    struct Done;
    impl Drop for Done {
        fn drop(&mut self) {
            LOOKUPS.fetch_sub(1, Ordering::AcqRel);
        }
    }
    let (done, name) = (Done, host.to_owned());
    let (tx, rx) = crossbeam_channel::bounded(1);
    // On failure the closure is dropped and `done` with it. Without a join: the answer is the end.
    spawn("resolve", CONNECTION_STACK, move || {
        let _done = done;
        let _ = tx.send((name.as_str(), port).to_socket_addrs().map(Vec::from_iter));
    })
    .map_err(Error::Resolve)?;
    let found = rx.recv_deadline(deadline).map_err(|_| Error::Timeout)?.map_err(Error::Resolve)?;
    if found.is_empty() { Err(Error::Resolve(io::ErrorKind::NotFound.into())) } else { Ok(alternate(found)) }
}

/// In the resolver's order, but the first of the other family second: one broken family costs one attempt, not all of
/// the time.
fn alternate(mut found: Vec<SocketAddr>) -> Vec<SocketAddr> {
    if let Some(other) = found.iter().position(|addr| addr.is_ipv4() != found[0].is_ipv4()) {
        found[1..=other].rotate_right(1);
    }
    found
}

fn connect_any(addresses: &[SocketAddr], deadline: Instant) -> Result<TcpStream, Error> {
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for (at, address) in addresses.iter().enumerate() {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Error::Timeout);
        }
        let to_try = u32::try_from(addresses.len() - at).unwrap_or(u32::MAX);
        match TcpStream::connect_timeout(address, (left / to_try).max(MIN_SHARE).min(left)) {
            Ok(socket) => return Ok(socket),
            Err(err) => last = err,
        }
    }
    if last.kind() == io::ErrorKind::TimedOut { Err(Error::Timeout) } else { Err(Error::Connect(last)) }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn reads_urls() {
        for (text, tls, host, port, target, header) in [
            ("ws://h", false, "h", 80, "/", "h"),
            ("wss://Ic.Example.com/ws", true, "ic.example.com", 443, "/ws", "ic.example.com"),
            ("WSS://h:443/ws?a=b#c", true, "h", 443, "/ws?a=b", "h:443"),
            ("http://127.0.0.1:8080?x", false, "127.0.0.1", 8080, "/?x", "127.0.0.1:8080"),
            ("https://[::1]:9/", true, "::1", 9, "/", "[::1]:9"),
            ("ws://[fe80::1]", false, "fe80::1", 80, "/", "[fe80::1]"),
        ] {
            let url = Url::parse(text).unwrap();
            assert_eq!((url.is_tls(), url.host(), url.port(), url.target()), (tls, host, port, target), "{text}");
            assert_eq!(url.host_header(), header, "{text}");
        }
        for (text, expect) in [
            ("", UrlError::Scheme),
            ("h:80", UrlError::Scheme),
            ("ftp://h", UrlError::Scheme),
            ("ws://", UrlError::Host),
            ("ws:///x", UrlError::Host),
            ("ws://:80", UrlError::Host),
            ("ws://[::1", UrlError::Host),
            ("ws://[x]", UrlError::Host),
            ("ws://a%20b", UrlError::Host),
            ("ws://h:", UrlError::Port),
            ("ws://h:0", UrlError::Port),
            ("ws://h:65536", UrlError::Port),
            ("ws://h:+80", UrlError::Port),
            ("ws://::1", UrlError::Host),
            ("ws://[::1]80", UrlError::Port),
            ("ws://u:p@h", UrlError::Credentials),
            ("ws://u@h", UrlError::Credentials),
            ("ws://h/ x", UrlError::Character),
            ("ws://h/\r\nX: y", UrlError::Character),
            ("ws://hé", UrlError::Character),
        ] {
            assert_eq!(Url::parse(text), Err(expect), "{text}");
        }
    }

    #[test]
    fn tries_the_other_family_second() {
        let addr = |text: &str| text.parse::<SocketAddr>().unwrap();
        let (a, b, c, d) = (addr("[::1]:1"), addr("[::2]:1"), addr("1.1.1.1:1"), addr("2.2.2.2:1"));
        assert_eq!(alternate(vec![a, b, c, d]), [a, c, b, d]);
        assert_eq!(alternate(vec![c, d]), [c, d]);
        assert_eq!(alternate(vec![c, a]), [c, a]);
    }

    #[test]
    fn says_how_far_it_came() {
        const LIMITS: Limits = Limits { max_message: 1024, read_buffer: 1024 };
        let soon = || Instant::now() + Duration::from_secs(5);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let silent = Url::parse(&format!("ws://localhost:{port}/ws")).unwrap();
        let at = Instant::now() + Duration::from_millis(100);
        assert!(matches!(connect(&silent, LIMITS, at), Err(Error::Timeout)));
        assert!(at <= Instant::now());
        assert!(matches!(connect(&silent, LIMITS, Instant::now()), Err(Error::Timeout)));
        drop(listener);
        let refused = Url::parse(&format!("ws://127.0.0.1:{port}/ws")).unwrap();
        assert!(matches!(connect(&refused, LIMITS, soon()), Err(Error::Connect(_))));
        let nowhere = Url::parse("ws://no-such-host.invalid/").unwrap();
        assert!(matches!(connect(&nowhere, LIMITS, soon()), Err(Error::Resolve(_) | Error::Timeout)));
    }

    #[test]
    fn opens_a_websocket() {
        use crate::net::http1;
        use crate::net::ws::tests::{LIMITS, drill};
        let soon = || Instant::now() + Duration::from_secs(5);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = Url::parse(&format!("ws://localhost:{}/ws?a=b", listener.local_addr().unwrap().port())).unwrap();
        let server = std::thread::spawn(move || {
            let mut stream = Stream::Tcp(listener.accept().unwrap().0);
            let mut head = http1::read_head(&mut stream, soon()).unwrap();
            assert_eq!(head.target.query.get("a"), Some("b"));
            ws::accept(stream, &mut head, LIMITS, soon()).unwrap()
        });
        let client = connect(&url, LIMITS, soon()).unwrap();
        drill(server.join().unwrap(), client, 300, 60_000);
    }
}
