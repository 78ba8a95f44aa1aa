//! What a connection signs to say who it is: `hello` for a member, `session_hello` for a session, and the attestation by
//! which a member's key vouches for a session's key. The bytes are the reference's, to the letter.
//!
//! The checks are in the reference's order, because the order decides which code a peer is told. They take the time as an
//! argument. A timestamp or expiry that is not a whole number never gets here: whoever reads the frame refuses it, as
//! [`Refusal::TimestampSkew`] or [`Refusal::Malformed`].

use std::fmt;

use super::keys::SecretKey;
use super::sign::{self, Signature};
use crate::base::ids::{MemberId, MemberKey, MeshId, PublicKey, SessionKey};
use crate::base::time::Millis;

/// How far a hello's timestamp may be from now, either way and inclusive. Within it whoever lets
/// somebody in must remember whom it has let in by which hello.
pub const MAX_SKEW: Millis = 60_000;
/// How far ahead an attestation may expire, inclusive.
pub const MAX_ATTESTATION_TTL: Millis = 24 * 60 * 60 * 1000;
/// How long the attestations that we mint last.
pub const ATTESTATION_TTL: Millis = 12 * 60 * 60 * 1000;

/// Why a hello or an attestation is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    TimestampSkew,
    Malformed,
    BadSignature,
    Expired,
    TtlTooLong,
    AttestationMismatch,
}

impl Refusal {
    /// The code that the peer is told.
    pub fn code(self) -> &'static str {
        match self {
            Refusal::TimestampSkew => "timestamp_skew",
            Refusal::Malformed => "malformed",
            Refusal::BadSignature => "bad_signature",
            Refusal::Expired => "expired",
            Refusal::TtlTooLong => "ttl_too_long",
            Refusal::AttestationMismatch => "attestation_mismatch",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refusal::TimestampSkew => "its timestamp is more than 60 s from this machine's time",
            Refusal::Malformed => "a key or a signature in it is not hex of the right length",
            Refusal::BadSignature => "its signature does not verify",
            Refusal::Expired => "the attestation has expired",
            Refusal::TtlTooLong => "the attestation expires more than 24 h from now",
            Refusal::AttestationMismatch => "the attestation is about other keys",
        })
    }
}

impl std::error::Error for Refusal {}

/// The signed part of a `hello`.
#[derive(Debug, Clone, Copy)]
pub struct Hello<'a> {
    pub mesh_id: &'a MeshId,
    pub member_id: &'a MemberId,
    /// As sent: the signature covers this spelling, and is checked for a key in upper case too. Members are filed in lower
    /// case only, so the caller reads it with [`PublicKey::parse`], and finds no member if that gives `None`.
    pub pubkey: &'a str,
    pub timestamp: Millis,
}

impl Hello<'_> {
    /// The bytes that are signed. Only shape tells them from other signed text, for they begin with no word of their own.
    pub fn canonical(&self) -> String {
        format!("{}|{}|{}|{}", self.mesh_id, self.member_id, self.pubkey, self.timestamp)
    }

    /// The member's signature.
    pub fn sign(&self, member: &SecretKey) -> Signature {
        sign::sign(self.canonical().as_bytes(), member)
    }

    /// Checks the timestamp, then the shapes, then the signature (as sent).
    pub fn check(&self, signature: &str, now: Millis) -> Result<(), Refusal> {
        check_skew(self.timestamp, now)?;
        let key = PublicKey::parse_any_case(self.pubkey).ok_or(Refusal::Malformed)?;
        check_signature(signature, &self.canonical(), &key)
    }
}

/// The signed part of a `session_hello`. Its keys are sent in lower case or refused before this.
#[derive(Debug, Clone, Copy)]
pub struct SessionHello<'a> {
    pub mesh_id: &'a MeshId,
    pub member: MemberKey,
    pub session: SessionKey,
    pub timestamp: Millis,
}

impl SessionHello<'_> {
    /// The bytes that are signed.
    pub fn canonical(&self) -> String {
        format!("claudemesh-session-hello|{}|{}|{}|{}", self.mesh_id, self.member, self.session, self.timestamp)
    }

    /// The session's signature.
    pub fn sign(&self, session: &SecretKey) -> Signature {
        sign::sign(self.canonical().as_bytes(), session)
    }

    /// Checks the timestamp, then the signature (as sent). The attestation is checked apart, and before.
    pub fn check(&self, signature: &str, now: Millis) -> Result<(), Refusal> {
        check_skew(self.timestamp, now)?;
        check_signature(signature, &self.canonical(), &self.session.0)
    }
}

/// A member's word that a session is its own. It names no mesh: it holds wherever the member uses this key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attestation {
    pub session: SessionKey,
    pub member: MemberKey,
    pub expires_at: Millis,
    pub signature: Signature,
}

impl Attestation {
    /// Vouches for `session` for the next [`ATTESTATION_TTL`].
    pub fn mint(member: &SecretKey, session: SessionKey, now: Millis) -> Attestation {
        let key = MemberKey(member.public());
        let expires_at = now.saturating_add(ATTESTATION_TTL);
        let signed = attested(&key.to_string(), &session.to_string(), expires_at);
        Attestation { session, member: key, expires_at, signature: sign::sign(signed.as_bytes(), member) }
    }
}

