//! What is sent later: `schedule`, `list_scheduled`, `cancel_scheduled`.

use std::time::Duration;

use crate::base::cron::Cron;
use crate::base::ids::{ClientId, MemberId, MessageId, PresenceId, PublicKey};
use crate::base::time::{Millis, now_millis};
use crate::broker::Shared;
use crate::broker::conn::{Seat, error};
use crate::broker::presence::Kind;
use crate::crypto::{base64, random, sealed};
use crate::net::ws::Outbox;
use crate::store;
use crate::store::hub::{Enqueued, Firing, Member, ScheduledRow, Scheduling, Submission, Topical};
use crate::wire::code::Code;
use crate::wire::grant::Capability;
use crate::wire::key::SEALED_BODY;
use crate::wire::priority::Priority;
use crate::wire::schedule::{
    CancelScheduled, CancelScheduledAck, ListScheduled, REMINDER, Schedule, ScheduledAck, ScheduledList, ScheduledMessage,
};
use crate::wire::server::ServerFrame;
use crate::wire::target::Target;
use crate::wire::topic::TopicRole;

use super::send::{self, is_base64};
use super::{fanout, fits, fitting, found, grant, keys};

/// Largest text or envelope, in bytes of its base64.
const MAX_BODY: usize = 60 * 1024;

/// Rows looked at in one step.
const STEP: usize = 32;

/// After a failure of the database.
const TRY_AGAIN: Duration = Duration::from_secs(10);

pub(in crate::broker) fn add(shared: &Shared, seat: &Seat, mut ask: Schedule, out: &mut Outbox) {
    let Some(target) = Target::parse(&ask.to) else {
        return error(out, Code::Invalid, "to is no key, @group, #topic or *", None, ask.req_id);
    };
    let now = now_millis();
    let deliver_at = match &ask.cron {
        None if 0 < ask.deliver_at => Some(ask.deliver_at),
        None => return error(out, Code::Invalid, "deliverAt or cron says when", None, ask.req_id),
        Some(cron) => Cron::parse(cron).and_then(|cron| cron.next(now)),
    };
    let Some(deliver_at) = deliver_at else {
        return error(out, Code::InvalidCron, "cron has five fields: minute hour day month weekday, in UTC", None, ask.req_id);
    };
    let Ok(id) = sealed_for_many(shared, seat, &ask, &target, out) else { return };
    let mut target = target;
    let Some((nonce, ciphertext)) = body(shared, seat, &mut ask, &mut target, out) else { return };
    let row = ScheduledRow {
        id: random::id32(),
        mesh: seat.mesh.clone(),
        member: seat.member.id.clone(),
        sender_pubkey: seat.key(),
        sender_name: seat.name.clone(),
        target_spec: target.to_string(),
        nonce,
        ciphertext,
        subtype: ask.subtype.filter(|subtype| subtype == REMINDER),
        cron: ask.cron.clone(),
        deliver_at,
        created_at: now,
        fired: 0,
        client_id: id,
        seal: ask.seal,
        error: None,
    };
    let scheduled_id = row.id.clone();
    match found(shared, shared.hub.add_scheduled(Box::new(row)), ask.req_id.as_ref(), out) {
        None => {}
        Some(Scheduling::Full) => error(out, Code::Capacity, "200 messages wait already", None, ask.req_id),
        Some(Scheduling::WrongKey(key)) => {
            let (code, why) = keys::wrong(key);
            error(out, code, why, None, ask.req_id);
        }
        Some(Scheduling::Kept) => {
            out.text(
                ServerFrame::ScheduledAck(ScheduledAck { scheduled_id, deliver_at, cron: ask.cron, req_id: ask.req_id }).encode(),
            );
            shared.janitor.ring();
        }
    }
}

/// The envelope of what is to be sent, if it can be; if not, the peer is told. Whoever reminds itself may mean another key.
fn body(shared: &Shared, seat: &Seat, ask: &mut Schedule, target: &mut Target, out: &mut Outbox) -> Option<(String, String)> {
    let req_id = ask.req_id.as_ref();
    let (nonce, ciphertext) = match (ask.nonce.take(), ask.ciphertext.take()) {
        (Some(nonce), Some(ciphertext)) => (nonce, ciphertext),
        _ => {
            let reminder = ask.subtype.as_deref() == Some(REMINDER);
            let Some(allowed) = found(shared, in_clear(shared, seat, target, reminder), req_id, out)? else {
                let text = "a message for one key is sealed by its sender: nonce and ciphertext are missing";
                error(out, Code::Invalid, text, None, req_id.cloned());
                return None;
            };
            *target = allowed;
            let plain = sealed::plain(ask.message.as_bytes());
            (plain.nonce_b64, plain.ciphertext_b64)
        }
    };
    if !fits("message", &ciphertext, MAX_BODY, req_id, out) {
        return None;
    }
    if !is_base64(&ciphertext) || !is_base64(&nonce) {
        error(out, Code::Invalid, "nonce and ciphertext are base64", None, req_id.cloned());
        return None;
    }
    Some((nonce, ciphertext))
}

