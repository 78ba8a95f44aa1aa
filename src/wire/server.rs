//! Frames from a broker to a peer.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::base::ids::{ClientId, MemberId, MemberKey, MeshId, MessageId, PresenceId};

use super::admin::{BanAck, Expelled, ListBansResult, UnbanAck};
use super::apikey::{ApiKeyCreated, ApiKeyList, ApiKeyRevoked};
use super::code::Code;
use super::grant::{GrantsList, GrantsSet};
use super::key::{KeyCheckResult, KeyGiven, KeyNeeded, KeyState, KeyTaken, Seal};
use super::memory::{MemoryRecallResult, MemoryResults, MemoryStored};
use super::peer::Peer;
use super::priority::Priority;
use super::receipt::{HandedIn, Receipts};
use super::schedule::{CancelScheduledAck, MessageStatusResult, ScheduledAck, ScheduledList};
use super::skill::{SkillAck, SkillChange, SkillData, SkillList};
use super::state::{StateChange, StateList, StateResult, StateValue};
use super::task::{TaskCreated, TaskList};
use super::topic::{TopicCreated, TopicHistoryResponse, TopicListResponse, TopicMembersResponse};

/// Everything a broker says that this program understands. Types it does not know are [`ServerFrame::Unknown`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ServerFrame {
    HelloAck(HelloAck),
    Error(ErrorFrame),
    Ack(Ack),
    Push(Box<Push>),
    PeersList(PeersList),
    StateResult(StateResult),
    StateValue(StateValue),
    StateList(StateList),
    StateChange(StateChange),
    MemoryStored(MemoryStored),
    MemoryResults(MemoryResults),
    MemoryRecallResult(MemoryRecallResult),
    SkillList(SkillList),
    SkillData(SkillData),
    SkillAck(SkillAck),
    SkillChange(SkillChange),
    TopicCreated(TopicCreated),
    TopicListResponse(TopicListResponse),
    TopicMembersResponse(TopicMembersResponse),
    TopicHistoryResponse(TopicHistoryResponse),
    GrantsSet(GrantsSet),
    GrantsList(GrantsList),
    KickAck(Expelled),
    DisconnectAck(Expelled),
    BanAck(BanAck),
    UnbanAck(UnbanAck),
    ListBansResult(ListBansResult),
    ScheduledAck(ScheduledAck),
    ScheduledList(ScheduledList),
    CancelScheduledAck(CancelScheduledAck),
    MessageStatusResult(MessageStatusResult),
    TaskCreated(TaskCreated),
    TaskList(TaskList),
    KeyState(KeyState),
    KeyTaken(KeyTaken),
    KeyCheckResult(KeyCheckResult),
    KeyNeeded(KeyNeeded),
    KeyGiven(KeyGiven),
    ReceiptsAck(HandedIn),
    Receipts(Receipts),
    ApikeyCreated(ApiKeyCreated),
    ApikeyListResponse(ApiKeyList),
    ApikeyRevokeResponse(ApiKeyRevoked),
    #[serde(other)]
    Unknown,
}

/// The hello was accepted.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HelloAck {
    pub presence_id: PresenceId,
    #[serde(default)]
    pub member_display_name: String,
    /// What this broker does beyond the reference's, which sends no such list.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub features: Vec<Feature>,
    /// The broker's clock, milliseconds since the epoch; the reference's does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_time: Option<i64>,
}

/// A promise a broker makes in its `hello_ack`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Feature {
    /// The frames of one socket are handled in order, and a repeated client message id is the same message: many sends may
    /// be in flight.
    OrderedSend,
    /// Direct messages to a peer that is away are kept for it.
    StoreAndForward,
    /// `list_peers` knows `away`.
    AwayPeers,
    /// Every request that carries a `_reqId` is answered, those included that the reference leaves without an answer.
    AnswersAll,
    /// It keeps copies of shared keys, knows which is in use, and who can open what is sealed with them.
    ScopeKeys,
    /// What recipients say of a message is kept for its sender.
    Receipts,
    #[serde(untagged)]
    Other(String),
}

/// A request was refused. `id` and `_reqId` are whatever the request carried.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ErrorFrame {
    pub code: Code,
    #[serde(default)]
    pub message: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    #[serde(rename = "_reqId", default, skip_serializing_if = "Option::is_none")]
    pub req_id: Option<String>,
    /// When there may be another answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
}

