//! What a broker should do, written down once more without sockets, threads and databases: who is where, what waits for whom,
//! and what each connection is given next.

use std::collections::{BTreeSet, HashMap};

use super::op::{Op, To, Way};
use crate::wire::grant::Capability;
use crate::wire::peer::Status;

/// Sessions come first, then each member's daemon: a peer's number is also that of the key under which its mail waits.
pub(super) const MEMBERS: usize = 3;
const SESSIONS_OF: [usize; 5] = [0, 0, 1, 1, 2];
pub(super) const SESSIONS: usize = SESSIONS_OF.len();
pub(super) const PEERS: usize = SESSIONS + MEMBERS;
pub(super) const GROUPS: [&str; 3] = ["eng", "eng/api", "ops"];
pub(super) const TOPICS: [&str; 2] = ["t", "u"];

pub(super) fn member_of(peer: usize) -> usize {
    SESSIONS_OF.get(peer).copied().unwrap_or_else(|| peer - SESSIONS)
}

pub(super) fn is_session(peer: usize) -> bool {
    peer < SESSIONS
}

/// Where a peer's place stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Never,
    Here,
    Kept,
    /// It went without saying that it is over, and its place is not kept any more.
    Away,
    Over,
}

#[derive(Debug)]
struct Peer {
    place: Place,
    status: Status,
    groups: BTreeSet<usize>,
    hidden: bool,
    kicked: bool,
    /// The first message that this connection has not been looked through for.
    next: usize,
    /// What this connection was given and has not acknowledged.
    pushed: Vec<usize>,
    /// What waits under its key.
    queue: BTreeSet<usize>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Message {
    pub(super) from: usize,
    pub(super) to: To,
    pub(super) id: u16,
    pub(super) text: u8,
    urgent: bool,
}

/// What is to come of an operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Said {
    /// It makes no sense now, and is left out.
    Nothing,
    Done,
    /// A message of this number, the first of its id.
    New(usize),
    /// The message of this number, once more.
    Same(usize),
    /// Refused, with a code or a text that begins so.
    Refused(&'static str),
    /// These are closed.
    Closed(Vec<usize>, u16),
}

#[derive(Debug)]
pub(super) struct Model {
    peers: Vec<Peer>,
    banned: [bool; MEMBERS],
    /// What a member does not allow another.
    denied: BTreeSet<(usize, usize, Capability)>,
    /// Who is in which topic.
    topics: BTreeSet<(usize, usize)>,
    pub(super) messages: Vec<Message>,
    /// By member and id.
    sent: HashMap<(usize, u16), usize>,
}

impl Model {
    pub(super) fn new() -> Model {
        let peer = |_| Peer {
            place: Place::Never,
            status: Status::Idle,
            groups: BTreeSet::new(),
            hidden: false,
            kicked: false,
            next: 0,
            pushed: Vec::new(),
            queue: BTreeSet::new(),
        };
        Model {
            peers: (0..PEERS).map(peer).collect(),
            banned: [false; MEMBERS],
            denied: BTreeSet::new(),
            topics: (0..TOPICS.len()).map(|topic| (0, topic)).collect(),
            messages: Vec::new(),
            sent: HashMap::new(),
        }
    }

    pub(super) fn is_here(&self, peer: usize) -> bool {
        self.peers[peer].place == Place::Here
    }

    /// Copies that wait for somebody.
    pub(super) fn depth(&self) -> usize {
        self.peers.iter().map(|peer| peer.queue.len()).sum()
    }

    pub(super) fn pushed(&self, peer: usize) -> &[usize] {
        &self.peers[peer].pushed
    }

    fn has_place(&self, peer: usize) -> bool {
        matches!(self.peers[peer].place, Place::Here | Place::Kept)
    }

    /// Whether somebody has to be connected for this, and is not.
    fn is_idle(&self, op: &Op) -> bool {
        op.speaker().is_some_and(|peer| !self.is_here(peer))
    }

    pub(super) fn apply(&mut self, op: &Op) -> Said {
        if self.is_idle(op) {
            return Said::Nothing;
        }
        match *op {
            Op::Connect(peer, groups) => self.connect(peer, groups),
            Op::Close(peer, way) => self.close(peer, way),
            Op::Expire => self.expire(),
            Op::Restart => self.restart(),
            Op::Send { from, to, id, text, urgent } => self.send(Message { from, to, id, text, urgent }),
            Op::Ack(peer, nth) => match self.peers[peer].pushed.get(nth).copied() {
                Some(message) => self.ack(peer, message),
                None => Said::Nothing,
            },
            Op::AckForeign(peer, message) if message < self.messages.len() => self.ack(peer, message),
            Op::AckForeign(..) => Said::Nothing,
            Op::AckById(peer, nth) => match self.by_id(peer, nth) {
                Some(message) => self.ack(peer, message),
                None => Said::Nothing,
            },
            Op::Status(peer, status) => self.status(peer, status),
            Op::Hide(peer, hidden) => {
                self.peers[peer].hidden = hidden;
                Said::Done
            }
            Op::Group(peer, group, inside) => {
                let groups = &mut self.peers[peer].groups;
                let _ = if inside { groups.insert(group) } else { groups.remove(&group) };
                Said::Done
            }
            Op::Topic(peer, topic, inside) => {
                let entry = (member_of(peer), topic);
                let _ = if inside { self.topics.insert(entry) } else { self.topics.remove(&entry) };
                Said::Done
            }
            Op::Grant(peer, other, capability, allowed) => self.grant(member_of(peer), other, capability, allowed),
            Op::Expel(peer, target, sticks) => self.expel(peer, target, sticks),
            Op::Ban(peer, member, banned) => self.ban(peer, member, banned),
        }
    }