/// Longest id that a sender gives to what is sealed for many, in bytes.
const MAX_ID: usize = 200;

/// The id of what is sealed for many; `Err` when the question has been answered. It is looked at now who could not open it,
/// while somebody is there to be told.
fn sealed_for_many(
    shared: &Shared,
    seat: &Seat,
    ask: &Schedule,
    target: &Target,
    out: &mut Outbox,
) -> Result<Option<ClientId>, ()> {
    let Some(seal) = &ask.seal else { return Ok(None) };
    let id = ask.client_message_id.clone().filter(|id| (1..=MAX_ID).contains(&id.as_str().len()));
    let Some(id) = id.filter(|_| !target.is_direct() && ask.ciphertext.is_some() && seal.repeats == ask.cron.is_some()) else {
        let text = "a seal is for what goes to many, under an id, and repeats as it does";
        error(out, Code::Invalid, text, None, ask.req_id.clone());
        return Err(());
    };
    let reached = send::reached(shared, seat, target).map_err(|(code, why)| error(out, code, &why, None, ask.req_id.clone()))?;
    let unable = found(shared, keys::unable(shared, &seat.mesh, &reached), ask.req_id.as_ref(), out).ok_or(())?;
    if !unable.is_empty() {
        error(out, Code::CannotOpen, &keys::can_not_open(&unable), None, ask.req_id.clone());
        return Err(());
    }
    Ok(Some(id))
}

/// Whether this broker takes text in clear for a target, and for which: what is for many is in clear, and what a member
/// reminds itself of. The reference's one-shot command reminds the key that it threw away; its member is meant.
fn in_clear(shared: &Shared, seat: &Seat, target: &Target, reminder: bool) -> Result<Option<Target>, store::Error> {
    let Target::Key(key) = target else { return Ok(Some(target.clone())) };
    let own = Target::Key(seat.member.key.0);
    Ok(match seat.kind {
        _ if !reminder => None,
        Kind::Passing(Some(label)) if label == *key => Some(own),
        _ => (grant::member_of(shared, &seat.mesh, *key)? == Some(seat.member.key)).then(|| target.clone()),
    })
}

pub(in crate::broker) fn list(shared: &Shared, seat: &Seat, ask: ListScheduled, out: &mut Outbox) {
    let rows = shared.hub.scheduled(seat.mesh.clone(), seat.member.id.clone());
    let Some(rows) = found(shared, rows, ask.req_id.as_ref(), out) else { return };
    let message = |row: ScheduledRow| {
        let is_sealed = row.seal.is_some() || Target::parse(&row.target_spec).is_some_and(|target| target.is_direct());
        let plain = || base64::decode(&row.ciphertext).and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_default();
        ScheduledMessage {
            message: if is_sealed { String::new() } else { plain() },
            id: row.id,
            to: row.target_spec,
            nonce: Some(row.nonce).filter(|_| is_sealed),
            ciphertext: Some(row.ciphertext).filter(|_| is_sealed),
            seal: row.seal,
            client_message_id: row.client_id,
            deliver_at: row.deliver_at,
            created_at: row.created_at,
            cron: row.cron,
            fired_count: row.fired,
            error: row.error,
        }
    };
    let (messages, truncated) = fitting(rows.into_iter().map(message));
    out.text(ServerFrame::ScheduledList(ScheduledList { messages, truncated, req_id: ask.req_id }).encode());
}

pub(in crate::broker) fn cancel(shared: &Shared, seat: &Seat, ask: CancelScheduled, out: &mut Outbox) {
    let gone = shared.hub.cancel_scheduled(seat.mesh.clone(), seat.member.id.clone(), ask.scheduled_id.clone());
    let Some(ok) = found(shared, gone, ask.req_id.as_ref(), out) else { return };
    let answer = CancelScheduledAck { scheduled_id: ask.scheduled_id, ok, req_id: ask.req_id };
    out.text(ServerFrame::CancelScheduledAck(answer).encode());
}

/// Sends what is due, and says how long nothing is.
pub(in crate::broker) fn fire_due(shared: &Shared, now: Millis) -> Option<Duration> {
    loop {
        let fired = shared.hub.due(now, STEP).and_then(|(due, next)| {
            let count = due.len();
            due.into_iter().try_for_each(|row| fire(shared, row, now)).map(|()| (count, next))
        });
        match fired {
            Ok((0, next)) => return next.map(|at| Duration::from_millis(u64::try_from(at - now).unwrap_or(0))),
            Ok(_) if shared.is_stopping() => return None,
            Ok(_) => {}
            Err(err) => {
                log::error!("hub: {err}");
                shared.store_failed(&err);
                return Some(TRY_AGAIN);
            }
        }
    }
}