/// The answer to a `send`. Clients of the reference judge it by the absence of `error`, or by `queued`: a refusal has both.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Ack {
    #[serde(default)]
    pub id: String,
    #[serde(rename = "messageId", default = "no_message")]
    pub message_id: MessageId,
    #[serde(default)]
    pub queued: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    #[serde(rename = "_reqId", default, skip_serializing_if = "Option::is_none")]
    pub req_id: Option<String>,
}

fn no_message() -> MessageId {
    MessageId::new("")
}

/// A message or an event for this peer. Which fields are there depends on the broker and on the kind.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Push {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_id: Option<MessageId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mesh_id: Option<MeshId>,
    /// The key whose secret sealed the body; `system` or `webhook:<name>` where no peer sent it.
    pub sender_pubkey: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sender_member_pubkey: Option<MemberKey>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sender_member_id: Option<MemberId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sender_name: Option<String>,
    /// Whom it was sent to. The reference's broker does not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_spec: Option<String>,
    pub priority: Priority,
    pub nonce: String,
    pub ciphertext: String,
    /// ISO 8601.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_at: Option<String>,
    #[serde(rename = "client_message_id", skip_serializing_if = "Option::is_none")]
    pub client_message_id: Option<ClientId>,
    #[serde(rename = "request_fingerprint", skip_serializing_if = "Option::is_none")]
    pub request_fingerprint: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reply_to_id: Option<String>,
    /// Names that it calls out to, in lower case.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mentions: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body_version: Option<u32>,
    /// How it is sealed, if it was for many and is sealed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seal: Option<Seal>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subtype: Option<String>,
    /// With `subtype:"system"` or `"webhook"`: which event.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event_data: Option<Value>,
}

