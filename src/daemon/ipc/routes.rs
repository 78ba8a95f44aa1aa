//! The local API: every method, path, body cap and handler, in one table that reads aloud.

use serde::de::DeserializeOwned;

use crate::daemon::ctx::Ctx;
use crate::net::http1::Method;
use crate::net::listen::Place;
use crate::net::stream::Stream;
use crate::net::target::Query;
use crate::wire::json;
use crate::wire::limits::{MAX_SEND_BODY, MAX_SMALL_BODY};

use super::auth::Caller;
use super::reply::Reply;
use super::{
    apikeys, canary, delivery, inbox, later, line, memory, ops, order, outbox, peers, profile, send, sessions, skills, standing,
    state, topics,
};

/// One request that has been read, admitted and matched to its route.
#[derive(Debug)]
pub(super) struct Call<'a> {
    pub(super) ctx: &'a Ctx,
    pub(super) caller: Caller,
    /// What stood in the place of `*`, percent-decoded.
    pub(super) item: String,
    pub(super) query: &'a Query,
    pub(super) idempotency_key: Option<&'a str>,
    pub(super) body: &'a [u8],
    pub(super) connection: Connection<'a>,
}

/// What a handler that waits needs to know of its connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Connection<'a> {
    pub(super) stream: &'a Stream,
    pub(super) place: &'a Place,
}

impl Call<'_> {
    /// The first value of a query key, if it is not blank.
    pub(super) fn query(&self, key: &str) -> Option<&str> {
        self.query.get(key).map(str::trim).filter(|value| !value.is_empty())
    }

    /// The body, read as JSON. An empty one reads as an object without keys.
    pub(super) fn json<T: DeserializeOwned>(&self) -> Result<T, Reply> {
        let bytes = if self.body.is_empty() { b"{}" } else { self.body };
        json::decode(bytes).map_err(|err| Reply::error(400, "invalid_json").detail(&err.to_string()).into())
    }
}

/// How a route is served.
#[derive(Clone, Copy)]
pub(super) enum Handler {
    Answer(fn(&Call<'_>) -> Reply),
    /// Gives messages to one path; what does not reach its client is taken back.
    Claim,
    /// The event stream, which keeps its connection.
    Events,
}

impl std::fmt::Debug for Handler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Handler::Answer(_) => "Answer",
            Handler::Claim => "Claim",
            Handler::Events => "Events",
        })
    }
}

/// One row of the table.
#[derive(Debug)]
pub(super) struct Route {
    pub(super) method: Method,
    /// Exact, or with one `*` as its last segment.
    pub(super) path: &'static str,
    /// Largest body in bytes; a larger one is answered 413.
    pub(super) max_body: usize,
    pub(super) handler: Handler,
}

const fn get(path: &'static str, handler: fn(&Call<'_>) -> Reply) -> Route {
    Route { method: Method::Get, path, max_body: 0, handler: Handler::Answer(handler) }
}

const fn post(path: &'static str, max_body: usize, handler: fn(&Call<'_>) -> Reply) -> Route {
    Route { method: Method::Post, path, max_body, handler: Handler::Answer(handler) }
}

const fn delete(path: &'static str, handler: fn(&Call<'_>) -> Reply) -> Route {
    Route { method: Method::Delete, path, max_body: 0, handler: Handler::Answer(handler) }
}

/// May be asked over TCP without a token, if the settings say so.
pub(super) const HEALTH: &str = "/v1/health";

/// Where a session's token becomes known.
pub(super) const REGISTER: &str = "/v1/sessions/register";

