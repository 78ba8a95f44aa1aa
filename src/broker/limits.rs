//! What one broker gives to whom, and how much at most. Each number with what it protects.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::base::ids::MemberId;
use crate::base::rate::Bucket;
use crate::wire::client::ClientFrame;

/// Connections at once, of any kind. One more is answered 503.
const MAX_CONNECTIONS: usize = 8192;

/// Connections of one mesh at once. One more is refused with `capacity`.
pub(super) const MAX_PER_MESH: usize = 6000;

/// Connections from one address at once; loopback, where a whole machine's sessions come from, is exempt.
const MAX_PER_ADDRESS: usize = 512;

/// Copies of messages a member may send at once, and per second after that. It holds off floods, not work.
const SEND_BURST: u32 = 20_000;
const SENDS_PER_SECOND: f64 = 10_000.0;

/// Longest pause that a refusal asks for.
pub(super) const MAX_PAUSE: Duration = Duration::from_secs(1);

/// What a member may ask at once, and per second after that; see [`Limits::ask`]. It keeps the database, which has one
/// thread, free for others.
const ASK_BURST: u32 = 5_000;
const ASKS_PER_SECOND: f64 = 1_000.0;

/// Buckets kept of one kind: those who have been quiet are forgotten when there are more. If none has been, whoever is new
/// waits.
const MAX_BUCKETS: usize = 10_000;

/// How long whoever is new waits then.
const NO_BUCKET_PAUSE: Duration = Duration::from_secs(1);

/// How many rows are fetched for a recipient at a time.
pub(super) const FETCH: usize = 64;

/// `send` frames of one connection stored in one transaction.
pub(super) const SEND_BATCH: usize = 64;

/// Commands that wait for one connection. Full: events are dropped for it; mail is not, because it is not in the queue.
pub(super) const QUEUE: usize = 256;

/// A session that was seen within this time may still be written to by name.
pub(super) const AWAY_LIFE: Duration = Duration::from_secs(30 * 86_400);

/// Sessions that are away and get a copy of one message to a group; the latest seen come first.
pub(super) const MAX_AWAY_COPIES: usize = 1_000;

/// After a refusal for want of room a sender waits this long.
pub(super) const FULL_PAUSE: Duration = Duration::from_secs(5);

/// Longest summary, in characters; a longer one is cut.
pub(super) const MAX_SUMMARY: usize = 500;

/// Groups that one peer can be in.
pub(super) const MAX_GROUPS: usize = 64;

/// Largest shared value, remembered text or skill, in bytes of its JSON or text. All fit into one frame.
pub(super) const MAX_SHARED: usize = 48 * 1024;

/// Sessions of one member at once, those included whose place is kept. One more takes the oldest kept place.
pub(super) const MAX_PER_MEMBER: usize = 4096;

/// Largest list of anything in one answer, in bytes as it is written out; our daemon reads frames of 4 MiB.
pub(super) const MAX_LISTING: usize = 3 * 1024 * 1024;

/// After a failure of the database a connection's messages are refused for this long, so that none overtakes those that
/// failed.
pub(super) const STORE_PAUSE: Duration = Duration::from_millis(500);

/// How many connections are taken.
#[derive(Debug, Clone, Copy)]
pub struct Caps {
    /// At once, of any kind.
    pub connections: usize,
    /// From one address.
    pub per_address: usize,
    /// Whether loopback is exempt from that: a whole machine's sessions come from there.
    pub loopback_exempt: bool,
}

impl Default for Caps {
    fn default() -> Caps {
        Caps { connections: MAX_CONNECTIONS, per_address: MAX_PER_ADDRESS, loopback_exempt: true }
    }
}

/// Rates of one kind, by who has them. Guards only its map.
#[derive(Debug)]
pub(super) struct Rates<K> {
    burst: u32,
    per_second: f64,
    buckets: Mutex<HashMap<K, Bucket>>,
}

impl<K: Eq + Hash> Rates<K> {
    pub(super) fn new(burst: u32, per_second: f64) -> Rates<K> {
        Rates { burst, per_second, buckets: Mutex::default() }
    }

    /// Takes so much, or says how long to wait for it.
    pub(super) fn take(&self, who: K, cost: u32, now: Instant) -> Result<(), Duration> {
        let mut buckets = lock(&self.buckets);
        if MAX_BUCKETS <= buckets.len() && !buckets.contains_key(&who) {
            buckets.retain(|_, bucket| !bucket.is_full(now));
            if MAX_BUCKETS <= buckets.len() {
                return Err(NO_BUCKET_PAUSE);
            }
        }
        buckets.entry(who).or_insert_with(|| Bucket::new(self.burst, self.per_second, now)).take(cost, now)
    }
}

/// The part of an address that is one customer's: of IPv6 its network, in which one machine has as many addresses as it
/// likes. A socket for both families writes IPv4 addresses in IPv6's form.
pub(super) fn customer(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) if !address.is_loopback() => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        address => address,
    }
}

/// Rates of members and connections by address. Guards only its maps.
#[derive(Debug)]
pub(super) struct Limits {
    caps: Caps,
    sends: Rates<MemberId>,
    asks: Rates<MemberId>,
    addresses: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// Counts a connection from one address for as long as it lives.
#[derive(Debug)]
pub(super) struct AddressGuard {
    addresses: Arc<Mutex<HashMap<IpAddr, usize>>>,
    address: IpAddr,
}

impl Limits {
    pub(super) fn new(caps: Caps) -> Limits {
        Limits {
            caps,
            sends: Rates::new(SEND_BURST, SENDS_PER_SECOND),
            asks: Rates::new(ASK_BURST, ASKS_PER_SECOND),
            addresses: Arc::default(),
        }
    }

