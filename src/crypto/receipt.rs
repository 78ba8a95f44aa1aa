//! What a recipient signs about a message that it has: that it arrived, that it was put before its model, or why not.

use super::keys::SecretKey;
use super::sign::{self, Signature};
use crate::base::ids::{ClientId, MeshId, MessageId, PublicKey};
use crate::base::time::Millis;

/// The signed part of a receipt: a recipient's word to one sender about one message. It names the message by both of its
/// ids, so that neither a broker nor another sender can use it for another.
#[derive(Debug, Clone, Copy)]
pub struct Receipt<'a> {
    pub mesh: &'a MeshId,
    pub message: &'a MessageId,
    pub client: &'a ClientId,
    /// The key that sealed the message.
    pub sender: PublicKey,
    pub recipient: PublicKey,
    pub state: &'a str,
    pub detail: &'a str,
    pub at: Millis,
}

impl Receipt<'_> {
    /// The bytes that are signed. Texts that others choose stand with their lengths before them: none can pass for more than
    /// itself.
    pub fn canonical(&self) -> String {
        let Receipt { mesh, message, client, sender, recipient, state, detail, at } = self;
        let mut text = format!("claudemesh-receipt|1|{sender}|{recipient}|{at}");
        for part in [mesh.as_str(), message.as_str(), client.as_str(), state, detail] {
            text.push_str(&format!("|{}:{part}", part.len()));
        }
        text
    }

    /// The recipient's signature.
    pub fn sign(&self, recipient: &SecretKey) -> Signature {
        sign::sign(self.canonical().as_bytes(), recipient)
    }

    /// Whether the recipient signed exactly this. `signature` is as it came.
    pub fn is_signed(&self, signature: &str) -> bool {
        Signature::parse(signature)
            .is_some_and(|signature| sign::verify(&signature, self.canonical().as_bytes(), &self.recipient))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::keys::KeyPair;

    #[test]
    fn it_covers_every_part_and_its_form_stays() {
        let [alice, bob, carol] = [1, 2, 3].map(|seed| KeyPair::from_seed([seed; 32]));
        let ids = ["mesh", "other"].map(MeshId::new);
        let messages = ["M1", "M2"].map(MessageId::new);
        let clients = ["c1", "c2"].map(ClientId::new);
        let good = Receipt {
            mesh: &ids[0],
            message: &messages[0],
            client: &clients[0],
            sender: alice.public,
            recipient: bob.public,
            state: "offered",
            detail: "prompt",
            at: 1_760_000_000_000,
        };
        assert_eq!(
            good.canonical(),
            "claudemesh-receipt|1|8a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c|\
             8139770ea87d175f56a35466c34c7ecccb8d8a91b4ee37a25df60f5b8fc9b394|1760000000000|4:mesh|2:M1|2:c1|7:offered|6:prompt"
        );
        let signature = good.sign(&bob.secret).to_string();
        assert!(good.is_signed(&signature));
        for changed in [
            Receipt { mesh: &ids[1], ..good },
            Receipt { message: &messages[1], ..good },
            Receipt { client: &clients[1], ..good },
            Receipt { sender: carol.public, ..good },
            Receipt { recipient: carol.public, ..good },
            Receipt { state: "arrived", ..good },
            Receipt { detail: "wake", ..good },
            Receipt { at: good.at + 1, ..good },
        ] {
            assert!(!changed.is_signed(&signature), "{changed:?}");
        }
        for bad in [good.sign(&carol.secret).to_string(), String::new(), "0".repeat(128), signature[1..].to_owned()] {
            assert!(!good.is_signed(&bad), "{bad}");
        }
    }

    #[test]
    fn no_part_passes_for_its_neighbour() {
        let key = KeyPair::from_seed([1; 32]).public;
        let (mesh, message) = (MeshId::new("m"), MessageId::new("M"));
        let text = |client: &str, state: &str| {
            let client = ClientId::new(client);
            let receipt = Receipt {
                mesh: &mesh,
                message: &message,
                client: &client,
                sender: key,
                recipient: key,
                state,
                detail: "",
                at: 0,
            };
            receipt.canonical()
        };
        assert_ne!(text("c|7:arrived", "x"), text("c", "arrived"));
        assert_ne!(text("c|7:arrived|0:", "offered"), text("c", "arrived"));
    }
}