impl Push {
    /// Whether it reports something instead of carrying a peer's words.
    pub fn is_system(&self) -> bool {
        self.subtype.as_deref() == Some("system")
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PeersList {
    #[serde(deserialize_with = "readable")]
    pub peers: Vec<Peer>,
    /// There were more than fit into one frame.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub truncated: bool,
    #[serde(rename = "_reqId", default, skip_serializing_if = "Option::is_none")]
    pub req_id: Option<String>,
}

/// The rows that can be read. The reference's broker passes on whatever a peer says of itself, and one that says nonsense
/// must not hide the others.
fn readable<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Peer>, D::Error> {
    let rows = Vec::<Value>::deserialize(deserializer)?;
    Ok(rows.into_iter().filter_map(|row| serde_json::from_value(row).ok()).collect())
}

impl ServerFrame {
    /// The id of the request that this answers.
    pub fn req_id(&self) -> Option<&str> {
        match self {
            ServerFrame::Error(frame) => frame.req_id.as_deref(),
            ServerFrame::Ack(frame) => frame.req_id.as_deref(),
            ServerFrame::PeersList(frame) => frame.req_id.as_deref(),
            ServerFrame::StateResult(frame) => frame.req_id.as_deref(),
            ServerFrame::StateValue(frame) => frame.req_id.as_deref(),
            ServerFrame::StateList(frame) => frame.req_id.as_deref(),
            ServerFrame::MemoryStored(frame) => frame.req_id.as_deref(),
            ServerFrame::MemoryResults(frame) => frame.req_id.as_deref(),
            ServerFrame::MemoryRecallResult(frame) => frame.req_id.as_deref(),
            ServerFrame::SkillList(frame) => frame.req_id.as_deref(),
            ServerFrame::SkillData(frame) => frame.req_id.as_deref(),
            ServerFrame::SkillAck(frame) => frame.req_id.as_deref(),
            ServerFrame::TopicCreated(frame) => frame.req_id.as_deref(),
            ServerFrame::TopicListResponse(frame) => frame.req_id.as_deref(),
            ServerFrame::TopicMembersResponse(frame) => frame.req_id.as_deref(),
            ServerFrame::TopicHistoryResponse(frame) => frame.req_id.as_deref(),
            ServerFrame::GrantsSet(frame) => frame.req_id.as_deref(),
            ServerFrame::GrantsList(frame) => frame.req_id.as_deref(),
            ServerFrame::KickAck(frame) | ServerFrame::DisconnectAck(frame) => frame.req_id.as_deref(),
            ServerFrame::BanAck(frame) => frame.req_id.as_deref(),
            ServerFrame::UnbanAck(frame) => frame.req_id.as_deref(),
            ServerFrame::ListBansResult(frame) => frame.req_id.as_deref(),
            ServerFrame::ScheduledAck(frame) => frame.req_id.as_deref(),
            ServerFrame::ScheduledList(frame) => frame.req_id.as_deref(),
            ServerFrame::CancelScheduledAck(frame) => frame.req_id.as_deref(),
            ServerFrame::MessageStatusResult(frame) => frame.req_id.as_deref(),
            ServerFrame::TaskCreated(frame) => frame.req_id.as_deref(),
            ServerFrame::TaskList(frame) => frame.req_id.as_deref(),
            ServerFrame::KeyState(frame) => frame.req_id.as_deref(),
            ServerFrame::KeyTaken(frame) => frame.req_id.as_deref(),
            ServerFrame::KeyCheckResult(frame) => frame.req_id.as_deref(),
            ServerFrame::ReceiptsAck(frame) => frame.req_id.as_deref(),
            ServerFrame::ApikeyCreated(frame) => frame.req_id.as_deref(),
            ServerFrame::ApikeyListResponse(frame) => frame.req_id.as_deref(),
            ServerFrame::ApikeyRevokeResponse(frame) => frame.req_id.as_deref(),
            ServerFrame::HelloAck(_)
            | ServerFrame::Push(_)
            | ServerFrame::StateChange(_)
            | ServerFrame::SkillChange(_)
            | ServerFrame::Receipts(_)
            | ServerFrame::KeyNeeded(_)
            | ServerFrame::KeyGiven(_)
            | ServerFrame::Unknown => None,
        }
    }

    /// Reads one frame. `None` for what is not a JSON object with a `type`; a known type with wrong fields is `None` too.
    pub fn decode(text: &str) -> Option<ServerFrame> {
        serde_json::from_str(text).ok()
    }

    pub fn encode(&self) -> String {
        // Only maps with non-string keys and failing `Serialize` impls can fail here, and there are none.
        serde_json::to_string(self).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_of_the_reference_read() {
        let drained = r#"{"type":"push","messageId":"M","meshId":"m","senderPubkey":"ab","priority":"next","nonce":"n","ciphertext":"c","createdAt":"2025-10-09T08:53:20.000Z","client_message_id":"c1"}"#;
        let Some(ServerFrame::Push(push)) = ServerFrame::decode(drained) else { panic!("not a push") };
        assert_eq!(push.client_message_id, Some(ClientId::new("c1")));
        assert!(matches!(ServerFrame::decode(r#"{"type":"mcp_call_forward","x":1}"#), Some(ServerFrame::Unknown)));
        let Some(ServerFrame::HelloAck(ack)) =
            ServerFrame::decode(r#"{"type":"hello_ack","presenceId":"p","memberDisplayName":"n","services":[]}"#)
        else {
            panic!("not a hello_ack")
        };
        assert!(ack.features.is_empty());
        let refused = r#"{"type":"ack","id":"c1","messageId":"","queued":false,"error":"rate_limit: max 60 msg/min (burst 10) — slow down"}"#;
        assert!(matches!(ServerFrame::decode(refused), Some(ServerFrame::Ack(Ack { error: Some(_), .. }))));
        for junk in ["", "null", "[]", "{}", r#"{"type":null}"#, "{\"type\":\"ack\",\"id\":7}"] {
            assert!(ServerFrame::decode(junk).is_none(), "{junk}");
        }
    }

    #[test]
    fn one_peer_that_is_nonsense_does_not_hide_the_others() {
        let key = "8a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c";
        let good = format!(
            r#"{{"pubkey":"{key}","memberPubkey":"{key}","displayName":"a","status":"idle","summary":null,"groups":[]}}"#
        );
        let strange = good.replace("\"groups\":[]", "\"groups\":[{\"name\":7}],\"hostname\":5");
        let text = format!(r#"{{"type":"peers_list","peers":[7,{strange},{good},null],"_reqId":"r"}}"#);
        let Some(ServerFrame::PeersList(list)) = ServerFrame::decode(&text) else { panic!("not a list") };
        assert_eq!((list.peers.len(), list.req_id.as_deref()), (1, Some("r")));
    }

    #[test]
    fn a_hello_ack_names_its_features() {
        let ack = HelloAck {
            presence_id: PresenceId::new("p"),
            member_display_name: "n".into(),
            features: vec![Feature::OrderedSend, Feature::Other("later".into())],
            server_time: Some(1),
        };
        let text = ServerFrame::HelloAck(ack).encode();
        assert!(text.contains(r#""features":["ordered-send","later"]"#), "{text}");
        let Some(ServerFrame::HelloAck(read)) = ServerFrame::decode(&text) else { panic!("not a hello_ack") };
        assert_eq!(read.features, [Feature::OrderedSend, Feature::Other("later".into())]);
    }
}
