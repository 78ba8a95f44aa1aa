//! The inbox: `GET /v1/inbox`, `POST /v1/inbox/seen`, `DELETE /v1/inbox`, `DELETE /v1/inbox/<id>`. Each within the
//! caller's own scope.

use crate::base::ids::{PublicKey, Slug};
use crate::base::time::{iso, now_millis, parse_iso};
use crate::store::RowId;
use crate::store::inbox::{Body, Filter, Inbound, Recipient};
use crate::wire::ipc::{InboxItem, InboxPage, Marked, Removed, Seen};
use crate::wire::json;

use super::reply::Reply;
use super::routes::Call;

/// Rows of one page: as asked, within these bounds.
const DEFAULT_PAGE: usize = 100;
const MAX_PAGE: usize = 1000;

pub(super) fn list(call: &Call<'_>) -> Reply {
    let limit = call.query("limit").and_then(|limit| limit.parse::<usize>().ok()).unwrap_or(DEFAULT_PAGE);
    let from = call.query("from");
    // A whole key has an index; a name or the beginning of a key is looked for among the newest.
    let is_key = |from: &&str| PublicKey::parse(from).is_some();
    let filter = Filter {
        scope: call.caller.scope(call.ctx),
        since: call.query("since").and_then(parse_iso),
        until: call.query("until").and_then(parse_iso),
        topic: call.query("topic").map(str::to_owned),
        sender: from.filter(|from| is_key(from)).map(str::to_owned),
        sender_like: from.filter(|from| !is_key(from)).map(str::to_owned),
        mesh: call.query("mesh").map(Slug::new),
        unread_only: call.query("unread_only") == Some("true"),
        text: call.query("q").map(str::to_owned),
        limit: limit.clamp(1, MAX_PAGE),
    };
    // Looking at everything on the machine does not mean that each session has seen its mail.
    let mark = match call.query("mark_seen") {
        Some("false") => false,
        Some("true") => true,
        _ => call.caller.session().is_some(),
    };
    match call.ctx.inbox.list(filter, mark.then(now_millis)) {
        Ok(page) => {
            let items = page.rows.into_iter().map(item).collect();
            let searched_back_to = page.searched_back_to.map(iso);
            Reply::ok(&InboxPage { items, marked_seen: page.marked, more: page.more, searched_back_to })
        }
        Err(err) => Reply::store(&err),
    }
}

pub(super) fn seen(call: &Call<'_>) -> Reply {
    let ids = match json::decode::<Seen>(call.body) {
        Ok(seen) => seen.ids,
        Err(err) => return Reply::error(400, "missing 'ids' (string[])").detail(&err.to_string()).into(),
    };
    match call.ctx.inbox.mark_seen(ids.into_iter().map(RowId::new).collect(), call.caller.scope(call.ctx), now_millis()) {
        Ok(marked_seen) => Reply::ok(&Marked { marked_seen }),
        Err(err) => Reply::store(&err),
    }
}

pub(super) fn flush(call: &Call<'_>) -> Reply {
    let before = match call.query("before").map(|text| (text, parse_iso(text))) {
        Some((text, None)) => return Reply::error(400, "'before' must be an ISO 8601 time").detail(text).into(),
        Some((_, before)) => before,
        None => None,
    };
    match call.ctx.inbox.flush(&call.caller.scope(call.ctx), call.query("mesh").map(Slug::new).as_ref(), before) {
        Ok(removed) => Reply::ok(&Removed { removed, id: None }),
        Err(err) => Reply::store(&err),
    }
}

pub(super) fn delete(call: &Call<'_>) -> Reply {
    if call.item.is_empty() {
        return Reply::error(400, "missing id").into();
    }
    match call.ctx.inbox.delete(RowId::new(call.item.as_str()), call.caller.scope(call.ctx)) {
        Ok(true) => Reply::ok(&Removed { removed: 1, id: Some(call.item.clone()) }),
        Ok(false) => Reply::error(404, "not found").and("id", call.item.as_str()).into(),
        Err(err) => Reply::store(&err),
    }
}

/// A row as the API shows it.
pub(super) fn item(row: Inbound) -> InboxItem {
    let (body, plain, unreadable) = body_parts(row.body);
    let (recipient_pubkey, recipient_kind) = recipient_parts(row.recipient.as_ref());
    InboxItem {
        id: row.id.to_string(),
        client_message_id: row.client_id,
        broker_message_id: row.broker_id,
        mesh: row.mesh,
        topic: row.topic,
        sent_to: row.sent_to,
        sender_pubkey: row.sender_pubkey,
        sender_name: row.sender_name,
        body,
        received_at: iso(row.received_at),
        reply_to_id: row.reply_to,
        seen_at: row.seen_at.map(iso),
        recipient_pubkey,
        recipient_kind,
        priority: row.priority,
        sender_member_pubkey: row.sender_member.map(|key| key.to_string()),
        unreadable,
        plain,
        mentions: row.mentions,
        mentioned: row.mentioned,
        seq: row.seq.0,
        offered_at: row.offered_at.map(iso),
        offered_by: row.offered_by,
    }
}

/// Text, whether it came in clear, and why there is none.
pub(super) fn body_parts(body: Body) -> (Option<String>, bool, Option<String>) {
    match body {
        Body::Opened(text) => (Some(text), false, None),
        Body::Plain(text) => (Some(text), true, None),
        Body::Unreadable { reason, .. } => (None, false, Some(reason)),
    }
}

/// Key and kind of a recipient.
pub(super) fn recipient_parts(recipient: Option<&Recipient>) -> (Option<String>, Option<String>) {
    match recipient {
        Some(Recipient::Session(key)) => (Some(key.to_string()), Some("session".to_owned())),
        Some(Recipient::Member(key) | Recipient::Keyless(key)) => (Some(key.to_string()), Some("member".to_owned())),
        None => (None, None),
    }
}
