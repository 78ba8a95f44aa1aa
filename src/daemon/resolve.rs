//! From what a caller typed to one recipient on one mesh. Two that fit are an error that lists them; nothing is guessed.

use std::collections::{BTreeMap, HashSet};
use std::fmt;

use crate::base::ids::{MemberKey, PublicKey};
use crate::base::names::neutralise_line;
use crate::wire::address::Address;
use crate::wire::code::Code;
use crate::wire::peer::{Peer, PeerRole};
use crate::wire::target::Target;

/// The one recipient an address means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Resolved {
    pub(super) target: Target,
    pub(super) name: Option<String>,
    pub(super) online: Option<bool>,
}

/// One of several whom an address fits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Candidate {
    name: String,
    key: PublicKey,
    pub(super) member: MemberKey,
    online: bool,
    cwd: String,
    hostname: Option<String>,
}

impl Candidate {
    fn of(peer: &Peer) -> Candidate {
        Candidate {
            name: peer.display_name.clone(),
            key: peer.pubkey,
            member: peer.member_pubkey,
            online: peer.online,
            cwd: peer.cwd.clone(),
            hostname: peer.hostname.clone(),
        }
    }

    /// As much of its key as nobody else's begins with.
    fn short(&self) -> String {
        self.key.to_hex().chars().take(SHORT_KEY).collect()
    }

    /// What to type in the place of the name, and whom that means.
    fn told(&self) -> String {
        let mut text = format!("{}  {}", self.short(), if self.online { "here" } else { "away" });
        if !self.cwd.is_empty() {
            text.push_str(&format!(", in {}", neutralise_line(&self.cwd)));
        }
        if let Some(host) = &self.hostname {
            text.push_str(&format!(", on {}", neutralise_line(host)));
        }
        text
    }
}

/// Characters of a key that stand for all of it where people read and type it.
const SHORT_KEY: usize = 16;

/// Why an address means nobody, or too many.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Error {
    /// Nobody of that name or key; who is there instead.
    NotFound {
        what: String,
        present: Vec<String>,
    },
    Ambiguous {
        what: String,
        candidates: Vec<Candidate>,
    },
    /// The caller's own name or key, and nobody else's.
    Itself {
        what: String,
        key: PublicKey,
    },
    /// A member of this name or key is known, and has no session.
    NoSession {
        what: String,
        member: MemberKey,
    },
    /// The roster could not be had, and without it the address can not be resolved.
    RosterUnavailable(Code),
    TopicByName(String),
    /// Which topics there are could not be asked.
    TopicsUnavailable(Code),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::NotFound { what, present } if present.is_empty() => {
                write!(f, "peer \"{what}\" not found; nobody else is there")
            }
            Error::NotFound { what, present } => write!(f, "peer \"{what}\" not found; there are: {}", present.join(", ")),
            Error::Ambiguous { what, candidates } => {
                let listed = candidates.iter().take(LISTED).map(|one| format!("{} ({}…)", one.name, one.short()));
                write!(f, "\"{what}\" is ambiguous: {}", listed.collect::<Vec<_>>().join(", "))
            }
            Error::Itself { what, .. } => write!(f, "\"{what}\" is whoever sends this, and nobody else"),
            Error::NoSession { what, .. } => {
                write!(f, "peer \"{what}\" not found: a member is called so, and has no session now")
            }
            Error::TopicsUnavailable(code) => write!(f, "which topics there are can not be asked now ({code})"),
            Error::RosterUnavailable(code) => {
                write!(f, "who is on the mesh can not be asked now ({code}); a full key can be sent to")
            }
            Error::TopicByName(name) => write!(f, "topic \"#{name}\" is not known here"),
        }
    }
}

impl std::error::Error for Error {}

impl Error {
    /// What to do about it, where it takes more than to look who is there.
    pub(super) fn hint(&self) -> Option<String> {
        match self {
            Error::Ambiguous { candidates, .. } => {
                let listed = candidates.iter().take(LISTED).map(|one| format!("\n  {}", one.told()));
                Some(format!("type one of these in the place of the name:{}", listed.collect::<String>()))
            }
            Error::Itself { key, .. } => Some(format!(
                "to yourself by your key: {key}\nto be told of something later: claudemesh remind \"what\" --in 20m"
            )),
            Error::TopicByName(name) => {
                Some(format!("see which there are with: claudemesh topic list\nmake it with: claudemesh topic create {name}"))
            }
            Error::NoSession { member, .. } => {
                Some(format!("to leave it with the member's machine, for whoever looks there: send it to the key {member}"))
            }
            Error::NotFound { .. } | Error::RosterUnavailable(_) | Error::TopicsUnavailable(_) => None,
        }
    }
}

