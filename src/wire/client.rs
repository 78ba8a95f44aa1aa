//! Frames from a peer to its broker. One JSON object a frame, told apart by `type`.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::base::ids::{ClientId, MessageId};

use super::admin::{Ban, Expel, ListBans};
use super::apikey::{CreateApiKey, ListApiKeys, RevokeApiKey};
use super::code::Code;
use super::grant::{ListGrants, SetGrants};
use super::json::{self, DecodeError, Map, Value, without_position};
use super::key::{KeyCheck, KeyGet, KeyPublish, KeySeal, SCOPE_KEYS, Seal};
use super::limits::MAX_FRAME;
use super::memory::{Forget, Recall, Remember};
use super::peer::Group;
use super::priority::Priority;
use super::profile::{JoinGroup, LeaveGroup, SetProfile, SetReach, SetStats, SetStatus, SetSummary, SetVisible};
use super::receipt::{HandIn, TakeReceipts};
use super::schedule::{CancelScheduled, ListScheduled, MessageStatus, Schedule};
use super::skill::{GetSkill, ListSkills, RemoveSkill, ShareSkill};
use super::state::{GetState, ListState, SetState};
use super::task::{CreateTask, ListTasks, OnTask};
use super::topic::{OfTopic, TopicCreate, TopicHistory, TopicJoin, TopicLeave, TopicList};

/// Everything a peer may say. The keys of hellos are text here, because each of them has a refusal of its own.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ClientFrame {
    Hello(Hello),
    SessionHello(SessionHello),
    Send(Send),
    ClientAck(ClientAck),
    ListPeers(ListPeers),
    SetStatus(SetStatus),
    SetSummary(SetSummary),
    SetVisible(SetVisible),
    SetProfile(SetProfile),
    SetStats(SetStats),
    SetReach(SetReach),
    JoinGroup(JoinGroup),
    LeaveGroup(LeaveGroup),
    SetState(SetState),
    GetState(GetState),
    ListState(ListState),
    Remember(Remember),
    Recall(Recall),
    Forget(Forget),
    ShareSkill(ShareSkill),
    ListSkills(ListSkills),
    GetSkill(GetSkill),
    RemoveSkill(RemoveSkill),
    TopicCreate(TopicCreate),
    TopicList(TopicList),
    TopicJoin(TopicJoin),
    TopicLeave(TopicLeave),
    TopicMembers(OfTopic),
    TopicHistory(TopicHistory),
    TopicMarkRead(OfTopic),
    SetGrants(SetGrants),
    ListGrants(ListGrants),
    Kick(Expel),
    Disconnect(Expel),
    Ban(Ban),
    Unban(Ban),
    ListBans(ListBans),
    Schedule(Schedule),
    ListScheduled(ListScheduled),
    CancelScheduled(CancelScheduled),
    MessageStatus(MessageStatus),
    CreateTask(CreateTask),
    ClaimTask(OnTask),
    CompleteTask(OnTask),
    ListTasks(ListTasks),
    KeyGet(KeyGet),
    KeyPublish(KeyPublish),
    KeySeal(KeySeal),
    KeyCheck(KeyCheck),
    Receipts(HandIn),
    TakeReceipts(TakeReceipts),
    ApikeyCreate(CreateApiKey),
    ApikeyList(ListApiKeys),
    ApikeyRevoke(RevokeApiKey),
}

/// A member's hello (role `control-plane`). Signed: `meshId|memberId|pubkey|timestamp`, by the member key.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Hello {
    pub mesh_id: String,
    pub member_id: String,
    pub pubkey: String,
    /// One-shot commands of the reference name a random key here that labels what they send. It is not proven.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_pubkey: Option<String>,
    #[serde(flatten)]
    pub about: About,
    /// Milliseconds since the epoch.
    pub timestamp: i64,
    pub signature: String,
}

/// A session's hello. Signed by the session key; the member key vouches for it in `parentAttestation`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionHello {
    pub mesh_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_member_id: Option<String>,
    pub parent_member_pubkey: String,
    pub session_pubkey: String,
    pub parent_attestation: Attestation,
    #[serde(flatten)]
    pub about: About,
    /// Milliseconds since the epoch.
    pub timestamp: i64,
    pub signature: String,
}

/// A member's word that a session key speaks for it, until `expiresAt` (milliseconds since the epoch).
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Attestation {
    pub session_pubkey: String,
    pub parent_member_pubkey: String,
    pub expires_at: i64,
    pub signature: String,
}

