//! The session's mail: follows the daemon's events, offers what is unread, and tells the daemon what was shown.

use std::collections::{HashSet, VecDeque};
use std::io;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use crate::base::ids::Token;
use crate::base::paths::Paths;
use crate::base::thread::{self, Running};
use crate::client::events::{self, Item, Lost, Stop};
use crate::client::spawn::{self, Launcher};
use crate::client::{Client, Error, InboxQuery};
use crate::wire::event::{Event, Message};
use crate::wire::ipc::{Claim, InboxItem, LinkStatus, Path as DeliveryPath};
use crate::wire::skill::SKILL_CHANGE;

use super::stdio::Told;

/// Rows written that wait to be marked as seen. When full, more stay unread until the next listing finds them.
pub(super) const RECEIPTS: usize = 256;

/// Most unread rows offered at the start and after each reconnect: the newest. Older ones are in the inbox.
const UNREAD: u32 = 500;

/// Rows claimed at a time: few, because each is written before the lease of its claim is over.
const CLAIM: usize = 50;

/// Rows remembered so that none is offered twice: more than a listing and the queues together hold.
const REMEMBERED: usize = 4096;

/// Before marking is tried again.
const RETRY: Duration = Duration::from_secs(2);

/// Largest number of rows marked by one request.
const BATCH: usize = 100;

/// Calls that only this session waits for.
const DEADLINE: Duration = Duration::from_secs(3);

const STACK: usize = 128 * 1024;

/// What to do when no daemon answers at the start. Later ones are only waited for: somebody may have stopped it on purpose.
#[derive(Debug, Clone)]
pub enum Start {
    /// Start it with this program.
    Own,
    /// Start it so.
    With(Launcher),
    /// Wait until there is one.
    Wait,
}

/// What the main loop gets.
#[derive(Debug)]
pub(super) enum Offer {
    Event(Box<Event>),
    /// This row was offered before and the daemon still has it as unread.
    Again(String),
    /// The mesh may have other skills than before.
    Skills,
}

/// What a subscription is for.
#[derive(Debug)]
pub(super) enum Wants {
    /// The session's mail, too. Here comes what became of its rows, until their writer ends.
    Mail(Receiver<Told>),
    /// Only what changes on the mesh: mail is left to other paths.
    Changes,
}

/// Running threads, and how to end them.
#[derive(Debug)]
pub(super) struct Mail {
    offers: Receiver<Offer>,
    stop: Stop,
    events: Running,
    receipts: Option<Running>,
}

impl Mail {
    /// Starts to follow.
    pub(super) fn start(paths: Paths, token: Token, start: Start, wants: Wants) -> io::Result<Mail> {
        let client = || Client::new(&paths).with_token(Some(token.clone())).with_deadline(DEADLINE);
        let (events, stop) = events::subscribe(&client(), None);
        // Bounded to nothing: an event that the client cannot take yet stays with the daemon.
        let (offer, offers) = bounded(0);
        let brings_mail = matches!(wants, Wants::Mail(_));
        let mut follower = Follower { brings_mail, claims: true, client: client(), offer, offered: Offered::default() };
        let teller = client();
        let receipts = match wants {
            Wants::Mail(written) => Some(thread::spawn("receipts", STACK, move || receipts(&teller, &written))?),
            Wants::Changes => None,
        };
        let events = thread::spawn("events", STACK, move || {
            ensure_daemon(&paths, &start);
            follower.follow(events);
        })?;
        Ok(Mail { offers, stop, events, receipts })
    }

    pub(super) fn events(&self) -> &Receiver<Offer> {
        &self.offers
    }

    /// Ends both threads; what was written is marked before, if the daemon is quick.
    pub(super) fn stop(self, deadline: Instant) {
        self.stop.stop();
        drop(self.offers);
        if let Some(receipts) = self.receipts {
            receipts.join_by(deadline);
        }
        self.events.join_by(deadline);
    }
}

fn ensure_daemon(paths: &Paths, start: &Start) {
    let ensured = match start {
        Start::Own => spawn::ensure(paths),
        Start::With(launcher) => spawn::ensure_with(paths, launcher),
        Start::Wait => return,
    };
    if let Err(err) = ensured {
        log::warn!("{err}; waiting for it");
    }
}

struct Follower {
    brings_mail: bool,
    /// False with a daemon that knows no claims, as the reference's: then what is unread is offered.
    claims: bool,
    client: Client,
    offer: Sender<Offer>,
    offered: Offered,
}

/// The main loop takes no more.
struct Ended;

impl Follower {
    fn follow(&mut self, events: events::Events) {
        for item in events {
            let done = match item {
                // Listed after the stream is open: what arrives in between comes both ways, and is offered once.
                Item::Connected => self.offer_waiting().and_then(|()| self.offer(Offer::Skills)),
                Item::Event { event, .. } => self.offer_event(event),
                Item::Lost(lost) => {
                    report(&lost);
                    Ok(())
                }
            };
            if done.is_err() {
                return;
            }
        }
    }

    fn offer_event(&mut self, event: Box<Event>) -> Result<(), Ended> {
        match &*event {
            Event::System(system) if system.event == SKILL_CHANGE => return self.offer(Offer::Skills),
            // What could not be listed before may be there now.
            Event::BrokerStatus(broker) if broker.status == LinkStatus::Open => return self.offer(Offer::Skills),
            _ if !self.brings_mail => return Ok(()),
            _ => {}
        }
        if let Event::Message(message) = &*event {
            if self.claims {
                // Another path may have been quicker: what is left is claimed.
                return self.offer_waiting();
            }
            if !self.offered.insert(&message.id) {
                return Ok(());
            }
        }
        self.offer(Offer::Event(event))
    }