/// Names listed in an error at most.
const LISTED: usize = 8;

/// Resolves an address against a mesh's roster, which is asked for only when it is needed; `at_hand` is what can be had of it
/// without waiting. `own` is the caller's session key: it is never a candidate for a name.
pub(super) fn resolve<R: AsRef<[Peer]>>(
    address: &Address,
    own: Option<PublicKey>,
    at_hand: impl FnOnce() -> Option<R>,
    roster: impl FnOnce() -> Result<R, Code>,
) -> Result<Resolved, Error> {
    match address {
        Address::Exact(Target::Key(key)) => {
            // A key is complete in itself; the roster only tells how it is called.
            let known = at_hand().and_then(|peers| peers.as_ref().iter().find(|peer| peer.pubkey == *key).map(described));
            Ok(known.unwrap_or(Resolved { target: Target::Key(*key), name: None, online: None }))
        }
        Address::Exact(target) => Ok(Resolved { target: target.clone(), name: None, online: None }),
        Address::TopicName(name) => Err(Error::TopicByName(name.clone())),
        Address::Prefix(prefix) => {
            let roster = roster().map_err(Error::RosterUnavailable)?;
            let peers = roster.as_ref();
            match pick(prefix, peers, own, |peer| peer.pubkey.to_hex().starts_with(prefix)) {
                Err(missing @ (Error::NotFound { .. } | Error::NoSession { .. })) => {
                    match pick(prefix, peers, own, |peer| same_name(peer, prefix)) {
                        Err(Error::NotFound { .. }) => Err(missing),
                        decided => decided,
                    }
                }
                decided => decided,
            }
        }
        Address::Name { name, .. } => {
            let roster = roster().map_err(Error::RosterUnavailable)?;
            pick(name, roster.as_ref(), own, |peer| same_name(peer, name))
        }
    }
}

fn same_name(peer: &Peer, name: &str) -> bool {
    peer.display_name.to_lowercase() == name.to_lowercase()
}

/// The one peer that fits. Somebody who is connected stands before sessions of the same member that are away; two members
/// who go by one name are never told apart by who happens to be there.
fn pick(what: &str, peers: &[Peer], own: Option<PublicKey>, fits: impl Fn(&Peer) -> bool) -> Result<Resolved, Error> {
    let others = |peer: &&Peer| peer.peer_role != PeerRole::ControlPlane && Some(peer.pubkey) != own;
    let fitting = || peers.iter().filter(others).filter(|peer| fits(peer));
    let here: HashSet<MemberKey> = fitting().filter(|peer| peer.online).map(|peer| peer.member_pubkey).collect();
    let found = fitting().filter(|peer| peer.online || !here.contains(&peer.member_pubkey));
    let mut found = found.map(|peer| (peer.pubkey, peer)).collect::<BTreeMap<PublicKey, &Peer>>().into_values();
    match (found.next(), found.len()) {
        (Some(peer), 0) => Ok(described(peer)),
        (Some(first), _) => {
            let candidates = std::iter::once(first).chain(found).map(Candidate::of).collect();
            Err(Error::Ambiguous { what: what.to_owned(), candidates })
        }
        (None, _) => {
            if let Some(own) = peers.iter().find(|peer| Some(peer.pubkey) == own && fits(peer)) {
                return Err(Error::Itself { what: what.to_owned(), key: own.pubkey });
            }
            let members = || peers.iter().filter(|peer| peer.peer_role == PeerRole::ControlPlane && fits(peer));
            let mut members: Vec<MemberKey> = members().map(|peer| peer.member_pubkey).collect();
            members.sort_unstable();
            members.dedup();
            if let [member] = members[..] {
                return Err(Error::NoSession { what: what.to_owned(), member });
            }
            let present = peers
                .iter()
                .filter(others)
                .filter(|peer| peer.online)
                .map(|peer| peer.display_name.clone())
                .take(LISTED)
                .collect();
            Err(Error::NotFound { what: what.to_owned(), present })
        }
    }
}

