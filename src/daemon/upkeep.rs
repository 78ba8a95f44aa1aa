//! What is cleared out of the databases as time passes.

use std::time::Duration;

use crate::base::time::Millis;
use crate::store;

use super::ctx::Ctx;

/// A deleted message is known for as long as any broker might push it again.
const KEEP_DELETED: Duration = Duration::from_secs(30 * 86_400);

/// Gives up what is too old to be sent, all of it: before anything is handed to a link at the start, since rows that were in
/// flight when a daemon ended may have lain there for months.
pub(super) fn give_up(ctx: &Ctx, now: Millis) {
    let max_age = Millis::try_from(GIVE_UP.as_millis()).unwrap_or(Millis::MAX);
    loop {
        let step = ctx.outbox.give_up(max_age, now);
        let more = step.as_ref().is_ok_and(|count| 0 < *count);
        say(ctx, "messages given up as too old", step);
        if !more {
            return;
        }
    }
}

/// Clears what is too old. Each step is bounded by the store; what is left goes on the next round.
pub(super) fn prune(ctx: &Ctx, now: Millis) {
    let settings = ctx.settings();
    let millis = |age: Duration| Millis::try_from(age.as_millis()).unwrap_or(Millis::MAX);
    let before = |age: Duration| now - millis(age);
    say(ctx, "messages given up as too old", ctx.outbox.give_up(millis(settings.give_up()), now));
    say(ctx, "sent rows pruned", ctx.outbox.prune(before(settings.keep_sent())));
    say(ctx, "deletions forgotten", ctx.inbox.forget_deleted(before(KEEP_DELETED)));
    say(ctx, "inbox rows pruned", ctx.inbox.prune(before(settings.keep_inbox())));
}

fn say(ctx: &Ctx, what: &str, result: Result<usize, store::Error>) {
    match result {
        Ok(0) => {}
        Ok(count) => log::info!("{count} {what}"),
        Err(err) => {
            log::warn!("upkeep: {err}");
            ctx.store_failed(&err);
        }
    }
}
