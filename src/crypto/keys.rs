//! Key pairs. A secret key lives in one heap block, is wiped when it is dropped, and never prints.

use std::fmt;

use super::ffi;
use crate::base::config::SecretText;
use crate::base::hex;
use crate::base::ids::PublicKey;

/// Bytes that are wiped when they are dropped. Boxed, so that a move leaves no copy behind.
pub(super) struct Wiped<const N: usize>(Box<[u8; N]>);

impl<const N: usize> Wiped<N> {
    /// `fill` writes the bytes in their final place.
    pub(super) fn new(fill: impl FnOnce(&mut [u8; N])) -> Wiped<N> {
        let mut wiped = Wiped(Box::new([0; N]));
        fill(&mut wiped.0);
        wiped
    }

    pub(super) fn bytes(&self) -> &[u8; N] {
        &self.0
    }
}

impl<const N: usize> Drop for Wiped<N> {
    fn drop(&mut self) {
        ffi::wipe(self.0.as_mut_slice());
    }
}

/// An ed25519 secret key as libsodium keeps it: 32 bytes of seed, then the public key. It signs, and in its x25519 form
/// it opens and seals direct messages. It cannot be copied; share it behind an `Arc`.
pub struct SecretKey(Wiped<{ ffi::SECRET }>);

impl SecretKey {
    /// Reads 128 hex characters in either case. `None` if they are anything else, or if the public half is not the one
    /// that the seed derives: signing with such a key would give the seed away.
    pub fn parse_hex(text: &str) -> Option<SecretKey> {
        let mut bytes = hex::decode::<{ ffi::SECRET }>(text)?;
        let derived = bytes.first_chunk().map(SecretKey::derive).filter(|key| ffi::equal(key.bytes(), &bytes));
        ffi::wipe(&mut bytes);
        derived
    }

    /// The text that files keep: 128 lower-case hex characters.
    pub fn to_secret_text(&self) -> SecretText {
        SecretText::new(hex::encode(self.bytes()))
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        let (_, public) = self.bytes().split_last_chunk().expect("64 bytes end in 32");
        PublicKey::from_bytes(*public)
    }

    pub(super) fn bytes(&self) -> &[u8; ffi::SECRET] {
        self.0.bytes()
    }

    fn derive(seed: &[u8; ffi::KEY]) -> SecretKey {
        SecretKey(Wiped::new(|secret| ffi::derive(secret, seed)))
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey(redacted)")
    }
}

/// A secret key and its public half, of a member or of a session.
#[derive(Debug)]
pub struct KeyPair {
    pub public: PublicKey,
    pub secret: SecretKey,
}

impl KeyPair {
    /// A new random pair.
    pub fn generate() -> KeyPair {
        SecretKey(Wiped::new(ffi::generate)).into()
    }

    /// The pair that a seed derives, always the same.
    pub fn from_seed(mut seed: [u8; 32]) -> KeyPair {
        let secret = SecretKey::derive(&seed);
        ffi::wipe(&mut seed);
        secret.into()
    }
}

impl From<SecretKey> for KeyPair {
    fn from(secret: SecretKey) -> KeyPair {
        KeyPair { public: secret.public(), secret }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_reads_back_in_either_case() {
        let pair = KeyPair::generate();
        let text = pair.secret.to_secret_text();
        assert_eq!(text.reveal().len(), 128);
        assert_eq!(text.reveal()[64..], pair.public.to_hex());
        for spelling in [text.reveal().to_owned(), text.reveal().to_uppercase()] {
            let read = SecretKey::parse_hex(&spelling).unwrap();
            assert_eq!((read.public(), read.to_secret_text()), (pair.public, text.clone()));
        }
        assert_ne!(KeyPair::generate().public, pair.public);
    }

    #[test]
    fn a_key_whose_halves_do_not_match_is_refused() {
        let (one, other) = (KeyPair::from_seed([1; 32]), KeyPair::from_seed([2; 32]));
        let text = one.secret.to_secret_text().reveal().to_owned();
        assert!(SecretKey::parse_hex(&format!("{}{}", &text[..64], other.public)).is_none());
        for bad in ["", &text[..64], &text[..126], &format!("{text}00"), &format!("{}zz", &text[..126]), &"é".repeat(64)] {
            assert!(SecretKey::parse_hex(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_secret_never_prints() {
        let pair = KeyPair::from_seed([1; 32]);
        assert_eq!(format!("{:?}", pair.secret), "SecretKey(redacted)");
        assert!(!format!("{pair:?}").contains("0101"));
    }
}
