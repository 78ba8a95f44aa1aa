//! Where the answer to one command goes, and who waits for it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Thread};

use crate::store::error::Error;

/// A place for one answer. The lock guards the place only; nobody waits for it.
///
/// Whoever waits parks at once. A channel's receiver looks again for a while before it does, and gives its processor away in
/// between; an answer that comes with a disk's sync is never there so soon, and on a busy machine those looks are what others
/// wait for.
struct Slot<T> {
    caller: Thread,
    place: Mutex<Option<Result<T, Error>>>,
}

impl<T> Slot<T> {
    fn lock(&self) -> MutexGuard<'_, Option<Result<T, Error>>> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The owner's end: a slot for one value, so that answering never waits. Dropped without an answer it says
/// [`Error::Closed`].
pub(in crate::store) struct Reply<T>(Option<Arc<Slot<T>>>);

/// The caller's end.
pub(super) struct Answer<T>(Arc<Slot<T>>);

/// Both ends, for this thread to wait at the one.
pub(super) fn reply<T>() -> (Reply<T>, Answer<T>) {
    let slot = Arc::new(Slot { caller: thread::current(), place: Mutex::new(None) });
    (Reply(Some(slot.clone())), Answer(slot))
}

impl<T: 'static> Reply<T> {
    /// Keeps `result` until the commit it depends on has succeeded or failed.
    pub(in crate::store) fn hold(self, result: Result<T, Error>) -> Held {
        Held {
            failed: result.is_err(),
            damaged: matches!(result, Err(Error::Corrupt(_))),
            release: Box::new(move |commit| self.put(result.and_then(|value| commit.map(|()| value)))),
        }
    }
}

impl<T> Reply<T> {
    fn put(mut self, result: Result<T, Error>) {
        self.answer(result);
    }

    fn answer(&mut self, result: Result<T, Error>) {
        let Some(slot) = self.0.take() else { return };
        *slot.lock() = Some(result);
        slot.caller.unpark();
    }
}

impl<T> Drop for Reply<T> {
    fn drop(&mut self) {
        self.answer(Err(Error::Closed));
    }
}

impl<T> Answer<T> {
    /// Waits on the thread that made it. The wait ends with the batch that the command is part of, or with the owner's
    /// thread.
    pub(super) fn wait(self) -> Result<T, Error> {
        loop {
            if let Some(result) = self.0.lock().take() {
                return result;
            }
            // It may end for no reason, and for that of an earlier wait.
            thread::park();
        }
    }

    /// What is there now.
    #[cfg(test)]
    pub(super) fn now(&self) -> Option<Result<T, Error>> {
        self.0.lock().take()
    }
}

/// The answer of a command that has run, before its commit. It never leaves the owner's thread.
pub(in crate::store) struct Held {
    pub(super) failed: bool,
    /// It met a part of the file that is damaged.
    pub(super) damaged: bool,
    pub(super) release: Box<dyn FnOnce(Result<(), Error>)>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_reaches_who_waits_and_a_lost_command_ends_the_wait() {
        let (first, answer) = reply();
        let (lost, never) = reply::<u8>();
        let owner = thread::spawn(move || {
            (first.hold(Ok(7)).release)(Ok(()));
            drop(lost);
        });
        assert_eq!(answer.wait(), Ok(7));
        assert_eq!(never.wait(), Err(Error::Closed));
        owner.join().unwrap();

        let (early, answer) = reply::<u8>();
        thread::current().unpark();
        (early.hold(Ok(7)).release)(Err(Error::Full));
        assert_eq!(answer.wait(), Err(Error::Full), "an answer counts for no more than its commit");
    }
}