/// What a peer says about itself in either hello.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct About {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    pub session_id: String,
    pub pid: u32,
    pub cwd: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub groups: Option<Vec<Group>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// The only rights that the session was launched with, by the names of what members allow each other. The reference's
    /// broker ignores it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed_caps: Option<Vec<String>>,
    /// What this client can do beyond the reference's, which ignores the list.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub capabilities: Vec<String>,
}

impl About {
    /// Whether this client opens what is sealed for many.
    pub fn opens_sealed(&self) -> bool {
        self.capabilities.iter().any(|capability| capability == SCOPE_KEYS)
    }
}

/// A message to pass on. `id` comes back in the `ack`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Send {
    #[serde(default)]
    pub id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_message_id: Option<ClientId>,
    /// 64 hex characters, opaque to the broker: the same id with another fingerprint is another message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_fingerprint: Option<String>,
    #[serde(rename = "targetSpec")]
    pub target_spec: String,
    #[serde(default)]
    pub priority: Priority,
    pub nonce: String,
    pub ciphertext: String,
    #[serde(rename = "replyToId", default, skip_serializing_if = "Option::is_none")]
    pub reply_to_id: Option<String>,
    /// Names that a message to a topic calls out to; without it, those in its text.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mentions: Vec<String>,
    #[serde(rename = "bodyVersion", default, skip_serializing_if = "Option::is_none")]
    pub body_version: Option<u32>,
    /// How it is sealed, if it is for many and sealed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seal: Option<Seal>,
}

impl Send {
    /// Whether brokers read a frame as large as this one's.
    pub fn fits(&self) -> bool {
        let texts = [Some(&self.id), self.request_fingerprint.as_ref(), self.reply_to_id.as_ref()];
        let texts: usize = texts.into_iter().flatten().map(String::len).sum();
        let client_id = self.client_message_id.as_ref().map_or(0, |id| id.as_str().len());
        let bytes = texts + client_id + self.target_spec.len() + self.nonce.len() + self.ciphertext.len();
        // A byte becomes six at most (`\u0000`), and the names around them are short.
        bytes * 6 + 512 <= MAX_FRAME || ClientFrame::Send(self.clone()).encode().len() <= MAX_FRAME
    }
}

/// The recipient has the message on disk. No reply.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClientAck {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_message_id: Option<ClientId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broker_message_id: Option<MessageId>,
}

/// Who is in the mesh. With `away`, sessions seen before and not connected are listed too, with `online:false`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ListPeers {
    #[serde(rename = "_reqId", default, skip_serializing_if = "Option::is_none")]
    pub req_id: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub away: bool,
}

/// Why text is not a frame, with whatever is needed to answer the one who sent it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Undecodable {
    pub code: Code,
    pub message: String,
    pub id: Option<String>,
    pub req_id: Option<String>,
    /// The `type` as sent, if there was one.
    pub kind: Option<String>,
}

/// The little that can be read of a frame that is otherwise wrong.
#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(rename = "type", default, borrow)]
    kind: Option<&'a RawValue>,
    #[serde(default, borrow)]
    id: Option<&'a RawValue>,
    #[serde(rename = "_reqId", default, borrow)]
    req_id: Option<&'a RawValue>,
}

impl ClientFrame {
    /// Whether the reference's broker answers this request. Those that it carries out in silence can only be hoped for.
    pub fn is_answered_by_all(&self) -> bool {
        !matches!(
            self,
            ClientFrame::SetStatus(_)
                | ClientFrame::SetSummary(_)
                | ClientFrame::SetReach(_)
                | ClientFrame::JoinGroup(_)
                | ClientFrame::LeaveGroup(_)
                | ClientFrame::SetState(_)
                | ClientFrame::TopicJoin(_)
                | ClientFrame::TopicLeave(_)
                | ClientFrame::TopicMarkRead(_)
                | ClientFrame::ClientAck(_)
        )
    }

    /// The frame of this type with these fields, answered under `req_id`. `Err` says what is wrong with the fields.
    pub fn of_fields(kind: &str, fields: &Map<String, Value>, req_id: &str) -> Result<ClientFrame, DecodeError> {
        let mut fields = fields.clone();
        fields.insert("type".to_owned(), kind.into());
        fields.insert("_reqId".to_owned(), req_id.into());
        json::from_value(Value::Object(fields))
    }

