//! The port: WebSockets at `/ws`, meshes and invites over HTTP beside it, all of it through TLS if there is a certificate.

mod answer;
mod auth;
mod invite;
mod join;
mod mesh;
mod page;
mod status;
mod talk;
mod v1;

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use crate::net::http1::{self, Head, Method, ReadError};
use crate::net::listen::Place;
use crate::net::stream::Stream;
use crate::net::tls::Tls;
use crate::net::ws;
use crate::wire::limits::{HELLO_DEADLINE, MAX_FRAME};
use crate::wire::mesh_api::MAX_BODY;

use self::answer::{Answer, Ask, plain};
pub(super) use self::status::{Past, Pulse};
pub(super) use self::v1::Budget;
use super::limits::AddressGuard;
use super::{Matter, Shared};

/// A peer's frame, with room for the fields around the sealed part. The buffer is what an idle connection costs.
const SOCKET: ws::Limits = ws::Limits { max_message: MAX_FRAME + 16 * 1024, read_buffer: 2048 };

/// Said to a connection too many.
const TOO_MANY: &str = "too many connections from this address";

/// Serves one connection until it ends.
pub(super) fn serve(shared: &Arc<Shared>, stream: Stream, place: Place) {
    if let Err(err) = exchange(shared, stream, place) {
        log::debug!("a connection ended early: {err}");
    }
}

fn exchange(shared: &Arc<Shared>, stream: Stream, place: Place) -> io::Result<()> {
    let peer = match &stream {
        Stream::Tcp(tcp) => tcp.peer_addr()?.ip(),
        Stream::Tls(_) | Stream::Unix(_) => return Err(io::ErrorKind::Unsupported.into()),
    };
    shared.metrics.sockets.add(1);
    // What a proxy passes on is counted by where it comes from, which only the head says.
    let mut guard = if shared.gate.is_proxy(peer) { None } else { shared.limits.connect(peer) };
    let deadline = Instant::now() + HELLO_DEADLINE;
    let crowded = guard.is_none() && !shared.gate.is_proxy(peer);
    if crowded {
        return turn_away(shared, &mut { stream }, peer);
    }
    let mut stream = encrypted(shared, stream, deadline)?;
    let mut head = match http1::read_head(&mut stream, deadline) {
        Ok(head) => head,
        Err(err) => return refuse(&mut stream, &err),
    };
    let origin = shared.gate.origin(peer, &head);
    if guard.is_none() {
        guard = shared.limits.connect(origin);
        if guard.is_none() {
            return turn_away(shared, &mut stream, origin);
        }
    }
    if head.target.path == "/ws" {
        return converse(shared, stream, head, deadline, (place, guard));
    }
    if matches!(head.target.path.as_str(), "/health" | "/health/ready") {
        return match (head.method, head.target.path.as_str()) {
            (Method::Get, "/health") => status::health(shared).send(&mut stream),
            (Method::Get, _) => status::ready(shared).send(&mut stream),
            _ => plain(&mut stream, 405, "GET only"),
        };
    }
    let is_script = head.target.path.starts_with(v1::ROOT);
    let most = if is_script { v1::MAX_BODY } else { MAX_BODY };
    let body = match http1::read_body(&mut stream, &mut head, deadline, most) {
        Ok(body) => body,
        Err(ReadError::BodyTooLarge) => return Answer::refused(413, "payload too large").send(&mut stream),
        Err(err) => return refuse(&mut stream, &err),
    };
    place.heard();
    if shared.gate.admit(origin, Instant::now()).is_err() {
        return Answer::refused(429, "rate_limited").send(&mut stream);
    }
    let ask = Ask { head: &head, body: &body, peer, origin };
    if is_script {
        return v1::serve(shared, &ask, &mut stream);
    }
    let answered = route(shared, &ask).unwrap_or_else(|refused| refused).send(&mut stream);
    drop(guard);
    answered
}

/// One connection too many from this address.
fn turn_away(shared: &Shared, stream: &mut Stream, address: IpAddr) -> io::Result<()> {
    shared.metrics.crowded.add(1);
    shared.told(Matter::Crowded).info(|| format!("too many connections from {address}"));
    plain(stream, 503, TOO_MANY)
}

/// Through TLS, if there is a certificate.
fn encrypted(shared: &Shared, stream: Stream, deadline: Instant) -> io::Result<Stream> {
    match (stream, shared.gate.identity()) {
        (Stream::Tcp(tcp), Some(identity)) => {
            let tls = Tls::accept(&identity, tcp, deadline).map_err(|err| io::Error::other(err.to_string()))?;
            Ok(Stream::Tls(Box::new(tls)))
        }
        (stream, _) => Ok(stream),
    }
}

/// Says what is wrong with a request that could not be read, if there is anybody to say it to.
fn refuse(stream: &mut Stream, err: &ReadError) -> io::Result<()> {
    err.status().map_or(Ok(()), |status| plain(stream, status, &err.to_string()))
}

fn converse(
    shared: &Arc<Shared>,
    mut stream: Stream,
    mut head: Head,
    deadline: Instant,
    held: (Place, Option<AddressGuard>),
) -> io::Result<()> {
    if !head.wants_websocket() {
        return plain(&mut stream, 426, "this is a WebSocket");
    }
    let socket = match ws::accept(stream, &mut head, SOCKET, deadline) {
        Ok(socket) => socket,
        Err(err) => {
            log::debug!("no WebSocket: {err}");
            return Ok(());
        }
    };
    talk::begin(shared, socket, held)
}

/// Everything beside the WebSocket and what tells of the broker's health.
fn route(shared: &Shared, ask: &Ask<'_>) -> Result<Answer, Answer> {
    let parts: Vec<&str> = ask.head.target.path.split('/').skip(1).collect();
    match (ask.head.method, parts.as_slice()) {
        (Method::Post, ["join"]) => join::join(shared, ask),
        (Method::Post, ["mesh"]) => mesh::create(shared, ask),
        (Method::Patch, ["mesh", id]) => mesh::rename(shared, ask, id),
        (Method::Delete, ["mesh", id]) => mesh::delete(shared, ask, id),
        (Method::Post, ["mesh", id, "leave"]) => mesh::leave(shared, ask, id),
        (Method::Get, ["mesh", id, "invites"]) => invite::list(shared, ask, id),
        (Method::Post, ["invite"]) => invite::create(shared, ask),
        (Method::Delete, ["invite", id]) => invite::revoke(shared, ask, id),
        (Method::Get, ["i", code]) => invite::short_link(shared, ask, code),
        (Method::Get, [""]) => status::page(shared, ask),
        (Method::Get, ["metrics"]) => status::metrics(shared, ask),
        // The reference's second form of invites enrols a key that can not say hello; it is off there by default, too.
        (Method::Post, ["invites", _, "claim"]) => Err(Answer::refused(501, "invite_v2_disabled")),
        (_, [""] | ["metrics"] | ["join" | "mesh" | "invite" | "i", ..]) => Err(Answer::refused(405, "method_not_allowed")),
        _ => Err(Answer::not_found()),
    }
}
