//! Hellos that have counted. A signed hello holds for as long as its timestamp does, and whoever reads along on `ws://` has
//! it too: it lets somebody in once.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::limits::MAX_PER_MEMBER;
use crate::base::ids::MemberKey;
use crate::base::time::Millis;
use crate::crypto::hello::MAX_SKEW;
use crate::crypto::sign::Signature;

/// How long a signature is remembered: a timestamp may lie this far ahead, and counts for as long again.
const REMEMBERED: Millis = 2 * MAX_SKEW;

/// Hellos of one member's that are remembered: all of its sessions may come back twice within that time. One more is refused.
const MAX_OF_MEMBER: usize = 2 * MAX_PER_MEMBER;

/// Members whose hellos are remembered at once. A hello of one more is refused until another's are forgotten.
const MAX_MEMBERS: usize = 65_536;

/// The hellos of the last two minutes. Guards only itself.
#[derive(Debug)]
pub(super) struct Replay {
    /// A hello that was signed before the broker started could be one that it has forgotten.
    started: Millis,
    seen: Mutex<HashMap<MemberKey, HashMap<Signature, Millis>>>,
}

/// Why a hello does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stale {
    /// It has counted before.
    Repeated,
    /// It may have: it is older than this broker's memory, or there is no room to remember another.
    Unknown,
}

impl Replay {
    pub(super) fn new(started: Millis) -> Replay {
        Replay { started, seen: Mutex::default() }
    }

    /// Lets a hello count that has been found to be the member's own. Only those are remembered, so that strangers fill
    /// nothing.
    pub(super) fn once(&self, member: MemberKey, signature: Signature, timestamp: Millis, now: Millis) -> Result<(), Stale> {
        if timestamp < self.started {
            return Err(Stale::Unknown);
        }
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = |at: &Millis| now - *at <= REMEMBERED;
        if MAX_MEMBERS <= seen.len() && !seen.contains_key(&member) {
            seen.retain(|_, of_member| of_member.values().any(fresh));
            if MAX_MEMBERS <= seen.len() {
                return Err(Stale::Unknown);
            }
        }
        let of_member = seen.entry(member).or_default();
        if of_member.contains_key(&signature) {
            return Err(Stale::Repeated);
        }
        // Looked through whenever it has doubled, so that the work is shared out among those who come.
        if of_member.len() == of_member.capacity() || MAX_OF_MEMBER <= of_member.len() {
            of_member.retain(|_, at| fresh(at));
            if MAX_OF_MEMBER <= of_member.len() {
                return Err(Stale::Unknown);
            }
        }
        of_member.insert(signature, now);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::PublicKey;

    fn signature(n: usize) -> Signature {
        Signature::parse(&format!("{n:0>128x}")).unwrap()
    }

    #[test]
    fn a_hello_counts_once_for_as_long_as_it_could_be_used() {
        let (replay, member) = (Replay::new(1000), MemberKey(PublicKey::from_bytes([1; 32])));
        let once = |n, at, now| replay.once(member, signature(n), at, now);
        assert_eq!(once(1, 999, 1000), Err(Stale::Unknown), "from before the start");
        assert_eq!((once(1, 61_000, 1000), once(2, 1000, 1000)), (Ok(()), Ok(())));
        assert_eq!(once(1, 61_000, 121_000), Err(Stale::Repeated));
        for n in 3..MAX_OF_MEMBER + 1 {
            assert_eq!(once(n, 2000, 2000), Ok(()), "{n}");
        }
        assert_eq!(once(MAX_OF_MEMBER + 1, 2000, 2000), Err(Stale::Unknown), "too many at once");
        assert_eq!(once(1, 2000, 2000), Err(Stale::Repeated), "nothing was forgotten for want of room");
        let other = MemberKey(PublicKey::from_bytes([2; 32]));
        assert_eq!(replay.once(other, signature(1), 2000, 2000), Ok(()), "nobody else is kept out by it");
        assert_eq!(once(MAX_OF_MEMBER + 1, 130_000, 2001 + REMEMBERED), Ok(()));
    }
}
