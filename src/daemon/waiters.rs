//! One waiter for each session: the hook that waits after a turn takes the place of the one that waited before it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::base::ids::SessionId;

/// The table of waiters. Guards only the map.
#[derive(Debug, Default)]
pub(super) struct Waiters(Mutex<HashMap<SessionId, Arc<Sender<()>>>>);

/// A place in the table. Dropping it leaves the place, if it is still its own.
#[derive(Debug)]
pub(super) struct Place<'a> {
    waiters: &'a Waiters,
    session: SessionId,
    mine: std::sync::Weak<Sender<()>>,
    /// Disconnected when another took this place.
    pub(super) displaced: Receiver<()>,
}

impl Waiters {
    pub(super) fn take_place(&self, session: &SessionId) -> Place<'_> {
        let (sender, displaced) = bounded(0);
        let sender = Arc::new(sender);
        let mine = Arc::downgrade(&sender);
        // Dropping the one before is what tells it.
        drop(self.lock().insert(session.clone(), sender));
        Place { waiters: self, session: session.clone(), mine, displaced }
    }

    /// The session has ended: whoever waited for its mail is told.
    pub(super) fn end(&self, session: &SessionId) {
        self.lock().remove(session);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SessionId, Arc<Sender<()>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut places = self.waiters.lock();
        if places.get(&self.session).is_some_and(|current| std::ptr::eq(Arc::as_ptr(current), self.mine.as_ptr())) {
            places.remove(&self.session);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crossbeam_channel::TryRecvError;

    #[test]
    fn the_last_to_come_has_the_place() {
        let waiters = Waiters::default();
        let (one, two) = (SessionId::new("one"), SessionId::new("two"));
        let first = waiters.take_place(&one);
        let other = waiters.take_place(&two);
        let second = waiters.take_place(&one);
        assert_eq!(first.displaced.try_recv(), Err(TryRecvError::Disconnected));
        drop(first);
        assert_eq!(second.displaced.try_recv(), Err(TryRecvError::Empty), "the first did not take it along");
        assert_eq!(other.displaced.try_recv(), Err(TryRecvError::Empty));
        drop((second, other));
        assert!(waiters.lock().is_empty());
    }
}
