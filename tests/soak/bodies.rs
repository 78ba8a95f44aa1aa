//! The processes of sessions: each can be killed, come back as another, and be stopped for a while.

use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::session::Session;

/// One process that a session is registered with.
#[derive(Debug)]
pub(super) struct Body {
    pub(super) session: usize,
    process: Child,
    stopped: bool,
}

impl Body {
    /// Registers a session, which `number`s among the sessions, with a process of its own.
    #[track_caller]
    pub(super) fn give(number: usize, session: &Session) -> Body {
        let process = spawn();
        session.register(process.id());
        Body { session: number, process, stopped: false }
    }

    /// The process ends, and the session comes back in another; the daemon may learn of either first.
    #[track_caller]
    pub(super) fn leave(&mut self, session: &Session) {
        self.end();
        *self = Body::give(self.session, session);
    }

    /// The session ends in good order, and begins anew in the same process.
    #[track_caller]
    pub(super) fn close(&mut self, session: &Session) {
        let reply = session.call("DELETE", &format!("/v1/sessions/{}", session.token), None).expect("the daemon answers");
        assert_eq!(reply.status, 200, "{reply:?}");
        session.register(self.process.id());
    }

    /// Stops the process, or lets it go on.
    pub(super) fn stop(&mut self, stopped: bool) {
        if self.stopped != stopped {
            self.stopped = stopped;
            let pid = i32::try_from(self.process.id()).ok().and_then(Pid::from_raw).expect("a process");
            kill_process(pid, if stopped { Signal::STOP } else { Signal::CONT }).expect("it is there");
        }
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stopped
    }

    fn end(&mut self) {
        // One that has gone by itself is gone.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        self.end();
    }
}

fn spawn() -> Child {
    Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("cat")
}