/// An attestation as a peer sent it.
#[derive(Debug, Clone, Copy)]
pub struct ClaimedAttestation<'a> {
    pub session_pubkey: &'a str,
    pub parent_member_pubkey: &'a str,
    pub expires_at: Millis,
    pub signature: &'a str,
}

impl ClaimedAttestation<'_> {
    /// The bytes that are signed.
    pub fn canonical(&self) -> String {
        attested(self.parent_member_pubkey, self.session_pubkey, self.expires_at)
    }

    /// Checks that it is about the keys that the `session_hello` around it names, compared as text.
    pub fn binds(&self, session: SessionKey, member: MemberKey) -> Result<(), Refusal> {
        let same = PublicKey::parse(self.session_pubkey) == Some(session.0)
            && PublicKey::parse(self.parent_member_pubkey) == Some(member.0);
        if same { Ok(()) } else { Err(Refusal::AttestationMismatch) }
    }

    /// Checks the expiry, then the shapes, then the signature.
    pub fn check(&self, now: Millis) -> Result<Attestation, Refusal> {
        if self.expires_at <= now {
            return Err(Refusal::Expired);
        }
        if now.saturating_add(MAX_ATTESTATION_TTL) < self.expires_at {
            return Err(Refusal::TtlTooLong);
        }
        let key = |text| PublicKey::parse_any_case(text).ok_or(Refusal::Malformed);
        let session = SessionKey(key(self.session_pubkey)?);
        let member = MemberKey(key(self.parent_member_pubkey)?);
        let signature = Signature::parse(self.signature).ok_or(Refusal::Malformed)?;
        if !sign::verify(&signature, self.canonical().as_bytes(), &member.0) {
            return Err(Refusal::BadSignature);
        }
        Ok(Attestation { session, member, expires_at: self.expires_at, signature })
    }
}

fn attested(member: &str, session: &str, expires_at: Millis) -> String {
    format!("claudemesh-session-attest|{member}|{session}|{expires_at}")
}

fn check_skew(timestamp: Millis, now: Millis) -> Result<(), Refusal> {
    if MAX_SKEW.unsigned_abs() < now.abs_diff(timestamp) { Err(Refusal::TimestampSkew) } else { Ok(()) }
}

