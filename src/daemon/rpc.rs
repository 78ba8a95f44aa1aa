//! Asking a broker something over a link that exists. Asking and waiting are two steps, so that several meshes can be
//! asked at once and one deadline holds for all.

use std::time::Instant;

use crossbeam_channel::{Receiver, bounded};

use crate::store::outbox::Route;
use crate::wire::client::ClientFrame;
use crate::wire::code::Code;
use crate::wire::server::ServerFrame;

use super::link::{Call, Cmd, Reply};
use super::links::Links;

/// A request on its way.
#[derive(Debug)]
pub(super) struct Asking(Receiver<Reply>);

/// Hands a request to a link. `frame` is given the id under which the answer will come.
pub(super) fn ask(
    links: &Links,
    route: &Route,
    frame: impl FnOnce(String) -> ClientFrame + Send + 'static,
) -> Result<Asking, Code> {
    let link = links.get(route).ok_or(Code::ConnectionLost)?;
    let (reply, answer) = bounded(1);
    link.try_send(Cmd::Call(Box::new(Call { frame: Box::new(frame), reply }))).map_err(|_| Code::Unavailable)?;
    Ok(Asking(answer))
}

impl Asking {
    /// Waits for the answer, at most until `deadline`. A refusal is its code.
    pub(super) fn answer(self, deadline: Instant) -> Reply {
        match self.whole_answer(deadline)? {
            Some(ServerFrame::Error(refused)) => Err(refused.code),
            answer => Ok(answer),
        }
    }

    /// As [`Asking::answer`], with the broker's refusal as it came, for whoever shows what it says.
    pub(super) fn whole_answer(self, deadline: Instant) -> Reply {
        self.0.recv_deadline(deadline).unwrap_or(Err(Code::Timeout))
    }
}
