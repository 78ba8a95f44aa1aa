//! What is said to many: sealed with the key they share and signed by whoever says it; opened and checked.

use crate::base::ids::{ClientId, MeshId, PublicKey};
use crate::crypto::keys::SecretKey;
use crate::crypto::scope_key::{Said, ScopeKey};
use crate::crypto::sealed::Sealed;
use crate::crypto::sign::Signature;
use crate::wire::key::Seal;
use crate::wire::target::Target;
use crate::wire::topic;

/// Stands for the sealed text of an outbox row whose text is sealed only when it is sent. No sealed text reads so, and it is
/// not empty: the reference's daemon would send a row without one in clear.
pub(super) const UNSEALED: &str = "-unsealed-";

/// Why something sealed can not be read here.
pub(super) const NO_COPY: &str =
    "it was sealed with a key that this session was not given: before it joined, after it left, or while it was kept out";

/// The same, where its key is in use: whoever has it gives it once it is here.
pub(super) const NOT_YET: &str = "its key was not yet given to you; it comes when a member who has it is online";

/// Where a sealed text belongs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) mesh: &'a MeshId,
    /// As the wire writes it.
    pub(super) target: &'a str,
    /// As its sender named it.
    pub(super) client_id: &'a ClientId,
    pub(super) repeats: bool,
    pub(super) mentions: &'a [String],
}

/// Seals `text` and signs it.
pub(super) fn seal(place: Place<'_>, text: &[u8], (epoch, key): (u32, &ScopeKey), sender: &SecretKey) -> (Sealed, Seal) {
    let sealed = key.seal_body(text);
    let signature = said(place, epoch, &sealed.nonce_b64, &sealed.ciphertext_b64).sign(sender).to_string();
    (sealed, Seal { epoch, repeats: place.repeats, signature })
}

fn said<'a>(place: Place<'a>, epoch: u32, nonce_b64: &'a str, ciphertext_b64: &'a str) -> Said<'a> {
    let Place { mesh, target, client_id, repeats, mentions } = place;
    Said { mesh, target, epoch, client_id, repeats, mentions, nonce_b64, ciphertext_b64 }
}

/// A sealed text as it came.
#[derive(Debug, Clone, Copy)]
pub(super) struct Came<'a> {
    pub(super) mesh: &'a MeshId,
    pub(super) target: &'a str,
    /// As it was sent, with a number behind it if it repeats.
    pub(super) client_id: &'a str,
    pub(super) mentions: &'a [String],
    pub(super) sender: &'a PublicKey,
    pub(super) seal: &'a Seal,
    pub(super) nonce: &'a str,
    pub(super) ciphertext: &'a str,
}

/// Opens what came; `Err` says why not.
pub(super) fn open(came: Came<'_>, key: &ScopeKey) -> Result<String, &'static str> {
    let forged = "its sender did not say this here";
    let client_id = came.seal.signed_id(came.client_id).map(ClientId::new).ok_or(forged)?;
    let signature = Signature::parse(&came.seal.signature).ok_or("its signature is none")?;
    let Came { mesh, target, mentions, .. } = came;
    let place = Place { mesh, target, client_id: &client_id, repeats: came.seal.repeats, mentions };
    if !said(place, came.seal.epoch, came.nonce, came.ciphertext).is_by(came.sender, &signature) {
        return Err(forged);
    }
    let bytes = key.open_body(came.nonce, came.ciphertext).map_err(|_| "it was not sealed with the key it names")?;
    String::from_utf8(bytes).map_err(|_| "it opened, and is not text")
}

/// The names that a text calls out to: in topics alone, as everywhere in this protocol.
pub(super) fn mentions(target: &Target, text: &str) -> Vec<String> {
    if matches!(target, Target::Topic(_)) { topic::mentions(text) } else { Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::base64;
    use crate::crypto::keys::KeyPair;

    #[test]
    fn it_opens_where_it_was_said_as_often_as_it_was_meant_to_be() {
        let (ann, eve) = (KeyPair::from_seed([1; 32]), KeyPair::from_seed([2; 32]));
        let (key, mesh, id) = (ScopeKey::generate(), MeshId::new("m"), ClientId::new("c"));
        for (repeats, fine, wrong) in [(false, ["c", "c"], "c.1"), (true, ["c.0", "c.12"], "c")] {
            let place = Place { mesh: &mesh, target: "*", client_id: &id, repeats, mentions: &[] };
            let (sealed, seal) = seal(place, b"hello", (3, &key), &ann.secret);
            let came = |client_id| Came {
                mesh: &mesh,
                target: "*",
                client_id,
                mentions: &[],
                sender: &ann.public,
                seal: &seal,
                nonce: &sealed.nonce_b64,
                ciphertext: &sealed.ciphertext_b64,
            };
            for id in fine {
                assert_eq!(open(came(id), &key).as_deref(), Ok("hello"));
            }
            assert!(open(came(wrong), &key).is_err(), "the same words again, under another name");
            let good = came(fine[0]);
            assert!(open(Came { sender: &eve.public, ..good }, &key).is_err(), "as if another had said it");
            assert!(open(Came { target: "@eng", ..good }, &key).is_err(), "as if it was said elsewhere");
            assert!(open(good, &ScopeKey::generate()).is_err());
            let other = Seal { epoch: 4, ..seal.clone() };
            assert!(open(Came { seal: &other, ..good }, &key).is_err());
        }
        assert_eq!(base64::decode(UNSEALED), None);
    }

    #[test]
    fn only_in_topics_somebody_is_called_out_to() {
        assert_eq!(mentions(&Target::Topic("t".into()), "@Bob look"), ["bob"]);
        assert!(mentions(&Target::Everyone, "@Bob look").is_empty());
    }
}
