//! `send`: gathered through a burst, stored in one transaction, and acknowledged in order after it.

use std::time::{Duration, Instant};

use crate::base::ids::{MessageId, PublicKey};
use crate::base::time::now_millis;
use crate::broker::Shared;
use crate::broker::conn::Seat;
use crate::broker::limits::{FULL_PAUSE, MAX_PAUSE, SEND_BATCH, STORE_PAUSE};
use crate::crypto::random;
use crate::net::ws::Outbox;
use crate::store;
use crate::store::hub::{self, Enqueued, Full, Sealing, Submission, Topical};
use crate::wire::client::Send;
use crate::wire::code::Code;
use crate::wire::grant::Capability;
use crate::wire::key::Scope;
use crate::wire::limits::MAX_FRAME;
use crate::wire::priority::Priority;
use crate::wire::server::{Ack, ServerFrame};
use crate::wire::target::Target;

use super::{caps, fanout, grant, keys, topic};

/// Longest client message id, in bytes.
const MAX_CLIENT_ID: usize = 256;

/// The sends of one burst that have not been answered yet.
#[derive(Debug, Default)]
pub(in crate::broker) struct Sends {
    waiting: Vec<Waiting>,
    pause: Option<Pause>,
}

/// After a refusal that may pass, all are refused for a while: one in between would overtake those that were refused.
#[derive(Debug)]
struct Pause {
    why: &'static str,
    length: Duration,
    until: Instant,
}

/// The reference's wording, which its clients know.
const TOO_MANY: &str = "rate_limit: too many messages at once — slow down";
pub(super) const BLOCKED: &str = "blocked by recipient grants (sender lacks dm capability)";
const NO_STORE: &str = "unavailable: the broker can not store it now";

impl Pause {
    fn new(why: &'static str, length: Duration, now: Instant) -> Pause {
        Pause { why, length, until: now + length }
    }

    fn refused(&self) -> Refused {
        Refused { text: self.why.to_owned(), retry_after: Some(self.length) }
    }
}

#[derive(Debug)]
enum Waiting {
    Refused(Ack),
    Checked { id: String, submission: Box<Submission> },
}

impl Sends {
    pub(in crate::broker) fn is_full(&self) -> bool {
        SEND_BATCH <= self.waiting.len()
    }

    /// Checks one message and puts it beside the others.
    pub(in crate::broker) fn take(&mut self, shared: &Shared, seat: &Seat, send: Send, now: Instant) {
        let id = send.id.clone();
        let checked = check(shared, seat, send).and_then(|submission| self.admit(shared, seat, submission, now));
        self.waiting.push(match checked {
            Ok(submission) => Waiting::Checked { id, submission: Box::new(submission) },
            Err(refused) => Waiting::Refused(refused.ack(id)),
        });
    }

    fn admit(&mut self, shared: &Shared, seat: &Seat, submission: Submission, now: Instant) -> Result<Submission, Refused> {
        if let Some(pause) = &mut self.pause {
            if now < pause.until {
                // Whoever sends on without having read the refusals begins the pause anew: nothing may slip through at its end.
                pause.until = now + pause.length;
                return Err(pause.refused());
            }
            self.pause = None;
        }
        match shared.limits.send(&seat.member.id, submission.recipients.len(), now) {
            Ok(()) => Ok(submission),
            Err(wait) => {
                let pause = Pause::new(TOO_MANY, wait.min(MAX_PAUSE), now);
                let refused = pause.refused();
                self.pause = Some(pause);
                Err(refused)
            }
        }
    }

    /// Whether there is anything to store or to refuse.
    pub(in crate::broker) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Stores what was gathered, answers it in order, and tells the recipients' connections; in the same step writes down
    /// what this connection has. False when it could not be stored: then nothing more may be taken from this connection,
    /// because what follows would overtake it.
    pub(in crate::broker) fn store(&mut self, shared: &Shared, seat: &Seat, has: Vec<hub::Ack>, out: &mut Outbox) -> bool {
        let (acks, is_stored) = self.settle(shared, seat, has);
        acks.into_iter().for_each(|ack| out.text(ServerFrame::Ack(ack).encode()));
        is_stored
    }

