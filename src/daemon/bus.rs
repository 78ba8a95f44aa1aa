//! Who listens on `GET /v1/events`, and how news reaches them. Mail is only announced here: the stream reads it from the
//! inbox in order, so nothing can be missed or overtaken between two connections. Everything else is passed as it is.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::base::ids::Slug;
use crate::store::inbox::{Recipient, Scope};
use crate::wire::event::Event;
use crate::wire::limits::SUBSCRIBER_QUEUE;

/// What a stream's thread is told.
#[derive(Debug, Clone)]
pub(super) enum News {
    /// There is mail in the inbox that this subscriber may see.
    Mail,
    /// Something that happened now and is not kept.
    Event(Arc<Event>),
    /// The daemon stops.
    Bye,
}

/// The table of subscribers. Guards only the map: senders are copied out before anything is sent.
#[derive(Debug)]
pub(super) struct Bus {
    /// Subscribers at once.
    most: usize,
    subscribers: Mutex<HashMap<u64, Subscriber>>,
    next: AtomicU64,
    closed: AtomicBool,
}

#[derive(Debug, Clone)]
struct Subscriber {
    scope: Scope,
    /// Announcements of mail that has not been looked at yet are not repeated.
    mail: Arc<AtomicBool>,
    news: Sender<News>,
}

/// One stream's end. Dropping it unsubscribes.
#[derive(Debug)]
pub(super) struct Subscription {
    bus: Arc<Bus>,
    id: u64,
    mail: Arc<AtomicBool>,
    /// Disconnected when the subscriber fell behind and was cut off.
    pub(super) news: Receiver<News>,
}

impl Bus {
    pub(super) fn new(most: usize) -> Bus {
        Bus { most, subscribers: Mutex::default(), next: AtomicU64::default(), closed: AtomicBool::default() }
    }

    /// `None` when there are as many as there may be, or the daemon stops.
    pub(super) fn subscribe(self: &Arc<Bus>, scope: Scope) -> Option<Subscription> {
        let (sender, news) = bounded(SUBSCRIBER_QUEUE);
        let mail = Arc::new(AtomicBool::new(false));
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let mut subscribers = self.lock();
        if self.most <= subscribers.len() || self.is_closed() {
            return None;
        }
        subscribers.insert(id, Subscriber { scope, mail: mail.clone(), news: sender });
        drop(subscribers);
        Some(Subscription { bus: self.clone(), id, mail, news })
    }

    /// Announces mail for `recipient` on `mesh`.
    pub(super) fn mail(&self, mesh: &Slug, recipient: &Recipient) {
        for (id, subscriber) in self.matching(|scope| admits(scope, mesh, Some(recipient))) {
            if !subscriber.mail.swap(true, Ordering::AcqRel) {
                self.send(id, &subscriber, News::Mail);
            }
        }
    }

    /// Passes an event about `mesh` to everyone who may see that mesh.
    pub(super) fn publish(&self, mesh: &Slug, event: Event) {
        let event = Arc::new(event);
        for (id, subscriber) in self.matching(|scope| admits(scope, mesh, None)) {
            self.send(id, &subscriber, News::Event(event.clone()));
        }
    }

    /// Cuts off whoever follows one session's news on this mesh, which is called otherwise now: they come back with their cursor.
    pub(super) fn cut(&self, mesh: &Slug) {
        self.lock().retain(|_, subscriber| !matches!(&subscriber.scope, Scope::Session { mesh: own, .. } if own == mesh));
    }

    /// Ends every stream with `bye` and accepts no more.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        for (id, subscriber) in self.matching(|_| true) {
            self.send(id, &subscriber, News::Bye);
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    #[cfg(test)]
    fn count(&self) -> usize {
        self.lock().len()
    }

    fn matching(&self, admits: impl Fn(&Scope) -> bool) -> Vec<(u64, Subscriber)> {
        self.lock()
            .iter()
            .filter(|(_, subscriber)| admits(&subscriber.scope))
            .map(|(id, subscriber)| (*id, subscriber.clone()))
            .collect()
    }

    /// Never waits. A full queue means that the subscriber stopped reading: it is forgotten, its queue ends, and it comes
    /// back with its cursor.
    fn send(&self, id: u64, subscriber: &Subscriber, news: News) {
        if subscriber.news.try_send(news).is_err() {
            self.lock().remove(&id);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Subscriber>> {
        self.subscribers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a subscriber of this scope hears of news about `mesh`, or of mail there for `recipient`. The inbox applies the
/// same rule to its rows.
fn admits(scope: &Scope, mesh: &Slug, recipient: Option<&Recipient>) -> bool {
    match scope {
        Scope::Everything => true,
        Scope::Session { mesh: own, session, member } => {
            own == mesh
                && match recipient {
                    None => true,
                    Some(Recipient::Session(key)) => *session == Some(*key),
                    Some(Recipient::Member(key)) => member == key,
                    Some(Recipient::Keyless(key)) => session.is_none() && member == key,
                }
        }
    }
}

impl Subscription {
    /// Must be called before the inbox is read for an announcement: the other order loses the next one.
    pub(super) fn mail_noticed(&self) {
        self.mail.store(false, Ordering::Release);
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.bus.lock().remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::{MemberKey, PublicKey, SessionKey};
    use crate::wire::event::Bye;

    fn session(byte: u8) -> (SessionKey, MemberKey) {
        (SessionKey(PublicKey::from_bytes([byte; 32])), MemberKey(PublicKey::from_bytes([9; 32])))
    }

    fn scope(byte: u8) -> Scope {
        let (key, member) = session(byte);
        Scope::Session { mesh: Slug::new("home"), session: Some(key), member }
    }

    #[test]
    fn mail_is_announced_once_until_it_is_noticed_and_only_to_its_recipient() {
        let bus = Arc::new(Bus::new(8));
        let (alice, bob) = (bus.subscribe(scope(1)).unwrap(), bus.subscribe(scope(2)).unwrap());
        let everyone = bus.subscribe(Scope::Everything).unwrap();
        for _ in 0..3 {
            bus.mail(&Slug::new("home"), &Recipient::Session(session(1).0));
        }
        bus.mail(&Slug::new("other"), &Recipient::Session(session(2).0));
        assert_eq!((alice.news.len(), bob.news.len(), everyone.news.len()), (1, 0, 1));
        alice.mail_noticed();
        bus.mail(&Slug::new("home"), &Recipient::Session(session(1).0));
        assert_eq!(alice.news.len(), 2);
    }

    #[test]
    fn a_subscriber_that_stops_reading_is_cut_off_and_harms_nobody() {
        let bus = Arc::new(Bus::new(8));
        let stuck = bus.subscribe(Scope::Everything).unwrap();
        for _ in 0..=SUBSCRIBER_QUEUE {
            bus.publish(&Slug::new("home"), Event::Bye(Bye { bye: "x".into() }));
        }
        assert_eq!(bus.count(), 0);
        assert_eq!(stuck.news.try_iter().count(), SUBSCRIBER_QUEUE);
        assert!(stuck.news.recv().is_err(), "the queue has ended");
        bus.close();
        assert!(bus.subscribe(Scope::Everything).is_none());
    }
}