/// Every route there is.
pub(super) const ROUTES: &[Route] = &[
    get("/v1/version", ops::version),
    get(HEALTH, ops::health),
    post(REGISTER, MAX_SMALL_BODY, sessions::register),
    get("/v1/sessions/me", sessions::me),
    get("/v1/sessions", sessions::list),
    delete("/v1/sessions/*", sessions::deregister),
    post("/v1/send", MAX_SEND_BODY, send::post),
    get("/v1/inbox", inbox::list),
    post("/v1/inbox/seen", MAX_SMALL_BODY, inbox::seen),
    Route { method: Method::Post, path: "/v1/inbox/claim", max_body: MAX_SMALL_BODY, handler: Handler::Claim },
    post("/v1/inbox/offered", MAX_SMALL_BODY, delivery::offered),
    post("/v1/inbox/unclaim", MAX_SMALL_BODY, delivery::unclaim),
    post("/v1/canary", MAX_SMALL_BODY, canary::fly),
    get("/v1/line", line::show),
    delete("/v1/inbox", inbox::flush),
    delete("/v1/inbox/*", inbox::delete),
    get("/v1/outbox", outbox::list),
    get("/v1/outbox/*", outbox::show),
    post("/v1/outbox/requeue", MAX_SMALL_BODY, outbox::requeue),
    post("/v1/outbox/abort", MAX_SMALL_BODY, outbox::abort),
    post("/v1/outbox/prune", MAX_SMALL_BODY, outbox::prune),
    get("/v1/peers", peers::list),
    get("/v1/state", state::read),
    post("/v1/state", MAX_SEND_BODY, state::write),
    get("/v1/memory", memory::search),
    post("/v1/memory", MAX_SEND_BODY, memory::add),
    delete("/v1/memory/*", memory::remove),
    get("/v1/skills", skills::list),
    get("/v1/skills/*", skills::get),
    post("/v1/skills", MAX_SEND_BODY, skills::publish),
    delete("/v1/skills/*", skills::remove),
    post("/v1/profile", MAX_SMALL_BODY, profile::set),
    get("/v1/topics", topics::list),
    post("/v1/topics", MAX_SMALL_BODY, topics::create),
    post("/v1/topics/join", MAX_SMALL_BODY, topics::join),
    post("/v1/topics/leave", MAX_SMALL_BODY, topics::leave),
    post("/v1/topics/read", MAX_SMALL_BODY, topics::mark_read),
    get("/v1/topics/members", topics::members),
    get("/v1/topics/history", topics::history),
    get("/v1/grants", order::grants),
    post("/v1/grants", MAX_SMALL_BODY, order::set_grants),
    post("/v1/admin/kick", MAX_SMALL_BODY, order::kick),
    post("/v1/admin/disconnect", MAX_SMALL_BODY, order::disconnect),
    post("/v1/admin/ban", MAX_SMALL_BODY, order::ban),
    post("/v1/admin/unban", MAX_SMALL_BODY, order::unban),
    get("/v1/admin/bans", order::bans),
    get("/v1/messages/*", standing::get),
    get("/v1/schedule", later::scheduled),
    post("/v1/schedule", MAX_SEND_BODY, later::schedule),
    delete("/v1/schedule/*", later::cancel),
    get("/v1/tasks", later::tasks),
    post("/v1/tasks", MAX_SMALL_BODY, later::create_task),
    post("/v1/tasks/claim", MAX_SMALL_BODY, later::claim_task),
    post("/v1/tasks/complete", MAX_SMALL_BODY, later::complete_task),
    get("/v1/apikeys", apikeys::list),
    post("/v1/apikeys", MAX_SMALL_BODY, apikeys::create),
    delete("/v1/apikeys/*", apikeys::revoke),
    post("/v1/mesh/reconnect", MAX_SMALL_BODY, order::reconnect),
    Route { method: Method::Get, path: "/v1/events", max_body: 0, handler: Handler::Events },
];

/// The route of a request, and what stands in place of its `*`, not decoded yet.
pub(super) fn find(method: Method, path: &str) -> Option<(&'static Route, &str)> {
    ROUTES.iter().filter(|route| route.method == method).find_map(|route| match route.path.strip_suffix('*') {
        None => (route.path == path).then_some((route, "")),
        Some(prefix) => path.strip_prefix(prefix).filter(|item| !item.contains('/')).map(|item| (route, item)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_match_exactly() {
        assert_eq!(find(Method::Get, "/v1/inbox").map(|(route, _)| route.path), Some("/v1/inbox"));
        assert_eq!(find(Method::Delete, "/v1/inbox/abc").map(|(route, item)| (route.path, item)), Some(("/v1/inbox/*", "abc")));
        assert_eq!(find(Method::Get, "/v1/sessions/me").map(|(route, _)| route.path), Some("/v1/sessions/me"));
        for (method, path) in [
            (Method::Get, "/v1/inbox/"),
            (Method::Other, "/v1/version"),
            (Method::Post, "/v1/version"),
            (Method::Delete, "/v1/inbox/a/b"),
            (Method::Get, "//"),
        ] {
            assert!(find(method, path).is_none(), "{method:?} {path}");
        }
    }

    #[test]
    fn no_row_stands_twice() {
        let mut rows: Vec<_> = ROUTES.iter().map(|route| (format!("{:?}", route.method), route.path)).collect();
        rows.sort_unstable();
        rows.dedup();
        assert_eq!(rows.len(), ROUTES.len());
    }
}
