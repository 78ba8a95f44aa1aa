//! The port: WebSockets at `/ws`, and a few routes beside it.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::net::http1::{self, Head, Method};
use crate::net::stream::{Stream, write_all_by};
use crate::net::ws;
use crate::wire::json::json;
use crate::wire::limits::{HELLO_DEADLINE, MAX_FRAME};

use super::Shared;
use super::conn::State;
use super::limits::QUEUE;

/// A peer's frame, with room for the fields around the sealed part. The buffer is what an idle connection costs.
const SOCKET: ws::Limits = ws::Limits { max_message: MAX_FRAME + 16 * 1024, read_buffer: 4096 };

/// How long an answer may take to be taken.
const REPLY_DEADLINE: Duration = Duration::from_secs(5);

/// Serves one connection until it ends.
pub(super) fn serve(shared: &Arc<Shared>, stream: Stream) {
    if let Err(err) = exchange(shared, stream) {
        log::debug!("a connection ended early: {err}");
    }
}

fn exchange(shared: &Arc<Shared>, mut stream: Stream) -> io::Result<()> {
    let address = match &stream {
        Stream::Tcp(tcp) => Some(tcp.peer_addr()?.ip()),
        Stream::Tls(tls) => Some(tls.socket().peer_addr()?.ip()),
        Stream::Unix(_) => None,
    };
    let guard = match address.map(|address| shared.limits.connect(address)) {
        Some(None) => return reply(&mut stream, 503, "text/plain", b"too many connections from this address"),
        Some(guard) => guard,
        None => None,
    };
    let deadline = Instant::now() + HELLO_DEADLINE;
    let mut head = match http1::read_head(&mut stream, deadline) {
        Ok(head) => head,
        Err(err) => {
            let Some(status) = err.status() else { return Ok(()) };
            return reply(&mut stream, status, "text/plain", err.to_string().as_bytes());
        }
    };
    if head.target.path == "/ws" {
        return converse(shared, stream, &mut head, deadline);
    }
    let answered = route(shared, &head, &mut stream);
    drop(guard);
    answered
}

fn converse(shared: &Arc<Shared>, mut stream: Stream, head: &mut Head, deadline: Instant) -> io::Result<()> {
    if !head.wants_websocket() {
        return reply(&mut stream, 426, "text/plain", b"this is a WebSocket");
    }
    let mut socket = match ws::accept(stream, head, SOCKET, deadline) {
        Ok(socket) => socket,
        Err(err) => {
            log::debug!("no WebSocket: {err}");
            return Ok(());
        }
    };
    let (handle, inbox) = ws::channel(QUEUE)?;
    let mut state = State::new(shared.clone(), handle, Instant::now());
    let end = ws::run(&mut socket, &mut state, &inbox);
    // Our daemon says so when a session is over; any other end may be followed by a return.
    let over = matches!(&end, ws::End::ClosedByPeer { code: ws::code::NORMAL, reason } if reason == "session_ended");
    if let ws::End::Protocol { .. } = &end {
        log::info!("a connection broke the protocol: {end}");
    }
    state.end(over);
    Ok(())
}

fn route(shared: &Shared, head: &Head, stream: &mut Stream) -> io::Result<()> {
    match (head.method, head.target.path.as_str()) {
        (Method::Get, "/health") => health(shared, stream),
        (_, "/health") => reply(stream, 405, "text/plain", b"GET only"),
        _ => reply(stream, 404, "text/plain", b"not found"),
    }
}

fn health(shared: &Shared, stream: &mut Stream) -> io::Result<()> {
    let depth = shared.hub.depth();
    let body = json!({
        "status": if depth.is_ok() { "ok" } else { "degraded" },
        "db": if depth.is_ok() { "up" } else { "down" },
        "version": env!("CARGO_PKG_VERSION"),
        "gitSha": option_env!("CLAUDEMESH_GIT_SHA").unwrap_or("unknown"),
        "uptime": shared.started.elapsed().as_secs(),
        "connections": shared.connections.get(),
        "queued": depth.as_ref().ok(),
    });
    let status = if depth.is_ok() { 200 } else { 503 };
    reply(stream, status, "application/json", body.to_string().as_bytes())
}

fn reply(stream: &mut Stream, status: u16, kind: &str, body: &[u8]) -> io::Result<()> {
    let bytes = http1::response(status, &[("Content-Type", kind)], body)?;
    write_all_by(stream, &bytes, Instant::now() + REPLY_DEADLINE)
}