    fn settle(&mut self, shared: &Shared, seat: &Seat, has: Vec<hub::Ack>) -> (Vec<Ack>, bool) {
        let mut slots = Vec::with_capacity(self.waiting.len());
        let mut submissions = Vec::with_capacity(self.waiting.len());
        for waiting in self.waiting.drain(..) {
            slots.push(match waiting {
                Waiting::Refused(ack) => Slot::Refused(ack),
                Waiting::Checked { id, submission } => {
                    let (recipients, priority) = (submission.recipients.clone(), submission.priority);
                    submissions.push(*submission);
                    Slot::Stored { id, recipients, priority }
                }
            });
        }
        let begun = Instant::now();
        let stored = shared.hub.exchange(has, submissions);
        shared.metrics.stored.add(begun.elapsed());
        let mut outcomes = stored.map_err(|err| {
            shared.metrics.store_errors.add(1);
            log::error!("hub: {err}");
            shared.store_failed(&err);
            self.pause = Some(Pause::new(NO_STORE, STORE_PAUSE, Instant::now()));
        });
        if let Ok(outcomes) = &mut outcomes {
            outcomes.reverse();
        }
        let answered = slots.into_iter().map(|slot| {
            let ack = match slot {
                Slot::Refused(ack) => ack,
                Slot::Stored { id, recipients, priority } => {
                    let outcome = outcomes.as_mut().ok().and_then(Vec::pop);
                    if let Some(Enqueued::New(_)) = outcome {
                        shared.metrics.routed(priority);
                    }
                    answer(shared, seat, id, &recipients, outcome)
                }
            };
            if let Some(error) = &ack.error {
                shared.metrics.rejected.add(reason(error));
            }
            ack
        });
        let acks = answered.collect();
        (acks, outcomes.is_ok())
    }
}

/// The code with which a refusal's text begins.
fn reason(error: &str) -> &str {
    if error == BLOCKED { "blocked_by_grants" } else { error.split(':').next().unwrap_or_default() }
}

/// One message that comes alone, as a script's does.
pub(in crate::broker) fn once(shared: &Shared, seat: &Seat, send: Send, now: Instant) -> Ack {
    let id = send.id.clone();
    let mut sends = Sends::default();
    sends.take(shared, seat, send, now);
    let (mut acks, _) = sends.settle(shared, seat, Vec::new());
    acks.pop().unwrap_or_else(|| Refused { text: NO_STORE.to_owned(), retry_after: None }.ack(id))
}

/// The place of one answer among the others.
enum Slot {
    Refused(Ack),
    Stored { id: String, recipients: Vec<PublicKey>, priority: Priority },
}

/// `outcome` is what the database made of it; nothing when it failed.
fn answer(shared: &Shared, seat: &Seat, id: String, recipients: &[PublicKey], outcome: Option<Enqueued>) -> Ack {
    let refused = match outcome {
        Some(Enqueued::New(message)) => {
            shared.router.notify(&seat.mesh, recipients.iter());
            return accepted(id, message);
        }
        Some(Enqueued::Same(message)) => return accepted(id, message),
        Some(Enqueued::Conflict) => {
            Refused::of(&Code::IdempotencyConflict, "invalid: this client message id was used for another message")
        }
        Some(Enqueued::UnknownRecipient) => Refused::of(&Code::UnknownRecipient, "nobody by this key was ever seen in this mesh"),
        Some(Enqueued::NoTopic) => Refused::of(&Code::TopicNotFound, "this topic is gone"),
        Some(Enqueued::Full(full)) => Refused {
            retry_after: Some(FULL_PAUSE),
            ..Refused::of(
                &Code::Capacity,
                match full {
                    Full::Mesh => "as much mail waits in this mesh as may",
                    Full::Recipient => "as much mail waits for this recipient as may",
                },
            )
        },
        Some(Enqueued::WrongKey(key)) => {
            let (code, why) = keys::wrong(key);
            Refused::of(&code, why)
        }
        None => Refused { text: NO_STORE.to_owned(), retry_after: Some(STORE_PAUSE) },
    };
    refused.ack(id)
}

