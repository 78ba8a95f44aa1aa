//! How a call is made: over the connection at hand or a new one, and again where the daemon ended and nothing is done twice by it.

use std::sync::PoisonError;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::sys::poll;
use crate::wire::ipc::Problem;
use crate::wire::json;

use super::http::{self, Ask, Connection, Repeat};
use super::{CALL_DEADLINE, Client, Error, PARKED_FOR};

/// How long a daemon that ended may still seem to be there: connections come to it until the system has put away all it had.
const DYING: Duration = Duration::from_secs(3);

/// How often it is looked whether it still does.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

impl Client {
    pub(super) fn get<R: DeserializeOwned>(&self, path: &str) -> Result<R, Error> {
        self.call("GET", path, None, CALL_DEADLINE)
    }

    pub(super) fn post<B: Serialize, R: DeserializeOwned>(&self, path: &str, body: &B) -> Result<R, Error> {
        self.call("POST", path, Some(json::encode(body)), CALL_DEADLINE)
    }

    pub(super) fn remove<R: DeserializeOwned>(&self, path: &str) -> Result<R, Error> {
        self.call("DELETE", path, None, CALL_DEADLINE)
    }

    pub(super) fn call<R: DeserializeOwned>(
        &self,
        method: &str,
        path: &str,
        body: Option<String>,
        within: Duration,
    ) -> Result<R, Error> {
        // A second DELETE finds nothing, and says so.
        let repeat = if method == "GET" { Repeat::Safe } else { Repeat::Never };
        self.call_as(method, path, body, within, repeat)
    }

    pub(super) fn call_as<R: DeserializeOwned>(
        &self,
        method: &str,
        path: &str,
        body: Option<String>,
        within: Duration,
        repeat: Repeat,
    ) -> Result<R, Error> {
        let ask = Ask { method, path, token: self.token.as_ref(), body, repeat };
        let reply = self.exchange(&ask, self.due(within))?;
        if let Some(version) = reply.daemon_version {
            // Only the first is kept: one process sees one daemon, or warns about the one it began with.
            let _ = self.daemon_version.set(version);
        }
        if (200..300).contains(&reply.status) {
            return json::decode(&reply.body).map_err(|err| Error::Protocol(format!("the reply to {method} {path}: {err}")));
        }
        Err(refusal(reply.status, &reply.body))
    }

    /// When a call that may take `within` by itself has to be over.
    pub(super) fn due(&self, within: Duration) -> Instant {
        let due = Instant::now() + self.deadline.unwrap_or(within);
        self.end.map_or(due, |end| due.min(end))
    }

    fn exchange(&self, ask: &Ask<'_>, deadline: Instant) -> Result<http::Reply, Error> {
        let mut ahead = self.take_parked();
        // Later calls may find that somebody has stopped the daemon meanwhile, who wants it to stay so.
        let is_promised = ahead.is_some();
        let settled_by = deadline.min(Instant::now() + DYING);
        loop {
            let connection = match ahead.take() {
                Some(connection) => Ok(connection),
                None => self.reach(is_promised, deadline),
            };
            match connection.and_then(|connection| connection.exchange(ask, deadline)) {
                Err(Error::Gone { unread })
                    if (unread || ask.repeat == Repeat::Safe) && Instant::now() + LOOK_AGAIN < settled_by =>
                {
                    poll::wait(&[], None, Some(LOOK_AGAIN))?;
                }
                settled => return settled,
            }
        }
    }

    fn take_parked(&self) -> Option<Connection> {
        let parked = self.parked.lock().unwrap_or_else(PoisonError::into_inner).take();
        parked.filter(|(_, at)| at.elapsed() < PARKED_FOR).map(|(connection, _)| connection)
    }

    /// A connection to the daemon; where one was promised and has ended since, to the one that is started in its place.
    fn reach(&self, is_promised: bool, deadline: Instant) -> Result<Connection, Error> {
        let missing = match Connection::open(&self.socket, deadline) {
            Err(missing @ Error::NoDaemon(_)) => missing,
            reached => return reached,
        };
        let Some(starter) = self.starter.as_ref().filter(|_| is_promised) else { return Err(missing) };
        let successor = starter.ensure()?;
        // Told by whoever asks this client.
        successor.started_in.get().map(|took| self.started_in.set(*took));
        successor.beside_service.get().map(|why| self.beside_service.set(why.clone()));
        successor.take_parked().map_or_else(|| Connection::open(&self.socket, deadline), Ok)
    }
}

/// What a reply of this status and body refuses; a body that is no [`Problem`] is told apart by its status alone.
pub(super) fn refusal(status: u16, body: &[u8]) -> Error {
    let problem = json::decode(body).unwrap_or_else(|_| Problem { error: format!("status {status}"), ..Problem::default() });
    Error::Refused { status, problem: Box::new(problem) }
}