    pub(super) fn caps(&self) -> Caps {
        self.caps
    }

    /// One more message by this member, to so many recipients; or how long it should wait.
    pub(super) fn send(&self, member: &MemberId, recipients: usize, now: Instant) -> Result<(), Duration> {
        let cost = u32::try_from(recipients.clamp(1, SEND_BURST as usize)).unwrap_or(SEND_BURST);
        self.sends.take(member.clone(), cost, now)
    }

    /// One more question of this member, or how long it should wait. A question costs about as much of it as it costs the
    /// database.
    pub(super) fn ask(&self, member: &MemberId, frame: &ClientFrame, now: Instant) -> Result<(), Duration> {
        self.asks.take(member.clone(), cost(frame), now)
    }

    /// One more connection from this address; `None` if it has too many.
    pub(super) fn connect(&self, address: IpAddr) -> Option<AddressGuard> {
        let address = customer(address);
        let mut addresses = lock(&self.addresses);
        let count = addresses.entry(address).or_insert(0);
        if self.caps.per_address <= *count && !(self.caps.loopback_exempt && address.is_loopback()) {
            return None;
        }
        *count += 1;
        drop(addresses);
        Some(AddressGuard { addresses: self.addresses.clone(), address })
    }
}

/// What a question costs: one that looks for words or writes out much, as many as several that only say something.
fn cost(frame: &ClientFrame) -> u32 {
    match frame {
        // As fast as mail may come.
        ClientFrame::Receipts(ask) => 1 + u32::try_from(ask.receipts.len() / 10).unwrap_or(ASK_BURST),
        ClientFrame::Recall(_) | ClientFrame::ListSkills(_) | ClientFrame::TopicHistory(_) => 10,
        ClientFrame::ListPeers(_)
        | ClientFrame::ListState(_)
        | ClientFrame::ListTasks(_)
        | ClientFrame::ListBans(_)
        | ClientFrame::ListScheduled(_)
        | ClientFrame::TopicList(_)
        | ClientFrame::TopicMembers(_)
        | ClientFrame::MessageStatus(_)
        | ClientFrame::Remember(_)
        | ClientFrame::Forget(_)
        | ClientFrame::ShareSkill(_)
        | ClientFrame::SetState(_)
        | ClientFrame::CreateTask(_)
        | ClientFrame::Schedule(_)
        | ClientFrame::TopicCreate(_)
        | ClientFrame::SetGrants(_) => 5,
        _ => 1,
    }
}

impl Drop for AddressGuard {
    fn drop(&mut self) {
        let mut addresses = lock(&self.addresses);
        if let Some(count) = addresses.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                addresses.remove(&self.address);
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_counted_and_let_go() {
        let limits = Limits::new(Caps::default());
        let address: IpAddr = "192.0.2.1".parse().unwrap();
        let held: Vec<_> = (0..MAX_PER_ADDRESS).map(|_| limits.connect(address).unwrap()).collect();
        assert!(limits.connect(address).is_none());
        assert!(limits.connect("192.0.2.2".parse().unwrap()).is_some());
        drop(held);
        assert!(limits.connect(address).is_some());
        assert!(lock(&limits.addresses).is_empty());
    }

    #[test]
    fn a_network_is_one_customer_and_this_machine_is_itself() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        for (address, expected) in [
            ("192.0.2.1", "192.0.2.1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
            ("2001:db8:1:2:ffff::", "2001:db8:1:2::"),
            ("2001:db8:1:3::1", "2001:db8:1:3::"),
            ("::1", "::1"),
            ("::ffff:127.0.0.1", "127.0.0.1"),
        ] {
            assert_eq!(customer(ip(address)), ip(expected), "{address}");
        }
        let limits = Limits::new(Caps { per_address: 2, ..Caps::default() });
        let _held = [1, 2].map(|n| limits.connect(ip(&format!("2001:db8::{n}"))).unwrap());
        assert!(limits.connect(ip("2001:db8::3")).is_none() && limits.connect(ip("2001:db8:0:1::3")).is_some());
        assert!((0..3).all(|_| limits.connect(ip("::1")).is_some()));
    }

    #[test]
    fn the_quiet_are_forgotten_and_the_busy_are_not() {
        let (rates, now) = (Rates::new(2, 1.0), Instant::now());
        assert!(rates.take(0, 2, now).is_ok() && rates.take(0, 1, now).is_err());
        for n in 1..MAX_BUCKETS {
            assert!(rates.take(n, 1, now).is_ok());
        }
        assert_eq!(rates.take(MAX_BUCKETS, 1, now), Err(NO_BUCKET_PAUSE), "nobody has been quiet");
        assert!(rates.take(0, 1, now).is_err(), "a flood of others gives nobody a new bucket");
        let later = now + Duration::from_millis(1500);
        assert!(rates.take(MAX_BUCKETS, 1, later).is_ok(), "those who asked once are quiet by now");
        assert_eq!(lock(&rates.buckets).len(), 2);
        assert!(rates.take(0, 2, later).is_err());
    }
}
