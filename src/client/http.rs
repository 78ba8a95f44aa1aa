//! One request over the daemon's socket, in the terms of the local API: a session's token, a cursor, the daemon's version.

use std::path::Path;
use std::time::Instant;

use crate::base::ids::Token;
use crate::net::http_client::{self, Address, ClientError, Streaming};
use crate::net::stream::{Shutter, Stream};
use crate::wire::ipc::{SESSION_SCHEME, VERSION_HEADER};
use crate::wire::limits::MAX_REPLY;

use super::Error;

/// Longest version that is taken note of, in characters.
const MAX_VERSION: usize = 64;

/// What to ask.
#[derive(Debug)]
pub(super) struct Ask<'a> {
    pub(super) method: &'a str,
    /// With the query.
    pub(super) path: &'a str,
    pub(super) token: Option<&'a Token>,
    /// JSON.
    pub(super) body: Option<String>,
    pub(super) repeat: Repeat,
}

/// Whether a request may be made again when nobody knows what became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Repeat {
    /// Made twice, it does and answers what it does when made once.
    Safe,
    Never,
}

/// A whole reply.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) daemon_version: Option<String>,
    pub(super) body: Vec<u8>,
}

/// A connection on which nothing was said yet.
#[derive(Debug)]
pub(super) struct Connection(Stream);

impl Connection {
    pub(super) fn open(socket: &Path, deadline: Instant) -> Result<Connection, Error> {
        let connected = Address::Unix(socket.to_owned()).connect(deadline);
        connected.map(Connection).map_err(|err| Error::of_connect(err, socket))
    }

    /// Asks, and reads the whole answer.
    pub(super) fn exchange(mut self, ask: &Ask<'_>, deadline: Instant) -> Result<Reply, Error> {
        let reply = ask.with(&[("Accept", "application/json")], |ask| {
            http_client::exchange(&mut self.0, "localhost", ask, deadline, MAX_REPLY)
        })?;
        let daemon_version = reply.header(VERSION_HEADER).map(|version| version.chars().take(MAX_VERSION).collect());
        Ok(Reply { status: reply.status, daemon_version, body: reply.body })
    }

    /// Asks for a stream of events, from after this one.
    pub(super) fn follow(self, ask: &Ask<'_>, after: Option<u64>, deadline: Instant) -> Result<Streaming, Error> {
        let after = after.map(|after| after.to_string());
        let mut headers = vec![("Accept", "text/event-stream")];
        headers.extend(after.as_deref().map(|after| ("Last-Event-ID", after)));
        Ok(ask.with(&headers, |ask| http_client::follow(self.0, ask, deadline))?)
    }

    /// By which another thread ends the exchange.
    pub(super) fn shutter(&self) -> Result<Shutter, Error> {
        Ok(self.0.shutter()?)
    }
}

impl Ask<'_> {
    /// Puts the request together with its headers.
    fn with<T>(&self, headers: &[(&str, &str)], send: impl FnOnce(&http_client::Ask<'_>) -> T) -> T {
        let authorization = self.token.map(|token| format!("{SESSION_SCHEME} {}", token.reveal()));
        let mut headers = headers.to_vec();
        headers.extend(authorization.as_deref().map(|value| ("Authorization", value)));
        if self.body.is_some() {
            headers.push(("Content-Type", "application/json"));
        }
        let body = self.body.as_deref().map(str::as_bytes);
        send(&http_client::Ask { method: self.method, target: self.path, headers: &headers, body })
    }
}

impl From<ClientError> for Error {
    fn from(err: ClientError) -> Error {
        match err {
            ClientError::Timeout => Error::Timeout,
            ClientError::Connect(err) | ClientError::Io(err) => Error::from(err),
            ClientError::Closed => Error::Gone { unread: false },
            // Over the daemon's socket this is certain: what was written was written into its own queue.
            ClientError::Reset => Error::Gone { unread: true },
            ClientError::TooLarge | ClientError::Malformed(_) => Error::Protocol(err.to_string()),
        }
    }
}