    fn connect(&mut self, peer: usize, groups: u8) -> Said {
        if self.banned[member_of(peer)] {
            return Said::Refused("revoked");
        }
        if self.peers[peer].kicked {
            return Said::Refused("kicked");
        }
        let (was_here, had_place) = (self.is_here(peer), self.has_place(peer));
        let one = &mut self.peers[peer];
        if !had_place {
            one.status = Status::Idle;
        }
        one.groups = (0..GROUPS.len()).filter(|group| is_session(peer) && groups & (1 << group) != 0).collect();
        (one.place, one.next, one.pushed) = (Place::Here, 0, Vec::new());
        if was_here { Said::Closed(vec![peer], 1000) } else { Said::Done }
    }

    fn vacate(&mut self, peer: usize, place: Place) {
        let one = &mut self.peers[peer];
        one.place = place;
        one.pushed.clear();
        // Only of sessions it is written down.
        if matches!(place, Place::Away | Place::Over) {
            one.hidden &= is_session(peer);
        }
    }

    fn close(&mut self, peer: usize, way: Way) -> Said {
        self.vacate(peer, if way == Way::Cut { Place::Kept } else { Place::Over });
        Said::Done
    }

    fn expire(&mut self) -> Said {
        for peer in 0..PEERS {
            if self.peers[peer].place == Place::Kept {
                self.vacate(peer, Place::Away);
            }
        }
        Said::Done
    }

    /// Sessions are remembered, daemons are not.
    fn restart(&mut self) -> Said {
        for peer in 0..PEERS {
            if self.has_place(peer) {
                self.vacate(peer, if is_session(peer) { Place::Kept } else { Place::Away });
                self.peers[peer].status = Status::Idle;
            }
        }
        Said::Done
    }

    fn status(&mut self, peer: usize, status: Status) -> Said {
        let one = &mut self.peers[peer];
        if one.status != Status::Idle && status == Status::Idle {
            one.next = 0;
        }
        one.status = status;
        Said::Done
    }

    fn grant(&mut self, member: usize, other: usize, capability: Capability, allowed: bool) -> Said {
        if member == other {
            return Said::Refused("invalid");
        }
        if self.banned[other] {
            return Said::Refused("not_found");
        }
        let entry = (member, other, capability);
        let _ = if allowed { self.denied.remove(&entry) } else { self.denied.insert(entry) };
        Said::Done
    }

    fn expel(&mut self, by: usize, target: usize, sticks: bool) -> Said {
        if member_of(by) != 0 {
            return Said::Refused("forbidden");
        }
        if !is_session(target) || !self.has_place(target) {
            return Said::Nothing;
        }
        if by == target {
            return Said::Refused("invalid");
        }
        let closed = if self.is_here(target) { vec![target] } else { Vec::new() };
        self.vacate(target, Place::Away);
        self.peers[target].kicked |= sticks;
        Said::Closed(closed, if sticks { 4001 } else { 1000 })
    }

    fn ban(&mut self, by: usize, member: usize, banned: bool) -> Said {
        if member_of(by) != 0 {
            return Said::Refused("forbidden");
        }
        if banned == self.banned[member] {
            return Said::Refused("not_found");
        }
        if member == 0 {
            return Said::Refused("invalid");
        }
        self.banned[member] = banned;
        let going: Vec<usize> = (0..PEERS).filter(|peer| banned && member_of(*peer) == member && self.has_place(*peer)).collect();
        let closed = going.iter().copied().filter(|peer| self.is_here(*peer)).collect();
        going.iter().for_each(|peer| self.vacate(*peer, Place::Away));
        Said::Closed(closed, 4002)
    }

    fn ack(&mut self, peer: usize, message: usize) -> Said {
        self.peers[peer].pushed.retain(|pushed| *pushed != message);
        self.peers[peer].queue.remove(&message);
        Said::Done
    }

