//! `/api/v1`: posting and reading for scripts that have a key. The routes and their answers are a part of the reference's.

mod budget;
mod post;
mod read;
mod stream;

use std::io;
use std::time::Instant;

use crate::base::time::{Millis, now_millis};
use crate::broker::Shared;
use crate::broker::metrics::Asked;
use crate::crypto::api_key::ApiSecret;
use crate::net::http1::Method;
use crate::net::stream::Stream;
use crate::net::target::percent_decode;
use crate::store;
use crate::store::hub::{ApiKeyRow, Member, TopicRow};
use crate::wire::apikey::KeyCapability;
use crate::wire::http_api::Refusal;

pub(in crate::broker) use self::budget::Budget;
use super::answer::{Answer, Ask};

/// Where the API begins.
pub(super) const ROOT: &str = "/api/v1/";

/// Largest body, in bytes: the largest message that a broker takes, with room for escapes.
pub(super) const MAX_BODY: usize = 128 * 1024;

/// How exactly it is noted when a key was last used.
const USE_NOTED_EVERY: Millis = 60_000;

/// A refusal of this API.
fn refused(status: u16, error: &str, message: &str) -> Answer {
    Answer::json(status, &Refusal { error, code: format!("error.{error}"), message })
}

/// The database could not be used.
fn unavailable(shared: &Shared, err: &store::Error) -> Answer {
    log::error!("hub: {err}");
    shared.store_failed(err);
    refused(503, "unavailable", "the broker can not use its database now; try again")
}

fn invalid() -> Answer {
    refused(401, "api_key_invalid", "this key is not known here, has expired or was revoked")
}

/// The key with this hash, if it counts now, and its issuer.
fn in_force(shared: &Shared, hash: &str, now: Millis) -> Result<(ApiKeyRow, Member), Answer> {
    let found = shared.hub.api_key(hash.to_owned(), now).map_err(|err| unavailable(shared, &err))?;
    let (key, member) = found.ok_or_else(invalid)?;
    if shared.allowed.kept_out(&key.mesh, [member.key.0; 2], now).is_some() {
        return Err(refused(403, "kicked", "the member who issued this key is kept out of the mesh now"));
    }
    Ok((key, member))
}

/// A script, by the key that it has shown.
#[derive(Debug)]
struct Caller {
    key: ApiKeyRow,
    /// In whose name it speaks.
    member: Member,
    /// Of its secret.
    hash: String,
}

impl Caller {
    fn of(shared: &Shared, ask: &Ask<'_>) -> Result<Caller, Answer> {
        let header = ask.head.header("authorization").and_then(|value| value.split_once(' '));
        let token = header.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map(|(_, token)| token.trim());
        let Some(token) = token.filter(|token| !token.is_empty()) else {
            return Err(refused(401, "api_key_missing", "send the header Authorization: Bearer cm_..."));
        };
        let secret = ApiSecret::parse(token).ok_or_else(invalid)?;
        let now = now_millis();
        let hash = secret.hash();
        let (key, member) = in_force(shared, &hash, now)?;
        if !shared.budget.admit(&key.id, Instant::now()) {
            return Err(refused(429, "rate_limited", "too many requests with this key: slow down"));
        }
        if key.last_used_at.is_none_or(|at| USE_NOTED_EVERY <= now - at) {
            shared.hub.use_api_key(key.id.clone(), now).map_err(|err| unavailable(shared, &err))?;
        }
        Ok(Caller { key, member, hash })
    }

    /// Whether the key still counts.
    fn again(&self, shared: &Shared) -> Result<(), Answer> {
        in_force(shared, &self.hash, now_millis()).map(|_| ())
    }

    /// Lets only those pass whose key is for this.
    fn may(&self, what: KeyCapability) -> Result<(), Answer> {
        let own = &self.key.capabilities;
        if own.contains(&what) || own.contains(&KeyCapability::Admin) {
            return Ok(());
        }
        let message = format!("this key lacks the capability {}", what.as_str());
        Err(refused(403, "api_key_missing_capability", &message))
    }

    fn reaches(&self, topic: &str) -> bool {
        self.key.topic_scopes.as_ref().is_none_or(|scopes| scopes.iter().any(|name| name == topic))
    }

    /// The topic meant, if the key is for it and its member may know of it.
    fn topic(&self, shared: &Shared, name: &str) -> Result<TopicRow, Answer> {
        let name = name.strip_prefix('#').unwrap_or(name);
        let found = shared.hub.topic(self.key.mesh.clone(), name.to_owned(), self.member.id.clone());
        let found = found.map_err(|err| unavailable(shared, &err))?;
        if !self.reaches(found.as_ref().map_or(name, |topic| &topic.name)) {
            return Err(refused(403, "api_key_topic_out_of_scope", "this key is for other topics"));
        }
        found.ok_or_else(|| refused(404, "topic_not_found", "there is no such topic in this mesh"))
    }
}

/// Serves one request. A stream keeps the connection; everything else is one answer.
pub(super) fn serve(shared: &Shared, ask: &Ask<'_>, stream: &mut Stream) -> io::Result<()> {
    let parts: Option<Vec<String>> = ask.head.target.path[ROOT.len()..].split('/').map(percent_decode).collect();
    let parts = parts.unwrap_or_default();
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let answer = match (ask.head.method, parts.as_slice()) {
        (Method::Get, ["topics", name, "stream"]) => match stream::open(shared, ask, name) {
            Ok(open) => {
                shared.metrics.asked(Asked::Served);
                return open.run(shared, stream);
            }
            Err(refused) => refused,
        },
        (method, parts) => route(shared, ask, method, parts).unwrap_or_else(|refused| refused),
    };
    shared.metrics.asked(Asked::of(answer.status()));
    answer.send(stream)
}

fn route(shared: &Shared, ask: &Ask<'_>, method: Method, parts: &[&str]) -> Result<Answer, Answer> {
    let caller = Caller::of(shared, ask)?;
    match (method, parts) {
        (Method::Post, ["messages"]) => post::message(shared, ask, &caller),
        (Method::Get, ["topics"]) => read::topics(shared, &caller),
        (Method::Get, ["topics", name, "messages"]) => read::messages(shared, ask, &caller, name),
        (Method::Patch, ["topics", name, "read"]) => read::mark(shared, &caller, name),
        (Method::Get, ["members"]) => read::members(shared, &caller),
        (Method::Get, ["peers"]) => read::peers(shared, &caller),
        (_, ["messages" | "topics" | "members" | "peers"] | ["topics", _, "messages" | "stream" | "read"]) => {
            Err(refused(405, "method_not_allowed", "this route takes another method"))
        }
        _ => Err(refused(404, "not_found", "there is no such route")),
    }
}
