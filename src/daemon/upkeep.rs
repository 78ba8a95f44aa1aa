//! What is cleared out of the databases as time passes.

use std::time::{Duration, Instant};

use crate::base::ids::{MeshId, Slug};
use crate::base::time::Millis;
use crate::store;

use super::ctx::Ctx;
use super::meshes::Membership;

/// A deleted message is known for as long as any broker might push it again.
const KEEP_DELETED: Duration = Duration::from_secs(30 * 86_400);

/// Steps of one kind in one round, each of some milliseconds: a backlog of months is gone after some rounds, and nobody
/// waits long behind it.
const STEPS: usize = 400;

/// Gives up what is too old to be sent, all of it: before anything is handed to a link at the start, since rows that were in
/// flight when a daemon ended may have lain there for months.
pub(super) fn give_up(ctx: &Ctx, now: Millis) {
    let max_age = millis(ctx.settings().give_up());
    in_steps(ctx, "messages given up as too old", || ctx.outbox.give_up(max_age, now));
}

/// Clears what is too old.
pub(super) fn prune(ctx: &Ctx, now: Millis) {
    let settings = ctx.settings();
    let before = |age: Duration| now - millis(age);
    give_up(ctx, now);
    in_steps(ctx, "sent rows pruned", || ctx.outbox.prune(before(settings.keep_sent())));
    in_steps(ctx, "dead rows pruned", || ctx.outbox.prune_dead(before(settings.keep_dead())));
    in_steps(ctx, "deletions forgotten", || ctx.inbox.forget_deleted(before(KEEP_DELETED)));
    in_steps(ctx, "receipts forgotten", || ctx.inbox.forget_receipts(before(KEEP_DELETED)));
    in_steps(ctx, "inbox rows pruned", || ctx.inbox.prune(before(settings.keep_inbox())));
}

/// Brings the mail of a mesh under its new name.
pub(super) fn rename(ctx: &Ctx, old: &Slug, new: &Slug, mesh: &MeshId) {
    in_steps(ctx, "outbox rows follow the name of their mesh", || ctx.outbox.rename(old.clone(), new.clone(), mesh.clone()));
    in_steps(ctx, "inbox rows follow the name of their mesh", || ctx.inbox.rename(old.clone(), new.clone()));
}

/// What was written for a mesh while it was given another name follows it. Returns its name now.
pub(super) fn follow(ctx: &Ctx, written_for: &Membership) -> Slug {
    match ctx.meshes.by_id(&written_for.mesh) {
        Some(now) if now.slug != written_for.slug => {
            rename(ctx, &written_for.slug, &now.slug, &now.mesh);
            now.slug.clone()
        }
        _ => written_for.slug.clone(),
    }
}

fn millis(age: Duration) -> Millis {
    Millis::try_from(age.as_millis()).unwrap_or(Millis::MAX)
}

fn in_steps(ctx: &Ctx, what: &str, step: impl Fn() -> Result<usize, store::Error>) {
    let mut total = 0;
    for _ in 0..STEPS {
        match step() {
            Ok(0) => break,
            Ok(count) => total += count,
            Err(err) => {
                log::warn!("upkeep: {err}");
                ctx.store_failed(&err);
                break;
            }
        }
    }
    if 0 < total {
        log::info!("{total} {what}");
    }
}

/// Tells a clock that was set from time that passed: what is kept by age must not go because somebody mistyped a year.
#[derive(Debug)]
pub(super) struct Clock {
    wall: Millis,
    steady: Instant,
}

/// How far the two clocks may drift apart between two rounds.
const DRIFT: Millis = 3_600_000;

impl Clock {
    pub(super) fn new(wall: Millis, steady: Instant) -> Clock {
        Clock { wall, steady }
    }

    /// Whether the wall clock went as the steady one did since the last call. A machine that slept shows as a jump, too; the
    /// next round is a new chance.
    pub(super) fn is_steady(&mut self, wall: Millis, steady: Instant) -> bool {
        let passed = millis(steady.saturating_duration_since(self.steady));
        let drift = (wall - self.wall).saturating_sub(passed);
        *self = Clock { wall, steady };
        drift.abs() <= DRIFT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_set_is_told_from_time_that_passed() {
        let start = Instant::now();
        let hours = |hours: u64| start + Duration::from_secs(3600 * hours);
        let mut clock = Clock::new(0, start);
        assert!(clock.is_steady(3_600_000, hours(1)));
        assert!(!clock.is_steady(40 * 86_400_000, hours(2)), "set ahead by a month");
        assert!(clock.is_steady(40 * 86_400_000 + 3_600_000, hours(3)), "it stays there: then it was wrong before");
        assert!(!clock.is_steady(0, hours(4)));
    }
}