    /// What an acknowledgement by the sender's id alone means: the first that was pushed under it.
    fn by_id(&self, peer: usize, nth: usize) -> Option<usize> {
        let pushed = &self.peers[peer].pushed;
        let id = self.messages[*pushed.get(nth)?].id;
        pushed.iter().copied().find(|message| self.messages[*message].id == id)
    }

    fn denies(&self, member: usize, other: usize, capability: Capability) -> bool {
        self.denied.contains(&(member, other, capability))
    }

    fn send(&mut self, message: Message) -> Said {
        let own = member_of(message.from);
        match message.to {
            To::Key(key)
                if !self.banned[member_of(key)] && self.knows(key) && self.denies(member_of(key), own, Capability::Dm) =>
            {
                return Said::Refused("blocked by recipient grants");
            }
            To::Topic(topic) if !self.topics.contains(&(own, topic)) => return Said::Refused("forbidden: "),
            _ => {}
        }
        if let Some(before) = self.sent.get(&(own, message.id)) {
            let first = self.messages[*before];
            let same = (first.from, first.to, first.text) == (message.from, message.to, message.text);
            return if same { Said::Same(*before) } else { Said::Refused("idempotency_conflict: ") };
        }
        if let To::Key(key) = message.to
            && (self.banned[member_of(key)] || !self.knows(key))
        {
            return Said::Refused("target_not_found: ");
        }
        let number = self.messages.len();
        for key in self.reached(message.from, message.to) {
            self.peers[key].queue.insert(number);
        }
        self.sent.insert((own, message.id), number);
        self.messages.push(message);
        Said::New(number)
    }

    /// Members are known, and sessions that have been here.
    fn knows(&self, key: usize) -> bool {
        !is_session(key) || self.peers[key].place != Place::Never
    }

    fn is_in(&self, peer: usize, group: usize) -> bool {
        let inside = |name: &str| name == GROUPS[group] || name.starts_with(&format!("{}/", GROUPS[group]));
        self.peers[peer].groups.iter().any(|own| inside(GROUPS[*own]))
    }

    fn reached(&self, from: usize, to: To) -> Vec<usize> {
        let own = member_of(from);
        let others = || (0..SESSIONS).filter(move |peer| *peer != from);
        let seen = |peer: usize| !self.peers[peer].hidden || member_of(peer) == own;
        let hears = |peer: usize| !self.denies(member_of(peer), own, Capability::Broadcast);
        let has_session = |member: usize| (0..SESSIONS).any(|peer| member_of(peer) == member && self.has_place(peer));
        match to {
            To::Key(key) => vec![key],
            To::Everyone => {
                let sessions = others().filter(|peer| self.has_place(*peer) && seen(*peer) && hears(*peer));
                let daemons = (SESSIONS..PEERS).filter(|peer| {
                    let member = member_of(*peer);
                    let hides = self.has_place(*peer) && self.peers[*peer].hidden;
                    member != own && !self.banned[member] && !has_session(member) && !hides && hears(*peer)
                });
                sessions.chain(daemons).collect()
            }
            To::Group(group) => {
                let may_come = |peer: usize| self.peers[peer].place == Place::Away && !self.banned[member_of(peer)];
                let there = others().filter(|peer| self.has_place(*peer) || may_come(*peer));
                there.filter(|peer| self.is_in(*peer, group) && seen(*peer) && hears(*peer)).collect()
            }
            To::Topic(topic) => {
                let member_hears = |member: usize| {
                    self.topics.contains(&(member, topic)) && !self.banned[member] && !self.denies(member, own, Capability::Dm)
                };
                let sessions = |member: usize| others().filter(move |peer| member_of(*peer) == member && self.has_place(*peer));
                let keys = (0..MEMBERS).filter(|member| member_hears(*member)).flat_map(|member| {
                    let mut keys: Vec<usize> = sessions(member).collect();
                    if keys.is_empty() && member != own {
                        keys.push(SESSIONS + member);
                    }
                    keys
                });
                keys.collect()
            }
        }
    }

    /// What each connection is given now, in this order.
    pub(super) fn deliver(&mut self) -> Vec<Vec<usize>> {
        (0..PEERS).map(|peer| if self.is_here(peer) { self.deliver_to(peer) } else { Vec::new() }).collect()
    }

    fn deliver_to(&mut self, peer: usize) -> Vec<usize> {
        let mut given = Vec::new();
        let one = &self.peers[peer];
        let mut next = one.next;
        for number in one.queue.range(one.next..).copied() {
            let message = self.messages[number];
            if one.status != Status::Idle && !message.urgent {
                continue;
            }
            next = number + 1;
            let needs = if matches!(message.to, To::Everyone | To::Group(_)) { Capability::Broadcast } else { Capability::Dm };
            if !self.denies(member_of(peer), member_of(message.from), needs) && !one.pushed.contains(&number) {
                given.push(number);
            }
        }
        self.peers[peer].next = next;
        self.peers[peer].pushed.extend(&given);
        given
    }
}
