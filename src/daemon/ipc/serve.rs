//! One connection: a request is read, admitted, matched and answered, each within its deadline.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::time::Instant;

use crate::daemon::ctx::Ctx;
use crate::net::http1::{self, Head, ReadError};
use crate::net::listen::Place;
use crate::net::stream::{Stream, Timeouts};
use crate::net::target::percent_decode;
use crate::store::Seq;
use crate::sys::peer;
use crate::wire::ipc::VERSION_HEADER;
use crate::wire::limits::{REPLY_DEADLINE, REQUEST_DEADLINE};

use super::auth::{self, Caller, Credentials, TcpGate, Transport};
use super::reply::Reply;
use super::routes::{self, Call, Connection, Handler, Route};
use super::{delivery, events};

/// Sent with every reply, so that a client notices when the daemon is of another version.
const HEADERS: [(&str, &str); 2] = [("Content-Type", "application/json"), (VERSION_HEADER, env!("CARGO_PKG_VERSION"))];

/// Serves the one request of a connection. `tcp` is what a connection that came over TCP must present.
pub(super) fn serve(ctx: &Arc<Ctx>, mut stream: Stream, place: &Place, tcp: Option<&TcpGate>) {
    // Whoever hangs up early has no use for an answer, and there is nobody else to tell.
    if let Err(err) = exchange(ctx, &mut stream, place, tcp) {
        log::debug!("a local connection ended early: {err}");
    }
}

fn exchange(ctx: &Arc<Ctx>, stream: &mut Stream, place: &Place, tcp: Option<&TcpGate>) -> io::Result<()> {
    // Which gates a connection passes is its transport's to say, and that was fixed when it was accepted.
    let transport = match (&*stream, tcp) {
        (Stream::Unix(unix), _) => {
            // The socket's mode keeps other users out; this holds where modes do not (containers, odd file systems).
            let theirs = peer::user(unix, &ctx.paths.socket())?;
            if theirs != peer::effective_uid() {
                log::warn!("a connection by user {theirs} was refused");
                return answer(stream, &Reply::error(403, "this daemon belongs to another user").into());
            }
            Transport::Unix
        }
        (_, Some(gate)) => Transport::Tcp(gate),
        (_, None) => return Ok(()),
    };
    let deadline = Instant::now() + REQUEST_DEADLINE;
    let mut head = match http1::read_head(stream, deadline) {
        Ok(head) => head,
        Err(err) => return refuse(stream, &err),
    };
    let (route, item, caller) = match admit(ctx, &head, transport) {
        Ok(admitted) => admitted,
        Err(reply) => return answer(stream, &reply),
    };
    if let Handler::Events = route.handler {
        place.heard();
        return follow(ctx, &head, &caller, stream, place);
    }
    let body = match http1::read_body(stream, &mut head, deadline, route.max_body) {
        Ok(body) => body,
        Err(err) => return refuse(stream, &err),
    };
    place.heard();
    let idempotency_key = head.header("idempotency-key");
    let connection = Connection { stream, place };
    let call = Call { ctx, caller, item, query: &head.target.query, idempotency_key, body: &body, connection };
    let (reply, given) = match route.handler {
        Handler::Answer(handler) => (handler(&call), None),
        Handler::Claim | Handler::Events => delivery::claim(&call),
    };
    answer(stream, &reply).inspect_err(|_| {
        if let Some(given) = given {
            given.take_back(ctx);
        }
    })
}

/// The gates, in the reference's order, and then the table of routes.
fn admit(ctx: &Ctx, head: &Head, transport: Transport<'_>) -> Result<(&'static Route, String, Caller), Reply> {
    let found = routes::find(head.method, &head.target.path);
    let credentials = Credentials {
        query_has_token: head.target.query.get("token").is_some(),
        host: head.header("host"),
        origin: head.header("origin"),
        authorization: head.header("authorization"),
    };
    let caller = auth::identify(ctx, credentials, transport, found.map(|(route, _)| route))?;
    let (route, item) = found.ok_or_else(|| Reply::from(Reply::error(404, "not found")))?;
    let item = percent_decode(item).ok_or_else(|| Reply::from(Reply::error(400, "malformed path")))?;
    Ok((route, item, caller))
}

/// The event stream. Subscribed first, read from the inbox second: the other order would lose what comes between.
fn follow(ctx: &Arc<Ctx>, head: &Head, caller: &Caller, stream: &mut Stream, place: &Place) -> io::Result<()> {
    let after = match head.header("last-event-id").map(str::trim).filter(|id| !id.is_empty()) {
        None => None,
        Some(id) => match id.parse::<u64>() {
            Ok(id) => Some(Seq(id)),
            Err(_) => return answer(stream, &Reply::error(400, "Last-Event-ID is not an id of this stream").into()),
        },
    };
    let scope = caller.scope(ctx);
    let Some(subscription) = ctx.bus.subscribe(scope.clone()) else {
        return answer(stream, &Reply::error(429, "too_many_streams").into());
    };
    place.outlast();
    // A subscriber that does not take one event for this long is gone for all we can tell.
    stream.set_write_timeout(Some(REPLY_DEADLINE))?;
    http1::start_sse(stream)?;
    let _standing = caller.session().map(|session| ctx.sightings.stream(session.serial));
    events::stream(ctx, &subscription, caller, (&scope, after), stream)
}

fn refuse(stream: &mut Stream, err: &ReadError) -> io::Result<()> {
    let Some(status) = err.status() else { return Ok(()) };
    let word = if status == 413 { "payload_too_large" } else { "bad request" };
    answer(stream, &Reply::error(status, word).detail(&err.to_string()).into())?;
    // A reply that meets unread bytes is torn down by the kernel before it is read: take some of them.
    let mut sink = [0; 4096];
    stream.set_read_timeout(Some(std::time::Duration::from_millis(50)))?;
    stream.shutdown(std::net::Shutdown::Write)?;
    for _ in 0..256 {
        if !matches!(stream.read(&mut sink), Ok(1..)) {
            break;
        }
    }
    Ok(())
}

fn answer(stream: &mut Stream, reply: &Reply) -> io::Result<()> {
    stream.set_write_timeout(Some(REPLY_DEADLINE))?;
    http1::write_response(stream, reply.status, &HEADERS, reply.body.as_bytes())?;
    stream.flush()
}
