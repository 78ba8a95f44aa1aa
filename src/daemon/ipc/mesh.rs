//! Which mesh a request is about, and over which link its broker is reached.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::base::ids::Slug;
use crate::daemon::meshes::Membership;
use crate::daemon::resolve;
use crate::daemon::rpc;
use crate::store::outbox::{Route, Sender};
use crate::wire::address::Address;
use crate::wire::client::ClientFrame;
use crate::wire::code::Code;
use crate::wire::ipc::LinkStatus;
use crate::wire::limits::{AGGREGATE_DEADLINE, MAX_FRAME};
use crate::wire::server::ServerFrame;

use super::reply::Reply;
use super::routes::Call;

/// Meshes that did not answer, and why.
pub(super) type Unanswered = BTreeMap<String, String>;

/// The meshes of a question: the named one, the session's, or all. An empty answer of one that is not joined, as the
/// reference gives, would look like one of a mesh on which there is nothing.
pub(super) fn asked(call: &Call<'_>) -> Result<Vec<Arc<Membership>>, Reply> {
    match call.query("mesh").map(Slug::new).or_else(|| call.caller.session().map(|session| session.mesh.clone())) {
        Some(slug) => attached(call, &slug).map(|mesh| vec![mesh]),
        None => Ok(call.ctx.meshes.all()),
    }
}

/// The mesh of this name, if it is joined and the caller may speak there.
fn attached(call: &Call<'_>, slug: &Slug) -> Result<Arc<Membership>, Reply> {
    let attached = call.ctx.meshes.get(slug).filter(|mesh| may_use(call, &mesh.slug)).ok_or_else(|| not_joined(call, slug))?;
    // Without a key it would speak as its member, and nothing would hold it to its rights.
    match call.caller.session().filter(|session| session.caps.is_some() && session.public_key().is_none()) {
        None => Ok(attached),
        Some(_) => Err(Reply::error(403, "forbidden")
            .detail("this session has some rights only, and no key of its own to speak with")
            .hint("register it with its presence")
            .into()),
    }
}

/// On a mesh other than its own a session speaks as its member. One that may do less than that speaks on its own alone.
fn may_use(call: &Call<'_>, slug: &Slug) -> bool {
    call.caller.session().is_none_or(|session| session.caps.is_none() || session.mesh == *slug)
}

/// The one mesh of a change: the named one, the session's, or the only one there is.
pub(super) fn one(call: &Call<'_>, named: Option<Slug>) -> Result<Arc<Membership>, Reply> {
    if let Some(slug) = named.or_else(|| call.caller.session().map(|session| session.mesh.clone())) {
        return self::attached(call, &slug);
    }
    let attached = call.ctx.meshes.slugs();
    call.ctx.meshes.only().ok_or_else(|| {
        Reply::error(400, "mesh_required")
            .detail(&format!("daemon attached to {} meshes; pass 'mesh' in request body", attached.len()))
            .and("attached", attached)
            .into()
    })
}

fn not_joined(call: &Call<'_>, slug: &Slug) -> Reply {
    let joined = call.ctx.meshes.slugs();
    let joined = if joined.is_empty() { "none".to_owned() } else { joined.join(", ") };
    Reply::error(404, "mesh_not_attached").and("mesh", slug.as_str()).hint(&format!("joined meshes: {joined}")).into()
}

/// An address, and the one mesh on which it is looked for.
pub(super) struct Placed {
    pub(super) membership: Arc<Membership>,
    pub(super) address: Address,
    /// What stands behind the `@`, where no mesh that is joined is called so: the whole may be a display name.
    stranger: Option<Slug>,
}

impl Placed {
    /// Why the address means nobody.
    pub(super) fn unroutable(&self, call: &Call<'_>, err: &resolve::Error) -> Reply {
        match (&self.stranger, err) {
            (Some(mesh), resolve::Error::NotFound { .. }) => not_joined(call, mesh),
            _ => super::send::unroutable(call, &self.membership.slug, err),
        }
    }
}

/// The mesh of an address: the one it names itself (`alice@home`), or as in [`one`]. Two that differ are an error.
pub(super) fn place(call: &Call<'_>, named: Option<Slug>, address: Address) -> Result<Placed, Reply> {
    let Address::Name { name, mesh: Some(mesh) } = &address else {
        return Ok(Placed { membership: one(call, named)?, address, stranger: None });
    };
    let own = Slug::new(mesh.as_str());
    if call.ctx.meshes.get(&own).is_none() {
        let whole = Address::Name { name: format!("{name}@{mesh}"), mesh: None };
        let nowhere = named.is_none();
        let membership = one(call, named).map_err(|refused| if nowhere { not_joined(call, &own) } else { refused })?;
        return Ok(Placed { membership, address: whole, stranger: Some(own) });
    }
    if let Some(other) = named.filter(|named| *named != own) {
        let detail = format!("{name}@{mesh} is looked for on the mesh {mesh}, and the request is for {other}: name one of them");
        return Err(Reply::error(400, "invalid 'to'").detail(&detail).into());
    }
    Ok(Placed { membership: one(call, Some(own))?, address, stranger: None })
}

