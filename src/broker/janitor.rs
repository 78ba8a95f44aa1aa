//! What the broker does as time passes: leases that run out, messages that expire. One thread, one deadline.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::base::thread::{self, Running};
use crate::base::time::{Millis, now_millis};
use crate::store;
use crate::sys::poll::{Bell, wait};

use super::Shared;
use super::handle::{events, schedule};
use super::limits::AWAY_LIFE;

/// How often expired messages are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(600);

/// How often what is due by the wall clock is looked at: the clock may be set, and does not stand still while the machine sleeps.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// When that is first done: what expired while the broker was down is over, and its senders may be told.
const FIRST_SWEEP: Duration = Duration::from_secs(1);

/// Rows deleted in one step, so that nobody waits long behind it.
const STEP: usize = 500;

/// Starts the thread; it ends when `shared` says that the broker stops.
pub(super) fn start(shared: Arc<Shared>, bell: Bell) -> io::Result<Running> {
    thread::spawn("janitor", thread::CONNECTION_STACK, move || run(&shared, &bell))
}

fn run(shared: &Shared, bell: &Bell) {
    let mut sweep_at = Instant::now() + FIRST_SWEEP;
    while !shared.is_stopping() {
        let now = Instant::now();
        for (mesh, gone) in shared.router.expire(now) {
            events::left(shared, &mesh, &gone);
        }
        if sweep_at <= now {
            sweep_at = now + SWEEP_EVERY;
            sweep(shared);
        }
        let until = shared.router.next_expiry().map_or(sweep_at, |at| at.min(sweep_at));
        let until = schedule::fire_due(shared, now_millis())
            .and_then(|wait| Instant::now().checked_add(wait.min(LOOK_EVERY)))
            .map_or(until, |at| at.min(until));
        if let Err(err) = wait(&[], Some(bell), Some(until.saturating_duration_since(Instant::now()))) {
            log::error!("janitor: {err}");
            return;
        }
    }
}

/// Sessions that have not been here for long can not be written to by name any more.
fn forget_sessions(shared: &Shared) -> Result<(), store::Error> {
    let before = now_millis() - Millis::try_from(AWAY_LIFE.as_millis()).unwrap_or(Millis::MAX);
    for mesh in shared.hub.meshes()? {
        while 0 < shared.hub.forget_sessions(mesh.id.clone(), before)? && !shared.is_stopping() {}
    }
    Ok(())
}

/// The audit log is kept for as long as was asked for.
fn prune_audit(shared: &Shared) -> Result<(), store::Error> {
    let before = shared.settings.audit_from(now_millis());
    for mesh in shared.hub.meshes()? {
        while 0 < shared.hub.prune_audit(mesh.id.clone(), before, STEP)? && !shared.is_stopping() {}
    }
    Ok(())
}

/// What nobody fetched for as long as a peer may be away.
fn forget_receipts(shared: &Shared) -> Result<(), store::Error> {
    let before = now_millis() - Millis::try_from(AWAY_LIFE.as_millis()).unwrap_or(Millis::MAX);
    while 0 < shared.hub.forget_receipts(before, STEP)? && !shared.is_stopping() {}
    Ok(())
}

fn sweep(shared: &Shared) {
    if let Err(err) = forget_sessions(shared) {
        log::error!("hub: {err}");
    }
    if let Err(err) = prune_audit(shared) {
        log::error!("hub: {err}");
    }
    if let Err(err) = forget_receipts(shared) {
        log::error!("hub: {err}");
    }
    loop {
        match shared.hub.expire(now_millis(), STEP) {
            Ok(expired) if expired.count == 0 => return,
            Ok(expired) => {
                log::info!("{} expired messages deleted", expired.count);
                expired.told.iter().for_each(|(mesh, member)| shared.router.receipts(mesh, *member));
            }
            Err(err) => return log::error!("hub: {err}"),
        }
    }
}
