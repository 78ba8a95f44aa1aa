//! What is sent later (`/v1/schedule`), and tasks (`/v1/tasks`).

use std::time::Instant;

use crate::base::ids::{ClientId, Slug};
use crate::base::time::{Millis, now_millis};
use crate::crypto::keys::SecretKey;
use crate::crypto::random;
use crate::crypto::sealed::{self, Sealed};
use crate::daemon::meshes::Membership;
use crate::daemon::resolve;
use crate::daemon::scoped::{self, Place};
use crate::wire::address::Address;
use crate::wire::json::{self, Map, Value};
use crate::wire::key::{Scope, Seal};
use crate::wire::schedule::ScheduledMessage;
use crate::wire::server::ServerFrame;
use crate::wire::target::Target;

use super::keys;
use super::mesh;
use super::pass;
use super::reply::Reply;
use super::routes::Call;
use super::send::{Speaker, unroutable};
use super::topics;

/// How far in the past a time may lie when it gets here: what was a moment ahead when it was typed is due, and no mistake.
const LATE: Millis = 60_000;

pub(super) fn schedule(call: &Call<'_>) -> Reply {
    add(call).unwrap_or_else(|refused| refused)
}

/// The recipient is found and the text is sealed now: the broker, which sends it, can do neither.
fn add(call: &Call<'_>) -> Result<Reply, Reply> {
    let mut fields = pass::fields(call)?;
    let bad = |detail: &str| -> Reply { Reply::error(400, "invalid").detail(detail).and("code", "invalid").into() };
    let text = fields.remove("message").and_then(|text| text.as_str().map(str::to_owned)).filter(|text| !text.is_empty());
    let text = text.ok_or_else(|| bad("missing 'message'"))?;
    let at = fields.get("deliverAt").and_then(Value::as_i64);
    if fields.get("cron").is_none_or(Value::is_null) && at.is_some_and(|at| at < now_millis().saturating_sub(LATE)) {
        return Err(bad("the time of 'deliverAt' is over"));
    }
    let to = fields.get("to").and_then(Value::as_str).map(Address::parse).transpose().map_err(|err| bad(&err.to_string()))?;
    let named = fields.get("mesh").and_then(Value::as_str).map(Slug::new);
    let placed = to.map(|to| mesh::place(call, named.clone(), to)).transpose()?;
    let membership = placed.as_ref().map_or_else(|| mesh::one(call, named), |placed| Ok(placed.membership.clone()))?;
    let speaker = Speaker::of(call, &membership);
    let resolved = match placed.as_ref().map(|placed| &placed.address) {
        // A reminder, for whoever asks for it.
        None => Ok(Target::Key(speaker.key.unwrap_or(membership.key.0))),
        Some(Address::TopicName(name)) => topics::by_name(call, &membership.slug, name).map(|topic| topic.target),
        Some(address) => {
            let (rosters, links) = (&call.ctx.rosters, &call.ctx.links);
            let at_hand = || rosters.at_hand(&membership.slug, links);
            resolve::resolve(address, None, at_hand, || rosters.of(&membership.slug, links)).map(|resolved| resolved.target)
        }
    };
    let target = resolved.map_err(|err| match &placed {
        Some(placed) => placed.unroutable(call, &err),
        None => unroutable(call, &membership.slug, &err),
    })?;
    let plaintext = fields.remove("plaintext") == Some(Value::Bool(true));
    let body = match &target {
        Target::Key(key) => {
            let channel = call.ctx.channels.between(speaker.secret, key);
            channel.map_err(|err| bad(&format!("this key can not be sealed to: {err}")))?.seal(text.as_bytes())
        }
        Target::Group(_) | Target::Topic(_) | Target::Everyone if plaintext => sealed::plain(text.as_bytes()),
        Target::Group(_) | Target::Topic(_) | Target::Everyone => {
            let repeats = fields.get("cron").is_some_and(|cron| !cron.is_null());
            let id = ClientId::new(random::uuid_v7(now_millis()));
            let (body, seal) = seal(call, &membership, (&target, &id, repeats), text.as_bytes(), speaker.secret)?;
            fields.insert("seal".to_owned(), json::value(&seal));
            fields.insert("client_message_id".to_owned(), id.as_str().into());
            body
        }
    };
    let more = [
        ("to", target.to_string()),
        ("nonce", body.nonce_b64),
        ("ciphertext", body.ciphertext_b64),
        ("subtype", "reminder".to_owned()),
        ("mesh", membership.slug.to_string()),
    ];
    fields.extend(more.map(|(key, value)| (key.to_owned(), Value::String(value))));
    pass::ask(call, "schedule", fields)
}

