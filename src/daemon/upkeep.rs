//! What is cleared out of the databases as time passes.

use std::time::Duration;

use crate::base::time::Millis;
use crate::store;

use super::ctx::Ctx;

/// A message that could not be handed to its broker for this long is given up.
const GIVE_UP: Duration = Duration::from_secs(7 * 86_400);

/// Rows of messages that went out are kept this long, so that a late retry is recognised.
const KEEP_DONE: Duration = Duration::from_secs(7 * 86_400);

/// Messages received stay this long.
const KEEP_INBOX: Duration = Duration::from_secs(30 * 86_400);

/// Clears what is too old. Each step is bounded by the store; what is left goes on the next round.
pub(super) fn prune(ctx: &Ctx, now: Millis) {
    let millis = |age: Duration| Millis::try_from(age.as_millis()).unwrap_or(Millis::MAX);
    let before = |age: Duration| now - millis(age);
    say(ctx, "messages given up as too old", ctx.outbox.give_up(millis(GIVE_UP), now));
    say(ctx, "sent rows pruned", ctx.outbox.prune(before(KEEP_DONE)));
    say(ctx, "inbox rows pruned", ctx.inbox.prune(before(KEEP_INBOX)));
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
