//! Who waits for news of a message that was sent, and how it reaches them. What the news is stands in the outbox.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::store::RowId;

/// Waits at once, each a thread. One more is answered 429.
const MAX_WAITING: usize = 512;

/// The table of those who wait. Guards only the map.
#[derive(Debug, Clone, Default)]
pub(super) struct Watch(Arc<Mutex<Table>>);

#[derive(Debug, Default)]
struct Table {
    by_row: HashMap<RowId, Vec<(u64, Sender<()>)>>,
    count: usize,
    next: u64,
    closed: bool,
}

/// One who waits. Dropping it ends that.
#[derive(Debug)]
pub(super) struct Watching {
    watch: Watch,
    row: RowId,
    id: u64,
    /// Has something when there is news; disconnected when the daemon stops.
    pub(super) news: Receiver<()>,
}

impl Watch {
    /// Waits for news of this row. To be called before the row is read: the other order misses what comes between. `None`
    /// when [`MAX_WAITING`] wait already.
    pub(super) fn row(&self, row: &RowId) -> Option<Watching> {
        let (sender, news) = bounded(1);
        let mut table = self.lock();
        if MAX_WAITING <= table.count {
            return None;
        }
        table.count += 1;
        table.next += 1;
        let id = table.next;
        if !table.closed {
            table.by_row.entry(row.clone()).or_default().push((id, sender));
        }
        drop(table);
        Some(Watching { watch: self.clone(), row: row.clone(), id, news })
    }

    /// There is news of these rows.
    pub(super) fn tell<'a>(&self, rows: impl Iterator<Item = &'a RowId>) {
        let table = self.lock();
        if table.by_row.is_empty() {
            return;
        }
        let waiting = rows.filter_map(|row| table.by_row.get(row)).flatten().map(|(_, sender)| sender.clone());
        let waiting: Vec<Sender<()>> = waiting.collect();
        drop(table);
        // Whoever has not looked at the last news yet will find this with it.
        for sender in &waiting {
            let _ = sender.try_send(());
        }
    }

    /// The daemon stops: nobody waits any longer.
    pub(super) fn close(&self) {
        let mut table = self.lock();
        table.closed = true;
        table.by_row.clear();
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        let mut table = self.watch.lock();
        table.count -= 1;
        if let Some(waiting) = table.by_row.get_mut(&self.row) {
            waiting.retain(|(id, _)| *id != self.id);
            if waiting.is_empty() {
                table.by_row.remove(&self.row);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crossbeam_channel::TryRecvError;

    #[test]
    fn news_reach_those_who_wait_for_them_once_until_they_look() {
        let watch = Watch::default();
        let [one, two] = ["one", "two"].map(RowId::new);
        let (first, second, other) = (watch.row(&one).unwrap(), watch.row(&one).unwrap(), watch.row(&two).unwrap());
        watch.tell([&one, &one, &RowId::new("three")].into_iter());
        watch.tell([&one].into_iter());
        for waiting in [&first, &second] {
            assert_eq!((waiting.news.try_recv(), waiting.news.try_recv()), (Ok(()), Err(TryRecvError::Empty)));
        }
        assert_eq!(other.news.try_recv(), Err(TryRecvError::Empty));
        drop((first, other));
        assert_eq!(watch.lock().by_row.len(), 1);
        watch.close();
        assert_eq!(second.news.try_recv(), Err(TryRecvError::Disconnected));
        assert_eq!(watch.row(&one).unwrap().news.try_recv(), Err(TryRecvError::Disconnected));
        drop(second);
        assert!(watch.lock().by_row.is_empty());
        let all: Vec<_> = std::iter::repeat_with(|| watch.row(&one)).take_while(Option::is_some).collect();
        assert_eq!(all.len(), MAX_WAITING);
        drop(all);
        assert!(watch.row(&two).is_some());
    }
}