fn fire(shared: &Shared, row: ScheduledRow, now: Millis) -> Result<(), store::Error> {
    let member = shared.hub.members(row.mesh.clone())?.into_iter().find(|member| member.id == row.member && !member.revoked);
    let cron = row.cron.as_deref().and_then(Cron::parse).filter(|_| member.is_some());
    let next = cron.and_then(|cron| cron.next(now));
    let firing = match member {
        None => Firing::Drop,
        Some(member) => {
            let expires_at = shared.settings.expires_at(now);
            let made = |(recipients, topic)| Box::new(submission(&row, recipients, topic, (now, expires_at)));
            let mut made = address(shared, &row, &member)?.map_or_else(Firing::Fail, |to| Firing::Send(made(to)));
            if let Firing::Send(submission) = &mut made
                && submission.sealing.is_some()
            {
                let unable = keys::unable_keys(shared, &row.mesh, &submission.recipients)?;
                submission.recipients.retain(|key| !unable.contains_key(key));
            }
            made
        }
    };
    let recipients = if let Firing::Send(submission) = &firing { submission.recipients.clone() } else { Vec::new() };
    let mesh = row.mesh.clone();
    if let Some(Enqueued::New(_)) = shared.hub.fire(Box::new(row), firing, next)? {
        shared.router.notify(&mesh, recipients.iter());
    }
    Ok(())
}

fn topical(row: &ScheduledRow, id: String) -> Topical {
    Topical { id, mentions: Vec::new(), body_version: if row.seal.is_some() { SEALED_BODY } else { 1 } }
}

/// Whom a message is for now, or why its sender may not say it there any more.
type For = Result<(Vec<PublicKey>, Option<Topical>), &'static str>;

fn address(shared: &Shared, row: &ScheduledRow, member: &Member) -> Result<For, store::Error> {
    let deaf = |capability| grant::deaf(shared, &row.mesh, member.key, capability);
    Ok(match Target::parse(&row.target_spec) {
        None => Err("it is for nobody"),
        Some(Target::Key(key)) if grant::blocks(shared, &row.mesh, member.key, key)? => Err(send::BLOCKED),
        Some(Target::Key(key)) => Ok((vec![key], None)),
        Some(Target::Topic(topic)) => match shared.hub.topic(row.mesh.clone(), topic, member.id.clone())? {
            Some(topic) if matches!(topic.role, Some(TopicRole::Lead | TopicRole::Member)) => {
                let deaf = deaf(Capability::Dm);
                let members = shared.hub.topic_members(topic.id.clone())?;
                let members = members.iter().map(|member| member.key).filter(|key| !deaf.contains(key));
                Ok((shared.router.reach(&row.mesh, members, None), Some(topical(row, topic.id))))
            }
            _ => Err("the topic is gone, or its sender may not write there"),
        },
        Some(many) => {
            let nobody = PresenceId::new("");
            let from = fanout::Sender { presence: &nobody, member: member.key };
            Ok((fanout::recipients(shared, &row.mesh, &many, from)?, None))
        }
    })
}

fn submission(
    row: &ScheduledRow,
    recipients: Vec<PublicKey>,
    topic: Option<Topical>,
    (now, expires_at): (Millis, Millis),
) -> Submission {
    let target_spec = topic.as_ref().map_or_else(|| row.target_spec.clone(), |topic| format!("#{}", topic.id));
    Submission {
        id: MessageId::new(random::id32_at(now)),
        mesh: row.mesh.clone(),
        sender_member: MemberId::new(row.member.as_str()),
        sender_pubkey: row.sender_pubkey,
        sender_name: row.sender_name.clone(),
        direct: Target::parse(&target_spec).is_some_and(|target| target.is_direct()),
        target_spec,
        recipients,
        priority: Priority::Now,
        nonce: row.nonce.clone(),
        ciphertext: row.ciphertext.clone(),
        reply_to: None,
        client_id: Some(match (&row.client_id, &row.seal) {
            (Some(id), Some(seal)) if seal.repeats => ClientId::new(format!("{id}.{}", row.fired)),
            (Some(id), _) => id.clone(),
            (None, _) => ClientId::new(format!("scheduled-{}-{}", row.id, row.fired)),
        }),
        fingerprint: None,
        now,
        expires_at,
        subtype: row.subtype.clone(),
        topic,
        sealing: row.sealing(),
    }
}
