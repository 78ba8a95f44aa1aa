//! `GET /v1/events`: what happens, as it happens. Mail is read from the inbox in order, whether it came before the stream
//! was opened or after; the event's id is the row's place in the inbox, and `Last-Event-ID` resumes behind it.

use std::io::{self, Write};

use crossbeam_channel::RecvTimeoutError;

use crate::base::time::{iso, now_millis};
use crate::daemon::bus::{News, Subscription};
use crate::daemon::ctx::Ctx;
use crate::net::sse;
use crate::store::Seq;
use crate::store::inbox::{Inbound, Scope};
use crate::wire::event::{Bye, Event, Lagged, Message};
use crate::wire::limits::STREAM_KEEPALIVE;

use super::auth::Caller;
use super::inbox::{body_parts, recipient_parts};

/// Rows read from the inbox at a time: the first of them, and the most.
const FIRST_PAGE: usize = 4;
const PAGE: usize = 64;

/// Text of one page above which the next is smaller: what a subscriber costs that stops reading in the middle of its mail.
const PAGE_BYTES: usize = 256 * 1024;

/// Serves one stream until the subscriber leaves, falls behind, or is not known any more, or the daemon stops. `after` is the
/// subscriber's cursor; without one it hears only what is new.
pub(super) fn stream(
    ctx: &Ctx,
    subscription: &Subscription,
    caller: &Caller,
    (scope, after): (&Scope, Option<Seq>),
    out: &mut dyn Write,
) -> io::Result<()> {
    let last = ctx.inbox.last_seq().map_err(store_error)?;
    // A cursor from the life of another database would hide everything up to it.
    let mut cursor = after.map_or(last, |after| after.min(last));
    mail(ctx, scope, &mut cursor, out)?;
    loop {
        let news = subscription.news.recv_timeout(STREAM_KEEPALIVE);
        if !caller.is_known(ctx) {
            return write(out, None, &Event::Bye(Bye { bye: "the session has ended".to_owned() }));
        }
        match news {
            Ok(News::Mail) => {
                subscription.mail_noticed();
                mail(ctx, scope, &mut cursor, out)?;
            }
            Ok(News::Event(event)) => write(out, None, &event)?,
            Ok(News::Bye) => return write(out, None, &Event::Bye(Bye { bye: "the daemon is stopping".to_owned() })),
            Err(RecvTimeoutError::Timeout) => sse::write_comment(out, "keepalive")?,
            Err(RecvTimeoutError::Disconnected) => return write(out, None, &Event::Lagged(Lagged { lagged: true })),
        }
    }
}

/// Writes everything after the cursor, and moves it.
fn mail(ctx: &Ctx, scope: &Scope, cursor: &mut Seq, out: &mut dyn Write) -> io::Result<()> {
    let mut page = FIRST_PAGE;
    loop {
        let rows = ctx.inbox.since(*cursor, scope.clone(), page).map_err(store_error)?;
        let full = page <= rows.len();
        let mut text = Vec::new();
        for row in rows {
            let seq = row.seq;
            let event = message(row);
            sse::write_event(&mut text, Some(seq.0), event.name(), &event.data(&iso(now_millis())))?;
            *cursor = seq;
        }
        out.write_all(&text)?;
        if !full {
            return Ok(());
        }
        page = if text.len() < PAGE_BYTES { (page * 2).min(PAGE) } else { (page / 2).max(1) };
    }
}

fn write(out: &mut dyn Write, id: Option<u64>, event: &Event) -> io::Result<()> {
    let mut text = Vec::new();
    sse::write_event(&mut text, id, event.name(), &event.data(&iso(now_millis())))?;
    out.write_all(&text)
}

fn store_error(err: crate::store::Error) -> io::Error {
    io::Error::other(err.to_string())
}

fn message(row: Inbound) -> Event {
    let (body, plain, unreadable) = body_parts(row.body);
    let (recipient_pubkey, recipient_kind) = recipient_parts(row.recipient.as_ref());
    Event::Message(Box::new(Message {
        id: row.id.to_string(),
        mesh: row.mesh,
        client_message_id: row.client_id,
        broker_message_id: row.broker_id,
        sender_pubkey: row.sender_pubkey,
        sender_member_pubkey: row.sender_member.map(|key| key.to_string()),
        sender_name: row.sender_name,
        topic: row.topic,
        sent_to: row.sent_to,
        reply_to_id: row.reply_to,
        priority: row.priority,
        subtype: row.subtype,
        body,
        created_at: row.created_at,
        recipient_pubkey,
        recipient_kind,
        unreadable,
        plain,
        mentions: row.mentions,
        mentioned: row.mentioned,
    }))
}