fn accepted(id: String, message_id: MessageId) -> Ack {
    Ack { id, message_id, queued: true, error: None, retry_after_ms: None, req_id: None }
}

/// Why a message is not taken. The text begins with the code.
#[derive(Debug)]
struct Refused {
    text: String,
    retry_after: Option<Duration>,
}

impl Refused {
    fn of(code: &Code, what: &str) -> Refused {
        Refused { text: format!("{code}: {what}"), retry_after: None }
    }

    fn ack(self, id: String) -> Ack {
        let retry_after_ms = self.retry_after.map(|pause| u64::try_from(pause.as_millis()).unwrap_or(u64::MAX));
        Ack { id, message_id: MessageId::new(""), queued: false, error: Some(self.text), retry_after_ms, req_id: None }
    }
}

fn check(shared: &Shared, seat: &Seat, send: Send) -> Result<Submission, Refused> {
    let weight = [&send.ciphertext, &send.nonce, &send.target_spec].iter().map(|text| text.encode_utf16().count()).sum::<usize>();
    if MAX_FRAME < weight {
        return Err(Refused::of(&Code::TooLarge, &format!("{weight} bytes > {MAX_FRAME}")));
    }
    if !is_base64(&send.ciphertext) || !is_base64(&send.nonce) {
        return Err(Refused::of(&Code::Invalid, "nonce and ciphertext are base64"));
    }
    let client_id = send.client_message_id.clone().filter(|id| !id.as_str().is_empty());
    if client_id.as_ref().is_some_and(|id| MAX_CLIENT_ID < id.as_str().len()) {
        return Err(Refused::of(&Code::Invalid, "client_message_id is longer than 256 bytes"));
    }
    let too_long = |text: &Option<String>, most: usize| text.as_ref().is_some_and(|text| most < text.len());
    if too_long(&send.request_fingerprint, MAX_CLIENT_ID) || too_long(&send.reply_to_id, MAX_CLIENT_ID) {
        return Err(Refused::of(&Code::Invalid, "request_fingerprint and replyToId have at most 256 bytes"));
    }
    let target = Target::parse(&send.target_spec)
        .ok_or_else(|| Refused::of(&Code::Invalid, "targetSpec is no key, @group, #topic or *"))?;
    caps::may_send(seat, &target).map_err(|why| Refused::of(&Code::Forbidden, &why))?;
    let Addressed { target, recipients, reply_to, topic } = address(shared, seat, target, &send)?;
    let sealing = sealing(shared, seat, &target, &recipients, &send)?;
    let now = now_millis();
    Ok(Submission {
        id: MessageId::new(random::id32_at(now)),
        mesh: seat.mesh.clone(),
        sender_member: seat.member.id.clone(),
        sender_pubkey: seat.key(),
        sender_name: seat.name.clone(),
        direct: target.is_direct(),
        target_spec: target.to_string(),
        recipients,
        priority: send.priority,
        nonce: send.nonce,
        ciphertext: send.ciphertext,
        reply_to,
        client_id,
        fingerprint: send.request_fingerprint.filter(|fingerprint| !fingerprint.is_empty()),
        now,
        expires_at: shared.settings.expires_at(now),
        subtype: None,
        topic,
        sealing,
    })
}

