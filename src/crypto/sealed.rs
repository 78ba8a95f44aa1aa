//! Message bodies as they cross the broker: a direct message sealed from one key to another (libsodium's `crypto_box`
//! under the x25519 forms of the two ed25519 keys), and the plain form of everything that is sent to many.

use std::fmt;

use super::keys::{SecretKey, Wiped};
use super::{base64, ffi, random};
use crate::base::ids::PublicKey;

/// A message's body on the wire, both fields in padded standard base64.
#[derive(Clone, PartialEq, Eq)]
pub struct Sealed {
    /// 24 bytes.
    pub nonce_b64: String,
    /// The body and 16 bytes of authenticator; the bare body in the [`plain`] form.
    pub ciphertext_b64: String,
}

impl fmt::Debug for Sealed {
    /// Without the ciphertext, which in the plain form is what somebody wrote.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealed({} characters)", self.ciphertext_b64.len())
    }
}

/// Why nothing could be sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SealError {
    /// The other side's key is no ed25519 key: not a point of the curve, of a low order, or outside the main subgroup.
    BadKey,
}

impl fmt::Display for SealError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the peer's key is not an ed25519 key")
    }
}

impl std::error::Error for SealError {}

/// Why a body could not be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenError {
    /// The nonce or the ciphertext is not padded standard base64.
    BadBase64,
    /// The nonce is not 24 bytes.
    BadNonce,
    /// The sender's key is no ed25519 key.
    BadKey,
    /// Not sealed by this sender for this recipient under this nonce, or changed on the way.
    Forged,
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            OpenError::BadBase64 => "the nonce or the ciphertext is not base64",
            OpenError::BadNonce => "the nonce is not 24 bytes",
            OpenError::BadKey => "the sender's key is not an ed25519 key",
            OpenError::Forged => "the message was not sealed by this sender for this recipient, or was changed on the way",
        })
    }
}

impl std::error::Error for OpenError {}

impl From<SealError> for OpenError {
    fn from(err: SealError) -> OpenError {
        match err {
            SealError::BadKey => OpenError::BadKey,
        }
    }
}

/// What two keys share, computed once: the costly part of sealing and opening between them. The two sides compute the
/// same channel, so one serves both directions. Wiped on drop.
pub struct Channel(Wiped<{ ffi::KEY }>);

impl Channel {
    pub fn new(peer: &PublicKey, own: &SecretKey) -> Result<Channel, SealError> {
        let public = ffi::public_to_curve(peer.as_bytes()).ok_or(SealError::BadKey)?;
        let secret = Wiped::new(|curve| ffi::secret_to_curve(curve, own.bytes()));
        let mut agreed = false;
        let shared = Wiped::new(|shared| agreed = ffi::agree(shared, &public, secret.bytes()));
        if agreed { Ok(Channel(shared)) } else { Err(SealError::BadKey) }
    }

    /// Seals `body` under a new random nonce.
    pub fn seal(&self, body: &[u8]) -> Sealed {
        self.seal_with_nonce(body, &random::bytes())
    }

    /// Opens what the other side, or this one, sealed.
    pub fn open(&self, nonce_b64: &str, ciphertext_b64: &str) -> Result<Vec<u8>, OpenError> {
        let nonce = base64::decode(nonce_b64).ok_or(OpenError::BadBase64)?;
        let ciphertext = base64::decode(ciphertext_b64).ok_or(OpenError::BadBase64)?;
        let nonce = nonce.as_slice().try_into().map_err(|_| OpenError::BadNonce)?;
        ffi::open(&ciphertext, nonce, self.0.bytes()).ok_or(OpenError::Forged)
    }

    /// Private, because a nonce that is used twice gives both messages away.
    pub(super) fn seal_with_nonce(&self, body: &[u8], nonce: &[u8; ffi::NONCE]) -> Sealed {
        Sealed { nonce_b64: base64::encode(nonce), ciphertext_b64: base64::encode(&ffi::seal(body, nonce, self.0.bytes())) }
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Channel(redacted)")
    }
}

/// Seals `body` for `recipient`, who has to know `sender`'s public key to open it.
pub fn seal(body: &[u8], recipient: &PublicKey, sender: &SecretKey) -> Result<Sealed, SealError> {
    Ok(Channel::new(recipient, sender)?.seal(body))
}

/// Opens what `sender` sealed for `recipient`.
pub fn open(nonce_b64: &str, ciphertext_b64: &str, sender: &PublicKey, recipient: &SecretKey) -> Result<Vec<u8>, OpenError> {
    Channel::new(sender, recipient)?.open(nonce_b64, ciphertext_b64)
}

