//! `POST /messages`: as if the key's member had sent it, and marked with the key's label.

use std::time::Instant;

use crate::base::hex;
use crate::base::ids::ClientId;
use crate::broker::Shared;
use crate::broker::conn::Seat;
use crate::broker::handle::send;
use crate::crypto::{base64, fingerprint, sealed};
use crate::store::hub::TopicRow;
use crate::wire::apikey::KeyCapability;
use crate::wire::client::Send;
use crate::wire::code::Code;
use crate::wire::http_api::{PostMessage, Posted};
use crate::wire::json;
use crate::wire::target::Target;
use crate::wire::topic::mentions;

use super::super::answer::{Answer, Ask};
use super::{Caller, refused, unavailable};

/// Names that one message may call out to.
const MAX_MENTIONS: usize = 16;

/// Longest nonce and longest name of a retry, in bytes.
const MAX_NONCE: usize = 64;
const MAX_NAME: usize = 128;

fn invalid(message: &str) -> Answer {
    refused(400, "invalid", message)
}

pub(super) fn message(shared: &Shared, ask: &Ask<'_>, caller: &Caller) -> Result<Answer, Answer> {
    caller.may(KeyCapability::Send)?;
    let body: PostMessage = json::decode(ask.body).map_err(|err| invalid(&err.to_string()))?;
    let (topic, target_spec) = target(shared, caller, &body)?;
    let (nonce, ciphertext) = content(&body)?;
    if MAX_MENTIONS < body.mentions.len() {
        return Err(invalid("mentions are at most 16"));
    }
    let retry = ask.head.header("idempotency-key").map(str::trim).filter(|name| !name.is_empty());
    if retry.is_some_and(|name| MAX_NAME < name.len()) {
        return Err(invalid("Idempotency-Key has at most 128 bytes"));
    }
    let send = Send {
        id: String::new(),
        client_message_id: retry.map(|name| ClientId::new(format!("{}:{name}", caller.key.id))),
        // The nonce is another one each time; what makes a retry the same message is what it says.
        request_fingerprint: retry.map(|_| print(&body, &target_spec, &ciphertext)),
        target_spec,
        priority: body.priority,
        nonce,
        ciphertext,
        reply_to_id: body.reply_to_id.clone(),
        mentions: body.mentions.clone(),
        body_version: None,
        seal: None,
    };
    let notifications = match &topic {
        Some(topic) => called(shared, caller, topic, &send)?,
        None => 0,
    };
    let seat = Seat::of_key(&caller.key, &caller.member);
    let ack = send::once(shared, &seat, send, Instant::now());
    if let Some(error) = &ack.error {
        return Err(explain(error));
    }
    let id = ack.message_id.to_string();
    let (topic, topic_id) = topic.map(|topic| (topic.name, topic.id)).unzip();
    Ok(Answer::json(
        200,
        &Posted {
            message_id: id.clone(),
            history_id: id.clone(),
            queue_id: id,
            topic,
            topic_id,
            notifications,
            body_version: 1,
            reply_to_id: body.reply_to_id,
        },
    ))
}

/// The topic, if it is for one, and the target as frames name it. No broker can seal a text for its reader, and one
/// in clear is no direct message: whoever reads it could not tell who wrote it.
fn target(shared: &Shared, caller: &Caller, body: &PostMessage) -> Result<(Option<TopicRow>, String), Answer> {
    match (&body.topic, &body.to) {
        (Some(name), None) => {
            let topic = caller.topic(shared, name)?;
            let target = Target::Topic(topic.id.clone()).to_string();
            Ok((Some(topic), target))
        }
        (None, Some(to)) => match Target::parse(to) {
            Some(many @ (Target::Group(_) | Target::Everyone)) if caller.key.topic_scopes.is_none() => {
                Ok((None, many.to_string()))
            }
            Some(Target::Group(_) | Target::Everyone) => {
                Err(refused(403, "api_key_topic_out_of_scope", "this key is for topics alone"))
            }
            _ => Err(refused(
                422,
                "direct_not_possible",
                "a message to one peer is sealed by whoever sends it, and a script has no key to seal with: \
                 post to a topic, to @group or to *",
            )),
        },
        _ => Err(invalid("say where to: one of topic and to")),
    }
}

/// Nonce and text as frames carry them.
fn content(body: &PostMessage) -> Result<(String, String), Answer> {
    if body.body_version.is_some_and(|version| version != 1) {
        return Err(refused(400, "body_version_unsupported", "a script posts in clear: bodyVersion is 1"));
    }
    match (&body.message, &body.ciphertext) {
        (Some(text), None) if !text.is_empty() => {
            let plain = sealed::plain(text.as_bytes());
            Ok((plain.nonce_b64, plain.ciphertext_b64))
        }
        (None, Some(ciphertext)) => {
            let nonce = body.nonce.clone().unwrap_or_default();
            let text = base64::decode(ciphertext).and_then(|bytes| String::from_utf8(bytes).ok());
            if text.is_none_or(|text| text.is_empty()) || MAX_NONCE < nonce.len() {
                return Err(invalid("ciphertext is the base64 of a text, and nonce has at most 64 bytes"));
            }
            Ok((nonce, ciphertext.clone()))
        }
        _ => Err(invalid("say what: one of message and ciphertext")),
    }
}

fn print(body: &PostMessage, target: &str, ciphertext: &str) -> String {
    let parts = [target, body.priority.as_str(), body.reply_to_id.as_deref().unwrap_or_default(), ciphertext];
    hex::encode(&fingerprint::sha256(parts.join("|").as_bytes()))
}

/// How many others in the topic the message calls out to.
fn called(shared: &Shared, caller: &Caller, topic: &TopicRow, send: &Send) -> Result<usize, Answer> {
    let text = || base64::decode(&send.ciphertext).and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_default();
    let names = if send.mentions.is_empty() {
        mentions(&text())
    } else {
        send.mentions.iter().map(|name| name.trim_start_matches('@').to_lowercase()).collect()
    };
    if names.is_empty() {
        return Ok(0);
    }
    let members = shared.hub.topic_members(topic.id.clone()).map_err(|err| unavailable(shared, &err))?;
    let others = members.iter().filter(|member| member.id != caller.member.id);
    Ok(others.filter(|member| names.contains(&member.display_name.to_lowercase())).count())
}

/// A refusal as frames have it, in this API's way.
fn explain(error: &str) -> Answer {
    let code = Code::of_ack_error(error);
    let why = error.split_once(": ").map_or(error, |(_, why)| why);
    let status = match code {
        Code::TooLarge => 413,
        Code::Forbidden | Code::BlockedByGrants => 403,
        Code::TopicNotFound | Code::NotFound | Code::UnknownRecipient => 404,
        Code::IdempotencyConflict => 409,
        Code::RateLimited => 429,
        Code::Capacity => 507,
        Code::Unavailable => 503,
        _ => 400,
    };
    refused(status, code.as_str(), why)
}