/// The caller's own link to a mesh: a session's on its mesh, the member's on any other.
pub(super) fn own_route(call: &Call<'_>, mesh: &Slug) -> Route {
    let key = call.caller.session().filter(|session| session.mesh == *mesh).and_then(|session| session.public_key());
    Route { mesh: mesh.clone(), sender: key.map_or(Sender::Member, Sender::Session) }
}

/// A link over which a mesh can be asked: the caller's own if it is open, else the member's. Who asks makes no difference
/// to the answer.
fn any_route(call: &Call<'_>, mesh: &Slug) -> Route {
    let own = own_route(call, mesh);
    match call.ctx.links.status(&own) {
        Some(LinkStatus::Open) => own,
        // A session that may do less than its member does not ask in its name.
        _ if call.caller.session().is_some_and(|session| session.caps.is_some()) => own,
        _ => Route { mesh: mesh.clone(), sender: Sender::Member },
    }
}

/// Asks all meshes at once. `read` takes an answer apart; one it can not read counts as none.
pub(super) fn ask_all<T>(
    call: &Call<'_>,
    frame: impl Fn(String) -> ClientFrame + Clone + Send + 'static,
    read: impl Fn(ServerFrame) -> Option<T>,
) -> Result<(Vec<(Slug, T)>, Unanswered), Reply> {
    let deadline = Instant::now() + AGGREGATE_DEADLINE;
    let asking: Vec<_> = asked(call)?
        .into_iter()
        .map(|membership| {
            let route = any_route(call, &membership.slug);
            (rpc::ask(&call.ctx.links, &route, frame.clone()), route)
        })
        .collect();
    let mut answers = Vec::new();
    let mut unanswered = Unanswered::new();
    for (asking, route) in asking {
        let answer =
            asking.and_then(|asking| asking.answer(deadline)).and_then(|frame| frame.and_then(&read).ok_or(Code::Malformed));
        match answer {
            Ok(answer) => answers.push((route.mesh, answer)),
            Err(code) => drop(unanswered.insert(route.mesh.to_string(), why(call, &route, &code))),
        }
    }
    Ok((answers, unanswered))
}

/// Asks one broker to change something, in the caller's own name.
pub(super) fn tell(
    call: &Call<'_>,
    mesh: &Slug,
    frame: impl Fn(String) -> ClientFrame + Send + 'static,
) -> Result<Option<ServerFrame>, Reply> {
    tell_within(AGGREGATE_DEADLINE, call, mesh, frame)?.map_err(|code| unanswered(call, mesh, &code))
}

/// As [`tell`], for a route that has its own deadline, and its own words for a broker that does not do it.
pub(super) fn tell_within(
    patience: Duration,
    call: &Call<'_>,
    mesh: &Slug,
    frame: impl Fn(String) -> ClientFrame + Send + 'static,
) -> Result<Result<Option<ServerFrame>, Code>, Reply> {
    let bytes = frame("r-00000000".to_owned()).encode().len();
    if MAX_FRAME < bytes {
        let detail = format!("a broker takes frames of at most {MAX_FRAME} bytes; this one has {bytes}");
        return Err(Reply::error(413, "payload_too_large").detail(&detail).into());
    }
    Ok(rpc::ask(&call.ctx.links, &own_route(call, mesh), frame).and_then(|asking| asking.answer(Instant::now() + patience)))
}

/// Why there is no answer: where there is no connection, what its link knows of that.
pub(super) fn why(call: &Call<'_>, route: &Route, code: &Code) -> String {
    let known = (*code == Code::ConnectionLost).then(|| call.ctx.links.of(route)?.last_error).flatten();
    known.unwrap_or_else(|| code.to_string())
}

/// As [`refused`], for an answer over the caller's own link.
pub(super) fn unanswered(call: &Call<'_>, mesh: &Slug, code: &Code) -> Reply {
    if *code != Code::ConnectionLost {
        return refused(mesh, code);
    }
    let why = why(call, &own_route(call, mesh), code);
    refused_because(mesh, code, &format!("the broker of {mesh} can not be asked now: {why}"))
}

/// A broker's refusal as an answer of this API.
pub(super) fn refused(mesh: &Slug, code: &Code) -> Reply {
    refused_because(mesh, code, &format!("the broker of {mesh} says: {code}"))
}

/// As [`refused`], in the broker's words.
pub(super) fn refused_because(mesh: &Slug, code: &Code, why: &str) -> Reply {
    let (status, word) = match code {
        Code::Timeout | Code::ConnectionLost | Code::Unavailable | Code::Malformed => (502, "broker_unreachable"),
        Code::RateLimited => (429, "rate_limited"),
        Code::TooLarge => (413, "payload_too_large"),
        Code::Forbidden => (403, "forbidden"),
        Code::NotFound | Code::TopicNotFound | Code::TaskNotFound => (404, "not_found"),
        Code::AmbiguousPrefix | Code::TaskNotClaimable => (409, "conflict"),
        Code::UnknownType => (501, "not_supported"),
        _ => (400, "refused"),
    };
    Reply::error(status, word).detail(why).and("code", code.as_str()).and("mesh", mesh.as_str()).into()
}