/// The form of a message to a group, a topic or everyone: not encrypted, with a nonce that means nothing and that the
/// wire wants all the same. [`base64::decode`] reads the body back.
pub fn plain(body: &[u8]) -> Sealed {
    Sealed { nonce_b64: base64::encode(&random::bytes::<{ ffi::NONCE }>()), ciphertext_b64: base64::encode(body) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::keys::KeyPair;

    #[test]
    fn opens_what_was_sealed_and_nothing_that_was_changed() {
        let (a, b) = (KeyPair::from_seed([1; 32]), KeyPair::from_seed([2; 32]));
        let stranger = KeyPair::from_seed([3; 32]);
        for body in [b"".as_slice(), b"hello", &[0xff; 70_000]] {
            let sealed = seal(body, &b.public, &a.secret).unwrap();
            let (nonce, ciphertext) = (&sealed.nonce_b64, &sealed.ciphertext_b64);
            assert_eq!(open(nonce, ciphertext, &a.public, &b.secret).as_deref(), Ok(body));
            assert_eq!(open(nonce, ciphertext, &b.public, &a.secret).as_deref(), Ok(body), "the sender reads it too");
            let forged = Err(OpenError::Forged);
            assert_eq!(open(nonce, ciphertext, &stranger.public, &b.secret), forged);
            assert_eq!(open(nonce, ciphertext, &a.public, &stranger.secret), forged);
            let mut changed = base64::decode(ciphertext).unwrap();
            *changed.last_mut().unwrap() ^= 1;
            assert_eq!(open(nonce, &base64::encode(&changed), &a.public, &b.secret), forged);
            assert_eq!(open(&base64::encode(&[0; 24]), ciphertext, &a.public, &b.secret), forged);
            assert_ne!(seal(body, &b.public, &a.secret).unwrap().nonce_b64, *nonce);
        }
    }

    #[test]
    fn outside_bytes_are_refused_by_name() {
        let (a, b) = (KeyPair::from_seed([1; 32]), KeyPair::from_seed([2; 32]));
        let Sealed { nonce_b64: nonce, ciphertext_b64: ciphertext } = seal(b"hello", &b.public, &a.secret).unwrap();
        let cases = [
            ("", ciphertext.as_str(), OpenError::BadNonce),
            ("AAAA", &ciphertext, OpenError::BadNonce),
            (&base64::encode(&[0; 25]), &ciphertext, OpenError::BadNonce),
            ("é", &ciphertext, OpenError::BadBase64),
            (&nonce[1..], &ciphertext, OpenError::BadBase64),
            (&nonce, "hello mesh", OpenError::BadBase64),
            (&nonce, "", OpenError::Forged),
            (&nonce, &base64::encode(&[0; 15]), OpenError::Forged),
            (&nonce, &base64::encode(&[0; 16]), OpenError::Forged),
            (&nonce, "aGVsbG8gbWVzaCDinJM=", OpenError::Forged),
        ];
        for (nonce, ciphertext, expected) in cases {
            assert_eq!(open(nonce, ciphertext, &a.public, &b.secret), Err(expected), "{nonce} {ciphertext}");
        }
    }

    #[test]
    fn keys_that_are_no_keys_are_refused() {
        let own = KeyPair::from_seed([1; 32]).secret;
        // Of order 4, 1 and 8; no point at all; a point, written in a way that is not canonical, outside the main subgroup.
        for bad in [
            "00".repeat(32),
            format!("01{}", "00".repeat(31)),
            "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05".to_owned(),
            format!("02{}", "00".repeat(31)),
            "ff".repeat(32),
        ] {
            let key = PublicKey::parse(&bad).unwrap();
            assert_eq!(seal(b"", &key, &own), Err(SealError::BadKey), "{bad}");
            assert_eq!(open("", "", &key, &own), Err(OpenError::BadKey), "{bad}");
        }
    }

    #[test]
    fn the_plain_form_hides_nothing_from_the_wire_but_prints_nothing() {
        let sealed = plain("hello mesh ✓".as_bytes());
        assert_eq!(base64::decode(&sealed.ciphertext_b64).as_deref(), Some("hello mesh ✓".as_bytes()));
        assert_eq!(base64::decode(&sealed.nonce_b64).map(|nonce| nonce.len()), Some(24));
        assert_ne!(plain(b"").nonce_b64, plain(b"").nonce_b64);
        assert!(!format!("{sealed:?}").contains(&sealed.ciphertext_b64));
    }
}