    /// Whatever waits for this session, and for no other path.
    fn offer_waiting(&mut self) -> Result<(), Ended> {
        if !self.brings_mail {
            return Ok(());
        }
        let claim = Claim { limit: Some(CLAIM), ..Claim::of(DeliveryPath::Channel) };
        while self.claims {
            match self.client.claim(&claim) {
                Ok(claimed) if claimed.items.is_empty() => return Ok(()),
                Ok(claimed) => self.offer_items(claimed.items)?,
                Err(Error::Refused { status: 404, .. }) => self.claims = false,
                Err(err) => {
                    log::warn!("mail can not be claimed: {err}");
                    return Ok(());
                }
            }
        }
        self.offer_unread()
    }

    /// Oldest first, whatever the order of the listing.
    fn offer_unread(&mut self) -> Result<(), Ended> {
        let query = InboxQuery { unread_only: true, mark_seen: false, limit: Some(UNREAD), ..InboxQuery::default() };
        let mut items = match self.client.inbox(&query) {
            Ok(page) => page.items,
            Err(err) => {
                log::warn!("the inbox cannot be listed: {err}");
                return Ok(());
            }
        };
        items.retain(|item| item.seen_at.is_none());
        items.sort_by(|a, b| (a.seq, &a.received_at).cmp(&(b.seq, &b.received_at)));
        self.offer_items(items)
    }

    fn offer_items(&mut self, items: Vec<InboxItem>) -> Result<(), Ended> {
        let ids: Vec<String> = items.iter().map(|item| item.id.clone()).collect();
        for (at, item) in items.into_iter().enumerate() {
            let offer = match self.offered.insert(&item.id) {
                true => Offer::Event(Box::new(Event::Message(Box::new(message(item))))),
                false => Offer::Again(item.id),
            };
            if let Err(ended) = self.offer(offer) {
                if self.claims {
                    give_back(&self.client, &ids[at..]);
                }
                return Err(ended);
            }
        }
        Ok(())
    }

    fn offer(&self, offer: Offer) -> Result<(), Ended> {
        self.offer.send(offer).map_err(|_| Ended)
    }
}

fn report(lost: &Lost) {
    match lost {
        Lost::Failed(Error::Refused { status: 401, problem }) => log::warn!("no more mail for this session: {}", problem.error),
        // Every restart of the daemon ends so, and every wait for it.
        Lost::Failed(err) => log::debug!("the event stream failed: {err}"),
        Lost::Ended | Lost::Lagged => log::debug!("the event stream ended"),
    }
}

/// An inbox row as the event that announced it.
fn message(item: InboxItem) -> Message {
    Message {
        id: item.id,
        mesh: item.mesh,
        client_message_id: item.client_message_id,
        broker_message_id: item.broker_message_id,
        sender_pubkey: item.sender_pubkey,
        sender_member_pubkey: item.sender_member_pubkey,
        sender_name: item.sender_name,
        topic: item.topic,
        sent_to: item.sent_to,
        reply_to_id: item.reply_to_id,
        priority: item.priority,
        subtype: None,
        body: item.body,
        created_at: Some(item.received_at),
        recipient_pubkey: item.recipient_pubkey,
        recipient_kind: item.recipient_kind,
        unreadable: item.unreadable,
        plain: item.plain,
        mentions: item.mentions,
        mentioned: item.mentioned,
    }
}

/// The rows offered lately.
#[derive(Debug, Default)]
struct Offered {
    known: HashSet<String>,
    order: VecDeque<String>,
}

impl Offered {
    /// False if it was offered before.
    fn insert(&mut self, id: &str) -> bool {
        if !self.known.insert(id.to_owned()) {
            return false;
        }
        self.order.push_back(id.to_owned());
        if REMEMBERED < self.order.len()
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        true
    }
}

/// Tells the daemon what stands before the model. One that knows no claims is told what was seen.
fn confirm(client: &Client, rows: &[String]) -> Result<(), Error> {
    match client.offered(DeliveryPath::Channel, rows) {
        Err(Error::Refused { status: 404, .. }) => client.mark_seen(rows).map(drop),
        told => told.map(drop),
    }
}

/// What the client was not given is free for other paths at once. A daemon that can not be told waits until its claim is over.
fn give_back(client: &Client, rows: &[String]) {
    if !rows.is_empty()
        && let Err(err) = client.unclaim(DeliveryPath::Channel, rows)
    {
        log::debug!("rows cannot be given back: {err}");
    }
}

/// Marks what was written, until nothing more will be. Rows that cannot be marked now are tried again with the next. What was
/// lost is given back.
fn receipts(client: &Client, told: &Receiver<Told>) {
    let (mut rows, mut lost): (Vec<String>, Vec<String>) = (Vec::new(), Vec::new());
    loop {
        let next =
            if rows.is_empty() { told.recv().map_err(|_| RecvTimeoutError::Disconnected) } else { told.recv_timeout(RETRY) };
        let is_last = next == Err(RecvTimeoutError::Disconnected);
        for told in next.into_iter().chain(told.try_iter().take(BATCH.saturating_sub(rows.len()))) {
            match told {
                Told::Written(row) => rows.push(row),
                Told::Lost(row) => lost.push(row),
            }
        }
        give_back(client, &std::mem::take(&mut lost));
        if !rows.is_empty() {
            match confirm(client, &rows) {
                Ok(()) => rows.clear(),
                Err(err) => log::debug!("rows cannot be marked as seen: {err}"),
            }
        }
        // What a failing daemon was not told stays unread; the next listing offers it again.
        rows.truncate(BATCH);
        if is_last {
            return;
        }
    }
}
