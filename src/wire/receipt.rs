//! What became of a message at its recipient's end, told to its sender. Frames of our own brokers: the reference's know
//! nothing of them, and its clients never see one, because a client asks for them first.

use serde::{Deserialize, Serialize};

use crate::base::ids::{ClientId, MessageId, PublicKey};

/// Receipts in one frame at most: many together cost little, and they still fit.
pub const MAX_RECEIPTS: usize = 64;

/// Longest id of a message in a receipt, in bytes; brokers' have 32.
pub const MAX_MESSAGE_ID: usize = 64;

/// Longest word that says by which path, or for which reason, in bytes.
const MAX_DETAIL: usize = 32;

/// How far a message came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// The broker gave up keeping it: nobody fetched it in time.
    Expired,
    /// It is on the recipient's disk.
    Arrived,
    /// It is there, and is kept from the model for now.
    Held,
    /// It was put before the model.
    Offered,
}

impl Stage {
    pub const ALL: [Stage; 4] = [Stage::Expired, Stage::Arrived, Stage::Held, Stage::Offered];

    pub fn as_str(self) -> &'static str {
        match self {
            Stage::Expired => "expired",
            Stage::Arrived => "arrived",
            Stage::Held => "held",
            Stage::Offered => "offered",
        }
    }

    pub fn parse(text: &str) -> Option<Stage> {
        Stage::ALL.into_iter().find(|stage| stage.as_str() == text)
    }

    /// Whether only a recipient can know it, and so must have signed it.
    pub fn is_signed(self) -> bool {
        self != Stage::Expired
    }
}

/// Whether a text may stand as a path or a reason: it is shown to people and is part of what is signed.
pub fn is_detail(text: &str) -> bool {
    text.len() <= MAX_DETAIL && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

/// One recipient's word about one message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Receipt {
    pub message_id: MessageId,
    pub state: Stage,
    /// By which path, or why it is held.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// Milliseconds since the epoch, by the recipient's clock.
    pub at: i64,
    /// The recipient's; 128 hex characters.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub signature: String,
}

/// From a recipient: hands these in. What is not a recipient's own to say is dropped.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandIn {
    pub receipts: Vec<Receipt>,
    #[serde(rename = "_reqId", default, skip_serializing_if = "Option::is_none")]
    pub req_id: Option<String>,
}

/// Answers [`HandIn`]: they are on the broker's disk, as far as they were this recipient's to hand in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandedIn {
    pub kept: usize,
    #[serde(rename = "_reqId", default, skip_serializing_if = "Option::is_none")]
    pub req_id: Option<String>,
}

/// From a member's daemon: it wants what there is for its member, from now on. `taken` are on its disk and need not be
/// kept any longer. No reply but [`Receipts`], one frame at a time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TakeReceipts {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub taken: Vec<u64>,
}

/// A receipt on its way to the sender.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Forwarded {
    /// What [`TakeReceipts`] names it by.
    pub n: u64,
    pub client_message_id: ClientId,
    /// Who says so; of an expired message, who does not have it.
    pub recipient: PublicKey,
    #[serde(flatten)]
    pub receipt: Receipt,
}

/// To a member's daemon: what recipients said of its member's messages.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipts {
    pub receipts: Vec<Forwarded>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::client::ClientFrame;
    use crate::wire::limits::MAX_FRAME;
    use crate::wire::server::ServerFrame;

    fn receipt() -> Receipt {
        Receipt {
            message_id: MessageId::new("M"),
            state: Stage::Offered,
            detail: "prompt".into(),
            at: 5,
            signature: "ab".repeat(64),
        }
    }

    #[test]
    fn frames_read_back() {
        let frame = ClientFrame::Receipts(HandIn { receipts: vec![receipt()], req_id: Some("r".into()) });
        let text = frame.encode();
        assert!(
            text.starts_with(r#"{"type":"receipts","receipts":[{"messageId":"M","state":"offered","detail":"prompt","at":5,"#)
        );
        let ClientFrame::Receipts(read) = ClientFrame::decode(&text).unwrap() else { panic!("{text}") };
        assert_eq!(read.receipts, [receipt()]);
        let forwarded = Forwarded {
            n: 7,
            client_message_id: ClientId::new("c"),
            recipient: PublicKey::from_bytes([1; 32]),
            receipt: receipt(),
        };
        let text = ServerFrame::Receipts(Receipts { receipts: vec![forwarded.clone()] }).encode();
        let Some(ServerFrame::Receipts(read)) = ServerFrame::decode(&text) else { panic!("{text}") };
        assert_eq!(read.receipts, [forwarded]);
        assert_eq!(ClientFrame::TakeReceipts(TakeReceipts::default()).encode(), r#"{"type":"take_receipts"}"#);
    }

    #[test]
    fn a_full_frame_of_the_longest_fits() {
        let long = Receipt {
            message_id: MessageId::new("M".repeat(MAX_MESSAGE_ID)),
            detail: "d".repeat(MAX_DETAIL),
            at: i64::MIN,
            ..receipt()
        };
        let frame = ClientFrame::Receipts(HandIn { receipts: vec![long; MAX_RECEIPTS], req_id: Some("r-1".into()) });
        assert!(frame.encode().len() <= MAX_FRAME);
    }

    #[test]
    fn details_are_short_words() {
        assert!(["", "tool-use", "repeat", "x1"].into_iter().all(is_detail));
        assert!(!["A", "a b", "a|b", "ä", "\u{1b}", &"a".repeat(MAX_DETAIL + 1)].into_iter().any(is_detail));
    }
}