/// Seals what is for many with the key of now: who comes later does not get it, and who is gone by then does not either.
fn seal(
    call: &Call<'_>,
    membership: &Membership,
    (target, client_id, repeats): (&Target, &ClientId, bool),
    text: &[u8],
    secret: &SecretKey,
) -> Result<(Sealed, Seal), Reply> {
    keys::check(call, membership, target)?;
    let scope = Scope::of(target).ok_or_else(|| Reply::from(Reply::error(400, "invalid 'to'")))?;
    let (epoch, key) = keys::in_use(call, membership, scope).map_err(|code| mesh::refused(&membership.slug, &code))?;
    let to = target.to_string();
    // Whoever is called out to is looked for when something is said, and this is only put down.
    let place = Place { mesh: &membership.mesh, target: &to, client_id, repeats, mentions: &[] };
    Ok(scoped::seal(place, text, (epoch, &key), secret))
}

pub(super) fn scheduled(call: &Call<'_>) -> Reply {
    list(call).unwrap_or_else(|refused| refused)
}

/// What was sealed here can be opened here: both ends of a sealed text compute the same key.
fn list(call: &Call<'_>) -> Result<Reply, Reply> {
    let fields = Map::from_iter(call.query("mesh").map(|mesh| ("mesh".to_owned(), Value::from(mesh))));
    let (slug, mut answer) = pass::exchange(call, "list_scheduled", fields)?;
    if let (Some(ServerFrame::ScheduledList(list)), Some(membership)) = (&mut answer, call.ctx.meshes.get(&slug)) {
        let session = call.caller.session().and_then(|session| session.key.as_ref()).map(|key| &key.secret);
        let patience = keys::Patience::from(Instant::now());
        for message in &mut list.messages {
            let opened = session.into_iter().chain([&membership.secret]).find_map(|secret| {
                let Some(Target::Key(key)) = Target::parse(&message.to) else { return None };
                let channel = call.ctx.channels.between(secret, &key).ok()?;
                let bytes = channel.open(message.nonce.as_deref()?, message.ciphertext.as_deref()?).ok()?;
                String::from_utf8(bytes).ok()
            });
            let opened = opened.or_else(|| keys::own_text(call, &membership, message, patience));
            let kept = std::mem::take(message);
            let text = opened.unwrap_or_else(|| kept.message.clone());
            *message = ScheduledMessage { message: text, nonce: None, ciphertext: None, client_message_id: None, ..kept };
        }
    }
    Ok(Reply::ok(&pass::shown(&slug, answer)))
}

pub(super) fn cancel(call: &Call<'_>) -> Reply {
    pass::change_item(call, "cancel_scheduled", "scheduledId")
}

pub(super) fn tasks(call: &Call<'_>) -> Reply {
    pass::question(call, "list_tasks", &[("status", "status"), ("assignee", "assignee")])
}

pub(super) fn create_task(call: &Call<'_>) -> Reply {
    pass::change(call, "create_task")
}

pub(super) fn claim_task(call: &Call<'_>) -> Reply {
    pass::change(call, "claim_task")
}

pub(super) fn complete_task(call: &Call<'_>) -> Reply {
    pass::change(call, "complete_task")
}
