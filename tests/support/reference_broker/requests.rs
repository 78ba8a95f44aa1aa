//! Everything but messages: who is there, shared state, memory, skills, and what an administrator does.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::state::{Conn, Delayed, State};

impl State {
    pub(super) fn request(&mut self, socket: u64, conn: usize, kind: &str, frame: &Value) {
        let text = |key: &str| frame[key].as_str().unwrap_or_default().to_owned();
        let by = self.conns[conn].name.clone();
        let reply = match kind {
            "list_peers" => json!({"type": "peers_list", "peers": self.peers()}),
            "set_visible" | "set_profile" => json!({"type": "ack", "id": text("_reqId"), "messageId": "", "queued": false}),
            "get_state" => {
                let value = self.kept.get(&format!("state {}", text("key"))).cloned().unwrap_or_default();
                json!({"type": "state_result", "key": text("key"), "value": value, "updatedBy": by, "updatedAt": self.now_iso()})
            }
            "list_state" => {
                let entries = self.all(
                    "state ",
                    |key, value| json!({"key": key, "value": value, "updatedBy": by, "updatedAt": self.now_iso()}),
                );
                json!({"type": "state_list", "entries": entries})
            }
            "remember" => {
                let id = claudemesh::crypto::random::id32();
                self.kept.insert(format!("memory {id}"), frame["content"].clone());
                json!({"type": "memory_stored", "id": id})
            }
            "recall" => {
                let memories = self.all("memory ", |id, content| {
                    json!({"id": id, "content": content, "tags": [], "rememberedBy": by, "rememberedAt": self.now_iso()})
                });
                json!({"type": "memory_results", "memories": memories})
            }
            "forget" => {
                self.kept.remove(&format!("memory {}", text("memoryId")));
                json!({"type": "ack", "id": text("memoryId"), "messageId": text("memoryId"), "queued": false})
            }
            "share_skill" => {
                self.keep_skill(&text("name"), &text("instructions"));
                json!({"type": "skill_ack", "name": text("name"), "action": "shared"})
            }
            "list_skills" => json!({"type": "skill_list", "skills": self.all("skill ", |_, skill| skill.clone())}),
            "get_skill" => {
                json!({"type": "skill_data", "skill": self.kept.get(&format!("skill {}", text("name")))})
            }
            "message_status" => self.message_status(&text("messageId")),
            _ => return self.note(conn, kind, frame),
        };
        self.answer(socket, frame, reply);
    }

    /// What is done without an answer, with an id or without.
    fn note(&mut self, conn: usize, kind: &str, frame: &Value) {
        let conn = &mut self.conns[conn];
        let text = |key: &str| frame[key].as_str().unwrap_or_default();
        match kind {
            // Another status is a value that the column refuses: silence.
            "set_status" if ["idle", "working", "dnd"].contains(&text("status")) => conn.status = text("status").to_owned(),
            "set_summary" => conn.summary = text("summary").into(),
            "join_group" => {
                let group = json!({"name": frame["name"], "role": frame["role"]});
                conn.groups.as_array_mut().into_iter().for_each(|groups| groups.push(group.clone()));
            }
            "set_state" if !frame["value"].is_null() => {
                self.kept.insert(format!("state {}", text("key")), frame["value"].clone());
            }
            // The switch has no default branch.
            _ => {}
        }
    }

    fn answer(&mut self, socket: u64, frame: &Value, mut reply: Value) {
        if !frame["_reqId"].is_null() {
            reply["_reqId"] = frame["_reqId"].clone();
        }
        let delay = if reply["type"] == "peers_list" { self.rules.peers_delay } else { Duration::ZERO };
        if delay.is_zero() {
            self.say(socket, &reply);
        } else {
            self.later(socket, Instant::now() + delay, Delayed::Answer(reply));
        }
    }

