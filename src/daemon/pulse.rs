//! The service manager's watchdog. A thread asks both databases now and then and tells the supervisor that they answered;
//! the supervisor tells the manager. So a supervisor that is stuck and a database that hangs are both missed.

use std::io;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use crate::base::ids::ClientId;
use crate::base::thread;
use crate::store;
use crate::sys::notify;

use super::ctx::Ctx;
use super::supervisor;

/// It calls the stores and waits.
const STACK: usize = 64 * 1024;

/// Ends the thread when dropped.
#[derive(Debug)]
pub(super) struct Pulse {
    _alive: Sender<()>,
}

/// Starts the thread, if a service manager wants to hear that the daemon lives.
pub(super) fn start(ctx: &Ctx) -> io::Result<Option<Pulse>> {
    let Some(every) = notify::watchdog_interval() else { return Ok(None) };
    let (alive, ended) = bounded(0);
    let ask = {
        let (outbox, inbox) = (ctx.outbox.clone(), ctx.inbox.clone());
        // Both are looked up by an index, however much there is.
        move || outbox.find(ClientId::new("")).map(drop).and_then(|()| inbox.last_seq().map(drop))
    };
    let supervisor = ctx.supervisor.clone();
    thread::spawn("pulse", STACK, move || beat(every, &ended, ask, &supervisor))?;
    Ok(Some(Pulse { _alive: alive }))
}

fn beat(
    every: Duration,
    ended: &Receiver<()>,
    ask: impl Fn() -> Result<(), store::Error>,
    supervisor: &Sender<supervisor::Event>,
) {
    loop {
        match ask() {
            Ok(()) if supervisor.send(supervisor::Event::StoresAnswer).is_err() => return,
            Ok(()) => {}
            Err(err) => log::warn!("the watchdog is not told that all is well: {err}"),
        }
        if ended.recv_timeout(every) != Err(RecvTimeoutError::Timeout) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_stores_that_answer_are_a_sign_of_life() {
        let (supervisor, events) = bounded(1);
        let (alive, ended) = bounded(0);
        let (answer, answers) = bounded(0);
        let ask = move || answers.recv().unwrap_or(Err(store::Error::Closed));
        let thread = std::thread::spawn(move || beat(Duration::from_millis(1), &ended, ask, &supervisor));
        answer.send(Ok(())).unwrap();
        assert!(matches!(events.recv(), Ok(supervisor::Event::StoresAnswer)));
        answer.send(Err(store::Error::Closed)).unwrap();
        // It asks again, so the refusal has been dealt with; nothing was said, and nothing is while no answer comes.
        answer.send(Ok(())).unwrap();
        assert!(matches!(events.recv(), Ok(supervisor::Event::StoresAnswer)));
        assert!(events.try_recv().is_err());
        drop((alive, answer));
        thread.join().unwrap();
    }
}
