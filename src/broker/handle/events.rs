//! What the others hear when somebody comes or goes. Events are about now: they are never kept.

use std::sync::Arc;

use crate::base::ids::{MemberKey, MeshId, MessageId, PresenceId};
use crate::base::time::{Millis, iso, now_millis};
use crate::broker::Shared;
use crate::broker::conn::{Cmd, Seat};
use crate::broker::presence::{Ended, Gone, Kind};
use crate::broker::router::How;
use crate::crypto::random;
use crate::store::hub::{Actor, Entry, Event};
use crate::wire::grant::Capability;
use crate::wire::json::{self, Value, json};
use crate::wire::priority::Priority;
use crate::wire::server::{Push, ServerFrame};
use crate::wire::skill::SkillChange;
use crate::wire::state::StateChange;

/// How somebody came, for those who are told of it.
#[derive(Debug)]
pub(in crate::broker) struct Arrival {
    pub(in crate::broker) how: How,
    /// When it was last seen, if it has been here before and went without saying that it is over.
    pub(in crate::broker) away_since: Option<Millis>,
    pub(in crate::broker) visible: bool,
}

/// Whoever comes back to the place that was kept for it was never said to be gone.
pub(in crate::broker) fn entered(shared: &Shared, seat: &Seat, arrival: &Arrival) {
    if matches!(seat.kind, Kind::Passing(_)) {
        return;
    }
    let how = &arrival.how;
    let groups = json::value(&shared.router.groups(&seat.mesh, &seat.presence));
    let role = if matches!(seat.kind, Kind::Session(_)) { "session" } else { "control-plane" };
    let restored = matches!(how, How::Returned(_));
    if !matches!(how, How::Replaced) {
        let payload = json!({"groups": groups, "pubkey": seat.key(), "restored": restored, "role": role});
        log(shared, seat, Event::PeerJoined, payload);
    }
    if !matches!(how, How::Joined) || !arrival.visible {
        return;
    }
    let mut data = json!({"name": seat.name, "displayName": seat.name, "pubkey": seat.key(), "groups": groups});
    let event = match arrival.away_since {
        None => "peer_joined",
        Some(since) => {
            data["lastSeenAt"] = Value::String(iso(since));
            "peer_returned"
        }
    };
    tell_others(shared, &seat.mesh, Some(&seat.presence), event, data);
}

/// A peer hides, or shows itself again.
pub(super) fn seen(shared: &Shared, seat: &Seat, visible: bool) {
    let event = if visible { "peer_visible" } else { "peer_hidden" };
    let data = json!({"name": seat.name, "displayName": seat.name, "pubkey": seat.key()});
    tell_others(shared, &seat.mesh, Some(&seat.presence), event, data);
}

/// Somebody wrote a shared value.
pub(super) fn state_changed(shared: &Shared, seat: &Seat, change: StateChange) {
    let text: Arc<str> = ServerFrame::StateChange(change).encode().into();
    let hidden = shared.allowed.denied_by(&seat.mesh, seat.member.key, Capability::StateRead);
    for (presence, line) in shared.router.lines_of(&seat.mesh, |member| !hidden.contains(&member)) {
        if presence != seat.presence {
            line.tell(Cmd::Event(text.clone()));
        }
    }
}

/// Somebody published a skill, or removed one. Whoever did so hears of it, too: its daemon speaks for other sessions as well.
pub(super) fn skill_changed(shared: &Shared, seat: &Seat, change: SkillChange) {
    let text: Arc<str> = ServerFrame::SkillChange(change).encode().into();
    for line in shared.router.others(&seat.mesh, None) {
        line.tell(Cmd::Event(text.clone()));
    }
}

pub(in crate::broker) fn left(shared: &Shared, mesh: &MeshId, gone: &Gone) {
    if let Some(key) = gone.session {
        let mut written = shared.hub.sessions_gone(vec![(mesh.clone(), key)], gone.ended);
        // It may have come back between then and now, and have been written down before this.
        if shared.router.has_session(mesh, key) {
            written = written.and_then(|()| shared.hub.session_back(mesh.clone(), key));
        }
        if let Err(err) = written {
            log::error!("hub: {err}");
        }
    }
    if gone.announced {
        let payload = json!({"pubkey": gone.key});
        let actor = Actor::Key(gone.member);
        write_down(shared, vec![Entry { mesh: mesh.clone(), event: Event::PeerLeft, actor, payload, now: now_millis() }]);
        let data = json!({"name": gone.name, "displayName": gone.name, "pubkey": gone.key});
        if gone.visible {
            tell_others(shared, mesh, None, "peer_left", data);
        }
    }
}

/// Takes places away, and tells those who sat there and everybody else.
pub(in crate::broker) fn evict(shared: &Shared, mesh: &MeshId, ids: &[PresenceId], code: u16, reason: &'static str) {
    for (gone, line) in shared.router.evict(mesh, ids) {
        if let Some(line) = line {
            line.end(Ended::Evicted(code, reason));
        }
        left(shared, mesh, &gone);
    }
}

/// Takes the places of certain members away, those included who are only passing through.
pub(in crate::broker) fn expel(shared: &Shared, mesh: &MeshId, who: impl Fn(MemberKey) -> bool, code: u16, reason: &'static str) {
    let going = shared.router.seen(mesh).into_iter().filter(|one| who(one.member));
    let ids: Vec<PresenceId> = going.map(|one| one.id).collect();
    evict(shared, mesh, &ids, code, reason);
}

/// Notes in the mesh's audit log what this peer did: never what it wrote.
pub(super) fn log(shared: &Shared, seat: &Seat, event: Event, payload: Value) {
    log_all(shared, seat, event, vec![payload]);
}

/// As [`log`], of several at once.
pub(super) fn log_all(shared: &Shared, seat: &Seat, event: Event, payloads: Vec<Value>) {
    let (actor, now) = (Actor::Member(seat.member.id.clone()), now_millis());
    let entry = |payload| Entry { mesh: seat.mesh.clone(), event, actor: actor.clone(), payload, now };
    write_down(shared, payloads.into_iter().map(entry).collect());
}

fn write_down(shared: &Shared, entries: Vec<Entry>) {
    if let Err(err) = shared.hub.audit(entries) {
        log::error!("hub: {err}");
        shared.store_failed(&err);
    }
}

fn tell_others(shared: &Shared, mesh: &MeshId, but: Option<&PresenceId>, event: &str, data: Value) {
    let push = Push {
        message_id: Some(MessageId::new(random::uuid_v4())),
        mesh_id: Some(mesh.clone()),
        sender_pubkey: "system".to_owned(),
        priority: Priority::Low,
        created_at: Some(iso(now_millis())),
        subtype: Some("system".to_owned()),
        event: Some(event.to_owned()),
        event_data: Some(data),
        ..Push::default()
    };
    let text: Arc<str> = ServerFrame::Push(Box::new(push)).encode().into();
    for line in shared.router.others(mesh, but) {
        line.tell(Cmd::Event(text.clone()));
    }
}
