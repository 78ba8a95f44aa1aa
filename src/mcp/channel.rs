//! Events as `notifications/claude/channel`. The text and the keys of `meta` are the reference's. What a peer wrote can fill
//! its own value and nothing else: it cannot end the notification, add a key, or hide or reorder what stands around it.

use std::borrow::Cow;

use crate::base::names::{neutralise, neutralise_line};
use crate::wire::event::{Event, Message, PeerEvent, SystemEvent};
use crate::wire::json::{Map, Value, encode};
use crate::wire::priority::Priority;

/// The notification's method.
pub(super) const METHOD: &str = "notifications/claude/channel";

/// The experimental capability that announces it.
pub(super) const CAPABILITY: &str = "claude/channel";

/// Longest body shown, in bytes. The inbox has it whole.
const MAX_BODY: usize = 16 * 1024;

/// Longest value of `meta`, in characters.
const MAX_META: usize = 256;

/// Longest name or topic within the text, in characters.
const MAX_NAME: usize = 64;

/// Longest data of a system event, in characters (the reference's).
const MAX_DATA: usize = 240;

/// Most groups named in a system event.
const MAX_GROUPS: usize = 8;

/// Elements with which the client marks what is not a peer's: a peer must not write their tags.
const MARKS: [&str; 5] = ["channel", "system", "user", "assistant", "human"];

/// The notification's parameters; `None` for events that no model needs to hear of.
pub(super) fn render(event: &Event) -> Option<Value> {
    let (content, meta) = match event {
        Event::Message(message) => (message_text(message), message_meta(message)),
        Event::Peer(peer) => (peer_text(peer), peer_meta(peer)),
        Event::System(system) => (system_text(system), system_meta(system)),
        Event::BrokerStatus(_) | Event::Lagged(_) | Event::Bye(_) => return None,
    };
    let mut params = Map::new();
    params.insert("content".to_owned(), Value::String(content));
    params.insert("meta".to_owned(), Value::Object(meta.0));
    Some(Value::Object(params))
}

fn message_text(message: &Message) -> String {
    let badge = match message.priority {
        Priority::Now => "[URGENT] ",
        Priority::Next => "",
        Priority::Low => "[low] ",
    };
    let topic = message.topic.as_deref().filter(|topic| !topic.is_empty());
    let topic = topic.map(|topic| format!(" (#{})", name_text(topic))).unwrap_or_default();
    format!("{badge}{}{topic}: {}", name_text(sender_name(message)), body_text(message))
}

fn sender_name(message: &Message) -> &str {
    if message.sender_name.trim().is_empty() { "unknown" } else { &message.sender_name }
}

fn body_text(message: &Message) -> String {
    let Some(body) = &message.body else {
        return match &message.unreadable {
            Some(reason) => format!("(could not be opened: {})", line(reason, MAX_META)),
            None => "(could not be opened)".to_owned(),
        };
    };
    let shown = beginning(body, MAX_BODY);
    let mut text = unmarked(&neutralise(shown)).into_owned();
    if shown.len() < body.len() {
        text.push_str(&format!("\n(cut here: {} of {} bytes; the rest: claudemesh inbox)", shown.len(), body.len()));
    }
    text
}

