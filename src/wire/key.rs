//! Keys that the members of a mesh or of a topic share. A client makes each, gives it to the others through the broker,
//! sealed for each of them, and the broker says which one is in use; it never has one. None of these frames is the
//! reference's.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::base::ids::{MemberId, MemberKey};
use crate::base::names::is_group_name;

use super::target::Target;

/// Said in the `capabilities` of a hello by whoever opens what is sealed for many.
pub const SCOPE_KEYS: &str = "scope-keys";

/// The version of a body that is sealed with a shared key; 1 is a body in clear.
pub const SEALED_BODY: u32 = 2;

/// Copies of a key in one frame: more of them would not fit.
pub const MAX_COPIES: usize = 200;

/// Scopes named in one [`KeyNeeded`], at most: as many as a mesh can have topics, and they fit.
pub const MAX_NEEDED: usize = 1_000;

/// Who shares a key.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// `*`: every member of the mesh. What is for a group goes under it, too: groups come and go with sessions.
    Mesh,
    /// `#id`: those who are in a topic.
    Topic(String),
}

impl Scope {
    /// The scope of what is sent there; `None` for what is for one key.
    pub fn of(target: &Target) -> Option<Scope> {
        match target {
            Target::Key(_) => None,
            Target::Everyone | Target::Group(_) => Some(Scope::Mesh),
            Target::Topic(id) => Some(Scope::Topic(id.clone())),
        }
    }

    pub fn is_topic(&self) -> bool {
        matches!(self, Scope::Topic(_))
    }

    pub fn parse(text: &str) -> Option<Scope> {
        match text.strip_prefix('#') {
            Some(id) => is_group_name(id).then(|| Scope::Topic(id.to_owned())),
            None => (text == "*").then_some(Scope::Mesh),
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Scope::Mesh => f.write_str("*"),
            Scope::Topic(id) => write!(f, "#{id}"),
        }
    }
}

impl Serialize for Scope {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Scope {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Scope, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        Scope::parse(&text).ok_or_else(|| serde::de::Error::custom("a scope is * or #topic"))
    }
}

/// How a body to many is sealed. It stands beside `nonce` and `ciphertext`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seal {
    /// Which of its scope's keys: they are counted from 1.
    pub epoch: u32,
    /// It is sent more than once: each time under the same id with a dot and a number behind it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub repeats: bool,
    /// The sender's, 128 hex characters.
    pub signature: String,
}

impl Seal {
    /// Whether a message under `sent` is the one that was signed as `signed`.
    pub fn names(&self, signed: &str, sent: &str) -> bool {
        let number = |rest: &str| rest.strip_prefix('.').is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
        if self.repeats { sent.strip_prefix(signed).is_some_and(number) } else { sent == signed }
    }

    /// The id that was signed, of a message under `sent`.
    pub fn signed_id<'a>(&self, sent: &'a str) -> Option<&'a str> {
        let signed = if self.repeats { sent.rsplit_once('.').map(|(signed, _)| signed)? } else { sent };
        self.names(signed, sent).then_some(signed)
    }
}

/// Asks which key is in use, or for the asker's copy of an older one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KeyGet {
    pub scope: Scope,
    /// The one in use if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u32>,
    /// The asker's copy is of no use: it wants to make the next key.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub renew: bool,
    #[serde(rename = "_reqId", default, skip_serializing_if = "Option::is_none")]
    pub req_id: Option<String>,
}

/// One who shares a key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KeyMember {
    pub member_id: MemberId,
    pub pubkey: MemberKey,
}

/// Answers [`KeyGet`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KeyState {
    pub scope: Scope,
    /// 0: there is none yet.
    pub epoch: u32,
    /// Somebody who has it is gone: nothing may be sealed with it any more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub closed: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub publisher: Option<MemberKey>,
    /// The publisher's signature, 128 hex characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<String>,
    /// The asker's own copy, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encrypted_key: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nonce: Option<String>,
    /// Of the key in use: those who have no copy yet. Where the asker has none itself, or the key is closed: all who should
    /// have the next one.
    #[serde(default)]
    pub members: Vec<KeyMember>,
    /// The asker has no copy, and somebody who is here and has one was asked to give it: [`KeyGiven`] says when it is there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub asked: bool,
    #[serde(rename = "_reqId", default, skip_serializing_if = "Option::is_none")]
    pub req_id: Option<String>,
}

