//! Who is on each mesh, as the broker last said: asked for over the member link, kept for a moment, dropped when a peer
//! comes or goes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::base::ids::Slug;
use crate::store::outbox::{Route, Sender};
use crate::wire::client::{ClientFrame, ListPeers};
use crate::wire::code::Code;
use crate::wire::limits::AGGREGATE_DEADLINE;
use crate::wire::peer::Peer;
use crate::wire::server::ServerFrame;

use super::links::Links;
use super::rpc::{self, Asking};

/// How long a roster is believed without having heard of a change.
const FRESH: Duration = Duration::from_secs(3);

/// How long an answer is waited for that is only good to know.
const MOMENT: Duration = Duration::from_millis(100);

/// How long a status line waits for a roster that it has never seen, and for a newer one.
const FIRST_GLANCE: Duration = Duration::from_millis(25);
const GLANCE: Duration = Duration::from_millis(5);

/// How old a roster may be for a status line.
const STALE: Duration = Duration::from_secs(300);

/// A roster, shared and unchanging.
pub(super) type Roster = Arc<[Peer]>;

/// The cache. Guards only the map; brokers are asked outside.
#[derive(Debug, Default)]
pub(super) struct Rosters {
    by_mesh: Mutex<HashMap<Slug, Kept>>,
}

#[derive(Debug, Default)]
struct Kept {
    /// How often something changed: an answer to a question that was asked before the last change is not kept.
    changes: u64,
    roster: Option<(Instant, Roster)>,
    /// The last one there was, whatever has changed since.
    last: Option<(Instant, Roster)>,
    /// When it was last asked for in vain.
    failed: Option<Instant>,
}

/// A roster that is wanted: known, or asked for.
#[derive(Debug)]
pub(super) enum Wanted {
    Known(Roster),
    Asked { mesh: Slug, changes: u64, at: Instant, asking: Result<Asking, Code> },
}

impl Rosters {
    /// The roster of a mesh, those included who are away where the broker knows them. At most [`FRESH`] old.
    pub(super) fn of(&self, mesh: &Slug, links: &Links) -> Result<Roster, Code> {
        self.take(self.want(mesh, links), Instant::now() + AGGREGATE_DEADLINE)
    }

    /// What can be had of a roster at once: as [`Rosters::of`], but a broker that does not answer in a moment is not waited
    /// for, and not asked again soon.
    pub(super) fn at_hand(&self, mesh: &Slug, links: &Links) -> Option<Roster> {
        if self.lock().get(mesh).and_then(|kept| kept.failed).is_some_and(|at| at.elapsed() < FRESH) {
            return None;
        }
        let roster = self.take(self.want(mesh, links), Instant::now() + MOMENT).ok();
        if roster.is_none() {
            self.lock().entry(mesh.clone()).or_default().failed = Some(Instant::now());
        }
        roster
    }

    /// What can be shown of a roster now, if need be as it was.
    pub(super) fn glance(&self, mesh: &Slug, links: &Links) -> Option<Roster> {
        let last = self.lock().get(mesh).and_then(|kept| kept.last.clone());
        let last = last.filter(|(at, _)| at.elapsed() < STALE).map(|(_, roster)| roster);
        let patience = if last.is_some() { GLANCE } else { FIRST_GLANCE };
        self.take(self.want(mesh, links), Instant::now() + patience).ok().or(last)
    }

    /// Asks for a roster, if it is not known.
    pub(super) fn want(&self, mesh: &Slug, links: &Links) -> Wanted {
        let changes = match self.lock().entry(mesh.clone()).or_default() {
            Kept { roster: Some((at, roster)), .. } if at.elapsed() < FRESH => return Wanted::Known(roster.clone()),
            kept => kept.changes,
        };
        let route = Route { mesh: mesh.clone(), sender: Sender::Member };
        let asking = rpc::ask(links, &route, |id| ClientFrame::ListPeers(ListPeers { req_id: Some(id), away: true }));
        Wanted::Asked { mesh: mesh.clone(), changes, at: Instant::now(), asking }
    }

    /// What became of it, by `deadline` at the latest.
    pub(super) fn take(&self, wanted: Wanted, deadline: Instant) -> Result<Roster, Code> {
        let (mesh, changes, at, asking) = match wanted {
            Wanted::Known(roster) => return Ok(roster),
            Wanted::Asked { mesh, changes, at, asking } => (mesh, changes, at, asking),
        };
        let Some(ServerFrame::PeersList(list)) = asking?.answer(deadline)? else { return Err(Code::Malformed) };
        let roster: Roster = list.peers.into();
        let mut table = self.lock();
        let kept = table.entry(mesh).or_default();
        kept.last = Some((at, roster.clone()));
        if kept.changes == changes {
            kept.roster = Some((at, roster.clone()));
        }
        Ok(roster)
    }

    /// Something changed on this mesh.
    pub(super) fn forget(&self, mesh: &Slug) {
        let mut table = self.lock();
        let kept = table.entry(mesh.clone()).or_default();
        kept.changes += 1;
        kept.roster = None;
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Slug, Kept>> {
        self.by_mesh.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