/// How a message to many is sealed; `Err` if somebody whom it would reach could not open it.
fn sealing(
    shared: &Shared,
    seat: &Seat,
    target: &Target,
    recipients: &[PublicKey],
    send: &Send,
) -> Result<Option<Sealing>, Refused> {
    let Some(seal) = send.seal.clone() else { return Ok(None) };
    let named = send.client_message_id.as_ref().is_some_and(|id| !id.as_str().is_empty());
    let scope = Scope::of(target).filter(|_| named && !seal.repeats && seal.signature.len() <= MAX_CLIENT_ID);
    let scope = scope.ok_or_else(|| Refused::of(&Code::Invalid, "a seal is for what goes to many, once, under an id"))?;
    let unable = keys::unable(shared, &seat.mesh, recipients).map_err(|err| no_store(shared, &err))?;
    if !unable.is_empty() {
        return Err(Refused::of(&Code::CannotOpen, &keys::can_not_open(&unable)));
    }
    Ok(Some(Sealing { scope, seal, earlier: false }))
}

fn no_store(shared: &Shared, err: &store::Error) -> Refused {
    log::error!("hub: {err}");
    shared.store_failed(err);
    Refused { text: NO_STORE.to_owned(), retry_after: Some(STORE_PAUSE) }
}

/// The keys that a message to many would reach now.
pub(super) fn reached(shared: &Shared, seat: &Seat, target: &Target) -> Result<Vec<PublicKey>, (Code, String)> {
    let send = Send {
        id: String::new(),
        client_message_id: None,
        request_fingerprint: None,
        target_spec: target.to_string(),
        priority: Priority::default(),
        nonce: String::new(),
        ciphertext: String::new(),
        reply_to_id: None,
        mentions: Vec::new(),
        body_version: None,
        seal: None,
    };
    address(shared, seat, target.clone(), &send).map(|addressed| addressed.recipients).map_err(|refused| {
        let (code, why) = refused.text.split_once(": ").unwrap_or((&refused.text, &refused.text));
        (Code::parse(code), why.to_owned())
    })
}

/// Whether it is written in the characters of base64: those are as long on every line and in every database as they say.
pub(super) fn is_base64(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+/=-_".contains(&byte))
}

/// Whom a message is for, key by key.
struct Addressed {
    target: Target,
    recipients: Vec<PublicKey>,
    reply_to: Option<String>,
    topic: Option<Topical>,
}

fn address(shared: &Shared, seat: &Seat, target: Target, send: &Send) -> Result<Addressed, Refused> {
    let reply_to = send.reply_to_id.clone();
    let recipients = match &target {
        Target::Key(key) => match grant::blocks(shared, &seat.mesh, seat.member.key, *key) {
            Ok(false) => vec![*key],
            Ok(true) => return Err(Refused { text: BLOCKED.to_owned(), retry_after: None }),
            Err(err) => return Err(no_store(shared, &err)),
        },
        Target::Everyone | Target::Group(_) => {
            let from = fanout::Sender { presence: &seat.presence, member: seat.member.key };
            fanout::recipients(shared, &seat.mesh, &target, from).map_err(|err| no_store(shared, &err))?
        }
        Target::Topic(id) => {
            let deaf = grant::deaf(shared, &seat.mesh, seat.member.key, Capability::Dm);
            let topic::Post { topical, members, reply_to } =
                topic::post(shared, seat, id, send).map_err(|refused| match refused {
                    (Code::Unavailable, _) => Refused { text: NO_STORE.to_owned(), retry_after: Some(STORE_PAUSE) },
                    (code, why) => Refused::of(&code, &why),
                })?;
            let members = members.iter().map(|member| member.key).filter(|key| !deaf.contains(key));
            let recipients = shared.router.reach(&seat.mesh, members, Some(&seat.presence));
            let target = Target::Topic(topical.id.clone());
            return Ok(Addressed { target, recipients, reply_to, topic: Some(topical) });
        }
    };
    Ok(Addressed { target, recipients, reply_to, topic: None })
}
