//! The key that those of a mesh or of a topic share: how each of them is given it, how what is said to all is sealed with
//! it, and what is signed so that none of them can speak for another. The copies and the bodies are the reference's topic
//! keys and its bodies of version 2, byte for byte; the signatures are ours.

use std::fmt;

use super::fingerprint::sha256;
use super::keys::{SecretKey, Wiped};
use super::sealed::{OpenError, SealError, Sealed};
use super::sign::{self, Signature};
use super::{base64, ffi, random};
use crate::base::ids::{ClientId, MemberKey, MeshId, PublicKey};

/// A random key. Wiped on drop; it never prints, and there is no way to write it out but sealed for somebody.
pub struct ScopeKey(Wiped<{ ffi::KEY }>);

impl fmt::Debug for ScopeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ScopeKey(redacted)")
    }
}

/// One member's copy, both fields in padded standard base64.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedKey {
    /// The x25519 key of whoever sealed it, then the box: 80 bytes.
    pub encrypted_key: String,
    /// 24 bytes.
    pub nonce: String,
}

/// Which key it is: the third of a mesh's, say.
#[derive(Debug, Clone, Copy)]
pub struct Which<'a> {
    pub mesh: &'a MeshId,
    /// As the wire writes it.
    pub scope: &'a str,
    pub epoch: u32,
}

impl ScopeKey {
    pub fn generate() -> ScopeKey {
        ScopeKey(Wiped::new(|key| ffi::random(key)))
    }

    #[cfg(test)]
    pub(super) fn from_bytes(bytes: [u8; ffi::KEY]) -> ScopeKey {
        ScopeKey(Wiped::new(|key| *key = bytes))
    }

    /// The copy for `member`, sealed by a member that has the key.
    pub fn seal_for(&self, member: &PublicKey, sealer: &SecretKey) -> Result<SealedKey, SealError> {
        self.seal_with_nonce(member, sealer, &random::bytes())
    }

    /// Private, because a nonce that is used twice gives away what was sealed under it.
    pub(super) fn seal_with_nonce(
        &self,
        member: &PublicKey,
        sealer: &SecretKey,
        nonce: &[u8; ffi::NONCE],
    ) -> Result<SealedKey, SealError> {
        let to = ffi::public_to_curve(member.as_bytes()).ok_or(SealError::BadKey)?;
        let from = ffi::public_to_curve(sealer.public().as_bytes()).ok_or(SealError::BadKey)?;
        let shared = shared_with(&to, sealer).ok_or(SealError::BadKey)?;
        let sealed = [from.as_slice(), &ffi::seal(self.0.bytes(), nonce, shared.bytes())].concat();
        Ok(SealedKey { encrypted_key: base64::encode(&sealed), nonce: base64::encode(nonce) })
    }

    /// Opens one's own copy. Who sealed it does not matter: whether it is the key that was published says its [`proof`].
    ///
    /// [`proof`]: ScopeKey::is_proven
    pub fn open(copy: &SealedKey, own: &SecretKey) -> Result<ScopeKey, OpenError> {
        let bytes = base64::decode(&copy.encrypted_key).ok_or(OpenError::BadBase64)?;
        let nonce = base64::decode(&copy.nonce).ok_or(OpenError::BadBase64)?;
        let nonce = nonce.as_slice().try_into().map_err(|_| OpenError::BadNonce)?;
        let (from, sealed) = bytes.split_first_chunk().ok_or(OpenError::Forged)?;
        let shared = shared_with(from, own).ok_or(OpenError::BadKey)?;
        let mut opened = ffi::open(sealed, nonce, shared.bytes()).ok_or(OpenError::Forged)?;
        let key = <&[u8; ffi::KEY]>::try_from(opened.as_slice()).ok().map(|bytes| ScopeKey(Wiped::new(|key| *key = *bytes)));
        ffi::wipe(&mut opened);
        key.ok_or(OpenError::Forged)
    }

