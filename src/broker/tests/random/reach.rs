//! Whom a message is for, and what each connection is given next.

use super::model::{GROUPS, KEYS, MEMBERS, Model, PEERS, Place, SESSIONS, is_session, key_of, member_of};
use super::op::To;
use crate::wire::grant::Capability;
use crate::wire::peer::Status;

impl Model {
    /// Members are known, and sessions that have been here.
    pub(super) fn knows(&self, key: usize) -> bool {
        !is_session(key) || self.peers[key].place != Place::Never
    }

    fn is_in(&self, peer: usize, group: usize) -> bool {
        let inside = |name: &str| name == GROUPS[group] || name.starts_with(&format!("{}/", GROUPS[group]));
        self.peers[peer].groups.iter().any(|own| inside(GROUPS[*own]))
    }

    pub(super) fn reached(&self, from: usize, to: To) -> Vec<usize> {
        let own = member_of(from);
        let others = || (0..SESSIONS).filter(move |peer| *peer != from);
        let seen = |peer: usize| !self.peers[peer].hidden || member_of(peer) == own;
        let hears = |peer: usize| !self.denies(member_of(peer), own, Capability::Broadcast);
        let has_session = |member: usize| (0..SESSIONS).any(|peer| member_of(peer) == member && self.has_place(peer));
        let by_own_key = |member: usize| {
            let mut there = self.daemons.iter().filter(|daemon| member_of(**daemon) == member).peekable();
            let seen = there.peek().is_none() || there.any(|daemon| !self.peers[*daemon].hidden);
            member != own && !has_session(member) && seen
        };
        let daemons =
            || (SESSIONS..KEYS).filter(|key| by_own_key(member_of(*key)) && !self.banned[member_of(*key)] && hears(*key));
        match to {
            To::Key(key) => vec![key],
            To::Everyone => {
                let sessions = others().filter(|peer| self.has_place(*peer) && seen(*peer) && hears(*peer));
                sessions.chain(daemons()).collect()
            }
            To::Group(group) => {
                let may_come = |peer: usize| self.peers[peer].place == Place::Away && !self.banned[member_of(peer)];
                let there = others().filter(|peer| self.has_place(*peer) || (may_come(*peer) && !by_own_key(member_of(*peer))));
                let sessions = there.filter(|peer| self.is_in(*peer, group) && seen(*peer) && hears(*peer));
                let went = |peer: usize| matches!(self.peers[peer].place, Place::Away | Place::Over);
                let was_in = |peer: usize| went(peer) && self.is_in(peer, group) && !self.peers[peer].hidden;
                let was_there = |member: usize| (0..SESSIONS).any(|peer| member_of(peer) == member && was_in(peer));
                sessions.chain(daemons().filter(|key| was_there(member_of(*key)))).collect()
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
        (0..PEERS).map(|peer| if self.takes(peer) { self.deliver_to(peer) } else { Vec::new() }).collect()
    }

    fn takes(&self, peer: usize) -> bool {
        let first = || self.daemons.iter().find(|daemon| key_of(**daemon) == key_of(peer) && self.is_here(**daemon));
        self.is_here(peer) && (is_session(peer) || first() == Some(&peer))
    }

    fn deliver_to(&mut self, peer: usize) -> Vec<usize> {
        let mut given = Vec::new();
        let one = &self.peers[peer];
        let mut next = one.next;
        for number in self.queues[key_of(peer)].range(one.next..).copied() {
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
