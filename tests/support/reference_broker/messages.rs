//! `send`, the queue, its claims, `push` and `client_ack`.

use std::time::Instant;

use claudemesh::crypto::random;
use serde_json::{Value, json};

use super::state::{Conn, Delayed, State};

/// Its own limit on ciphertext, nonce and target together, in UTF-16 units.
const MAX_SEALED: usize = 65_536;

/// A message in the queue.
#[derive(Debug)]
pub(super) struct Row {
    id: String,
    sender_key: String,
    target: String,
    priority: String,
    nonce: Value,
    ciphertext: Value,
    client_id: Value,
    fingerprint: Value,
    created_at: String,
    claimed_until: Option<Instant>,
    delivered: bool,
}

fn units(value: &Value) -> usize {
    value.as_str().map_or(0, |text| text.encode_utf16().count())
}

fn given(value: &Value) -> Value {
    if value.as_str().is_some_and(|text| !text.is_empty()) { value.clone() } else { Value::Null }
}

fn is_many(target: &str) -> bool {
    target == "*" || target.starts_with('@')
}

/// Group names of a connection. The reference puts them into its SQL as they are: a quote, or something that is no text,
/// ends its process.
fn groups(conn: &Conn) -> Result<Vec<String>, String> {
    let name = |group: &Value| match group["name"].as_str() {
        Some(name) if !name.contains('\'') => Ok(name.to_owned()),
        _ => Err(format!("a group named {} in a drain", group["name"])),
    };
    conn.groups.as_array().into_iter().flatten().map(name).collect()
}

impl State {
    /// What any member may ask of any message of the mesh.
    pub(super) fn message_status(&self, id: &str) -> Value {
        let Some(row) = self.rows.iter().find(|row| row.id == id) else {
            return json!({"type": "error", "code": "not_found", "message": format!("message {id} not found")});
        };
        let word = |there: bool| {
            if row.delivered {
                "delivered"
            } else if there {
                "held"
            } else {
                "disconnected"
            }
        };
        let peer = self.conns.iter().find(|conn| conn.key() == row.target);
        let one = match peer {
            Some(conn) => json!({"name": conn.name, "pubkey": row.target, "status": word(true)}),
            None => json!({"name": "unknown", "pubkey": &row.target[..row.target.len().min(16)], "status": "disconnected"}),
        };
        json!({"type": "message_status_result", "messageId": id, "targetSpec": row.target, "delivered": row.delivered,
               "deliveredAt": row.delivered.then_some(&row.created_at), "recipients": [one]})
    }

    pub(super) fn send(&mut self, socket: u64, conn: usize, frame: &Value, now: Instant) {
        if let Some(socket) = self.socket(socket) {
            let overlaps = usize::from(0 < socket.unanswered);
            socket.unanswered += 1;
            self.seen.overlaps += overlaps;
        }
        let refused = match self.refusals.pop_front() {
            Some(text) => Err(text),
            None => self.admit(conn, frame, now),
        };
        let (id, error) = match refused {
            // The handler throws: there is no answer at all.
            Ok(None) => return,
            Ok(Some(row)) => (row, None),
            Err(text) => (String::new(), Some(text)),
        };
        let mut ack =
            json!({"type": "ack", "id": frame["id"].as_str().unwrap_or_default(), "messageId": id, "queued": error.is_none()});
        if let Some(text) = &error {
            ack["error"] = text.as_str().into();
            *self.seen.refused.entry(text.clone()).or_default() += 1;
        }
        self.later(socket, now + self.rules.ack_delay, Delayed::Ack(ack));
        if error.is_none() {
            self.fan_out(conn, &id, frame, now);
        }
    }

    /// The new row's id; nothing where the handler throws.
    fn admit(&mut self, conn: usize, frame: &Value, now: Instant) -> Result<Option<String>, String> {
        let (member, presence, sender) = {
            let conn = &self.conns[conn];
            (conn.member.clone(), conn.presence, conn.key().to_owned())
        };
        if !self.take_token(&member, now) {
            return Err("rate_limit: max 60 msg/min (burst 10) — slow down".to_owned());
        }
        let Some(target) = frame["targetSpec"].as_str() else { return Ok(None) };
        if self.silent_to.contains(target) {
            return Ok(None);
        }
        let weight = units(&frame["ciphertext"]) + units(&frame["nonce"]) + units(&frame["targetSpec"]);
        if MAX_SEALED < weight {
            return Err(format!("payload too large: {weight} bytes > MAX_MESSAGE_BYTES=65536"));
        }
        if !is_many(target) && !target.starts_with('#') {
            let fits =
                |conn: &&Conn| conn.presence != presence && (conn.member == target || conn.session.as_deref() == Some(target));
            let mut candidates = self.conns.iter().filter(fits).map(|conn| conn.member.as_str()).peekable();
            if candidates.peek().is_none() {
                let text = "no connected peer for target (not online, or targetSpec is your own key without another session)";
                return Err(text.to_owned());
            }
            let allows = |key: &str| self.members.iter().any(|row| row.key == key && !row.blocked.contains(&member));
            if !candidates.any(allows) {
                return Err("blocked by recipient grants (sender lacks dm capability)".to_owned());
            }
        }
        let priority = if frame["priority"].is_null() { "next" } else { frame["priority"].as_str().unwrap_or_default() };
        if !["now", "next", "low"].contains(&priority) || !frame["nonce"].is_string() || !frame["ciphertext"].is_string() {
            return Ok(None);
        }
        let id = random::id32();
        self.rows.push(Row {
            id: id.clone(),
            sender_key: sender,
            target: target.to_owned(),
            priority: priority.to_owned(),
            nonce: frame["nonce"].clone(),
            ciphertext: frame["ciphertext"].clone(),
            client_id: given(&frame["client_message_id"]),
            fingerprint: given(&frame["request_fingerprint"]),
            created_at: self.now_iso(),
            claimed_until: None,
            delivered: false,
        });
        Ok(Some(id))
    }

