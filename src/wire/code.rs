//! Why a broker refused something, and what the sender should do about it.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// The codes of `error` frames, and of `ack` refusals once their text has been read.
        #[derive(Debug, Clone, PartialEq, Eq, Hash)]
        pub enum Code {
            $($(#[$doc])* $name,)*
            /// A code this program does not know, kept as it came.
            Other(String),
        }

        impl Code {
            pub fn as_str(&self) -> &str {
                match self {
                    $(Code::$name => $text,)*
                    Code::Other(text) => text,
                }
            }

            pub fn parse(text: &str) -> Code {
                match text {
                    $($text => Code::$name,)*
                    other => Code::Other(other.to_owned()),
                }
            }
        }
    };
}

codes! {
    /// A frame before the hello.
    NoHello = "no_hello",
    BadSessionPubkey = "bad_session_pubkey",
    BadParentPubkey = "bad_parent_pubkey",
    AttestationMismatch = "attestation_mismatch",
    Capacity = "capacity",
    TimestampSkew = "timestamp_skew",
    Malformed = "malformed",
    BadSignature = "bad_signature",
    Expired = "expired",
    TtlTooLong = "ttl_too_long",
    /// The same hello has let somebody in before.
    Replayed = "replayed",
    Revoked = "revoked",
    Unauthorized = "unauthorized",
    ParentMemberIdMismatch = "parent_member_id_mismatch",
    /// The frame's `type` is not one this broker knows.
    UnknownType = "unknown_type",
    /// A field is missing or not of its kind.
    Invalid = "invalid",
    Forbidden = "forbidden",
    NotFound = "not_found",
    RateLimited = "rate_limited",
    TooLarge = "payload_too_large",
    /// Nobody by that key was ever seen in the mesh.
    UnknownRecipient = "target_not_found",
    /// The recipient is known and away, and this broker does not keep mail for it.
    NotConnected = "no_connected_peer",
    BlockedByGrants = "blocked_by_grants",
    TopicNotFound = "topic_not_found",
    TaskNotFound = "task_not_found",
    /// Somebody else has the task, or it is done.
    TaskNotClaimable = "task_not_claimable",
    /// More than one thing begins with what was given, or is called so.
    AmbiguousPrefix = "ambiguous_prefix",
    /// What it was sealed with is not the key in use.
    KeyClosed = "key_closed",
    /// Somebody whom it should reach has no copy of the key in use yet.
    KeyPending = "key_pending",
    /// Somebody whom it would reach can not open what is sealed for many.
    CannotOpen = "recipient_cannot_open",
    InvalidArgument = "invalid_argument",
    InvalidCron = "invalid_cron",
    /// What a request is about is missing.
    InvalidArgs = "invalid_args",
    /// Shut out for a while.
    Kicked = "kicked",
    /// The same client message id with other content.
    IdempotencyConflict = "idempotency_conflict",
    /// The mesh of this name is another one than when the message was accepted.
    MeshChanged = "mesh_changed",
    /// The broker could not store it now.
    Unavailable = "unavailable",
    /// No answer within the deadline.
    Timeout = "timeout",
    /// The connection ended before the answer.
    ConnectionLost = "connection_lost",
}

/// What a refusal means for a message that should still arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// It will be refused for ever.
    Never,
    /// Try again after a back-off, at least this long.
    After(Duration),
    /// Try again when the recipient returns, and now and then in case that was missed.
    WhenPeerReturns,
}

impl Code {
    /// The one table that decides what a refusal costs.
    pub fn retry(&self) -> Retry {
        match self {
            Code::RateLimited => Retry::After(Duration::from_secs(1)),
            Code::NotConnected => Retry::WhenPeerReturns,
            Code::Unavailable
            | Code::Timeout
            | Code::ConnectionLost
            | Code::Capacity
            | Code::NoHello
            | Code::Replayed
            | Code::KeyClosed
            | Code::KeyPending => Retry::After(Duration::ZERO),
            Code::TimestampSkew | Code::Expired => Retry::After(Duration::from_secs(5)),
            Code::UnknownRecipient
            | Code::BlockedByGrants
            | Code::CannotOpen
            | Code::TooLarge
            | Code::IdempotencyConflict
            | Code::MeshChanged
            | Code::Invalid
            | Code::Forbidden
            | Code::NotFound
            | Code::TopicNotFound
            | Code::TaskNotFound
            | Code::TaskNotClaimable
            | Code::AmbiguousPrefix
            | Code::InvalidArgument
            | Code::InvalidCron
            | Code::InvalidArgs
            | Code::Kicked
            | Code::Malformed
            | Code::UnknownType
            | Code::BadSessionPubkey
            | Code::BadParentPubkey
            | Code::AttestationMismatch
            | Code::BadSignature
            | Code::TtlTooLong
            | Code::Revoked
            | Code::Unauthorized
            | Code::ParentMemberIdMismatch => Retry::Never,
            // Unknown to us is not known to be for ever; the row's age limit ends it.
            Code::Other(_) => Retry::After(Duration::from_secs(5)),
        }
    }

    /// The code behind an `ack.error`: ours begin with the code and a colon, the reference's are the four English texts of
    /// its `send` handler.
    pub fn of_ack_error(text: &str) -> Code {
        const REFERENCE: [(&str, Code); 4] = [
            ("rate_limit: ", Code::RateLimited),
            ("payload too large: ", Code::TooLarge),
            ("no connected peer for target", Code::NotConnected),
            ("blocked by recipient grants", Code::BlockedByGrants),
        ];
        if let Some((_, code)) = REFERENCE.iter().find(|(start, _)| text.starts_with(start)) {
            return code.clone();
        }
        Code::parse(text.split_once(':').map_or(text, |(code, _)| code))
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Code {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Code, D::Error> {
        Ok(Code::parse(&std::borrow::Cow::<'de, str>::deserialize(deserializer)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_references_refusal_texts_have_codes() {
        for (text, code, retry) in [
            ("rate_limit: max 60 msg/min (burst 10) — slow down", Code::RateLimited, Retry::After(Duration::from_secs(1))),
            ("payload too large: 70000 bytes > MAX_MESSAGE_BYTES=65536", Code::TooLarge, Retry::Never),
            (
                "no connected peer for target (not online, or targetSpec is your own key without another session)",
                Code::NotConnected,
                Retry::WhenPeerReturns,
            ),
            ("blocked by recipient grants (sender lacks dm capability)", Code::BlockedByGrants, Retry::Never),
            ("target_not_found: nobody by that key", Code::UnknownRecipient, Retry::Never),
            ("something new", Code::Other("something new".into()), Retry::After(Duration::from_secs(5))),
        ] {
            let read = Code::of_ack_error(text);
            assert_eq!((read.clone(), read.retry()), (code, retry), "{text}");
        }
    }

    #[test]
    fn refusals_the_reference_should_give_up_on_match_its_patterns() {
        // Its member socket gives up on /payload_too_large|forbidden|not_found|invalid|schema|auth|signature/i, its
        // session socket on /unknown|invalid|forbidden|not_authorized|target_not_found/i.
        let texts = [Code::UnknownRecipient, Code::Forbidden, Code::Invalid];
        for code in texts {
            let text = code.as_str();
            assert!(["forbidden", "invalid", "target_not_found"].contains(&text), "{text}");
        }
    }
}
