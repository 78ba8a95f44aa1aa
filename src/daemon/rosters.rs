//! Who is on each mesh, as the broker last said: asked for over the member link, kept for a moment, dropped when a peer
//! comes or goes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::bounded;

use crate::base::ids::Slug;
use crate::store::outbox::{Route, Sender};
use crate::wire::client::{ClientFrame, ListPeers};
use crate::wire::code::Code;
use crate::wire::limits::RPC_DEADLINE;
use crate::wire::peer::Peer;
use crate::wire::server::ServerFrame;

use super::link::{Call, Cmd};
use super::links::Links;

/// How long a roster is believed without having heard of a change.
const FRESH: Duration = Duration::from_secs(3);

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
}

impl Rosters {
    /// The roster of a mesh, those included who are away where the broker knows them. At most [`FRESH`] old.
    pub(super) fn of(&self, mesh: &Slug, links: &Links) -> Result<Roster, Code> {
        let changes = match self.lock().entry(mesh.clone()).or_default() {
            Kept { roster: Some((at, roster)), .. } if at.elapsed() < FRESH => return Ok(roster.clone()),
            kept => kept.changes,
        };
        let asked = Instant::now();
        let roster: Roster = ask(mesh, links)?.into();
        let mut table = self.lock();
        let kept = table.entry(mesh.clone()).or_default();
        if kept.changes == changes {
            kept.roster = Some((asked, roster.clone()));
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

fn ask(mesh: &Slug, links: &Links) -> Result<Vec<Peer>, Code> {
    let link = links.get(&Route { mesh: mesh.clone(), sender: Sender::Member }).ok_or(Code::ConnectionLost)?;
    let (reply, answer) = bounded(1);
    let frame = |id| ClientFrame::ListPeers(ListPeers { req_id: Some(id), away: true });
    link.try_send(Cmd::Call(Box::new(Call { frame, reply }))).map_err(|_| Code::Unavailable)?;
    match answer.recv_timeout(RPC_DEADLINE) {
        Ok(Ok(ServerFrame::PeersList(list))) => Ok(list.peers),
        Ok(Ok(_)) => Err(Code::Malformed),
        Ok(Err(code)) => Err(code),
        Err(_) => Err(Code::Timeout),
    }
}
