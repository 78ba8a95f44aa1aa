//! Events of `GET /v1/events`. The event's name stands in its `event:` line; its data begins with `ts`.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::base::ids::{ClientId, MessageId, Slug};

use super::ipc::LinkStatus;
use super::priority::Priority;

/// One event. What a broker put into an event's data is nested or picked key by key, so that it can not stand in for ours.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Event {
    Message(Box<Message>),
    Peer(PeerEvent),
    System(SystemEvent),
    BrokerStatus(BrokerStatus),
    Lagged(Lagged),
    Bye(Bye),
}

/// A message is in the inbox.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// The inbox row's id, which `POST /v1/inbox/seen` takes.
    pub id: String,
    pub mesh: Slug,
    pub client_message_id: ClientId,
    pub broker_message_id: Option<MessageId>,
    pub sender_pubkey: String,
    pub sender_member_pubkey: Option<String>,
    pub sender_name: String,
    pub topic: Option<String>,
    /// `@group` or `*`, if it was for many and not for a topic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent_to: Option<String>,
    pub reply_to_id: Option<String>,
    pub priority: Priority,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subtype: Option<String>,
    /// Absent when the message could not be opened; `unreadable` then says why.
    pub body: Option<String>,
    pub created_at: Option<String>,
    pub recipient_pubkey: Option<String>,
    pub recipient_kind: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unreadable: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub plain: bool,
    /// Names that it calls out to, in lower case.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mentions: Vec<String>,
    /// It calls out to the session that it is for.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub mentioned: bool,
}

/// A peer came or went: `peer_join`, `peer_leave`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PeerEvent {
    pub mesh: Slug,
    /// `peer_joined` or `peer_left`.
    pub event: String,
    pub name: String,
    pub pubkey: String,
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub groups: Value,
}

/// Anything else a broker reports.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SystemEvent {
    pub mesh: Slug,
    pub event: String,
    #[serde(rename = "eventData")]
    pub event_data: Value,
}

/// A member link changed its state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BrokerStatus {
    pub mesh: Slug,
    pub status: LinkStatus,
}

/// The subscriber read too slowly and is cut off; with `Last-Event-ID` it misses nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Lagged {
    pub lagged: bool,
}

/// The daemon stops; reconnect.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Bye {
    pub bye: String,
}

#[derive(Serialize)]
struct Stamped<'a> {
    ts: &'a str,
    #[serde(flatten)]
    event: &'a Event,
}

impl Event {
    /// The name in the `event:` line.
    pub fn name(&self) -> &'static str {
        match self {
            Event::Message(_) => "message",
            Event::Peer(peer) if peer.event == "peer_left" => "peer_leave",
            Event::Peer(_) => "peer_join",
            Event::System(_) => "system",
            Event::BrokerStatus(_) => "broker_status",
            Event::Lagged(_) => "lagged",
            Event::Bye(_) => "bye",
        }
    }

    /// The `data:` line. `ts` is ISO 8601.
    pub fn data(&self, ts: &str) -> String {
        super::json::encode(&Stamped { ts, event: self })
    }

    /// Reads an event back from its name and data. `None` for names this program does not know.
    pub fn read(name: &str, data: &str) -> Option<Event> {
        let data = data.as_bytes();
        match name {
            "message" => super::json::decode(data).ok().map(Event::Message),
            "peer_join" | "peer_leave" => super::json::decode(data).ok().map(Event::Peer),
            "system" => super::json::decode(data).ok().map(Event::System),
            "broker_status" => super::json::decode(data).ok().map(Event::BrokerStatus),
            "lagged" => super::json::decode(data).ok().map(Event::Lagged),
            "bye" => super::json::decode(data).ok().map(Event::Bye),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_begins_with_the_time_and_reads_back() {
        let event = Event::Peer(PeerEvent {
            mesh: Slug::new("home"),
            event: "peer_left".into(),
            name: "bob".into(),
            pubkey: "ab".into(),
            groups: Value::Null,
        });
        let data = event.data("2025-10-09T08:53:20.000Z");
        assert_eq!(data, r#"{"ts":"2025-10-09T08:53:20.000Z","mesh":"home","event":"peer_left","name":"bob","pubkey":"ab"}"#);
        assert_eq!(Event::read(event.name(), &data), Some(event));
        assert_eq!(Event::read("later", "{}"), None);
        assert_eq!(Event::read("message", "{"), None);
    }
}