    /// The word of whoever made this key that it is this one: nobody can hand out another in its place, or an older one
    /// again. It gives the key away to nobody who does not have it.
    pub fn prove(&self, which: Which<'_>, publisher: &SecretKey) -> Signature {
        sign::sign(&self.proven(which), publisher)
    }

    pub fn is_proven(&self, which: Which<'_>, publisher: MemberKey, proof: &Signature) -> bool {
        sign::verify(proof, &self.proven(which), &publisher.0)
    }

    fn proven(&self, which: Which<'_>) -> Vec<u8> {
        let hash = sha256(self.0.bytes());
        fields(
            b"claudemesh-scope-key",
            &[which.mesh.as_str().as_bytes(), which.scope.as_bytes(), &which.epoch.to_be_bytes(), &hash],
        )
    }

    /// Seals what is said to all who have the key, under a new random nonce.
    pub fn seal_body(&self, body: &[u8]) -> Sealed {
        self.seal_body_with_nonce(body, &random::bytes())
    }

    pub(super) fn seal_body_with_nonce(&self, body: &[u8], nonce: &[u8; ffi::NONCE]) -> Sealed {
        Sealed { nonce_b64: base64::encode(nonce), ciphertext_b64: base64::encode(&ffi::lock(body, nonce, self.0.bytes())) }
    }

    pub fn open_body(&self, nonce_b64: &str, ciphertext_b64: &str) -> Result<Vec<u8>, OpenError> {
        let nonce = base64::decode(nonce_b64).ok_or(OpenError::BadBase64)?;
        let ciphertext = base64::decode(ciphertext_b64).ok_or(OpenError::BadBase64)?;
        let nonce = nonce.as_slice().try_into().map_err(|_| OpenError::BadNonce)?;
        ffi::unlock(&ciphertext, nonce, self.0.bytes()).ok_or(OpenError::Forged)
    }
}

fn shared_with(other: &[u8; ffi::KEY], own: &SecretKey) -> Option<Wiped<{ ffi::KEY }>> {
    let secret = Wiped::new(|curve| ffi::secret_to_curve(curve, own.bytes()));
    let mut agreed = false;
    let shared = Wiped::new(|shared| agreed = ffi::agree(shared, other, secret.bytes()));
    agreed.then_some(shared)
}

/// What the sender of a sealed body signs: everything that says where it belongs. Those who share the key could seal
/// anything in another's name, and a broker could put an old body into a new place.
#[derive(Debug, Clone, Copy)]
pub struct Said<'a> {
    pub mesh: &'a MeshId,
    /// As the wire writes it.
    pub target: &'a str,
    pub epoch: u32,
    pub client_id: &'a ClientId,
    /// It is sent more than once: each time under this id with another number behind it.
    pub repeats: bool,
    pub mentions: &'a [String],
    pub nonce_b64: &'a str,
    pub ciphertext_b64: &'a str,
}

impl Said<'_> {
    fn signed(&self) -> Vec<u8> {
        fields(
            b"claudemesh-scope-body",
            &[
                self.mesh.as_str().as_bytes(),
                self.target.as_bytes(),
                &self.epoch.to_be_bytes(),
                self.client_id.as_str().as_bytes(),
                &[u8::from(self.repeats)],
                self.mentions.join(",").as_bytes(),
                self.nonce_b64.as_bytes(),
                self.ciphertext_b64.as_bytes(),
            ],
        )
    }

    /// By the key under which it is sent.
    pub fn sign(&self, sender: &SecretKey) -> Signature {
        sign::sign(&self.signed(), sender)
    }

    pub fn is_by(&self, sender: &PublicKey, signature: &Signature) -> bool {
        sign::verify(signature, &self.signed(), sender)
    }
}

