//! Who may make meshes here, whose word counts over HTTP, and where a connection comes from.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use crate::base::atomic_file;
use crate::base::ids::{PublicKey, Token};
use crate::base::time::{Millis, now_millis};
use crate::crypto::request::MAX_SKEW;
use crate::crypto::{fingerprint, random};
use crate::net::http1::Head;
use crate::net::tls::{Identity, TlsError};

use super::limits::{Rates, customer};

/// The admin token's file in a broker's data directory.
const TOKEN_FILE: &str = "admin-token";

/// Nonces remembered at once. Within the time that one counts, no more requests than this are taken.
const MAX_NONCES: usize = 65_536;

/// Requests of one address at once, and per second after that: it keeps guessing of codes and tokens slow.
const REQUEST_BURST: u32 = 120;
const REQUESTS_PER_SECOND: f64 = 4.0;

/// Who may make a mesh.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// Whoever reaches the port.
    Open,
    /// Whoever connects from this machine, but for what a proxy passes on; others need the admin token.
    Local,
    /// Whoever has the admin token.
    Token,
    /// Nobody.
    Closed,
}

/// How a broker meets the world.
#[derive(Debug, Clone)]
pub struct Access {
    pub policy: Policy,
    /// Whether there is an admin token; one is made if there is none in the data directory.
    pub admin: bool,
    /// The one peer whose `X-Forwarded-For` counts.
    pub trusted_proxy: Option<IpAddr>,
    /// PEM files of the certificate chain and its key: everything goes through TLS then.
    pub tls: Option<(PathBuf, PathBuf)>,
}

impl Access {
    /// For a broker of one machine, whose meshes are made in other ways.
    pub fn closed() -> Access {
        Access { policy: Policy::Closed, admin: false, trusted_proxy: None, tls: None }
    }
}

/// What [`Access`] comes to while the broker runs.
#[derive(Debug)]
pub(super) struct Gate {
    pub(super) policy: Policy,
    admin: Option<Token>,
    proxy: Option<IpAddr>,
    files: Option<(PathBuf, PathBuf)>,
    /// Guards only the pointer to the certificate.
    identity: RwLock<Option<Identity>>,
    /// A request that was signed before the broker started could be one that it has forgotten.
    started: Millis,
    /// When each nonce was used. Guards only the map.
    nonces: Mutex<HashMap<(PublicKey, String), Millis>>,
    rates: Rates<IpAddr>,
}

/// The admin token of this data directory, and whether it was made now.
pub(super) fn admin_token(data_dir: &Path) -> io::Result<(Token, bool)> {
    let path = data_dir.join(TOKEN_FILE);
    match fs::read_to_string(&path) {
        Ok(text) => Token::parse(text.trim()).map(|token| (token, false)).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, format!("{} does not hold 64 hex characters", path.display()))
        }),
        Err(err) if err.kind() == io::ErrorKind::NotFound => {
            let token = random::token();
            atomic_file::write(&path, format!("{}\n", token.reveal()).as_bytes())?;
            Ok((token, true))
        }
        Err(err) => Err(err),
    }
}

impl Gate {
    pub(super) fn new(access: Access, admin: Option<Token>) -> Result<Gate, TlsError> {
        let identity = access.tls.as_ref().map(|(certs, key)| Identity::files(certs, key)).transpose()?;
        Ok(Gate {
            policy: access.policy,
            admin,
            proxy: access.trusted_proxy.map(|address| address.to_canonical()),
            files: access.tls,
            identity: RwLock::new(identity),
            started: now_millis(),
            nonces: Mutex::default(),
            rates: Rates::new(REQUEST_BURST, REQUESTS_PER_SECOND),
        })
    }

