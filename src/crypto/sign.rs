//! Detached ed25519 signatures over bytes.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::ffi;
use super::keys::SecretKey;
use crate::base::hex;
use crate::base::ids::PublicKey;

/// A detached signature: 64 bytes, written as 128 lower-case hex characters and read in either case.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Signature([u8; ffi::SIGNATURE]);

impl Signature {
    pub fn from_bytes(bytes: [u8; 64]) -> Signature {
        Signature(bytes)
    }

    pub fn as_bytes(&self) -> &[u8; 64] {
        &self.0
    }

    /// Reads 128 hex characters in either case.
    pub fn parse(text: &str) -> Option<Signature> {
        hex::decode(text).map(Signature)
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(&self.0))
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signature({}…)", hex::encode(&self.0[..4]))
    }
}

impl Serialize for Signature {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Signature {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Signature, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        Signature::parse(&text).ok_or_else(|| serde::de::Error::custom("expected 128 hex characters"))
    }
}

/// Signs `message`. The same message and key give the same signature.
pub fn sign(message: &[u8], secret: &SecretKey) -> Signature {
    Signature(ffi::sign(message, secret.bytes()))
}

/// Whether `key` signed exactly `message`. False too for a key that is no point of the curve or has a low order.
pub fn verify(signature: &Signature, message: &[u8], key: &PublicKey) -> bool {
    ffi::verify(&signature.0, message, key.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::keys::KeyPair;

    #[test]
    fn only_the_signer_and_the_message_verify() {
        let (one, other) = (KeyPair::from_seed([1; 32]), KeyPair::from_seed([2; 32]));
        let signature = sign(b"message", &one.secret);
        assert!(verify(&signature, b"message", &one.public));
        assert!(!verify(&signature, b"messagf", &one.public));
        assert!(!verify(&signature, b"message", &other.public));
        assert!(verify(&sign(b"", &one.secret), b"", &one.public));
        for at in [0, 31, 32, 63] {
            let mut bent = *signature.as_bytes();
            bent[at] ^= 1;
            assert!(!verify(&Signature::from_bytes(bent), b"message", &one.public), "byte {at}");
        }
        // The identity point verifies anything under a careless implementation.
        let identity = PublicKey::from_bytes(std::array::from_fn(|at| u8::from(at == 0)));
        for key in [identity, PublicKey::from_bytes([0; 32]), PublicKey::from_bytes([0xff; 32])] {
            assert!(!verify(&Signature::from_bytes([0; 64]), b"message", &key));
            assert!(!verify(&signature, b"message", &key));
        }
    }

    #[test]
    fn reads_either_case_and_writes_lower() {
        let signature = sign(b"message", &KeyPair::from_seed([1; 32]).secret);
        let text = signature.to_string();
        assert_eq!(text, text.to_lowercase());
        assert_eq!(Signature::parse(&text.to_uppercase()), Some(signature));
        for bad in ["", &text[1..], &format!("{text}0"), &"g".repeat(128)] {
            assert_eq!(Signature::parse(bad), None);
        }
        assert_eq!(format!("{signature:?}"), format!("Signature({}…)", &text[..8]));
        let json = serde_json::to_string(&signature).unwrap();
        assert_eq!(json, format!("\"{text}\""));
        assert_eq!(serde_json::from_str::<Signature>(&json).unwrap(), signature);
        assert_eq!(serde_json::from_reader::<_, Signature>(json.as_bytes()).unwrap(), signature);
        assert!(serde_json::from_str::<Signature>("\"00\"").is_err());
    }
}