fn check_signature(signature: &str, signed: &str, key: &PublicKey) -> Result<(), Refusal> {
    let signature = Signature::parse(signature).ok_or(Refusal::Malformed)?;
    if sign::verify(&signature, signed.as_bytes(), key) { Ok(()) } else { Err(Refusal::BadSignature) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::keys::KeyPair;

    const NOW: Millis = 1_760_000_000_000;

    fn ids() -> (MeshId, MemberId) {
        (MeshId::new("mesh"), MemberId::new("member"))
    }

    #[test]
    fn a_hello_is_refused_for_the_first_thing_that_is_wrong() {
        let pair = KeyPair::from_seed([1; 32]);
        let ((mesh_id, member_id), pubkey) = (ids(), pair.public.to_hex());
        let hello = Hello { mesh_id: &mesh_id, member_id: &member_id, pubkey: &pubkey, timestamp: NOW };
        let good = hello.sign(&pair.secret).to_string();
        let other_mesh = MeshId::new("mesh|member");
        let other_member = MemberId::new("other");
        let cases = [
            (hello, good.clone(), NOW, Ok(())),
            (hello, good.to_uppercase(), NOW, Ok(())),
            (hello, good.clone(), NOW + 60_000, Ok(())),
            (hello, good.clone(), NOW - 60_000, Ok(())),
            (hello, good.clone(), NOW + 60_001, Err(Refusal::TimestampSkew)),
            (hello, good.clone(), NOW - 60_001, Err(Refusal::TimestampSkew)),
            (Hello { timestamp: Millis::MIN, ..hello }, good.clone(), Millis::MAX, Err(Refusal::TimestampSkew)),
            (Hello { pubkey: "", timestamp: 0, ..hello }, good.clone(), NOW, Err(Refusal::TimestampSkew)),
            (Hello { pubkey: &pubkey[1..], ..hello }, good.clone(), NOW, Err(Refusal::Malformed)),
            (hello, good[2..].to_owned(), NOW, Err(Refusal::Malformed)),
            (hello, String::new(), NOW, Err(Refusal::Malformed)),
            (hello, "00".repeat(64), NOW, Err(Refusal::BadSignature)),
            (Hello { timestamp: NOW + 1, ..hello }, good.clone(), NOW, Err(Refusal::BadSignature)),
            (Hello { mesh_id: &other_mesh, ..hello }, good.clone(), NOW, Err(Refusal::BadSignature)),
            (Hello { member_id: &other_member, ..hello }, good.clone(), NOW, Err(Refusal::BadSignature)),
            (Hello { pubkey: &pubkey.to_uppercase(), ..hello }, good.clone(), NOW, Err(Refusal::BadSignature)),
        ];
        for (at, (hello, signature, now, expected)) in cases.into_iter().enumerate() {
            assert_eq!(hello.check(&signature, now), expected, "case {at}");
        }
        // Signed over the upper-case spelling, it verifies: the reference's answer is then that no such member is known.
        let upper = pubkey.to_uppercase();
        let shouted = Hello { pubkey: &upper, ..hello };
        assert_eq!(shouted.check(&shouted.sign(&pair.secret).to_string(), NOW), Ok(()));
    }

    #[test]
    fn a_session_hello_is_signed_by_the_session_and_by_nobody_else() {
        let (member, session) = (KeyPair::from_seed([1; 32]), KeyPair::from_seed([2; 32]));
        let (mesh_id, _) = ids();
        let hello = SessionHello {
            mesh_id: &mesh_id,
            member: MemberKey(member.public),
            session: SessionKey(session.public),
            timestamp: NOW,
        };
        let good = hello.sign(&session.secret).to_string();
        assert_eq!(hello.check(&good, NOW - 60_000), Ok(()));
        assert_eq!(hello.check(&good, NOW - 60_001), Err(Refusal::TimestampSkew));
        assert_eq!(hello.check(&good[1..], NOW), Err(Refusal::Malformed));
        assert_eq!(hello.check(&hello.sign(&member.secret).to_string(), NOW), Err(Refusal::BadSignature));
        let moved = SessionHello { member: MemberKey(session.public), ..hello };
        assert_eq!(moved.check(&good, NOW), Err(Refusal::BadSignature));
    }

    #[test]
    fn an_attestation_holds_until_it_expires_and_never_longer_than_a_day() {
        let (member, session) = (KeyPair::from_seed([1; 32]), KeyPair::from_seed([2; 32]));
        let minted = Attestation::mint(&member.secret, SessionKey(session.public), NOW);
        assert_eq!(minted.expires_at, NOW + 43_200_000);
        let (member_text, session_text) = (member.public.to_hex(), session.public.to_hex());
        let signature = minted.signature.to_string();
        let claimed = ClaimedAttestation {
            session_pubkey: &session_text,
            parent_member_pubkey: &member_text,
            expires_at: minted.expires_at,
            signature: &signature,
        };
        let swapped = ClaimedAttestation { session_pubkey: &member_text, parent_member_pubkey: &session_text, ..claimed };
        let cases = [
            (claimed, NOW, Ok(minted)),
            (claimed, minted.expires_at - 1, Ok(minted)),
            (claimed, minted.expires_at, Err(Refusal::Expired)),
            (claimed, minted.expires_at - 86_400_000, Ok(minted)),
            (claimed, minted.expires_at - 86_400_001, Err(Refusal::TtlTooLong)),
            (claimed, Millis::MAX, Err(Refusal::Expired)),
            (ClaimedAttestation { expires_at: Millis::MAX, ..claimed }, NOW, Err(Refusal::TtlTooLong)),
            (ClaimedAttestation { expires_at: NOW, signature: "", ..claimed }, NOW, Err(Refusal::Expired)),
            (ClaimedAttestation { signature: "", ..claimed }, NOW, Err(Refusal::Malformed)),
            (ClaimedAttestation { session_pubkey: "é", ..claimed }, NOW, Err(Refusal::Malformed)),
            (ClaimedAttestation { parent_member_pubkey: "", ..claimed }, NOW, Err(Refusal::Malformed)),
            (ClaimedAttestation { expires_at: minted.expires_at + 1, ..claimed }, NOW, Err(Refusal::BadSignature)),
            (swapped, NOW, Err(Refusal::BadSignature)),
        ];
        for (at, (claimed, now, expected)) in cases.into_iter().enumerate() {
            assert_eq!(claimed.check(now), expected, "case {at}");
        }
    }

    #[test]
    fn an_attestation_binds_the_keys_around_it_as_they_are_spelt() {
        let (member, session) = (KeyPair::from_seed([1; 32]), KeyPair::from_seed([2; 32]));
        let (member_text, session_text) = (member.public.to_hex(), session.public.to_hex());
        let upper = session_text.to_uppercase();
        let claimed = ClaimedAttestation {
            session_pubkey: &session_text,
            parent_member_pubkey: &member_text,
            expires_at: NOW,
            signature: "",
        };
        let (session, member) = (SessionKey(session.public), MemberKey(member.public));
        assert_eq!(claimed.binds(session, member), Ok(()));
        let mismatch = Err(Refusal::AttestationMismatch);
        assert_eq!(claimed.binds(SessionKey(member.0), member), mismatch);
        assert_eq!(claimed.binds(session, MemberKey(session.0)), mismatch);
        assert_eq!(ClaimedAttestation { session_pubkey: &upper, ..claimed }.binds(session, member), mismatch);
        assert_eq!(ClaimedAttestation { parent_member_pubkey: "", ..claimed }.binds(session, member), mismatch);
    }
}
