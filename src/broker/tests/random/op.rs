//! What may happen to a broker.

use super::model::{GROUPS, KEYS, MEMBERS, PEERS, SESSIONS, TOPICS};
use crate::wire::grant::Capability;
use crate::wire::peer::Status;

/// Whom a message is for. A key is its peer's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum To {
    Key(usize),
    Group(usize),
    Topic(usize),
    Everyone,
}

/// How a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Cut,
    /// It says that it is over.
    Goodbye,
}

/// One operation. Whoever does it comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Op {
    /// With these groups, a bit each.
    Connect(usize, u8),
    Close(usize, Way),
    /// The places that are kept are kept no longer.
    Expire,
    Restart,
    Send {
        from: usize,
        to: To,
        id: u16,
        text: u8,
        urgent: bool,
    },
    /// So many at once, with ids from this one on.
    Burst {
        from: usize,
        to: To,
        id: u16,
        count: u16,
    },
    /// Of what waits for an acknowledgement here, the nth.
    Ack(usize, usize),
    /// Any message, whosever it is.
    AckForeign(usize, usize),
    /// By the sender's id alone.
    AckById(usize, usize),
    Status(usize, Status),
    Hide(usize, bool),
    Group(usize, usize, bool),
    Topic(usize, usize, bool),
    /// To a member.
    Grant(usize, usize, Capability, bool),
    /// A session, for good or only now.
    Expel(usize, usize, bool),
    Ban(usize, usize, bool),
}

impl Op {
    /// Who must be connected for it.
    pub(super) fn speaker(&self) -> Option<usize> {
        match *self {
            Op::Connect(..) | Op::Expire | Op::Restart => None,
            Op::Close(peer, _)
            | Op::Send { from: peer, .. }
            | Op::Burst { from: peer, .. }
            | Op::Ack(peer, _)
            | Op::AckForeign(peer, _)
            | Op::AckById(peer, _)
            | Op::Status(peer, _)
            | Op::Hide(peer, _)
            | Op::Group(peer, ..)
            | Op::Topic(peer, ..)
            | Op::Grant(peer, ..)
            | Op::Expel(peer, ..)
            | Op::Ban(peer, ..) => Some(peer),
        }
    }
}

/// Random numbers that a seed repeats.
#[derive(Debug)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Random {
        Random(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap()
    }

    fn one_in(&mut self, of: usize) -> bool {
        self.below(of) == 0
    }
}

/// Messages sent at once, and how often in one course: all of them together fit into the window of a connection, which the
/// model knows nothing of.
const BURST: usize = 40;
const BURSTS: usize = 4;

/// A course of events: mostly mail, and now and then something that decides who gets it.
pub(super) fn course(random: &mut Random, length: usize) -> Vec<Op> {
    let mut ops: Vec<Op> = (0..PEERS).filter(|_| !random.one_in(4)).map(|peer| Op::Connect(peer, 3)).collect();
    let (mut sends, mut bursts) = (Vec::new(), 0);
    for n in 0..length {
        let op = match random.below(100) {
            0..=33 => send(random, &sends),
            34..=50 => acknowledge(random),
            51 if bursts < BURSTS => {
                bursts += 1;
                let id = u16::try_from(1000 + 100 * n).unwrap();
                Op::Burst { from: random.below(PEERS), to: to(random), id, count: u16::try_from(random.below(BURST)).unwrap() }
            }
            51 => Op::Restart,
            52..=68 => Op::Connect(random.below(PEERS), u8::try_from(random.below(1 << GROUPS.len())).unwrap()),
            69..=74 => Op::Close(random.below(PEERS), if random.one_in(3) { Way::Goodbye } else { Way::Cut }),
            75..=76 => Op::Expire,
            77 => Op::Restart,
            _ => change(random),
        };
        if matches!(op, Op::Send { .. }) {
            sends.push(op);
        }
        ops.push(op);
    }
    ops
}

fn to(random: &mut Random) -> To {
    match random.below(6) {
        0..=2 => To::Key(random.below(KEYS)),
        3 => To::Group(random.below(GROUPS.len())),
        4 => To::Topic(random.below(TOPICS.len())),
        _ => To::Everyone,
    }
}

/// Now and then one that was sent before, as it was or changed.
fn send(random: &mut Random, before: &[Op]) -> Op {
    let fresh = Op::Send {
        from: random.below(PEERS),
        to: to(random),
        id: u16::try_from(before.len()).unwrap(),
        text: 0,
        urgent: random.one_in(4),
    };
    if before.is_empty() || !random.one_in(5) {
        return fresh;
    }
    let Op::Send { from, to, id, text, urgent } = before[random.below(before.len())] else { return fresh };
    match random.below(6) {
        0 => Op::Send { from, to, id, text: text + 1, urgent },
        1 => Op::Send { from, to: self::to(random), id, text, urgent },
        2 => Op::Send { from: random.below(PEERS), to, id, text, urgent },
        _ => Op::Send { from, to, id, text, urgent },
    }
}

fn acknowledge(random: &mut Random) -> Op {
    let peer = random.below(PEERS);
    match random.below(8) {
        0 => Op::AckForeign(peer, random.below(20)),
        1 => Op::AckById(peer, random.below(3)),
        _ => Op::Ack(peer, if random.one_in(2) { 0 } else { random.below(4) }),
    }
}

fn change(random: &mut Random) -> Op {
    let (peer, session, member) = (random.below(PEERS), random.below(SESSIONS), random.below(MEMBERS));
    let yes = random.one_in(2);
    match random.below(22) {
        20..=21 | 0..=5 => Op::Status(peer, [Status::Idle, Status::Working, Status::Dnd, Status::Idle][random.below(4)]),
        6..=7 => Op::Hide(peer, yes),
        8..=10 => Op::Group(session, random.below(GROUPS.len()), yes),
        11..=13 => Op::Topic(peer, random.below(TOPICS.len()), random.below(3) != 0),
        14..=16 => Op::Grant(peer, member, if yes { Capability::Dm } else { Capability::Broadcast }, random.one_in(2)),
        17..=18 => Op::Expel(peer, session, random.one_in(5)),
        _ => Op::Ban(random.below(SESSIONS), member, yes),
    }
}