/// A member's copy. Both texts are empty for a member whose key nothing can be sealed to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KeyCopy {
    pub member_id: MemberId,
    pub encrypted_key: String,
    pub nonce: String,
}

impl KeyCopy {
    /// Whether it has the lengths that copies have.
    pub fn fits(&self) -> bool {
        matches!((self.encrypted_key.len(), self.nonce.len()), (108, 32) | (0, 0))
    }
}

/// Puts the next key into use.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KeyPublish {
    pub scope: Scope,
    /// One more than the last.
    pub epoch: u32,
    pub proof: String,
    pub sealed: Vec<KeyCopy>,
    #[serde(rename = "_reqId", default, skip_serializing_if = "Option::is_none")]
    pub req_id: Option<String>,
}

/// Gives the key in use to those who have no copy yet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KeySeal {
    pub scope: Scope,
    pub epoch: u32,
    pub sealed: Vec<KeyCopy>,
    #[serde(rename = "_reqId", default, skip_serializing_if = "Option::is_none")]
    pub req_id: Option<String>,
}

/// Answers [`KeyPublish`] and [`KeySeal`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KeyTaken {
    pub scope: Scope,
    /// The key in use now.
    pub epoch: u32,
    /// False: another key was first, or has taken its place.
    pub accepted: bool,
    #[serde(rename = "_reqId", default, skip_serializing_if = "Option::is_none")]
    pub req_id: Option<String>,
}

/// Tells a daemon whose member has these keys that others who share them have no copy. It asks who, and gives it to them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KeyNeeded {
    pub scopes: Vec<Scope>,
}

/// Tells a daemon that its member was given its copy of a key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KeyGiven {
    pub scope: Scope,
    pub epoch: u32,
}

/// Asks whether all whom a message would reach can open it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KeyCheck {
    pub to: String,
    #[serde(rename = "_reqId", default, skip_serializing_if = "Option::is_none")]
    pub req_id: Option<String>,
}

/// Answers [`KeyCheck`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KeyCheckResult {
    pub to: String,
    /// The names of some who can not.
    #[serde(default)]
    pub unable: Vec<String>,
    #[serde(rename = "_reqId", default, skip_serializing_if = "Option::is_none")]
    pub req_id: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_is_a_mesh_or_a_topic() {
        let of = |target: &str| Scope::of(&Target::parse(target).unwrap()).map(|scope| scope.to_string());
        assert_eq!(of("*").as_deref(), Some("*"));
        assert_eq!(of("@eng").as_deref(), Some("*"));
        assert_eq!(of("#abc").as_deref(), Some("#abc"));
        assert_eq!(of(&"a1".repeat(32)), None);
        for bad in ["", "#", "@eng", "abc", "**", "#a b"] {
            assert_eq!(Scope::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_is_sent_once_has_one_name_and_what_repeats_has_numbers_behind_it() {
        let seal = |repeats| Seal { epoch: 1, repeats, signature: String::new() };
        for (repeats, sent, signed) in [
            (false, "a", Some("a")),
            (false, "a.1", Some("a.1")),
            (true, "a.1", Some("a")),
            (true, "a.1.20", Some("a.1")),
            (true, "a", None),
            (true, "a.", None),
            (true, "a.x", None),
        ] {
            assert_eq!(seal(repeats).signed_id(sent), signed, "{repeats} {sent}");
        }
        assert!(!seal(false).names("a", "a.1") && !seal(true).names("a", "b.1"));
    }

    #[test]
    fn as_many_copies_fit_into_a_frame_as_it_may_have() {
        let copy = KeyCopy { member_id: MemberId::new("0".repeat(32)), encrypted_key: "0".repeat(108), nonce: "0".repeat(32) };
        assert!(copy.fits() && !KeyCopy { nonce: String::new(), ..copy.clone() }.fits());
        let publish = KeyPublish {
            scope: Scope::Topic("0".repeat(64)),
            epoch: u32::MAX,
            proof: "0".repeat(128),
            sealed: vec![copy; MAX_COPIES],
            req_id: Some("0".repeat(64)),
        };
        assert!(crate::wire::json::encode(&publish).len() < crate::wire::limits::MAX_FRAME - 64);
    }
}