/// Each field with its length before it: no two lists of fields give the same bytes.
fn fields(domain: &[u8], fields: &[&[u8]]) -> Vec<u8> {
    let mut bytes = domain.to_vec();
    for field in fields {
        bytes.extend((field.len() as u64).to_be_bytes());
        bytes.extend_from_slice(field);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::keys::KeyPair;

    #[test]
    fn a_copy_opens_for_its_member_alone_and_is_the_key_that_was_published() {
        let [owner, bob, eve] = [1, 2, 3].map(|seed| KeyPair::from_seed([seed; 32]));
        let key = ScopeKey::generate();
        let mesh = MeshId::new("m");
        let which = Which { mesh: &mesh, scope: "*", epoch: 3 };
        let proof = key.prove(which, &owner.secret);
        let copy = key.seal_for(&bob.public, &owner.secret).unwrap();
        let opened = ScopeKey::open(&copy, &bob.secret).unwrap();
        assert!(opened.is_proven(which, MemberKey(owner.public), &proof));
        assert_eq!(ScopeKey::open(&copy, &eve.secret).unwrap_err(), OpenError::Forged);
        let (other, elsewhere) = (ScopeKey::generate(), MeshId::new("n"));
        assert!(!other.is_proven(which, MemberKey(owner.public), &proof), "another key");
        assert!(!opened.is_proven(which, MemberKey(eve.public), &proof), "another's word");
        for changed in [Which { epoch: 4, ..which }, Which { scope: "#t", ..which }, Which { mesh: &elsewhere, ..which }] {
            assert!(!opened.is_proven(changed, MemberKey(owner.public), &proof), "{changed:?}");
        }
        for bad in ["", "AAAA", &base64::encode(&[0; 80]), "?"] {
            assert!(ScopeKey::open(&SealedKey { encrypted_key: bad.into(), nonce: copy.nonce.clone() }, &bob.secret).is_err());
        }
        let short = SealedKey { nonce: "AAAA".into(), ..copy };
        assert_eq!(ScopeKey::open(&short, &bob.secret).unwrap_err(), OpenError::BadNonce);
        assert!(key.seal_for(&PublicKey::from_bytes([0; 32]), &owner.secret).is_err());
        assert_eq!(format!("{key:?}"), "ScopeKey(redacted)");
    }

    #[test]
    fn a_signature_is_for_one_body_in_one_place_by_one_sender() {
        let [ann, bob] = [1, 2].map(|seed| KeyPair::from_seed([seed; 32]));
        let key = ScopeKey::generate();
        let body = key.seal_body(b"hello");
        assert_eq!(key.open_body(&body.nonce_b64, &body.ciphertext_b64).as_deref(), Ok(b"hello".as_slice()));
        assert_eq!(ScopeKey::generate().open_body(&body.nonce_b64, &body.ciphertext_b64), Err(OpenError::Forged));
        let (mesh, other_mesh) = (MeshId::new("m"), MeshId::new("n"));
        let (id, other_id) = (ClientId::new("c"), ClientId::new("d"));
        let mentions = ["bob".to_owned()];
        let said = Said {
            mesh: &mesh,
            target: "@eng",
            epoch: 1,
            client_id: &id,
            repeats: false,
            mentions: &mentions,
            nonce_b64: &body.nonce_b64,
            ciphertext_b64: &body.ciphertext_b64,
        };
        let signature = said.sign(&ann.secret);
        assert!(said.is_by(&ann.public, &signature) && !said.is_by(&bob.public, &signature));
        for changed in [
            Said { mesh: &other_mesh, ..said },
            Said { target: "*", ..said },
            Said { epoch: 2, ..said },
            Said { client_id: &other_id, ..said },
            Said { repeats: true, ..said },
            Said { mentions: &[], ..said },
            Said { nonce_b64: "", ..said },
            Said { ciphertext_b64: "", ..said },
        ] {
            assert!(!changed.is_by(&ann.public, &signature), "{changed:?}");
        }
    }
}
