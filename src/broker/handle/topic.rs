//! Topics: `topic_create` and its family, and who a message to a topic is for.

use crate::base::ids::MemberKey;
use crate::base::names::{is_group_name, neutralise_line};
use crate::base::time::{iso, now_millis};
use crate::broker::Shared;
use crate::broker::conn::{Seat, error};
use crate::crypto::{base64, random};
use crate::net::ws::Outbox;
use crate::store::hub::{Event, Role, TopicMade, TopicMemberRow, TopicMessageRow, TopicRow, Topical};
use crate::wire::client::Send;
use crate::wire::code::Code;
use crate::wire::json::json;
use crate::wire::key::{SEALED_BODY, Scope};
use crate::wire::server::{ErrorFrame, ServerFrame};
use crate::wire::topic::{
    OfTopic, Topic, TopicCreate, TopicCreated, TopicHistory, TopicHistoryResponse, TopicJoin, TopicLeave, TopicList,
    TopicListResponse, TopicMember, TopicMembersResponse, TopicMessage, TopicRole, Visibility, mentions,
};

use super::{events, fitting, found, keys, presence};

/// Longest description, in characters.
const MAX_DESCRIPTION: usize = 500;

/// Messages listed at once, at most and by default.
pub(in crate::broker) const MAX_HISTORY: u32 = 200;
pub(in crate::broker) const HISTORY: u32 = 50;

fn shown(row: TopicRow) -> Topic {
    Topic {
        id: row.id,
        name: row.name,
        description: row.description,
        visibility: row.visibility,
        member_count: Some(row.members),
        created_at: Some(iso(row.created_at)),
        role: row.role,
    }
}

pub(in crate::broker) fn create(shared: &Shared, seat: &Seat, ask: TopicCreate, out: &mut Outbox) {
    let name = ask.name.strip_prefix('#').unwrap_or(&ask.name);
    if !is_group_name(name) {
        return error(out, Code::Invalid, "a topic's name is [A-Za-z0-9][A-Za-z0-9._/-]{0,63}", None, ask.req_id);
    }
    let description = ask.description.map(|text| neutralise_line(&text).chars().take(MAX_DESCRIPTION).collect());
    let new = TopicRow {
        id: random::id32(),
        name: name.to_owned(),
        description,
        visibility: ask.visibility,
        created_at: now_millis(),
        members: 0,
        role: None,
    };
    let made = shared.hub.create_topic(seat.mesh.clone(), new, seat.author());
    let Some(made) = found(shared, made, ask.req_id.as_ref(), out) else { return };
    let (topic, created) = match made {
        TopicMade::New(row) => (shown(row), true),
        TopicMade::Known(row) => (shown(row), false),
        TopicMade::Forbidden => return error(out, Code::Forbidden, "this name belongs to others", None, ask.req_id),
        TopicMade::Full => return error(out, Code::Capacity, "this mesh can not have another topic", None, ask.req_id),
    };
    let scope = Scope::Topic(topic.id.clone());
    out.text(ServerFrame::TopicCreated(TopicCreated { topic, created, req_id: ask.req_id }).encode());
    if !created {
        // It was entered.
        keys::call_for(shared, &seat.mesh, &scope);
    }
}

pub(in crate::broker) fn list(shared: &Shared, seat: &Seat, ask: TopicList, out: &mut Outbox) {
    let rows = shared.hub.topics(seat.mesh.clone(), seat.member.id.clone());
    let Some(rows) = found(shared, rows, ask.req_id.as_ref(), out) else { return };
    let (topics, truncated) = fitting(rows.into_iter().map(shown));
    out.text(ServerFrame::TopicListResponse(TopicListResponse { topics, truncated, req_id: ask.req_id }).encode());
}

/// The topic meant, if the one who asks may know of it. The reference's clients look for the request's id in `id`.
fn known(shared: &Shared, seat: &Seat, topic: &str, req_id: Option<&String>, out: &mut Outbox) -> Option<TopicRow> {
    let name = topic.strip_prefix('#').unwrap_or(topic).to_owned();
    let row = found(shared, shared.hub.topic(seat.mesh.clone(), name, seat.member.id.clone()), req_id, out)?;
    if row.is_none() {
        let shown: String = neutralise_line(topic).chars().take(80).collect();
        let message = format!("there is no topic \"{shown}\"");
        let frame =
            ErrorFrame { code: Code::TopicNotFound, message, id: req_id.cloned(), req_id: req_id.cloned(), retry_after_ms: None };
        out.text(ServerFrame::Error(frame).encode());
    }
    row
}

