//! What one broker gives to whom, and how much at most. Each number with what it protects.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::base::ids::MemberId;
use crate::base::rate::Bucket;

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

/// Buckets kept; members who have been quiet are forgotten when there are more.
const MAX_BUCKETS: usize = 10_000;

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

/// Send rates and connections by address. Guards only its maps.
#[derive(Debug, Default)]
pub(super) struct Limits {
    caps: Caps,
    sends: Mutex<HashMap<MemberId, Bucket>>,
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
        Limits { caps, ..Limits::default() }
    }

    pub(super) fn caps(&self) -> Caps {
        self.caps
    }

    /// One more message by this member, to so many recipients; or how long it should wait.
    pub(super) fn send(&self, member: &MemberId, recipients: usize, now: Instant) -> Result<(), Duration> {
        let cost = u32::try_from(recipients.clamp(1, SEND_BURST as usize)).unwrap_or(SEND_BURST);
        let mut sends = lock(&self.sends);
        if MAX_BUCKETS <= sends.len() && !sends.contains_key(member) {
            sends.clear();
        }
        sends.entry(member.clone()).or_insert_with(|| Bucket::new(SEND_BURST, SENDS_PER_SECOND, now)).take(cost, now)
    }

    /// One more connection from this address; `None` if it has too many.
    pub(super) fn connect(&self, address: IpAddr) -> Option<AddressGuard> {
        // A socket for both families writes IPv4 addresses in IPv6's form.
        let address = address.to_canonical();
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
        let limits = Limits::default();
        let address: IpAddr = "192.0.2.1".parse().unwrap();
        let held: Vec<_> = (0..MAX_PER_ADDRESS).map(|_| limits.connect(address).unwrap()).collect();
        assert!(limits.connect(address).is_none());
        assert!(limits.connect("192.0.2.2".parse().unwrap()).is_some());
        drop(held);
        assert!(limits.connect(address).is_some());
        assert!(lock(&limits.addresses).is_empty());
    }
}
