//! One WebSocket. Its hello is heard on the thread that accepted it, which then serves whoever comes next; whoever is let in
//! gets a thread of its own. A hello needs several times the stack, and leaves more behind in the allocator, than a
//! connection that is idle ever after: a fresh thread has neither.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use crate::base::thread::{self, CONNECTION_STACK};
use crate::broker::conn::{Cmd, State};
use crate::broker::limits::{AddressGuard, QUEUE};
use crate::broker::{Matter, Shared};
use crate::net::listen::Place;
use crate::net::stream::Stream;
use crate::net::ws::{self, WebSocket};

/// A connection and all that lives as long as it does.
struct Talk {
    shared: Arc<Shared>,
    socket: WebSocket<Stream>,
    state: State,
    inbox: ws::Inbox<Cmd>,
    /// Its place among all connections, and among those of its address.
    held: (Place, Option<AddressGuard>),
}

/// Serves a WebSocket until it ends or has a thread of its own.
pub(super) fn begin(shared: &Arc<Shared>, socket: WebSocket<Stream>, held: (Place, Option<AddressGuard>)) -> io::Result<()> {
    let (handle, inbox) = ws::channel(QUEUE)?;
    let state = State::new(shared.clone(), handle, Instant::now());
    let mut talk = Box::new(Talk { shared: shared.clone(), socket, state, inbox, held });
    let end = talk.run();
    if !matches!(end, ws::End::Paused) {
        talk.end(&end);
        return Ok(());
    }
    talk.held.0.heard();
    if let Err((talk, err)) = thread::hand("talk", CONNECTION_STACK, talk, go_on) {
        log::warn!("no thread for a connection of its own: {err}");
        go_on(talk);
    }
    Ok(())
}

fn go_on(mut talk: Box<Talk>) {
    let end = talk.run();
    talk.end(&end);
}

impl Talk {
    fn run(&mut self) -> ws::End {
        ws::run(&mut self.socket, &mut self.state, &self.inbox)
    }

    fn end(self, end: &ws::End) {
        // Our daemon says so when a session is over; any other end may be followed by a return.
        let over = matches!(end, ws::End::ClosedByPeer { code: ws::code::NORMAL, reason } if reason == "session_ended");
        if let ws::End::Protocol { .. } = end {
            self.shared.told(Matter::Broken).info(|| format!("a connection broke the protocol: {end}"));
        }
        self.state.end(over);
    }
}
