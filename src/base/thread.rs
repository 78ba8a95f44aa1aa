//! Threads with a name and a small stack, joined with a deadline.

use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel, sync_channel};
use std::thread::{Builder, JoinHandle};
use std::time::Instant;

/// Stack of every thread that serves one connection. Measured use stays under a quarter of it.
pub const CONNECTION_STACK: usize = 256 * 1024;

/// A running thread whose end can be waited for with a deadline.
#[derive(Debug)]
pub struct Running<T = ()> {
    name: String,
    ended: Receiver<()>,
    handle: JoinHandle<T>,
}

/// What joining found.
#[derive(Debug, PartialEq, Eq)]
pub enum Joined<T> {
    Ended(T),
    Panicked,
    /// The deadline passed; the thread is left to itself.
    Late,
}

/// Starts `body` on a thread called `name` (at most 15 bytes show in `top -H`).
pub fn spawn<T: Send + 'static>(name: &str, stack: usize, body: impl FnOnce() -> T + Send + 'static) -> io::Result<Running<T>> {
    let (alive, ended) = channel::<()>();
    let handle = Builder::new().name(name.to_owned()).stack_size(stack).spawn(move || {
        // Dropped when the body returns or unwinds: that is the signal.
        let _alive = alive;
        body()
    })?;
    Ok(Running { name: name.to_owned(), ended, handle })
}

/// Starts `body` with `job` on a thread of its own. Without a thread the job comes back.
pub fn hand<J: Send + 'static>(
    name: &str,
    stack: usize,
    job: J,
    body: impl FnOnce(J) + Send + 'static,
) -> Result<(), (J, io::Error)> {
    // It goes by a slot of its own, for what a closure holds is lost with it.
    let (sender, slot) = sync_channel(1);
    let started = spawn(name, stack, move || {
        if let Ok(job) = slot.recv() {
            body(job);
        }
    });
    match started {
        Ok(_) => sender.send(job).map_err(|refused| (refused.0, io::ErrorKind::BrokenPipe.into())),
        Err(err) => Err((job, err)),
    }
}

impl<T> Running<T> {
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn is_finished(&self) -> bool {
        self.handle.is_finished()
    }

    /// Waits until the thread ends or `deadline` passes.
    pub fn join_by(self, deadline: Instant) -> Joined<T> {
        match self.ended.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Err(RecvTimeoutError::Timeout) => Joined::Late,
            Ok(()) | Err(RecvTimeoutError::Disconnected) => match self.handle.join() {
                Ok(value) => Joined::Ended(value),
                Err(_) => Joined::Panicked,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn joins_the_ended_the_panicked_and_the_late() {
        let soon = || Instant::now() + Duration::from_secs(5);
        assert_eq!(spawn("seven", CONNECTION_STACK, || 7).unwrap().join_by(soon()), Joined::Ended(7));
        let quiet = spawn("panics", CONNECTION_STACK, || std::panic::resume_unwind(Box::new(()))).unwrap();
        assert_eq!(quiet.join_by(soon()), Joined::<()>::Panicked);
        let (release, wait) = channel::<()>();
        let stuck = spawn("stuck", CONNECTION_STACK, move || wait.recv().is_err()).unwrap();
        assert_eq!(stuck.join_by(Instant::now()), Joined::Late);
        drop(release);
    }

    #[test]
    fn a_job_goes_over_or_comes_back() {
        let (sender, heard) = channel();
        hand("seven", CONNECTION_STACK, 7, move |job| sender.send(job).unwrap()).unwrap();
        assert_eq!(heard.recv_timeout(Duration::from_secs(5)), Ok(7));
        // No address space has room for such a stack.
        let (job, _) = hand("eight", usize::MAX / 4, 8, |_| ()).unwrap_err();
        assert_eq!(job, 8);
    }
}