/// As much of the text as fits into `limit` bytes without cutting a character.
fn beginning(text: &str, limit: usize) -> &str {
    let end = (0..=limit.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    &text[..end]
}

fn message_meta(message: &Message) -> Meta {
    let member = message.sender_member_pubkey.as_deref().unwrap_or(&message.sender_pubkey);
    let broker_id = message.broker_message_id.as_ref().map(|id| id.as_str());
    let mut meta = Meta::default();
    meta.set("from_id", member);
    meta.set("from_pubkey", member);
    meta.set("from_session_pubkey", &message.sender_pubkey);
    meta.set("from_name", sender_name(message));
    meta.set("mesh_slug", message.mesh.as_str());
    meta.set("priority", message.priority.as_str());
    meta.set("message_id", broker_id.unwrap_or(&message.id));
    meta.set("client_message_id", message.client_message_id.as_str());
    meta.set_some("topic", message.topic.as_deref());
    meta.set_some("sent_to", message.sent_to.as_deref());
    meta.set_some("reply_to_id", message.reply_to_id.as_deref());
    meta.set_some("subtype", message.subtype.as_deref());
    if message.mentioned {
        meta.set("mentioned", "true");
    }
    if message.plain {
        // Nobody vouches for its sender: it came in clear.
        meta.set("plain", "true");
    }
    meta
}

fn peer_text(peer: &PeerEvent) -> String {
    let groups = group_names(&peer.groups);
    let groups = if groups.is_empty() { String::new() } else { format!(" [{}]", groups.join(", ")) };
    let what = if peer.event == "peer_left" { "left" } else { "joined" };
    let key: String = line(&peer.pubkey, 8);
    format!("[system] Peer \"{}\" ({key}){groups} {what} the mesh", name_text(&peer.name))
}

fn peer_meta(peer: &PeerEvent) -> Meta {
    let mut meta = system_kind(&peer.event, peer.mesh.as_str());
    meta.set("peer_name", &peer.name);
    meta.set("peer_pubkey", &peer.pubkey);
    let groups = group_names(&peer.groups);
    if !groups.is_empty() {
        meta.set("peer_groups", &groups.join(", "));
    }
    meta
}

fn system_text(system: &SystemEvent) -> String {
    let data = if system.event_data.is_null() { "{}".to_owned() } else { encode(&system.event_data) };
    format!("[system] {}: {}", name_text(&system.event), line(&data, MAX_DATA))
}

fn system_meta(system: &SystemEvent) -> Meta {
    let mut meta = system_kind(&system.event, system.mesh.as_str());
    let text = |key: &str| system.event_data.get(key).and_then(Value::as_str);
    meta.set_some("peer_name", text("name"));
    meta.set_some("peer_pubkey", text("pubkey"));
    meta
}

fn system_kind(event: &str, mesh: &str) -> Meta {
    let mut meta = Meta::default();
    meta.set("kind", "system");
    meta.set("event", event);
    meta.set("mesh_slug", mesh);
    meta
}

/// Group names, given as text or as `{name, role}`.
fn group_names(groups: &Value) -> Vec<String> {
    let name = |group: &Value| group.as_str().or_else(|| group.get("name").and_then(Value::as_str)).map(name_text);
    groups.as_array().map(|groups| groups.iter().filter_map(name).take(MAX_GROUPS).collect()).unwrap_or_default()
}

/// A name within the text: one line, and without what the text's own frame is made of.
fn name_text(name: &str) -> String {
    line(name, MAX_NAME).replace('[', "(").replace(']', ")").replace('"', "'")
}

/// One line of at most `limit` characters.
fn line(text: &str, limit: usize) -> String {
    let short: String = text.chars().take(limit).collect();
    unmarked(&neutralise_line(&short)).into_owned()
}

/// Takes the tags of the client's own marks out of peer text: their `<` becomes `‹`, everything else stays as written.
pub(crate) fn unmarked(text: &str) -> Cow<'_, str> {
    if !text.contains('<') {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 8);
    let mut rest = text;
    while let Some(at) = rest.find('<') {
        let (before, tag) = rest.split_at(at);
        let name = tag[1..].trim_start_matches(|c: char| c == '/' || c == '<' || c.is_whitespace());
        safe.push_str(before);
        safe.push(if MARKS.iter().any(|mark| begins_with(name, mark)) { '‹' } else { '<' });
        rest = &tag[1..];
    }
    safe.push_str(rest);
    Cow::Owned(safe)
}

fn begins_with(text: &str, word: &str) -> bool {
    text.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word))
}

/// `meta`: keys of ours, and values that stay inside an attribute however the client writes it.
#[derive(Default)]
struct Meta(Map<String, Value>);

impl Meta {
    fn set(&mut self, key: &'static str, value: &str) {
        let short: String = value.chars().take(MAX_META).collect();
        let safe: String = neutralise_line(&short)
            .chars()
            .map(|c| match c {
                '"' => '\'',
                '<' => '‹',
                '>' => '›',
                c => c,
            })
            .collect();
        self.0.insert(key.to_owned(), Value::String(safe));
    }

    fn set_some(&mut self, key: &'static str, value: Option<&str>) {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            self.set(key, value);
        }
    }
}

#[cfg(test)]
mod tests;
