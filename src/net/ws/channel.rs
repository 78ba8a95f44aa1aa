//! The way other threads reach the thread that owns a WebSocket: a bounded queue with a bell.
//!
//! The owner sleeps in poll(2), never in the queue, so the queue is a locked deque that starts without an allocation:
//! an idle connection costs its capacity nothing. The lock guards pushes and pops only.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

pub use crossbeam_channel::TrySendError;

use crate::sys::poll::{Bell, Ringer, bell, wait};

/// A burst leaves at most this much room behind in an empty queue.
const KEPT: usize = 16;

/// Posts commands to a connection. Cheap to clone; when the last clone goes, the connection closes itself (1001).
pub struct Handle<C>(Arc<Sender<C>>);

struct Sender<C> {
    queue: Arc<Queue<C>>,
    ringer: Ringer,
}

/// The connection's end.
pub struct Inbox<C> {
    queue: Arc<Queue<C>>,
    bell: Bell,
}

struct Queue<C> {
    capacity: usize,
    state: Mutex<State<C>>,
}

struct State<C> {
    items: VecDeque<C>,
    sender_gone: bool,
    receiver_gone: bool,
}

/// What the inbox had.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Popped<C> {
    Cmd(C),
    Empty,
    /// Empty, and every handle is gone.
    Orphaned,
}

/// A queue for `capacity` commands. Small commands are still the better ones: a full queue holds `capacity` of them.
pub fn channel<C>(capacity: usize) -> io::Result<(Handle<C>, Inbox<C>)> {
    let (ringer, bell) = bell()?;
    let state = State { items: VecDeque::new(), sender_gone: false, receiver_gone: false };
    let queue = Arc::new(Queue { capacity, state: Mutex::new(state) });
    Ok((Handle(Arc::new(Sender { queue: queue.clone(), ringer })), Inbox { queue, bell }))
}

impl<C> Handle<C> {
    /// Never blocks. `Full`: the connection does not keep up, and the caller decides what that costs; `Disconnected`: it
    /// has ended.
    pub fn try_send(&self, cmd: C) -> Result<(), TrySendError<C>> {
        let mut state = self.0.queue.lock();
        if state.receiver_gone {
            return Err(TrySendError::Disconnected(cmd));
        }
        if self.0.queue.capacity <= state.items.len() {
            return Err(TrySendError::Full(cmd));
        }
        state.items.push_back(cmd);
        drop(state);
        self.0.ringer.ring();
        Ok(())
    }

    /// Whether both handles lead to the same connection.
    pub fn same_as(&self, other: &Handle<C>) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl<C> Clone for Handle<C> {
    fn clone(&self) -> Handle<C> {
        Handle(self.0.clone())
    }
}

impl<C> fmt::Debug for Handle<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Handle({} of {})", self.0.queue.lock().items.len(), self.0.queue.capacity)
    }
}

impl<C> Drop for Sender<C> {
    fn drop(&mut self) {
        self.queue.lock().sender_gone = true;
        self.ringer.ring();
    }
}

/// Why [`Inbox::recv_deadline`] brought no command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoCmd {
    /// The deadline passed.
    Timeout,
    /// Every handle is gone.
    Orphaned,
}

impl<C> Inbox<C> {
    /// Waits for a command while there is no connection to run, until `deadline` (none: for ever).
    pub fn recv_deadline(&self, deadline: Option<Instant>) -> Result<C, NoCmd> {
        loop {
            match self.pop() {
                Popped::Cmd(cmd) => return Ok(cmd),
                Popped::Orphaned => return Err(NoCmd::Orphaned),
                Popped::Empty => {}
            }
            let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Err(NoCmd::Timeout);
            }
            // The bell is silenced by the wait, and the queue is read after it: the reverse order loses a wake-up. An
            // error is that of a signal or of memory; the deadline still ends the wait.
            let _ = wait(&[], Some(&self.bell), left);
        }
    }

    pub(super) fn bell(&self) -> &Bell {
        &self.bell
    }

    pub(super) fn pop(&self) -> Popped<C> {
        let mut state = self.queue.lock();
        match state.items.pop_front() {
            Some(cmd) => Popped::Cmd(cmd),
            None => {
                if KEPT < state.items.capacity() {
                    state.items = VecDeque::new();
                }
                if state.sender_gone { Popped::Orphaned } else { Popped::Empty }
            }
        }
    }

    /// Whether [`Inbox::pop`] would say anything but `Empty`.
    pub(super) fn is_ready(&self) -> bool {
        let state = self.queue.lock();
        !state.items.is_empty() || state.sender_gone
    }
}

impl<C> fmt::Debug for Inbox<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Inbox({} of {})", self.queue.lock().items.len(), self.queue.capacity)
    }
}

impl<C> Drop for Inbox<C> {
    fn drop(&mut self) {
        let mut state = self.queue.lock();
        state.receiver_gone = true;
        let unread = std::mem::take(&mut state.items);
        drop(state);
        // Outside the lock: a command may hold a reply channel whose other end wakes.
        drop(unread);
    }
}

impl<C> Queue<C> {
    /// Nothing under this lock can panic half-way, so a poisoned one is as good as any.
    fn lock(&self) -> MutexGuard<'_, State<C>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::sys::poll::wait;

    #[test]
    fn full_orphaned_and_disconnected_are_told_apart() {
        let (handle, inbox) = channel::<u8>(2).unwrap();
        assert_eq!(inbox.pop(), Popped::Empty);
        handle.try_send(1).unwrap();
        let other = handle.clone();
        assert!(other.same_as(&handle));
        other.try_send(2).unwrap();
        assert_eq!(handle.try_send(3), Err(TrySendError::Full(3)));
        assert!(wait(&[], Some(inbox.bell()), Some(Duration::from_secs(5))).unwrap().rang);
        drop(handle);
        assert!(!wait(&[], Some(inbox.bell()), Some(Duration::ZERO)).unwrap().rang);
        assert_eq!(inbox.pop(), Popped::Cmd(1));
        drop(other);
        assert!(wait(&[], Some(inbox.bell()), Some(Duration::from_secs(5))).unwrap().rang, "the last handle rings");
        assert!(inbox.is_ready());
        assert_eq!(inbox.pop(), Popped::Cmd(2));
        assert_eq!(inbox.pop(), Popped::Orphaned);

        let (handle, inbox) = channel::<Arc<()>>(2).unwrap();
        let held = Arc::new(());
        handle.try_send(held.clone()).unwrap();
        drop(inbox);
        assert_eq!(Arc::strong_count(&held), 1, "what nobody will read is dropped at once");
        assert_eq!(handle.try_send(held), Err(TrySendError::Disconnected(Arc::new(()))));
    }
}
