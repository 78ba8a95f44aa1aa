//! The outbox: `GET /v1/outbox`, `POST /v1/outbox/requeue`.

use crate::base::ids::ClientId;
use crate::base::time::{iso, now_millis};
use crate::crypto::random;
use crate::daemon::drain;
use crate::store::RowId;
use crate::store::outbox::{Listed, Requeued as Outcome, Status};
use crate::wire::ipc::{OutboxItem, OutboxPage, Requeue};
use crate::wire::json;

use super::reply::Reply;
use super::routes::Call;

/// Rows of one page: as asked, within these bounds.
const DEFAULT_PAGE: usize = 50;
const MAX_PAGE: usize = 500;

pub(super) fn list(call: &Call<'_>) -> Reply {
    let status = call.query("status").and_then(Status::parse);
    let limit = call.query("limit").and_then(|limit| limit.parse::<usize>().ok()).unwrap_or(DEFAULT_PAGE);
    match call.ctx.outbox.list(status, limit.clamp(1, MAX_PAGE)) {
        Ok(rows) => Reply::ok(&OutboxPage { items: rows.into_iter().map(item).collect() }),
        Err(err) => Reply::store(&err),
    }
}

fn item(row: Listed) -> OutboxItem {
    OutboxItem {
        id: row.id.to_string(),
        client_message_id: row.client_id,
        status: row.status.as_str().to_owned(),
        attempts: row.attempts,
        enqueued_at: iso(row.enqueued_at),
        next_attempt_at: iso(row.next_attempt_at),
        delivered_at: row.delivered_at.map(iso),
        broker_message_id: row.broker_id,
        last_error: row.last_error,
        aborted_at: row.aborted_at.map(iso),
        aborted_by: row.aborted_by,
        superseded_by: row.superseded_by.map(|id| id.to_string()),
        payload_bytes: row.payload_bytes,
        mesh: row.mesh.map(|mesh| mesh.to_string()),
        target: row.target,
        sender_session_pubkey: row.sender_session.map(|key| key.to_string()),
    }
}

pub(super) fn requeue(call: &Call<'_>) -> Reply {
    let request = match json::decode::<Requeue>(call.body) {
        Ok(request) if !request.id.is_empty() => request,
        Ok(_) => return Reply::error(400, "missing 'id'").into(),
        Err(err) => return Reply::error(400, "missing 'id'").detail(&err.to_string()).into(),
    };
    let new_client_id = request.new_client_message_id.map_or_else(|| ClientId::new(random::uuid_v4()), ClientId::new);
    let new_row = RowId::new(random::uuid_v7(now_millis()));
    let aborted_by = request.aborted_by.unwrap_or_else(|| "operator".to_owned());
    let row = RowId::new(request.id.as_str());
    match call.ctx.outbox.requeue(row, new_client_id.clone(), aborted_by, now_millis(), new_row.clone()) {
        Ok(Outcome::Requeued(route)) => {
            call.ctx.drain.tell(drain::Event::Wake(route));
            Reply::ok(&crate::wire::ipc::Requeued {
                aborted_row_id: request.id,
                new_row_id: new_row.to_string(),
                new_client_message_id: new_client_id,
            })
        }
        Ok(Outcome::NotRequeueable) => Reply::error(409, "row not found, already aborted, or already done").into(),
        Ok(Outcome::IdTaken) => Reply::error(409, "new_client_message_id is taken").into(),
        Err(err) => Reply::store(&err),
    }
}
