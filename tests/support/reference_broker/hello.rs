//! Both hellos: the checks in the reference's order, resuming, replacing, and what the others are told.

use std::time::Instant;

use claudemesh::base::ids::PublicKey;
use claudemesh::crypto::sign::{self, Signature};
use serde_json::{Value, json};

use super::state::{Conn, Delayed, State};

/// How far a hello's timestamp may be off, and how far ahead an attestation may expire.
const SKEW: i64 = 60_000;
const TTL: i64 = 86_400_000;

/// Error code, its text, close code and close reason.
struct Refusal(&'static str, String, u16, &'static str);

fn refuse(code: &'static str, text: impl Into<String>) -> Refusal {
    Refusal(code, text.into(), 1008, code)
}

fn is_key(value: &Value) -> bool {
    value.as_str().is_some_and(|text| PublicKey::parse(text).is_some())
}

fn verify(key: &str, signature: &Value, signed: &str) -> Result<(), &'static str> {
    let key = PublicKey::parse_any_case(key).ok_or("malformed")?;
    let signature = signature.as_str().and_then(Signature::parse).ok_or("malformed")?;
    if sign::verify(&signature, signed.as_bytes(), &key) { Ok(()) } else { Err("bad_signature") }
}

/// A value as JavaScript puts it into a string.
fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

impl State {
    pub(super) fn hello(&mut self, socket: u64, frame: &Value, now: Instant) {
        let checked = if frame["type"] == "hello" { self.check_member(frame) } else { self.check_session(frame) };
        match checked {
            Ok(member) => self.greet(socket, member, frame, now),
            Err(Refusal(code, message, close, reason)) => {
                self.say(socket, &json!({"type": "error", "code": code, "message": message}));
                self.close(socket, close, reason);
            }
        }
    }

    fn check_skew(&self, frame: &Value, kind: &str) -> Result<i64, Refusal> {
        let skew = || refuse("timestamp_skew", format!("{kind} rejected: timestamp_skew"));
        let timestamp = frame["timestamp"].as_i64().ok_or_else(skew)?;
        if SKEW < (self.now_millis() - timestamp).abs() { Err(skew()) } else { Ok(timestamp) }
    }

    fn check_member(&self, frame: &Value) -> Result<String, Refusal> {
        let claimed = &frame["sessionPubkey"];
        if !(claimed.is_null() || *claimed == "" || is_key(claimed)) {
            return Err(refuse("bad_session_pubkey", "sessionPubkey must be 64 lowercase hex chars"));
        }
        let timestamp = self.check_skew(frame, "hello")?;
        let key = text(&frame["pubkey"]);
        let signed = format!("{}|{}|{key}|{timestamp}", text(&frame["meshId"]), text(&frame["memberId"]));
        verify(&key, &frame["signature"], &signed).map_err(|code| refuse(code, format!("hello rejected: {code}")))?;
        self.active(frame, &key, "pubkey not found in mesh")
    }

    fn check_session(&self, frame: &Value) -> Result<String, Refusal> {
        let (session, parent, word) = (&frame["sessionPubkey"], &frame["parentMemberPubkey"], &frame["parentAttestation"]);
        if !is_key(session) {
            return Err(refuse("bad_session_pubkey", "sessionPubkey must be 64 lowercase hex chars"));
        }
        if !is_key(parent) {
            return Err(refuse("bad_parent_pubkey", "parentMemberPubkey must be 64 lowercase hex chars"));
        }
        if word["sessionPubkey"] != *session || word["parentMemberPubkey"] != *parent {
            let what = "parentAttestation does not bind the claimed session+parent pubkeys";
            return Err(refuse("attestation_mismatch", what));
        }
        let rejected = |code| refuse(code, format!("attestation rejected: {code}"));
        let expires = word["expiresAt"].as_i64().ok_or_else(|| rejected("malformed"))?;
        if expires <= self.now_millis() {
            return Err(rejected("expired"));
        }
        if self.now_millis() + TTL < expires {
            return Err(rejected("ttl_too_long"));
        }
        let (session, parent) = (text(session), text(parent));
        let signed = format!("claudemesh-session-attest|{parent}|{session}|{expires}");
        verify(&parent, &word["signature"], &signed).map_err(rejected)?;
        let timestamp = self.check_skew(frame, "session_hello")?;
        let signed = format!("claudemesh-session-hello|{}|{parent}|{session}|{timestamp}", text(&frame["meshId"]));
        verify(&session, &frame["signature"], &signed).map_err(|code| refuse(code, format!("session_hello rejected: {code}")))?;
        let member = self.active(frame, &parent, "parent pubkey not found in mesh")?;
        let id = self.members.iter().find(|row| row.key == member).map(|row| row.id.as_str());
        match frame["parentMemberId"].as_str() {
            Some(claimed) if !claimed.is_empty() && Some(claimed) != id => {
                Err(refuse("parent_member_id_mismatch", "parentMemberId does not match parentMemberPubkey"))
            }
            _ => Ok(member),
        }
    }

