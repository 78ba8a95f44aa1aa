//! What the owner of a mesh signs when somebody is invited. The bytes are the reference's, to the letter.

use super::keys::SecretKey;
use super::sign::{self, Signature};
use crate::base::ids::PublicKey;

/// The signed part of an invite of version 1.
#[derive(Debug, Clone, Copy)]
pub struct Invite<'a> {
    pub mesh_id: &'a str,
    pub mesh_slug: &'a str,
    pub broker_url: &'a str,
    /// Unix seconds.
    pub expires_at: i64,
    pub mesh_root_key: &'a str,
    pub role: &'a str,
    /// Whose signature it is, as sent: the signature covers this spelling.
    pub owner_pubkey: &'a str,
}

impl Invite<'_> {
    /// The bytes that are signed.
    pub fn canonical(&self) -> String {
        format!(
            "1|{}|{}|{}|{}|{}|{}|{}",
            self.mesh_id, self.mesh_slug, self.broker_url, self.expires_at, self.mesh_root_key, self.role, self.owner_pubkey
        )
    }

    pub fn sign(&self, owner: &SecretKey) -> Signature {
        sign::sign(self.canonical().as_bytes(), owner)
    }

    /// Whether the key it names signed it: it is whole, and says nothing about whose key that is. A field that holds the
    /// separator could be read as two, so that none may.
    pub fn is_signed(&self, signature: &str) -> bool {
        let texts = [self.mesh_id, self.mesh_slug, self.broker_url, self.mesh_root_key, self.role];
        let key = PublicKey::parse_any_case(self.owner_pubkey);
        match (key, Signature::parse(signature)) {
            (Some(key), Some(signature)) => {
                !texts.iter().any(|text| text.contains('|')) && sign::verify(&signature, self.canonical().as_bytes(), &key)
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::base64;
    use crate::crypto::keys::KeyPair;

    const OWNER: &str = "8a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c";
    const SIGNATURE: &str = "ae7bea5bb3cbf7b6c9e6d1bd5d04d4d9d7f6462b059ae4b9e5e6740100262e206cdf6e6c82a2e6e52c15d23718c9b019879c5f3714902af3a2a92b6b0170ed00";

    fn invite(root_key: &str) -> Invite<'_> {
        Invite {
            mesh_id: "meshTEST000000000000000000000001",
            mesh_slug: "acme",
            broker_url: "wss://broker.example/ws",
            expires_at: 1_760_600_000,
            mesh_root_key: root_key,
            role: "member",
            owner_pubkey: OWNER,
        }
    }

    #[test]
    fn the_vector_of_the_reference() {
        let root_key = base64::encode_url(&[9; 32]);
        let invite = invite(&root_key);
        assert_eq!(
            invite.canonical(),
            "1|meshTEST000000000000000000000001|acme|wss://broker.example/ws|1760600000|CQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQk|member|8a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c"
        );
        assert_eq!(invite.sign(&KeyPair::from_seed([1; 32]).secret).to_string(), SIGNATURE);
        assert!(invite.is_signed(SIGNATURE) && invite.is_signed(&SIGNATURE.to_uppercase()));
    }

    #[test]
    fn any_change_breaks_it() {
        let root_key = base64::encode_url(&[9; 32]);
        let good = invite(&root_key);
        for changed in [
            Invite { mesh_id: "other", ..good },
            Invite { mesh_slug: "acme2", ..good },
            Invite { broker_url: "ws://broker.example/ws", ..good },
            Invite { expires_at: good.expires_at + 1, ..good },
            Invite { mesh_root_key: "CQk", ..good },
            Invite { role: "admin", ..good },
            Invite { owner_pubkey: "8139770ea87d175f56a35466c34c7ecccb8d8a91b4ee37a25df60f5b8fc9b394", ..good },
            Invite { owner_pubkey: "", ..good },
            // The same bytes under other fields.
            Invite { mesh_id: "meshTEST000000000000000000000001|acme", mesh_slug: "wss://broker.example/ws", ..good },
        ] {
            assert!(!changed.is_signed(SIGNATURE), "{changed:?}");
        }
        let shifted = Invite { mesh_slug: "acme|wss:", broker_url: "x", ..good };
        let signature = shifted.sign(&KeyPair::from_seed([1; 32]).secret).to_string();
        assert!(!shifted.is_signed(&signature), "a separator within a field");
        assert!(!good.is_signed("") && !good.is_signed(&SIGNATURE[2..]));
    }
}
