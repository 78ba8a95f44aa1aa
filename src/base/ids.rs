//! Identifiers as types, so that a member key can never stand where a session key or a message id is meant.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::hex;

/// An ed25519 public key: 32 bytes, written as 64 lower-case hex characters. Read in lower case only, because the
/// broker compares keys as text; [`PublicKey::parse_any_case`] is for what people type.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    pub fn from_bytes(bytes: [u8; 32]) -> PublicKey {
        PublicKey(bytes)
    }

    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Reads 64 lower-case hex characters.
    pub fn parse(text: &str) -> Option<PublicKey> {
        if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return None;
        }
        hex::decode(text).map(PublicKey)
    }

    /// Reads 64 hex characters in either case.
    pub fn parse_any_case(text: &str) -> Option<PublicKey> {
        hex::decode(text).map(PublicKey)
    }

    pub fn to_hex(&self) -> String {
        hex::encode(&self.0)
    }

    /// The first eight characters: enough for a person to tell two peers apart, never enough to address one.
    pub fn short(&self) -> String {
        hex::encode(&self.0[..4])
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_hex())
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}…", self.short())
    }
}

impl Serialize for PublicKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.to_hex())
    }
}

impl<'de> Deserialize<'de> for PublicKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<PublicKey, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        PublicKey::parse(&text).ok_or_else(|| serde::de::Error::custom("expected 64 lower-case hex characters"))
    }
}

macro_rules! key_role {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub PublicKey);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:?})"), self.0)
            }
        }
    };
}

key_role! {
    /// The key of a member: a person's standing in one mesh, shared by all of that person's machines and sessions.
    MemberKey
}
key_role! {
    /// The key of one session, vouched for by its member's key.
    SessionKey
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            pub fn new(text: impl Into<String>) -> $name {
                $name(text.into())
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }
    };
}

text_id! {
    /// A mesh, as its broker names it (32 characters there; opaque here).
    MeshId
}
text_id! {
    /// A member's row at the broker (opaque).
    MemberId
}
text_id! {
    /// One presence of a connection at the broker (opaque).
    PresenceId
}
text_id! {
    /// A message, as the broker named it when it stored it.
    MessageId
}
text_id! {
    /// A message, as its sender named it (`client_message_id`): the key under which a retry is the same message.
    ClientId
}
text_id! {
    /// A mesh's short name on this machine: the key of `config.json` and of every local route.
    Slug
}
text_id! {
    /// A session's id: the UUID that its client knows it by.
    SessionId
}

/// A session's bearer token for the local API: 32 random bytes, 64 lower-case hex characters. It is a secret: it prints
/// redacted and cannot be serialised.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Token([u8; 32]);

impl Token {
    pub fn from_bytes(bytes: [u8; 32]) -> Token {
        Token(bytes)
    }

    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Reads 64 hex characters in either case.
    pub fn parse(text: &str) -> Option<Token> {
        hex::decode(text).map(Token)
    }

    /// The token itself, for the one header or file that carries it.
    pub fn reveal(&self) -> String {
        hex::encode(&self.0)
    }

    /// The first eight characters, which replies and logs may show.
    pub fn prefix(&self) -> String {
        hex::encode(&self.0[..4])
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_in_lower_case_only_unless_a_person_typed_them() {
        let lower = "ab".repeat(32);
        let upper = lower.to_uppercase();
        assert_eq!(PublicKey::parse(&lower).map(|key| key.to_hex()), Some(lower.clone()));
        assert_eq!(PublicKey::parse(&upper), None);
        assert_eq!(PublicKey::parse_any_case(&upper), PublicKey::parse(&lower));
        assert!(serde_json::from_str::<PublicKey>(&format!("\"{upper}\"")).is_err());
    }

    #[test]
    fn a_token_never_prints() {
        let token = Token::from_bytes([7; 32]);
        assert_eq!(format!("{token:?}"), "Token(redacted)");
        assert_eq!(Token::parse(&token.reveal()), Some(token));
    }
}