fn described(peer: &Peer) -> Resolved {
    Resolved { target: Target::Key(peer.pubkey), name: Some(peer.display_name.clone()), online: Some(peer.online) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::MemberKey;
    use crate::wire::json;

    fn peer(name: &str, byte: u8, online: bool, role: &str) -> Peer {
        let key = PublicKey::from_bytes([byte; 32]);
        let member = MemberKey(PublicKey::from_bytes([0xee; 32]));
        json::from_value(
            json::json!({"pubkey": key, "memberPubkey": member, "displayName": name, "online": online, "peerRole": role}),
        )
        .unwrap()
    }

    fn check(to: &str, expected: Result<u8, &str>) {
        let roster = vec![
            peer("Alice", 0xa1, true, "session"),
            peer("bob", 0xb1, true, "session"),
            peer("bob", 0xb2, false, "session"),
            peer("carol", 0xc1, true, "session"),
            peer("carol", 0xc2, true, "session"),
            peer("dan", 0xd1, false, "session"),
            peer("me", 0x11, true, "session"),
            peer("ann", 0xee, true, "control-plane"),
            peer("deadbeef", 0xf1, true, "session"),
        ];
        let own = PublicKey::from_bytes([0x11; 32]);
        let resolved = resolve(&Address::parse(to).unwrap(), Some(own), || Some(&roster), || Ok(&roster));
        match (resolved, expected) {
            (Ok(resolved), Ok(byte)) => assert_eq!(resolved.target, Target::Key(PublicKey::from_bytes([byte; 32])), "{to}"),
            (Err(err), Err(part)) => assert!(err.to_string().contains(part), "{to}: {err}"),
            (resolved, _) => panic!("{to}: {resolved:?}"),
        }
    }

    #[test]
    fn a_stranger_does_not_get_what_is_meant_for_somebody_who_is_away() {
        let mut roster = vec![peer("bob", 0xb1, false, "session"), peer("bob", 0xb2, true, "session")];
        let to_bob = |roster: &Vec<Peer>| {
            resolve(&Address::parse("bob").unwrap(), None, || None, || Ok(roster)).map(|resolved| resolved.target)
        };
        assert_eq!(to_bob(&roster), Ok(Target::Key(PublicKey::from_bytes([0xb2; 32]))), "another session of his own");
        roster[1].member_pubkey = MemberKey(PublicKey::from_bytes([0xef; 32]));
        assert!(matches!(to_bob(&roster), Err(Error::Ambiguous { .. })));
    }

    #[test]
    fn each_candidate_is_named_by_what_can_be_typed_in_its_place() {
        let mut roster = vec![peer("bob", 0xb1, true, "session"), peer("bob", 0xb2, true, "session")];
        roster[0].cwd = "/srv/a\nb".into();
        roster[1].hostname = Some("build".into());
        let to = |text: &str| resolve(&Address::parse(text).unwrap(), None, || None, || Ok(&roster));
        let hint = to("bob").unwrap_err().hint().unwrap();
        let expected = "type one of these in the place of the name:\n  b1b1b1b1b1b1b1b1  here, in /srv/a b\n  b2b2b2b2b2b2b2b2  \
                        here, on build";
        assert_eq!(hint, expected);
        for typed in ["b1b1b1b1b1b1b1b1", "b2b2b2b2b2b2b2b2"] {
            assert!(to(typed).is_ok(), "{typed}");
        }
    }

    #[test]
    fn one_fits_or_none_is_taken() {
        check("alice", Ok(0xa1));
        check("alice@home", Ok(0xa1));
        check("bob", Ok(0xb1));
        check("dan", Ok(0xd1));
        check("carol", Err("ambiguous: carol (c1c1"));
        check("c1c1c1c1", Ok(0xc1));
        check("b2b2b2b2b2b2b2b2", Ok(0xb2));
        check("deadbeef", Ok(0xf1));
        check("me", Err("\"me\" is whoever sends this"));
        check("11111111", Err("is whoever sends this"));
        check("eve", Err("not found; there are: Alice"));
        check("ann", Err("\"ann\" not found: a member is called so, and has no session now"));
        check("eeeeeeee", Err("has no session now"));
        check("#deploys", Err("not known here"));
        check(&"99".repeat(32), Ok(0x99));
    }

    #[test]
    fn a_full_key_needs_no_roster() {
        let address = Address::parse(&"a1".repeat(32)).unwrap();
        let resolved = resolve(&address, None, || None, || Err::<Vec<Peer>, _>(Code::Timeout)).unwrap();
        assert_eq!((resolved.name, resolved.online), (None, None));
        let name = Address::parse("alice").unwrap();
        assert_eq!(
            resolve(&name, None, || None, || Err::<Vec<Peer>, _>(Code::Timeout)),
            Err(Error::RosterUnavailable(Code::Timeout))
        );
    }
}
