//! What every thread of the daemon is given: handles and tables, made once at start.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crossbeam_channel::Sender;

use crate::base::ids::MeshId;
use crate::base::paths::Paths;
use crate::base::settings::Settings;
use crate::crypto::scope_key::ScopeKey;
use crate::store;
use crate::store::inbox::{Inbox, Scope};
use crate::store::outbox::{Outbox, Route, Sender as From};
use crate::wire::event::{BrokerStatus, Event};
use crate::wire::ipc::{LinkStatus, TcpHealth};
use crate::wire::key;

use super::alert::Alerts;
use super::bus::Bus;
use super::canaries::Canaries;
use super::channels::Channels;
use super::drain::{Drain, Epoch};
use super::flags::Flags;
use super::guard::Guard;
use super::keyring::Keyring;
use super::links::{Links, Why};
use super::meshes::Meshes;
use super::reopen;
use super::rosters::Rosters;
use super::sessions::Sessions;
use super::sightings::Sightings;
use super::supervisor;
use super::turns::Turns;
use super::waiters::Waiters;
use super::watch::Watch;

/// The daemon, as its threads see it.
#[derive(Debug)]
pub(super) struct Ctx {
    pub(super) paths: Paths,
    /// As the file said when it was last read.
    pub(super) settings: Mutex<Settings>,
    /// What whoever started it wants otherwise, also after they are read again.
    pub(super) flags: Flags,
    /// What became of the listener on TCP, if one is wanted.
    tcp: Mutex<Option<TcpHealth>>,
    pub(super) outbox: Outbox,
    pub(super) inbox: Inbox,
    pub(super) meshes: Meshes,
    pub(super) sessions: Sessions,
    pub(super) links: Links,
    pub(super) rosters: Rosters,
    pub(super) channels: Channels,
    pub(super) keyring: Keyring,
    pub(super) bus: Arc<Bus>,
    pub(super) guard: Guard,
    pub(super) turns: Turns,
    pub(super) waiters: Waiters,
    pub(super) sightings: Sightings,
    pub(super) watch: Watch,
    pub(super) canaries: Canaries,
    pub(super) alerts: Alerts,
    pub(super) drain: Drain,
    pub(super) supervisor: Sender<supervisor::Event>,
    pub(super) epochs: AtomicU64,
}

impl Ctx {
    /// With empty tables.
    pub(super) fn new(
        paths: Paths,
        (settings, flags): (Settings, Flags),
        (outbox, inbox): (Outbox, Inbox),
        drain: Drain,
        supervisor: Sender<supervisor::Event>,
    ) -> Ctx {
        Ctx {
            paths,
            bus: Arc::new(Bus::new(settings.max_streams())),
            settings: Mutex::new(flags.over(settings)),
            flags,
            tcp: Mutex::default(),
            outbox,
            inbox,
            meshes: Meshes::default(),
            sessions: Sessions::default(),
            links: Links::default(),
            rosters: Rosters::default(),
            channels: Channels::default(),
            keyring: Keyring::default(),
            guard: Guard::default(),
            turns: Turns::default(),
            waiters: Waiters::default(),
            sightings: Sightings::default(),
            watch: Watch::default(),
            canaries: Canaries::default(),
            alerts: Alerts::default(),
            drain,
            supervisor,
            epochs: AtomicU64::new(1),
        }
    }

    pub(super) fn settings(&self) -> Settings {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set_settings(&self, settings: Settings) {
        *self.settings.lock().unwrap_or_else(PoisonError::into_inner) = settings;
    }

    pub(super) fn tcp(&self) -> Option<TcpHealth> {
        self.tcp.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes what became of the listener on TCP. Whether that is news.
    pub(super) fn note_tcp(&self, now: Option<TcpHealth>) -> bool {
        let mut tcp = self.tcp.lock().unwrap_or_else(PoisonError::into_inner);
        let is_news = *tcp != now;
        *tcp = now;
        is_news
    }

    /// Names a new connection of any link.
    pub(super) fn next_epoch(&self) -> Epoch {
        Epoch(self.epochs.fetch_add(1, Ordering::Relaxed))
    }

    /// Notes what a link says about itself, and tells those who listen when a member link's state changed.
    pub(super) fn report_link(&self, route: &Route, serial: u64, status: LinkStatus, why: Option<Why>) {
        if let Some(why) = &why {
            log::warn!("link {}: {}", link_name(route), why.text);
        }
        let changed = self.links.report(route, serial, |report| {
            report.status = status;
            if why.is_some() || status == LinkStatus::Open {
                (report.fault, report.last_error) = why.map(|why| (why.fault, why.text)).unzip();
            }
        });
        if changed && status == LinkStatus::Open {
            log::info!("link {}: open", link_name(route));
        }
        if changed && route.sender == From::Member {
            self.bus.publish(&route.mesh, Event::BrokerStatus(BrokerStatus { mesh: route.mesh.clone(), status }));
        }
    }

    /// Something is to be told to senders of messages that are in this scope: the links that can do so are told.
    pub(super) fn receipts(&self, scope: &Scope) {
        let Scope::Session { mesh, session, .. } = scope else { return };
        for sender in session.iter().map(|key| From::Session(*key)).chain([From::Member]) {
            self.links.owes(&Route { mesh: mesh.clone(), sender });
        }
    }

    /// A key to read with. What is in the inbox and waited for it opens, whoever asked for the key.
    pub(super) fn learn_key(&self, mesh: &MeshId, scope: &key::Scope, epoch: u32, key: Arc<ScopeKey>) {
        if self.keyring.learn(mesh, scope, epoch, key) {
            reopen::retry_shared(self, mesh);
        }
    }

    /// As [`Ctx::learn_key`], of the one that is in use.
    pub(super) fn use_key(&self, mesh: &MeshId, scope: &key::Scope, epoch: u32, key: Arc<ScopeKey>) {
        if self.keyring.use_from_now(mesh, scope, epoch, key) {
            reopen::retry_shared(self, mesh);
        }
    }

    /// A database that is beyond use ends the process: half a daemon is worse than none.
    pub(super) fn store_failed(&self, err: &store::Error) {
        supervisor::store_failed(&self.supervisor, err);
    }
}

fn link_name(route: &Route) -> String {
    match &route.sender {
        From::Member => route.mesh.to_string(),
        From::Session(key) => format!("{}/{}", route.mesh, key.0.short()),
    }
}