    fn all(&self, prefix: &str, show: impl Fn(&str, &Value) -> Value) -> Vec<Value> {
        self.kept.iter().filter_map(|(key, value)| Some(show(key.strip_prefix(prefix)?, value))).collect()
    }

    /// What is known of a key is looked up by key, and the last connection wins: a member's own row shows the directory and
    /// channel of its latest session.
    fn peers(&self) -> Vec<Value> {
        let mut latest: HashMap<&str, &Conn> = HashMap::new();
        for conn in &self.conns {
            latest.insert(&conn.member, conn);
            latest.extend(conn.session.as_deref().map(|key| (key, conn)));
        }
        let row = |conn: &Conn| {
            let live = latest.get(conn.key()).map_or(&conn.hello, |conn| &conn.hello);
            json!({
                "pubkey": conn.key(), "memberPubkey": conn.member, "displayName": conn.name, "status": conn.status,
                "summary": conn.summary, "groups": conn.groups, "sessionId": conn.hello["sessionId"],
                "connectedAt": self.now_iso(), "cwd": live["cwd"],
                "peerRole": if conn.is_control_plane() { "control-plane" } else { "session" },
                "hostname": live["hostname"], "peerType": live["peerType"], "channel": live["channel"], "visible": true,
                "stats": {"messagesIn": 0},
            })
        };
        self.conns.iter().map(row).collect()
    }

    /// Kicks the sessions of this display name; a daemon's own connection is left alone.
    pub(crate) fn kick(&mut self, name: &str) {
        self.cut(|conn| conn.name == name && !conn.is_control_plane(), 4001, "kicked");
    }

    /// Bans a member: all its connections are closed, and its hellos refused.
    pub(crate) fn ban(&mut self, name: &str) {
        let Some(member) = self.members.iter_mut().find(|member| member.name == name) else { return };
        member.revoked = true;
        let key = member.key.clone();
        self.cut(|conn| conn.member == key, 4002, "banned");
    }

    /// Closes connections as a second one with the same session id does.
    pub(crate) fn replace(&mut self, name: &str) {
        self.cut(|conn| conn.name == name, 1000, "session_replaced");
    }

    /// The registry forgets a connection whose socket stays open: the reference's resume race.
    pub(crate) fn forget(&mut self, name: &str) {
        self.conns.retain(|conn| conn.name != name);
    }

    /// Nothing from this member is let through to that one.
    pub(crate) fn block(&mut self, from: &str, to: &str) {
        let Some(key) = self.members.iter().find(|member| member.name == from).map(|member| member.key.clone()) else { return };
        for member in self.members.iter_mut().filter(|member| member.name == to) {
            member.blocked.insert(key.clone());
        }
    }

    /// A skill that somebody shared.
    pub(crate) fn keep_skill(&mut self, name: &str, instructions: &str) {
        let skill = json!({
            "name": name, "description": "", "instructions": instructions, "tags": [], "author": "somebody", "manifest": null,
            "createdAt": self.now_iso(),
        });
        self.kept.insert(format!("skill {name}"), skill);
    }

    /// Whether a connection of this name is open.
    pub(crate) fn is_here(&self, name: &str) -> bool {
        self.conns.iter().any(|conn| conn.name == name && conn.offline_until.is_none())
    }

    /// Whether the connection of this name is kept without a socket.
    pub(crate) fn is_away(&self, name: &str) -> bool {
        self.conns.iter().any(|conn| conn.name == name && conn.offline_until.is_some())
    }

    fn cut(&mut self, which: impl Fn(&Conn) -> bool, code: u16, reason: &str) {
        for conn in self.conns.iter().filter(|conn| which(conn)) {
            self.close(conn.socket, code, reason);
        }
        self.conns.retain(|conn| !which(conn));
    }

    /// A push of a test's own making, to every connection of this name.
    pub(crate) fn push(&self, name: &str, frame: &Value) {
        for conn in self.conns.iter().filter(|conn| conn.name == name) {
            self.say(conn.socket, frame);
        }
    }
}
