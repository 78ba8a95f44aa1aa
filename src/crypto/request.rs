//! What a member signs to have the broker change something over HTTP. This is ours: the reference trusts headers there.

use super::fingerprint;
use super::keys::SecretKey;
use super::sign::{self, Signature};
use crate::base::hex;
use crate::base::ids::PublicKey;
use crate::base::time::Millis;

/// How far a request's timestamp may be from the broker's time, either way and inclusive.
pub const MAX_SKEW: Millis = 60_000;

/// The signed part of a request.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// In capitals.
    pub method: &'a str,
    /// As it stands in the request line; without a query.
    pub path: &'a str,
    pub body: &'a [u8],
    pub key: PublicKey,
    pub timestamp: Millis,
    /// Different in every request of a key.
    pub nonce: &'a str,
}

impl Request<'_> {
    /// The bytes that are signed. The path stands last: everything before it has no separator within.
    pub fn canonical(&self) -> String {
        let body = hex::encode(&fingerprint::sha256(self.body));
        format!("claudemesh-http|1|{}|{}|{}|{}|{body}|{}", self.key, self.timestamp, self.nonce, self.method, self.path)
    }

    pub fn sign(&self, secret: &SecretKey) -> Signature {
        sign::sign(self.canonical().as_bytes(), secret)
    }

    /// Whether the key signed exactly this request.
    pub fn is_signed(&self, signature: &Signature) -> bool {
        !self.nonce.contains('|') && sign::verify(signature, self.canonical().as_bytes(), &self.key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::keys::KeyPair;

    #[test]
    fn it_covers_every_part() {
        let pair = KeyPair::from_seed([2; 32]);
        let good =
            Request { method: "POST", path: "/mesh", body: b"{}", key: pair.public, timestamp: 1_760_000_000_000, nonce: "n1" };
        let signature = good.sign(&pair.secret);
        assert!(good.is_signed(&signature));
        for changed in [
            Request { method: "DELETE", ..good },
            Request { path: "/mesh/", ..good },
            Request { body: b"{ }", ..good },
            Request { key: KeyPair::from_seed([3; 32]).public, ..good },
            Request { timestamp: good.timestamp + 1, ..good },
            Request { nonce: "n2", ..good },
            Request { nonce: "n1|POST", ..good },
        ] {
            assert!(!changed.is_signed(&signature), "{changed:?}");
        }
    }
}