    /// One bucket for all sessions of a member.
    fn take_token(&mut self, member: &str, now: Instant) -> bool {
        let (burst, rate) = (self.rules.burst, self.rules.per_second);
        let (tokens, at) = self.buckets.entry(member.to_owned()).or_insert((burst, now));
        *tokens = (*tokens + now.saturating_duration_since(*at).as_secs_f64() * rate).min(burst);
        *at = now;
        if *tokens < 1.0 {
            return false;
        }
        *tokens -= 1.0;
        true
    }

    fn fan_out(&mut self, sender: usize, id: &str, frame: &Value, now: Instant) {
        let target = frame["targetSpec"].as_str().unwrap_or_default().to_owned();
        let presence = self.conns[sender].presence;
        if is_many(&target) {
            self.multicast(sender, id, &target, frame);
        } else {
            let owners: Vec<String> = self
                .conns
                .iter()
                .filter(|conn| conn.presence != presence && (conn.member == target || conn.session.as_deref() == Some(&target)))
                .map(|conn| conn.member.clone())
                .collect();
            let due: Vec<u64> = self
                .conns
                .iter()
                .filter(|conn| conn.presence != presence && owners.contains(&conn.member))
                .map(|conn| conn.presence)
                .collect();
            due.into_iter().for_each(|presence| self.drain(presence, now));
        }
    }

    /// Written to whoever is there, of every other member; nothing is kept.
    fn multicast(&mut self, sender: usize, id: &str, target: &str, frame: &Value) {
        let from = &self.conns[sender];
        let row = self.members.iter().find(|row| row.key == from.member);
        let mut push = json!({
            "type": "push", "messageId": id, "meshId": self.mesh, "senderPubkey": from.key(), "senderMemberPubkey": from.member,
            "senderMemberId": row.map(|row| row.id.clone()), "senderName": from.name, "priority": frame["priority"],
            "nonce": frame["nonce"], "ciphertext": frame["ciphertext"], "createdAt": self.now_iso(),
        });
        if !frame["replyToId"].is_null() {
            push["replyToId"] = frame["replyToId"].clone();
        }
        let everyone = target == "*" || target == "@all";
        for conn in self.conns.iter().filter(|conn| conn.member != from.member) {
            let named = |group: &Value| group["name"].as_str() == target.strip_prefix('@');
            if everyone || conn.groups.as_array().is_some_and(|groups| groups.iter().any(named)) {
                self.say(conn.socket, &push);
            }
        }
        if let Some(row) = self.rows.iter_mut().find(|row| row.id == id) {
            row.delivered = true;
        }
    }

    /// Claims what waits for a connection and writes it, whether or not anybody is there to read it.
    pub(crate) fn drain(&mut self, presence: u64, now: Instant) {
        let Some(conn) = self.conns.iter().find(|conn| conn.presence == presence) else { return };
        let groups = match groups(conn) {
            Ok(groups) => groups,
            Err(why) => return self.crash(why),
        };
        let open = conn.offline_until.is_none();
        let (socket, mesh, claim) = (conn.socket, self.mesh.clone(), self.rules.claim);
        // It looks for the transcript on its own disk, finds none, and takes anything else for idle.
        let held = conn.status == "dnd";
        let mine = |row: &Row| {
            row.target == conn.member
                || conn.session.as_ref() == Some(&row.target)
                || row.target.strip_prefix('@').is_some_and(|name| groups.iter().any(|group| group == name))
        };
        let mut pushes = Vec::new();
        for row in self.rows.iter_mut().filter(|row| !row.delivered && row.claimed_until.is_none_or(|until| until <= now)) {
            if !mine(row) || (held && row.priority != "now") {
                continue;
            }
            row.claimed_until = Some(now + claim);
            let mut push = json!({
                "type": "push", "messageId": row.id, "meshId": mesh, "senderPubkey": row.sender_key, "priority": row.priority,
                "nonce": row.nonce, "ciphertext": row.ciphertext, "createdAt": row.created_at,
            });
            for (key, value) in [("client_message_id", &row.client_id), ("request_fingerprint", &row.fingerprint)] {
                if !value.is_null() {
                    push[key] = value.clone();
                }
            }
            pushes.push(push);
        }
        if open {
            pushes.iter().for_each(|push| self.say(socket, push));
        }
    }

    pub(super) fn client_ack(&mut self, conn: usize, frame: &Value) {
        let conn = &self.conns[conn];
        let (client, broker) = (given(&frame["clientMessageId"]), given(&frame["brokerMessageId"]));
        for row in self.rows.iter_mut().filter(|row| !row.delivered) {
            let named = row.id == broker.as_str().unwrap_or_default() || (!client.is_null() && row.client_id == client);
            let mine = row.target == conn.member
                || conn.session.as_ref() == Some(&row.target)
                || row.target.starts_with(['@', '#', '*']);
            row.delivered |= named && mine;
        }
    }

    /// Rows that nobody has acknowledged.
    pub(crate) fn undelivered(&self) -> usize {
        self.rows.iter().filter(|row| !row.delivered).count()
    }

    /// A drain of every connection, as a message of somebody else would cause.
    pub(crate) fn trigger(&mut self, now: Instant) {
        let all: Vec<u64> = self.conns.iter().map(|conn| conn.presence).collect();
        all.into_iter().for_each(|presence| self.drain(presence, now));
    }
}