    fn active(&self, frame: &Value, key: &str, missing: &str) -> Result<String, Refusal> {
        let member = self.members.iter().find(|member| frame["meshId"] == self.mesh.as_str() && member.key == key);
        match member {
            Some(member) if member.revoked => {
                let what = "You've been removed from \"acme\". Contact the mesh owner to rejoin.";
                Err(Refusal("revoked", what.to_owned(), 4002, "banned"))
            }
            Some(member) => Ok(member.key.clone()),
            None => Err(refuse("unauthorized", missing)),
        }
    }

    fn greet(&mut self, socket: u64, member: String, frame: &Value, now: Instant) {
        // Columns that must be there and of their kind: else the insert throws, and nobody is answered.
        if !(frame["sessionId"].is_string() && frame["pid"].is_i64() && frame["cwd"].is_string()) {
            return;
        }
        let session = frame["sessionPubkey"].as_str().filter(|key| !key.is_empty()).map(str::to_owned);
        let is_session = frame["type"] == "session_hello";
        let row = self.members.iter().find(|row| row.key == member);
        let (member_name, left_before) = row.map(|row| (row.name.clone(), row.left_before)).unwrap_or_default();
        let name = frame["displayName"].as_str().unwrap_or(&member_name).to_owned();
        let resumed = self.conns.iter_mut().find(|conn| {
            let same_session = session.is_some() && conn.session == session;
            let same_id = session.is_none() && conn.session.is_none() && conn.member == member;
            let same_id = same_id && conn.hello["sessionId"] == frame["sessionId"];
            if is_session { same_session } else { conn.offline_until.is_some() && (same_session || same_id) }
        });
        let (presence, old, fresh) = match resumed {
            Some(conn) => {
                let old = std::mem::replace(&mut conn.socket, socket);
                self.seen.races += usize::from(old != socket && !conn.end_is_noted(now));
                conn.offline_until = None;
                (conn.presence, Some(old).filter(|old| *old != socket), false)
            }
            None => {
                let presence = self.number();
                let groups = if frame["groups"].is_array() { frame["groups"].clone() } else { json!([]) };
                self.conns.push(Conn {
                    presence,
                    socket,
                    member: member.clone(),
                    session: session.clone(),
                    name: name.clone(),
                    groups,
                    hello: frame.clone(),
                    status: "idle".to_owned(),
                    summary: Value::Null,
                    offline_until: None,
                    ended: None,
                });
                (presence, None, true)
            }
        };
        if let Some(old) = old {
            self.close(old, 1000, "session_replaced");
        }
        self.dedupe(presence, &frame["sessionId"]);
        // The queue is drained before the hello_ack is written.
        self.drain(presence, now);
        let mut ack = json!({
            "type": "hello_ack", "presenceId": format!("presence-{presence}"), "memberDisplayName": name,
            "memberProfile": {"roleTag": null, "groups": [], "messageMode": "push"},
        });
        if !is_session {
            ack["services"] = json!([]);
            ack["restored"] = left_before.into();
            ack["lastSummary"] = Value::Null;
        }
        self.later(socket, now + self.rules.hello_delay, Delayed::HelloAck(presence, ack));
        if fresh {
            let data = json!({"name": name, "pubkey": session.as_deref().unwrap_or(&member), "groups": frame["groups"]});
            let event = if !is_session && left_before { "peer_returned" } else { "peer_joined" };
            self.event(event, &data, |conn| conn.presence != presence && (is_session || conn.member != member));
        }
    }

    /// Every other connection with this session id is closed and forgotten, whoever it belongs to.
    fn dedupe(&mut self, presence: u64, session_id: &Value) {
        let same = |conn: &Conn| conn.presence != presence && conn.hello["sessionId"] == *session_id;
        for conn in self.conns.iter().filter(|conn| same(conn)) {
            self.close(conn.socket, 1000, "session_replaced");
        }
        self.conns.retain(|conn| !same(conn));
    }
}