    /// Reads one frame.
    pub fn decode(text: &str) -> Result<ClientFrame, Undecodable> {
        serde_json::from_str(text).map_err(|err| undecodable(text, &err))
    }

    /// The `id` and the `_reqId` that a frame carries, whatever it is.
    pub fn ids(text: &str) -> (Option<String>, Option<String>) {
        serde_json::from_str::<Envelope<'_>>(text).map_or((None, None), |envelope| (word(envelope.id), word(envelope.req_id)))
    }

    pub fn encode(&self) -> String {
        // Only maps with non-string keys and failing `Serialize` impls can fail here, and there are none.
        serde_json::to_string(self).unwrap_or_default()
    }
}

fn word(raw: Option<&RawValue>) -> Option<String> {
    raw.and_then(|raw| serde_json::from_str(raw.get()).ok())
}

fn undecodable(text: &str, err: &serde_json::Error) -> Undecodable {
    let Ok(envelope) = serde_json::from_str::<Envelope<'_>>(text) else {
        let message = if err.is_syntax() || err.is_eof() { "not a JSON object" } else { "expected a JSON object" };
        return Undecodable { code: Code::Malformed, message: message.to_owned(), id: None, req_id: None, kind: None };
    };
    let kind = word(envelope.kind);
    let known = err.to_string();
    let (code, message) = match &kind {
        None => (Code::Malformed, "`type` is missing".to_owned()),
        Some(kind) if known.starts_with(&format!("unknown variant `{kind}`")) => {
            let shown: String = kind.chars().take(40).collect();
            (Code::UnknownType, format!("unknown type {shown:?}"))
        }
        Some(_) => (Code::Invalid, without_position(&known)),
    };
    Undecodable { code, message, id: word(envelope.id), req_id: word(envelope.req_id), kind }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_send_of_the_reference_reads() {
        let text = r#"{"type":"send","id":"c1","client_message_id":"c1","request_fingerprint":"ab","targetSpec":"*","priority":"now","nonce":"n","ciphertext":"c","mentions":[]}"#;
        let ClientFrame::Send(send) = ClientFrame::decode(text).unwrap() else { panic!("not a send") };
        assert_eq!((send.id.as_str(), send.target_spec.as_str(), send.priority), ("c1", "*", Priority::Now));
    }

    #[test]
    fn the_session_hello_of_the_reference_reads() {
        let text = r#"{"type":"session_hello","meshId":"m","parentMemberId":"i","parentMemberPubkey":"p","sessionPubkey":"s",
            "parentAttestation":{"sessionPubkey":"s","parentMemberPubkey":"p","expiresAt":1760043200000,"signature":"x"},
            "displayName":"Bob","sessionId":"u","pid":7,"cwd":"/w","hostname":"h","peerType":"ai","channel":"claudemesh-session","role":"r",
            "timestamp":1760000000000,"signature":"y"}"#;
        let ClientFrame::SessionHello(hello) = ClientFrame::decode(text).unwrap() else { panic!("not a session hello") };
        assert_eq!(hello.about.display_name.as_deref(), Some("Bob"));
        assert_eq!(hello.parent_attestation.expires_at, 1_760_043_200_000);
        let again = ClientFrame::decode(&ClientFrame::SessionHello(hello).encode());
        assert!(again.is_ok());
    }

    #[test]
    fn every_refusal_can_be_answered() {
        let fails = |text: &str| ClientFrame::decode(text).expect_err(text);
        for text in ["", "{", "null", "[]", "7", "\"send\"", "{\"type\":\"send\""] {
            assert_eq!(fails(text).code, Code::Malformed, "{text}");
        }
        assert_eq!(fails(r#"{"type":7}"#).code, Code::Malformed);
        assert_eq!(fails(r#"{"id":"x"}"#).id.as_deref(), Some("x"));
        let unknown = fails(r#"{"type":"vector_store","_reqId":"r"}"#);
        assert_eq!((unknown.code, unknown.req_id.as_deref()), (Code::UnknownType, Some("r")));
        let missing = fails(r#"{"type":"send","id":"a","priority":"urgent","targetSpec":"*","nonce":"","ciphertext":""}"#);
        assert_eq!((missing.code, missing.id.as_deref()), (Code::Invalid, Some("a")));
        assert!(!missing.message.contains("column"), "{}", missing.message);
    }
}