pub(in crate::broker) fn join(shared: &Shared, seat: &Seat, ask: TopicJoin, out: &mut Outbox) {
    let req_id = ask.req_id.as_ref();
    let Some(topic) = known(shared, seat, &ask.topic, req_id, out) else { return };
    let leads = topic.role == Some(TopicRole::Lead);
    let member = match ask.member.filter(|key| *key != seat.member.key) {
        None => seat.member.id.clone(),
        Some(_) if !leads && topic.visibility != Visibility::Public => {
            return error(out, Code::Forbidden, "only a lead lets others into this topic", None, ask.req_id);
        }
        Some(key) => {
            let member = found(shared, shared.hub.member(seat.mesh.clone(), key), req_id, out);
            match member {
                None => return,
                Some(None) => return error(out, Code::NotFound, "this key is no member's", None, ask.req_id),
                Some(Some(member)) => member.id,
            }
        }
    };
    let role = match ask.role.unwrap_or_default() {
        TopicRole::Lead if !leads => {
            return error(out, Code::Forbidden, "only a lead makes another lead", None, ask.req_id);
        }
        role => role,
    };
    if found(shared, shared.hub.join_topic(topic.id.clone(), member, role, now_millis()), req_id, out).is_some() {
        presence::done(out, ask.req_id);
        keys::call_for(shared, &seat.mesh, &Scope::Topic(topic.id));
    }
}

pub(in crate::broker) fn leave(shared: &Shared, seat: &Seat, ask: TopicLeave, out: &mut Outbox) {
    let req_id = ask.req_id.as_ref();
    let Some(topic) = known(shared, seat, &ask.topic, req_id, out) else { return };
    if let Some(key) = ask.member.filter(|key| *key != seat.member.key) {
        return remove(shared, seat, &topic, key, ask.req_id, out);
    }
    if found(shared, shared.hub.leave_topic(topic.id, seat.member.id.clone()), req_id, out).is_some() {
        presence::done(out, ask.req_id);
    }
}

/// Takes another member out. Its lead may, and whoever keeps order in the mesh; an admin may take out a lead, too.
fn remove(shared: &Shared, seat: &Seat, topic: &TopicRow, key: MemberKey, req_id: Option<String>, out: &mut Outbox) {
    if topic.role != Some(TopicRole::Lead) && seat.member.role != Role::Admin {
        let text = "only a lead of this topic, or an admin of the mesh, takes others out of it";
        return error(out, Code::Forbidden, text, None, req_id);
    }
    let member = match found(shared, shared.hub.member(seat.mesh.clone(), key), req_id.as_ref(), out) {
        None => return,
        Some(None) => return error(out, Code::NotFound, "this key is no member's", None, req_id),
        Some(Some(member)) => member.id,
    };
    match found(shared, shared.hub.leave_topic(topic.id.clone(), member), req_id.as_ref(), out) {
        None => {}
        Some(false) => error(out, Code::NotFound, "this member is not in this topic", None, req_id),
        Some(true) => {
            events::log(shared, seat, Event::TopicMemberRemoved, json!({"pubkey": key, "topic": topic.id}));
            presence::done(out, req_id);
        }
    }
}

pub(in crate::broker) fn mark_read(shared: &Shared, seat: &Seat, ask: OfTopic, out: &mut Outbox) {
    let req_id = ask.req_id.as_ref();
    let Some(topic) = known(shared, seat, &ask.topic, req_id, out) else { return };
    match found(shared, shared.hub.read_topic(topic.id, seat.member.id.clone(), now_millis()), req_id, out) {
        None => {}
        Some(true) => presence::done(out, ask.req_id),
        Some(false) => error(out, Code::Forbidden, "you are not in this topic", None, ask.req_id),
    }
}

