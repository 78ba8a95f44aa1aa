//! Remembered texts: `remember`, `recall`, `forget`.

use crate::base::ids::MessageId;
use crate::base::time::{iso, now_millis};
use crate::broker::Shared;
use crate::broker::conn::{Seat, error};
use crate::broker::limits::MAX_SHARED;
use crate::crypto::random;
use crate::net::ws::Outbox;
use crate::store::hub::MemoryRow;
use crate::wire::code::Code;
use crate::wire::json;
use crate::wire::memory::{Forget, Memory, MemoryRecallResult, MemoryResults, MemoryStored, Recall, Remember};
use crate::wire::rest::Rest;
use crate::wire::server::{Ack, ServerFrame};

use super::{fits, found, made};

/// Tags of one text, and the longest of them in bytes.
const MAX_TAGS: usize = 32;
const MAX_TAG: usize = 64;

/// Longest query, in bytes.
const MAX_QUERY: usize = 1024;

pub(in crate::broker) fn remember(shared: &Shared, seat: &Seat, ask: Remember, out: &mut Outbox) {
    let req_id = ask.req_id.as_ref();
    if !fits("content", &ask.content, MAX_SHARED, req_id, out) {
        return;
    }
    if MAX_TAGS < ask.tags.len() || ask.tags.iter().any(|tag| MAX_TAG < tag.len()) {
        return error(out, Code::Invalid, "tags must be at most 32, of at most 64 bytes each", None, ask.req_id);
    }
    let id = random::id32();
    let row =
        MemoryRow { id: id.clone(), content: ask.content, tags: json::encode(&ask.tags), by: String::new(), at: now_millis() };
    let outcome = shared.hub.remember(seat.mesh.clone(), seat.author(), row);
    let Some(outcome) = found(shared, outcome, req_id, out) else { return };
    if made(outcome, "text", req_id, out) {
        let stored = MemoryStored { id: Some(id.clone()), memory_id: Some(id), req_id: ask.req_id };
        out.text(ServerFrame::MemoryStored(stored).encode());
    }
}

fn memory(row: MemoryRow) -> Memory {
    Memory {
        id: row.id,
        content: row.content,
        // Written by this program as a JSON list.
        tags: json::decode(row.tags.as_bytes()).unwrap_or_default(),
        remembered_by: row.by,
        remembered_at: iso(row.at),
        rest: Rest::default(),
    }
}

/// Answered twice: once for the reference's commands, once for its daemon. Whoever has read one ignores the other.
pub(in crate::broker) fn recall(shared: &Shared, seat: &Seat, ask: Recall, out: &mut Outbox) {
    if MAX_QUERY < ask.query.len() {
        return error(out, Code::Invalid, "query must have at most 1024 bytes", None, ask.req_id);
    }
    let rows = shared.hub.recall(seat.mesh.clone(), ask.query);
    let Some(rows) = found(shared, rows, ask.req_id.as_ref(), out) else { return };
    let memories: Vec<Memory> = rows.into_iter().map(memory).collect();
    let again = MemoryRecallResult { matches: memories.clone(), req_id: ask.req_id.clone() };
    out.text(ServerFrame::MemoryResults(MemoryResults { memories, req_id: ask.req_id }).encode());
    out.text(ServerFrame::MemoryRecallResult(again).encode());
}

pub(in crate::broker) fn forget(shared: &Shared, seat: &Seat, ask: Forget, out: &mut Outbox) {
    let outcome = shared.hub.forget(seat.mesh.clone(), ask.memory_id.clone(), seat.author());
    let Some(outcome) = found(shared, outcome, ask.req_id.as_ref(), out) else { return };
    if made(outcome, "text", ask.req_id.as_ref(), out) {
        // The reference answers with the text's id in both places.
        let message_id = MessageId::new(ask.memory_id.as_str());
        let ack = Ack { id: ask.memory_id, message_id, queued: false, error: None, retry_after_ms: None, req_id: ask.req_id };
        out.text(ServerFrame::Ack(ack).encode());
    }
}
