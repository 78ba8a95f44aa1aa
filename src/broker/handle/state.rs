//! Shared values: `set_state`, `get_state`, `list_state`.

use crate::base::time::{iso, now_millis};
use crate::broker::Shared;
use crate::broker::conn::{Seat, error};
use crate::broker::limits::MAX_SHARED;
use crate::net::ws::Outbox;
use crate::store::hub::{Event, StateRow};
use crate::wire::code::Code;
use crate::wire::grant::Capability;
use crate::wire::json;
use crate::wire::rest::Rest;
use crate::wire::server::ServerFrame;
use crate::wire::state::{GetState, ListState, SetState, StateChange, StateEntry, StateList, StateResult, StateValue};

use super::{events, fits, fitting, found, made, presence};

/// Longest key, in bytes.
const MAX_KEY: usize = 256;

/// Values listed at most.
const MAX_LISTED: usize = 1_000;

pub(in crate::broker) fn set(shared: &Shared, seat: &Seat, ask: SetState, out: &mut Outbox) {
    let req_id = ask.req_id.as_ref();
    if ask.value.is_null() {
        return error(out, Code::Invalid, "value must not be null", None, ask.req_id);
    }
    let value = json::encode(&ask.value);
    if !fits("key", &ask.key, MAX_KEY, req_id, out) || !fits("value", &value, MAX_SHARED, req_id, out) {
        return;
    }
    let guarded = shared.allowed.deniers(&seat.mesh, seat.member.key, Capability::StateWrite);
    if !guarded.is_empty() {
        let there = shared.hub.get_state(seat.mesh.clone(), ask.key.clone());
        let Some(there) = found(shared, there, req_id, out) else { return };
        if there.and_then(|row| row.member).is_some_and(|member| guarded.contains(&member)) {
            return error(out, Code::Forbidden, "whoever set this value does not let you change it", None, ask.req_id);
        }
    }
    let member = Some(seat.member.key);
    let row = StateRow { key: ask.key.clone(), value, updated_by: seat.name.clone(), member, updated_at: now_millis() };
    let Some(outcome) = found(shared, shared.hub.set_state(seat.mesh.clone(), row), req_id, out) else { return };
    if made(outcome, "value", req_id, out) {
        let change = StateChange { key: ask.key, value: ask.value, updated_by: seat.name.clone() };
        events::log(shared, seat, Event::StateSet, json::json!({"key": change.key}));
        events::state_changed(shared, seat, change);
        presence::done(out, ask.req_id);
    }
}

fn entry(row: StateRow) -> StateEntry {
    StateEntry {
        key: row.key,
        // Written by this program as JSON.
        value: json::decode(row.value.as_bytes()).unwrap_or_default(),
        updated_by: row.updated_by,
        updated_at: iso(row.updated_at),
        rest: Rest::default(),
    }
}

/// Answered twice: once for the reference's commands, once for its daemon. Whoever has read one ignores the other.
pub(in crate::broker) fn get(shared: &Shared, seat: &Seat, ask: GetState, out: &mut Outbox) {
    let row = shared.hub.get_state(seat.mesh.clone(), ask.key.clone());
    let Some(row) = found(shared, row, ask.req_id.as_ref(), out) else { return };
    let hidden = shared.allowed.deniers(&seat.mesh, seat.member.key, Capability::StateRead);
    let state = row.filter(|row| row.member.is_none_or(|member| !hidden.contains(&member))).map(entry);
    let shown = state.clone().unwrap_or(StateEntry { key: ask.key, ..StateEntry::default() });
    out.text(ServerFrame::StateResult(StateResult { entry: shown, req_id: ask.req_id.clone() }).encode());
    out.text(ServerFrame::StateValue(StateValue { state, req_id: ask.req_id }).encode());
}

pub(in crate::broker) fn list(shared: &Shared, seat: &Seat, ask: ListState, out: &mut Outbox) {
    let rows = shared.hub.list_state(seat.mesh.clone(), MAX_LISTED);
    let Some(rows) = found(shared, rows, ask.req_id.as_ref(), out) else { return };
    let hidden = shared.allowed.deniers(&seat.mesh, seat.member.key, Capability::StateRead);
    let shown = rows.into_iter().filter(|row| row.member.is_none_or(|member| !hidden.contains(&member)));
    let (entries, truncated) = fitting(shown.map(entry));
    out.text(ServerFrame::StateList(StateList { entries, truncated, req_id: ask.req_id }).encode());
}
