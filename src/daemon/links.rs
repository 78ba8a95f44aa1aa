//! The links that exist, how to reach their threads, and what they last said about themselves.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::base::ids::Slug;
use crate::net::ws::Handle;
use crate::store::outbox::{Route, Sender};
use crate::wire::ipc::{LinkFault, LinkStatus};

use super::link::Cmd;

/// Why a link is not open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Why {
    pub(super) fault: LinkFault,
    pub(super) text: String,
}

impl Why {
    pub(super) fn new(fault: LinkFault, text: impl Into<String>) -> Why {
        Why { fault, text: text.into() }
    }
}

/// How a link is doing.
#[derive(Debug, Clone)]
pub(super) struct Report {
    pub(super) status: LinkStatus,
    pub(super) last_error: Option<String>,
    pub(super) fault: Option<LinkFault>,
    /// The broker's clock minus ours, milliseconds, as of the last hello.
    pub(super) clock_skew_ms: Option<i64>,
    /// Whether the broker keeps shared keys, as of the last hello.
    pub(super) keeps_keys: Option<bool>,
}

#[derive(Debug)]
struct Entry {
    /// Tells a link from its successor on the same route.
    serial: u64,
    handle: Handle<Cmd>,
    owes: Arc<AtomicBool>,
    /// Its session has ended, and it stays for what that one left to be sent.
    is_courier: bool,
    report: Report,
    /// When it was last opened, if it is open.
    open_since: Option<Instant>,
}

/// The table of links, shared by every thread. Guards only the map.
#[derive(Debug, Clone, Default)]
pub(super) struct Links {
    by_route: Arc<Mutex<HashMap<Route, Entry>>>,
}

impl Links {
    /// Enters a link; what is returned is set when it may have something to tell senders.
    pub(super) fn insert(&self, route: Route, serial: u64, handle: Handle<Cmd>) -> Arc<AtomicBool> {
        let report =
            Report { status: LinkStatus::Connecting, last_error: None, fault: None, clock_skew_ms: None, keeps_keys: None };
        let owes = Arc::new(AtomicBool::new(false));
        self.lock().insert(route, Entry { serial, handle, owes: owes.clone(), is_courier: false, report, open_since: None });
        owes
    }

    /// Removes the link with this serial; its successor stays.
    pub(super) fn remove(&self, route: &Route, serial: u64) {
        let mut table = self.lock();
        if table.get(route).is_some_and(|entry| entry.serial == serial) {
            table.remove(route);
        }
    }

    /// From now on this link stands for nobody who is there.
    pub(super) fn becomes_courier(&self, route: &Route) {
        if let Some(entry) = self.lock().get_mut(route) {
            entry.is_courier = true;
        }
    }

    pub(super) fn get(&self, route: &Route) -> Option<Handle<Cmd>> {
        self.lock().get(route).map(|entry| entry.handle.clone())
    }

    /// This link may have something to tell senders. One whose queue is full wakes for what is in it, and finds that out.
    pub(super) fn owes(&self, route: &Route) {
        let table = self.lock();
        let Some(entry) = table.get(route) else { return };
        entry.owes.store(true, Ordering::Release);
        let handle = entry.handle.clone();
        drop(table);
        let _ = handle.try_send(Cmd::Receipts);
    }

    /// Changes a link's report; returns whether its status changed.
    pub(super) fn report(&self, route: &Route, serial: u64, change: impl FnOnce(&mut Report)) -> bool {
        let mut table = self.lock();
        let Some(entry) = table.get_mut(route).filter(|entry| entry.serial == serial) else { return false };
        let before = entry.report.status;
        change(&mut entry.report);
        let changed = before != entry.report.status;
        if changed {
            entry.open_since = (entry.report.status == LinkStatus::Open).then(Instant::now);
        }
        changed
    }

    pub(super) fn status(&self, route: &Route) -> Option<LinkStatus> {
        self.lock().get(route).map(|entry| entry.report.status)
    }

    /// What a link last said of itself.
    pub(super) fn of(&self, route: &Route) -> Option<Report> {
        self.lock().get(route).map(|entry| entry.report.clone())
    }

    /// Whether the broker of this link keeps shared keys; `None` until it has said so.
    pub(super) fn keeps_keys(&self, route: &Route) -> Option<bool> {
        self.lock().get(route).and_then(|entry| entry.report.keeps_keys)
    }

    /// The member link's report, and how many session links of the mesh are open. Where the member link has nothing to
    /// complain of, a session's that was given up for good has the word.
    pub(super) fn of_mesh(&self, mesh: &Slug) -> (Option<Report>, usize) {
        let table = self.lock();
        let mut member = table.get(&Route { mesh: mesh.clone(), sender: Sender::Member }).map(|entry| entry.report.clone());
        let (mut open, mut given_up) = (0, None);
        for (route, entry) in table.iter().filter(|(route, entry)| route.mesh == *mesh && !entry.is_courier) {
            let Sender::Session(key) = &route.sender else { continue };
            match entry.report.status {
                LinkStatus::Open => open += 1,
                LinkStatus::Closed => given_up = given_up.or(entry.report.last_error.as_ref().map(|why| (key, why))),
                LinkStatus::Connecting | LinkStatus::Reconnecting => {}
            }
        }
        if let (Some(member), Some((key, why))) = (&mut member, given_up) {
            member.last_error.get_or_insert_with(|| format!("session {}: {why}", key.0.short()));
        }
        (member, open)
    }

    /// Whether a session link of the mesh has been open for this long.
    pub(super) fn has_session_open_for(&self, mesh: &Slug, long: Duration) -> bool {
        let settled = |(route, entry): (&Route, &Entry)| {
            route.mesh == *mesh
                && route.sender != Sender::Member
                && !entry.is_courier
                && entry.open_since.is_some_and(|since| long <= since.elapsed())
        };
        self.lock().iter().any(settled)
    }

    /// Every link, for the supervisor's rounds.
    pub(super) fn all(&self) -> Vec<(Route, Handle<Cmd>)> {
        self.lock().iter().map(|(route, entry)| (route.clone(), entry.handle.clone())).collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Route, Entry>> {
        self.by_route.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
