//! The outbox: `GET /v1/outbox`, `GET /v1/outbox/<id>`, and what a person does to its rows: requeue, abort, prune. A session
//! sees and touches its own.

use crate::base::ids::ClientId;
use crate::base::time::{iso, now_millis, parse_iso};
use crate::crypto::random;
use crate::daemon::drain;
use crate::store::RowId;
use crate::store::outbox::{Filter, Listed, Requeued as Outcome, Sender, Status};
use crate::wire::ipc::{Abort, Aborted, OutboxItem, OutboxPage, OutboxRow, Prune, Removed, Requeue};
use crate::wire::json;

use super::reply::Reply;
use super::routes::Call;
use super::send::is_client_id;

/// Rows of one page: as asked, within these bounds.
const DEFAULT_PAGE: usize = 50;
const MAX_PAGE: usize = 500;

/// Whose rows a caller may see and touch: a session its own, the user all.
pub(super) fn sender(call: &Call<'_>) -> Option<Sender> {
    call.caller.session().map(|session| session.public_key().map_or(Sender::Member, Sender::Session))
}

pub(super) fn list(call: &Call<'_>) -> Reply {
    let limit = call.query("limit").and_then(|limit| limit.parse::<usize>().ok()).unwrap_or(DEFAULT_PAGE);
    let status = call.query("status").and_then(Status::parse);
    match call.ctx.outbox.list(Filter { status, sender: sender(call), limit: limit.clamp(1, MAX_PAGE) }) {
        Ok(rows) => Reply::ok(&OutboxPage { items: rows.into_iter().map(item).collect() }),
        Err(err) => Reply::store(&err),
    }
}

pub(super) fn show(call: &Call<'_>) -> Reply {
    match call.ctx.outbox.show(call.item.clone(), sender(call)) {
        Ok(Some(row)) => Reply::ok(&OutboxRow {
            item: item(row.listed),
            message: row.text,
            reply_to_id: row.reply_to,
            // Written by this program as JSON.
            meta: row.meta.and_then(|meta| json::decode(meta.as_bytes()).ok()),
        }),
        Ok(None) => Reply::error(404, "not found").and("id", call.item.as_str()).into(),
        Err(err) => Reply::store(&err),
    }
}

pub(super) fn abort(call: &Call<'_>) -> Reply {
    let request = match call.json::<Abort>() {
        Ok(request) if !request.id.is_empty() => request,
        _ => return Reply::error(400, "missing 'id'").into(),
    };
    let by = request.aborted_by.unwrap_or_else(|| "operator".to_owned());
    match call.ctx.outbox.abort(RowId::new(request.id.as_str()), sender(call), by, now_millis()) {
        Ok(true) => Reply::ok(&Aborted { aborted_row_id: request.id }),
        Ok(false) => Reply::error(409, "row not found, already aborted, or already done").into(),
        Err(err) => Reply::store(&err),
    }
}

pub(super) fn prune(call: &Call<'_>) -> Reply {
    clear(call).unwrap_or_else(|refused| refused)
}

fn clear(call: &Call<'_>) -> Result<Reply, Reply> {
    let request: Prune = call.json()?;
    let finished = |status: &Status| !matches!(status, Status::Pending | Status::Inflight);
    let statuses: Vec<Status> = match &request.statuses {
        None => vec![Status::Done, Status::Aborted],
        Some(words) => {
            let known: Option<Vec<Status>> = words.iter().map(|word| Status::parse(word).filter(finished)).collect();
            known.ok_or_else(|| Reply::from(Reply::error(400, "'statuses' must be of 'done', 'dead', 'aborted'")))?
        }
    };
    let before = match request.before.as_deref().map(|text| (text, parse_iso(text))) {
        None => now_millis(),
        Some((_, Some(before))) => before,
        Some((text, None)) => return Err(Reply::error(400, "'before' must be an ISO 8601 time").detail(text).into()),
    };
    let mut removed = 0;
    for status in statuses {
        // In steps, so that others are served meanwhile.
        loop {
            match call.ctx.outbox.clear(status, sender(call), before) {
                Ok(0) => break,
                Ok(step) => removed += step,
                Err(err) => return Err(Reply::store(&err)),
            }
        }
    }
    Ok(Reply::ok(&Removed { removed, id: None }))
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
    if request.new_client_message_id.as_deref().is_some_and(|id| !is_client_id(id)) {
        return Reply::error(400, "new_client_message_id must be printable and at most 128 bytes").into();
    }
    let new_client_id = request.new_client_message_id.map_or_else(|| ClientId::new(random::uuid_v7(now_millis())), ClientId::new);
    let new_row = RowId::new(random::uuid_v7(now_millis()));
    let aborted_by = request.aborted_by.unwrap_or_else(|| "operator".to_owned());
    let row = RowId::new(request.id.as_str());
    match call.ctx.outbox.requeue(row, sender(call), new_client_id.clone(), aborted_by, now_millis(), new_row.clone()) {
        Ok(Outcome::Requeued(route)) => {
            call.ctx.drain.tell(drain::Event::Wake(route));
            Reply::ok(&crate::wire::ipc::Requeued {
                aborted_row_id: request.id,
                new_row_id: new_row.to_string(),
                new_client_message_id: new_client_id,
            })
        }
        Ok(Outcome::OnItsWay) => Reply::error(409, "row is on its way to the broker")
            .hint("try again when the broker has answered, or can not be reached")
            .into(),
        Ok(Outcome::NotRequeueable) => Reply::error(409, "row not found, already aborted, or already done").into(),
        Ok(Outcome::IdTaken) => Reply::error(409, "new_client_message_id is taken").into(),
        Err(err) => Reply::store(&err),
    }
}