pub(in crate::broker) fn members(shared: &Shared, seat: &Seat, ask: OfTopic, out: &mut Outbox) {
    let req_id = ask.req_id.as_ref();
    let Some(topic) = known(shared, seat, &ask.topic, req_id, out) else { return };
    let Some(rows) = found(shared, shared.hub.topic_members(topic.id), req_id, out) else { return };
    let member = |row: TopicMemberRow| TopicMember {
        member_id: row.id,
        pubkey: row.key,
        display_name: row.display_name,
        role: row.role,
        joined_at: iso(row.joined_at),
        last_read_at: row.last_read_at.map(iso),
    };
    let (members, truncated) = fitting(rows.into_iter().map(member));
    let answer = TopicMembersResponse { topic: ask.topic, members, truncated, req_id: ask.req_id };
    out.text(ServerFrame::TopicMembersResponse(answer).encode());
}

/// A message as it is shown.
pub(in crate::broker) fn message(row: TopicMessageRow) -> TopicMessage {
    TopicMessage {
        id: row.id,
        sender_pubkey: row.sender_pubkey,
        sender_member_id: row.sender_member,
        sender_name: row.sender_name,
        nonce: row.nonce,
        ciphertext: row.ciphertext,
        body_version: row.body_version,
        client_message_id: row.client_id.filter(|_| row.seal.is_some()),
        seal: row.seal,
        body: None,
        unreadable: None,
        reply_to_id: row.reply_to,
        mentions: row.mentions,
        created_at: iso(row.created_at),
    }
}

pub(in crate::broker) fn history(shared: &Shared, seat: &Seat, ask: TopicHistory, out: &mut Outbox) {
    let req_id = ask.req_id.as_ref();
    let Some(topic) = known(shared, seat, &ask.topic, req_id, out) else { return };
    let limit = ask.limit.unwrap_or(HISTORY).clamp(1, MAX_HISTORY);
    let rows = shared.hub.topic_history(topic.id.clone(), ask.before_id, usize::try_from(limit).unwrap_or(1));
    let Some(rows) = found(shared, rows, req_id, out) else { return };
    let (messages, truncated) = fitting(rows.into_iter().map(message));
    let answer = TopicHistoryResponse { topic: ask.topic, topic_id: Some(topic.id), messages, truncated, req_id: ask.req_id };
    out.text(ServerFrame::TopicHistoryResponse(answer).encode());
}

/// A message to a topic: which one, who is in it, and what it answers.
#[derive(Debug)]
pub(super) struct Post {
    pub(super) topical: Topical,
    pub(super) members: Vec<TopicMemberRow>,
    pub(super) reply_to: Option<String>,
}

/// Checks a message to a topic. `Err` is why it is not taken.
pub(super) fn post(shared: &Shared, seat: &Seat, topic: &str, send: &Send) -> Result<Post, (Code, String)> {
    let store = |err: crate::store::Error| {
        log::error!("hub: {err}");
        shared.store_failed(&err);
        (Code::Unavailable, "the broker can not read its database now".to_owned())
    };
    let row = shared.hub.topic(seat.mesh.clone(), topic.to_owned(), seat.member.id.clone()).map_err(store)?;
    let row = row.ok_or((Code::TopicNotFound, "unknown topic in this mesh".to_owned()))?;
    match row.role {
        None => return Err((Code::Forbidden, format!("you are not in #{}: join it first", row.name))),
        Some(TopicRole::Observer) => return Err((Code::Forbidden, format!("you only observe #{}", row.name))),
        Some(TopicRole::Lead | TopicRole::Member) => {}
    }
    let reply_to = match send.reply_to_id.clone().filter(|id| !id.is_empty()) {
        None => None,
        Some(id) => {
            let parent = shared.hub.topic_message(row.id.clone(), id).map_err(store)?;
            Some(parent.ok_or((Code::Invalid, "replyToId is no message of this topic".to_owned()))?)
        }
    };
    // What is sealed says nothing here.
    let clear = send.seal.is_none() && send.body_version.is_none_or(|version| version < SEALED_BODY);
    let text = || base64::decode(&send.ciphertext).and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_default();
    let names = if send.mentions.is_empty() {
        if clear { mentions(&text()) } else { Vec::new() }
    } else {
        mentions(&send.mentions.iter().map(|name| format!("@{} ", name.trim_start_matches('@'))).collect::<String>())
    };
    let members = shared.hub.topic_members(row.id.clone()).map_err(store)?;
    let body_version = if send.seal.is_some() { SEALED_BODY } else { send.body_version.unwrap_or(1) };
    Ok(Post { topical: Topical { id: row.id, mentions: names, body_version }, members, reply_to })
}
