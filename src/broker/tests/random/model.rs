//! What a broker should do, written down once more without sockets, threads and databases: who is where, what waits for whom,
//! and what each connection is given next.

use std::collections::{BTreeSet, HashMap};

use super::op::{Op, To, Way};
use crate::wire::grant::Capability;
use crate::wire::peer::Status;

/// Sessions come first, then a daemon of each member, then a second one of a member that has two. The numbers of the first
/// two kinds are also those of the keys under which mail waits.
pub(super) const MEMBERS: usize = 3;
const SESSIONS_OF: [usize; 5] = [0, 0, 1, 1, 2];
pub(super) const SESSIONS: usize = SESSIONS_OF.len();
pub(super) const KEYS: usize = SESSIONS + MEMBERS;
const HAS_TWO: usize = 1;
pub(super) const PEERS: usize = KEYS + 1;
pub(super) const GROUPS: [&str; 3] = ["eng", "eng/api", "ops"];
pub(super) const TOPICS: [&str; 2] = ["t", "u"];

pub(super) fn member_of(peer: usize) -> usize {
    SESSIONS_OF.get(peer).copied().unwrap_or(if peer < KEYS { peer.saturating_sub(SESSIONS) } else { HAS_TWO })
}

/// The key whose mail a peer takes.
pub(super) fn key_of(peer: usize) -> usize {
    if peer < KEYS { peer } else { SESSIONS + HAS_TWO }
}

pub(super) fn is_session(peer: usize) -> bool {
    peer < SESSIONS
}

/// Where a peer's place stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Never,
    Here,
    Kept,
    /// It went without saying that it is over, and its place is not kept any more.
    Away,
    Over,
}

#[derive(Debug)]
pub(super) struct Peer {
    pub(super) place: Place,
    pub(super) status: Status,
    pub(super) groups: BTreeSet<usize>,
    pub(super) hidden: bool,
    kicked: bool,
    /// The first message that this connection has not been looked through for.
    pub(super) next: usize,
    /// What this connection was given and has not acknowledged.
    pub(super) pushed: Vec<usize>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Message {
    pub(super) from: usize,
    pub(super) to: To,
    pub(super) id: u16,
    pub(super) text: u8,
    pub(super) urgent: bool,
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
    /// Of several, what becomes of each.
    Each(Vec<Said>),
    /// Refused, with a code or a text that begins so.
    Refused(&'static str),
    /// These are closed.
    Closed(Vec<usize>, u16),
}

#[derive(Debug)]
pub(super) struct Model {
    pub(super) peers: Vec<Peer>,
    /// What waits under each key.
    pub(super) queues: Vec<BTreeSet<usize>>,
    /// The daemons that have a place, in the order in which they got it: of a member's, the first that is here takes its mail.
    pub(super) daemons: Vec<usize>,
    pub(super) banned: [bool; MEMBERS],
    /// What a member does not allow another.
    denied: BTreeSet<(usize, usize, Capability)>,
    /// Who is in which topic.
    pub(super) topics: BTreeSet<(usize, usize)>,
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
        };
        Model {
            peers: (0..PEERS).map(peer).collect(),
            queues: vec![BTreeSet::new(); KEYS],
            daemons: Vec::new(),
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
        self.queues.iter().map(BTreeSet::len).sum()
    }

    pub(super) fn pushed(&self, peer: usize) -> &[usize] {
        &self.peers[peer].pushed
    }

    pub(super) fn has_place(&self, peer: usize) -> bool {
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
            Op::Burst { from, to, id, count } => {
                let all = (id..id + count).map(|id| self.send(Message { from, to, id, text: 0, urgent: false }));
                Said::Each(all.collect())
            }
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
            self.daemons.extend((!is_session(peer)).then_some(peer));
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
            self.daemons.retain(|daemon| *daemon != peer);
        }
    }

    fn close(&mut self, peer: usize, way: Way) -> Said {
        self.vacate(peer, if way == Way::Cut { Place::Kept } else { Place::Over });
        if way == Way::Goodbye && is_session(peer) {
            // Of those that are over the last tells in which groups their member was.
            let (hidden, groups) = (self.peers[peer].hidden, self.peers[peer].groups.clone());
            let is_before = |(n, one): &(usize, &mut Peer)| {
                *n != peer && member_of(*n) == member_of(peer) && one.place == Place::Over && one.hidden == hidden
            };
            let before = self.peers[..SESSIONS].iter_mut().enumerate().filter(is_before);
            before.for_each(|(_, one)| one.groups.retain(|group| !groups.contains(group)));
        }
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
        self.queues[key_of(peer)].remove(&message);
        Said::Done
    }

    /// What an acknowledgement by the sender's id alone means: the first that was pushed under it.
    fn by_id(&self, peer: usize, nth: usize) -> Option<usize> {
        let pushed = &self.peers[peer].pushed;
        let id = self.messages[*pushed.get(nth)?].id;
        pushed.iter().copied().find(|message| self.messages[*message].id == id)
    }

    pub(super) fn denies(&self, member: usize, other: usize, capability: Capability) -> bool {
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
            let ends = |one: Message| (key_of(one.from), one.to, one.text);
            let same = ends(first) == ends(message);
            return if same { Said::Same(*before) } else { Said::Refused("idempotency_conflict: ") };
        }
        if let To::Key(key) = message.to
            && (self.banned[member_of(key)] || !self.knows(key))
        {
            return Said::Refused("target_not_found: ");
        }
        let number = self.messages.len();
        for key in self.reached(message.from, message.to) {
            self.queues[key].insert(number);
        }
        self.sent.insert((own, message.id), number);
        self.messages.push(message);
        Said::New(number)
    }
}