    /// The certificate, if there is to be TLS.
    pub(super) fn identity(&self) -> Option<Identity> {
        self.identity.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads the certificate again; what cannot be used changes nothing.
    pub(super) fn reload(&self) -> Result<(), TlsError> {
        if let Some((certs, key)) = &self.files {
            let fresh = Identity::files(certs, key)?;
            *self.identity.write().unwrap_or_else(PoisonError::into_inner) = Some(fresh);
        }
        Ok(())
    }

    pub(super) fn is_proxy(&self, peer: IpAddr) -> bool {
        self.proxy == Some(peer.to_canonical())
    }

    /// Where a request comes from. Only the trusted proxy is believed, and only the address that it added itself, which is
    /// the last one.
    pub(super) fn origin(&self, peer: IpAddr, head: &Head) -> IpAddr {
        if !self.is_proxy(peer) {
            return peer;
        }
        let last = head.last_header("x-forwarded-for").and_then(|list| list.rsplit(',').next());
        last.and_then(|text| parse_address(text.trim())).unwrap_or(peer)
    }

    /// Whether this is the admin token. `None`: there is none, or it is another. Takes the same time for all of its length.
    pub(super) fn is_admin(&self, text: &str) -> bool {
        match (&self.admin, Token::parse(text)) {
            (Some(admin), Some(given)) => fingerprint::equal(admin.as_bytes(), given.as_bytes()),
            _ => false,
        }
    }

    /// Whether a request of this time can be one that has not been seen.
    pub(super) fn is_timely(&self, timestamp: Millis, now: Millis) -> bool {
        now.checked_sub(timestamp).is_some_and(|age| (-MAX_SKEW..=MAX_SKEW).contains(&age)) && self.started <= timestamp
    }

    /// Notes a nonce. False if it was used before, or if there is no room to note it.
    pub(super) fn use_once(&self, key: PublicKey, nonce: String, now: Millis) -> bool {
        let mut nonces = lock(&self.nonces);
        if MAX_NONCES <= nonces.len() {
            nonces.retain(|_, at| now - *at <= 2 * MAX_SKEW);
            if MAX_NONCES <= nonces.len() {
                return false;
            }
        }
        match nonces.entry((key, nonce)) {
            std::collections::hash_map::Entry::Occupied(_) => false,
            std::collections::hash_map::Entry::Vacant(free) => {
                free.insert(now);
                true
            }
        }
    }

    /// One more request from this address, or how long it should wait. This machine's own are not counted.
    pub(super) fn admit(&self, address: IpAddr, now: Instant) -> Result<(), Duration> {
        let address = customer(address);
        if address.is_loopback() {
            return Ok(());
        }
        self.rates.take(address, 1, now)
    }
}

/// An address as proxies write it: with a port or without, IPv6 in brackets or not.
fn parse_address(text: &str) -> Option<IpAddr> {
    let bare = || text.strip_prefix('[').and_then(|rest| rest.split_once(']')).map(|(address, _)| address);
    text.parse()
        .ok()
        .or_else(|| text.parse::<std::net::SocketAddr>().ok().map(|socket| socket.ip()))
        .or_else(|| bare()?.parse().ok())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::http1;

    fn gate(proxy: Option<&str>) -> Gate {
        let access = Access { trusted_proxy: proxy.map(|text| text.parse().unwrap()), ..Access::closed() };
        Gate::new(access, Some(Token::from_bytes([7; 32]))).unwrap()
    }

    fn head(lines: &str) -> Head {
        let (mut ours, mut theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        io::Write::write_all(&mut theirs, format!("GET / HTTP/1.1\r\nHost: x\r\n{lines}\r\n").as_bytes()).unwrap();
        http1::read_head(&mut ours, Instant::now() + Duration::from_secs(5)).unwrap()
    }

    #[test]
    fn only_the_proxy_says_where_somebody_comes_from() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        for (proxy, peer, lines, expected) in [
            (None, "127.0.0.1", "X-Forwarded-For: 192.0.2.1\r\n", "127.0.0.1"),
            (Some("127.0.0.1"), "10.0.0.9", "X-Forwarded-For: 192.0.2.1\r\n", "10.0.0.9"),
            (Some("127.0.0.1"), "127.0.0.1", "X-Forwarded-For: 192.0.2.1\r\n", "192.0.2.1"),
            (Some("127.0.0.1"), "::ffff:127.0.0.1", "X-Forwarded-For: 192.0.2.1\r\n", "192.0.2.1"),
            (Some("127.0.0.1"), "127.0.0.1", "X-Forwarded-For: 1.1.1.1, 192.0.2.1\r\n", "192.0.2.1"),
            (Some("127.0.0.1"), "127.0.0.1", "X-Forwarded-For: 1.1.1.1\r\nX-Forwarded-For: 192.0.2.1:99\r\n", "192.0.2.1"),
            (Some("127.0.0.1"), "127.0.0.1", "X-Forwarded-For: [2001:db8::1]:99\r\n", "2001:db8::1"),
            (Some("127.0.0.1"), "127.0.0.1", "X-Forwarded-For: unknown\r\n", "127.0.0.1"),
            (Some("127.0.0.1"), "127.0.0.1", "", "127.0.0.1"),
        ] {
            assert_eq!(gate(proxy).origin(ip(peer), &head(lines)), ip(expected), "{proxy:?} {peer} {lines}");
        }
    }

    #[test]
    fn a_nonce_counts_once_and_old_requests_never() {
        let gate = gate(None);
        let (one, other) = (PublicKey::from_bytes([1; 32]), PublicKey::from_bytes([2; 32]));
        assert!(gate.use_once(one, "n".into(), 5) && !gate.use_once(one, "n".into(), 6) && gate.use_once(other, "n".into(), 6));
        let start = gate.started;
        assert!(gate.is_timely(start, start) && gate.is_timely(start, start + MAX_SKEW));
        assert!(!gate.is_timely(start, start + MAX_SKEW + 1) && !gate.is_timely(start - 1, start));
        assert!(gate.is_timely(start + MAX_SKEW, start) && !gate.is_timely(start + MAX_SKEW + 1, start));
        assert!(!gate.is_timely(i64::MIN, start) && !gate.is_timely(i64::MAX, start));
    }

    #[test]
    fn the_admin_token_is_the_whole_of_it() {
        let gate = gate(None);
        assert!(gate.is_admin(&"07".repeat(32)));
        for wrong in [String::new(), "07".repeat(31), "08".repeat(32), format!("{}06", "07".repeat(31))] {
            assert!(!gate.is_admin(&wrong), "{wrong}");
        }
        let none = Gate::new(Access::closed(), None).unwrap();
        assert!(!none.is_admin(&"07".repeat(32)) && !none.is_admin(""));
    }

    #[test]
    fn guessing_is_slow_but_not_for_this_machine() {
        let (gate, now) = (gate(None), Instant::now());
        let far: IpAddr = "192.0.2.1".parse().unwrap();
        assert!((0..REQUEST_BURST).all(|_| gate.admit(far, now).is_ok()));
        assert!(gate.admit(far, now).is_err() && gate.admit("192.0.2.2".parse().unwrap(), now).is_ok());
        assert!((0..1000).all(|_| gate.admit("::ffff:127.0.0.1".parse().unwrap(), now).is_ok()));
    }
}
