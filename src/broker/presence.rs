//! One peer of a mesh: what it is, how it is reached, and where its place stands.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use crate::base::ids::{MemberKey, PublicKey, SessionKey};
use crate::base::names::{is_group_name, neutralise_line};
use crate::base::time::{Millis, iso};
use crate::net::ws::Handle;
use crate::wire::client::About;
use crate::wire::peer::{Group, Peer, PeerRole, Reach, Stats, Status};
use crate::wire::profile::Profile;
use crate::wire::rest::Rest;

use super::conn::Cmd;

/// Why a connection has no place any more.
#[derive(Debug, Clone, Copy)]
pub(super) enum Ended {
    /// Another connection has taken it.
    Replaced,
    /// It was taken away: the close code, and the reason.
    Evicted(u16, &'static str),
}

/// The way to one connection.
#[derive(Debug, Clone)]
pub(super) struct Line {
    handle: Handle<Cmd>,
    /// Mail waits. It stands beside the queue, so that a full queue can not lose it.
    mail: Arc<AtomicBool>,
    /// Receipts wait; as with mail.
    receipts: Arc<AtomicBool>,
    /// It is over, whether or not the connection reads its queue.
    ended: Arc<OnceLock<Ended>>,
}

impl Line {
    pub(super) fn new(handle: Handle<Cmd>, mail: Arc<AtomicBool>, receipts: Arc<AtomicBool>) -> Line {
        Line { handle, mail, receipts, ended: Arc::default() }
    }

    /// The connection has no place any more: nothing that it says from now on is heard.
    pub(super) fn end(&self, why: Ended) {
        // The first reason stands. Full or gone: the connection looks whenever it is about to do something.
        let _ = self.ended.set(why);
        let _ = self.handle.try_send(Cmd::Mail);
    }

    pub(super) fn ended(&self) -> Option<Ended> {
        self.ended.get().copied()
    }

    /// Says that there is mail, unless it has been said and not been looked at.
    pub(super) fn mail(&self) {
        if !self.mail.swap(true, Ordering::AcqRel) {
            // Full or gone: the flag stays, and the connection looks at it whenever it has done something.
            let _ = self.handle.try_send(Cmd::Mail);
        }
    }

    /// As [`Line::mail`], of receipts.
    pub(super) fn receipts(&self) {
        if !self.receipts.swap(true, Ordering::AcqRel) {
            let _ = self.handle.try_send(Cmd::Mail);
        }
    }

    /// A connection that does not keep up misses events; they are about the present, and it can ask who is here.
    pub(super) fn tell(&self, cmd: Cmd) {
        let _ = self.handle.try_send(cmd);
    }
}

/// What a connection is to the mesh.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A member's daemon: takes the member's own mail.
    Member,
    /// A command that says hello, asks something and goes; the key labels what it sends and is not proven.
    Passing(Option<PublicKey>),
    Session(SessionKey),
}

/// Who wants to come in.
#[derive(Debug, Clone)]
pub(super) struct Newcomer {
    pub(super) kind: Kind,
    pub(super) member: MemberKey,
    pub(super) name: String,
    pub(super) about: About,
    /// Whether others see it, if its place was not kept.
    pub(super) visible: bool,
    pub(super) line: Line,
}

/// Where the place of a presence stands.
#[derive(Debug)]
pub(super) enum Place {
    Here {
        line: Line,
        generation: u64,
    },
    /// Kept until then.
    Kept {
        until: Instant,
        since: Millis,
    },
}

/// One peer of a mesh, connected or expected back.
#[derive(Debug)]
pub(super) struct Presence {
    pub(super) kind: Kind,
    pub(super) member: MemberKey,
    pub(super) name: String,
    pub(super) about: About,
    pub(super) status: Status,
    pub(super) summary: Option<String>,
    /// Whether other members see it, hear of it and reach it by what is for many.
    pub(super) visible: bool,
    pub(super) profile: Profile,
    /// As its daemon says; not every daemon does.
    pub(super) reach: Option<Vec<Reach>>,
    pub(super) stats: Option<Stats>,
    pub(super) connected_at: Millis,
    pub(super) place: Place,
}

/// Somebody whose place is gone: what the others are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Gone {
    pub(super) name: String,
    pub(super) key: PublicKey,
    pub(super) member: MemberKey,
    pub(super) announced: bool,
    /// Other members saw it.
    pub(super) visible: bool,
    pub(super) session: Option<SessionKey>,
    /// It said that it is over.
    pub(super) ended: bool,
}

impl Presence {
    pub(super) fn key(&self) -> PublicKey {
        match self.kind {
            Kind::Session(key) => key.0,
            Kind::Passing(Some(label)) => label,
            Kind::Member | Kind::Passing(None) => self.member.0,
        }
    }

    pub(super) fn line(&self) -> Option<&Line> {
        match &self.place {
            Place::Here { line, .. } => Some(line),
            Place::Kept { .. } => None,
        }
    }

    /// Whether others hear of its coming and going.
    fn is_announced(&self) -> bool {
        !matches!(self.kind, Kind::Passing(_))
    }

    pub(super) fn gone(&self) -> Gone {
        let session = if let Kind::Session(key) = self.kind { Some(key) } else { None };
        Gone {
            name: self.name.clone(),
            key: self.key(),
            member: self.member,
            announced: self.is_announced(),
            visible: self.visible,
            session,
            ended: false,
        }
    }

    pub(super) fn is_in(&self, group: &str) -> bool {
        let inside = |name: &str| name == group || name.strip_prefix(group).is_some_and(|rest| rest.starts_with('/'));
        self.about.groups.iter().flatten().any(|own| inside(&own.name))
    }

    pub(super) fn peer(&self) -> Peer {
        let (connected_at, online) = match &self.place {
            Place::Here { .. } => (self.connected_at, true),
            Place::Kept { since, .. } => (*since, false),
        };
        let peer_role = if matches!(self.kind, Kind::Session(_)) { PeerRole::Session } else { PeerRole::ControlPlane };
        Peer {
            pubkey: self.key(),
            member_pubkey: self.member,
            display_name: self.name.clone(),
            status: self.status,
            summary: self.summary.clone(),
            groups: self.about.groups.clone().unwrap_or_default(),
            session_id: self.about.session_id.clone(),
            connected_at: iso(connected_at),
            cwd: self.about.cwd.clone(),
            peer_role,
            online,
            hostname: self.about.hostname.clone(),
            peer_type: self.about.peer_type.clone(),
            channel: self.about.channel.clone(),
            model: self.about.model.clone(),
            visible: Some(self.visible),
            // The reference's daemon looks for its `peerRole` under this name.
            role: self.about.role.clone().or_else(|| Some(peer_role.as_str().to_owned())),
            stats: self.stats.clone(),
            profile: Some(self.profile.clone()).filter(|profile| !profile.is_empty()),
            reach: self.reach.clone(),
            allowed_caps: self.about.allowed_caps.clone(),
            rest: Rest::default(),
        }
    }
}

/// Longest role, in a group or of a session, in characters.
pub(super) const MAX_ROLE: usize = 64;

/// Groups as a hello may give them: those with a name that no group can have are left out.
pub(super) fn valid_groups(groups: Option<Vec<Group>>) -> Option<Vec<Group>> {
    let tidy =
        |group: Group| Group { role: group.role.map(|role| neutralise_line(&role).chars().take(MAX_ROLE).collect()), ..group };
    groups.map(|groups| {
        let valid = groups.into_iter().filter(|group| is_group_name(&group.name));
        valid.take(super::limits::MAX_GROUPS).map(tidy).collect()
    })
}
