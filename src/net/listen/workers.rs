//! Threads that outlive one connection, so that a burst of short ones does not pay for a thread each.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use crate::base::thread::hand;

/// How long an idle thread waits for work before it ends.
const PATIENCE: Duration = Duration::from_secs(5);

/// Idle threads kept. A thread that falls idle beyond that ends at once.
const MAX_IDLE: usize = 8;

pub(super) struct Workers<T, F> {
    name: String,
    stack: usize,
    started: u64,
    work: Arc<F>,
    idle: Arc<AtomicUsize>,
    // A channel without room: sending succeeds only into the hands of a thread that waits this very moment, so no
    // connection can queue behind a busy thread.
    tx: Sender<T>,
    rx: Receiver<T>,
}

impl<T: Send + 'static, F: Fn(T) + Send + Sync + 'static> Workers<T, F> {
    pub(super) fn new(name: &str, stack: usize, work: F) -> Workers<T, F> {
        let (tx, rx) = bounded(0);
        Workers { name: name.to_owned(), stack, started: 0, work: Arc::new(work), idle: Arc::default(), tx, rx }
    }

    /// Gives the job to an idle thread or to a new one. The error has the job back.
    pub(super) fn give(&mut self, job: T) -> Result<(), (T, io::Error)> {
        let job = match self.tx.try_send(job) {
            Ok(()) => return Ok(()),
            Err(TrySendError::Full(job) | TrySendError::Disconnected(job)) => job,
        };
        self.started += 1;
        let (work, idle, rx) = (self.work.clone(), self.idle.clone(), self.rx.clone());
        hand(&format!("{}-{}", self.name, self.started), self.stack, job, move |first| {
            let mut next = Some(first);
            while let Some(job) = next {
                work(job);
                next = wait_for_next(&idle, &rx);
            }
        })
    }
}

fn wait_for_next<T>(idle: &AtomicUsize, rx: &Receiver<T>) -> Option<T> {
    if MAX_IDLE <= idle.fetch_add(1, Ordering::AcqRel) {
        idle.fetch_sub(1, Ordering::AcqRel);
        return None;
    }
    let next = rx.recv_timeout(PATIENCE);
    idle.fetch_sub(1, Ordering::AcqRel);
    // Without one it ends: the patience ran out, or accepting has ended.
    next.ok()
}
