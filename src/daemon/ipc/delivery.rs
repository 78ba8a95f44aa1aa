//! The delivery ladder: `POST /v1/inbox/claim`, `POST /v1/inbox/offered`, `POST /v1/inbox/unclaim`. A session's message is
//! put before its model once, by whichever path comes first and may.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{RecvTimeoutError, after, select};

use crate::base::time::now_millis;
use crate::daemon::bus::{News, Subscription};
use crate::daemon::ctx::Ctx;
use crate::daemon::guard::{Budget, Message};
use crate::daemon::sessions::Session;
use crate::store::RowId;
use crate::store::inbox::{self, Inbound, Scope};
use crate::wire::ipc::{Changed, Claim, Claimed, Handled, InboxItem, Path, REPEAT};
use crate::wire::limits::{CLAIM_LEASE, MAX_CLAIM_WAIT};
use crate::wire::peer::Status;
use crate::wire::priority::Priority;

use super::inbox::{body_parts, item};
use super::reply::Reply;
use super::routes::Call;

/// Messages of one claim: as asked, within these bounds.
const DEFAULT_LIMIT: usize = 20;
const MAX_LIMIT: usize = 200;

/// Messages of one claim that names them: a page of the inbox.
const MAX_NAMED: usize = 1000;

/// As long as one message follows the other, they are gathered; but the first waits for the others no longer than this.
const MAX_GATHER: Duration = Duration::from_millis(5);

/// A session that was woken so recently is in the midst of a burst: then messages that come closer together than
/// [`BURST_GAP`] are one wake-up, for at most [`MAX_BURST`].
const LATELY: Duration = Duration::from_secs(1);
const BURST_GAP: Duration = Duration::from_millis(150);
const MAX_BURST: Duration = Duration::from_secs(1);

/// What a claim has given to its path.
#[derive(Debug)]
pub(super) struct Given {
    ids: Vec<RowId>,
    path: Path,
    scope: Scope,
}

impl Given {
    /// Its client was gone before the answer: the next path need not wait until the lease is over.
    pub(super) fn take_back(self, ctx: &Ctx) {
        if let Err(err) = ctx.inbox.unclaim(self.ids, self.path.as_str().to_owned(), self.scope) {
            log::warn!("inbox: {err}");
        }
    }
}

pub(super) fn claim(call: &Call<'_>) -> (Reply, Option<Given>) {
    let (session, claim) = match session_and::<Claim>(call) {
        Ok(both) => both,
        Err(refused) => return (refused, None),
    };
    call.ctx.sightings.saw(session.serial, claim.path, now_millis());
    if claim.has_a_person() {
        call.ctx.guard.reset(&session.id);
    }
    if claim.path.is_hook() {
        call.ctx.turns.heard(&session.id, claim.path, Instant::now());
    }
    let welcomed = claim.source.as_deref().is_some_and(|source| call.ctx.turns.greet(&session.id, source, Instant::now()));
    if claim.turn.is_some_and(|end| !call.ctx.turns.may_hold(&session.id, end)) {
        // The client would drop it: the hook that waits beside the idle session brings it.
        return (Reply::ok(&Claimed::default()), None);
    }
    match wait(call, session, &claim) {
        Ok(claimed) => {
            let ids = claimed.items.iter().map(|item| RowId::new(item.id.clone())).collect();
            let working = claim.path == Path::Wake && session.outward().status == Some(Status::Working);
            let reply = Reply::ok(&Claimed { more: more(call, &claim, claimed.items.len()), welcomed, working, ..claimed });
            (reply, Some(Given { ids, path: claim.path, scope: call.caller.scope(call.ctx) }))
        }
        Err(refused) => (refused, None),
    }
}

/// How many unread messages there are beside those of this claim. Not counted for hooks that have nothing to say.
fn more(call: &Call<'_>, claim: &Claim, claimed: usize) -> usize {
    if claimed == 0 && claim.path != Path::SessionStart {
        return 0;
    }
    call.ctx.inbox.unread(call.caller.scope(call.ctx)).unwrap_or_default().saturating_sub(claimed)
}

pub(super) fn offered(call: &Call<'_>) -> Reply {
    let (session, mut handled) = match session_and::<Handled>(call) {
        Ok(both) => both,
        Err(refused) => return refused,
    };
    let tried = call.ctx.canaries.offered(session.serial, handled.path, &mut handled.ids);
    let path = handled.path.as_str().to_owned();
    let offered = call.ctx.inbox.offered(row_ids(handled.ids.clone()), path, call.caller.scope(call.ctx), now_millis());
    // Only now is it known that the session was woken.
    if handled.path.is_automatic() && offered.as_ref().is_ok_and(|changed| *changed != 0) {
        call.ctx.guard.woke(&session.id, handled.ids.iter().map(String::as_str), Instant::now());
    }
    call.ctx.receipts(&call.caller.scope(call.ctx));
    changed(offered.map(|count| count + tried))
}

pub(super) fn unclaim(call: &Call<'_>) -> Reply {
    let (session, mut handled) = match session_and::<Handled>(call) {
        Ok(both) => both,
        Err(refused) => return refused,
    };
    let tried = call.ctx.canaries.unclaim(session.serial, handled.path, &mut handled.ids);
    let path = handled.path.as_str().to_owned();
    let given_back = call.ctx.inbox.unclaim(row_ids(handled.ids), path, call.caller.scope(call.ctx));
    changed(given_back.map(|count| count + tried))
}

/// Delivery is to a session: without one there is no model to deliver to.
fn session_and<'a, T: serde::de::DeserializeOwned>(call: &'a Call<'_>) -> Result<(&'a Arc<Session>, T), Reply> {
    let session = call.caller.session().ok_or_else(|| Reply::from(Reply::error(401, "no session token")))?;
    Ok((session, call.json()?))
}

fn row_ids(ids: Vec<String>) -> Vec<RowId> {
    ids.into_iter().map(RowId::new).collect()
}

fn changed(changed: Result<usize, crate::store::Error>) -> Reply {
    match changed {
        Ok(changed) => Reply::ok(&Changed { changed }),
        Err(err) => Reply::store(&err),
    }
}

/// Claims now, or waits for something to claim as long as was asked.
fn wait(call: &Call<'_>, session: &Arc<Session>, claim: &Claim) -> Result<Claimed, Reply> {
    let patience = claim.wait_ms.map_or(Duration::ZERO, Duration::from_millis).min(MAX_CLAIM_WAIT);
    if patience.is_zero() {
        return Ok(Claimed { items: take_all(call, session, claim)?, ..Claimed::default() });
    }
    let until = Instant::now() + patience;
    let scope = call.caller.scope(call.ctx);
    let place = call.ctx.waiters.take_place(&session.id);
    let _standing = call.ctx.sightings.waiter(session.serial);
    // Subscribed first, claimed second: the other order would miss what comes between.
    let subscription = call.ctx.bus.subscribe(scope).ok_or_else(|| Reply::from(Reply::error(429, "too_many_streams")))?;
    call.connection.place.outlast();
    // A session that has ended takes nothing any more, and its waiter has nobody to wake. Nor has one whose client is gone.
    while call.ctx.sessions.get(&session.token).is_some() && !call.connection.stream.is_gone() {
        let mut items = take_all(call, session, claim)?;
        if !items.is_empty() {
            gather(call, session, claim, &subscription, &mut items);
            return Ok(Claimed { items, ..Claimed::default() });
        }
        // A claim of another path that came to nothing falls back without a word.
        let left = until.saturating_duration_since(Instant::now());
        let pause = left.min(CLAIM_LEASE);
        select! {
            recv(place.displaced) -> _ => return Ok(Claimed { displaced: true, ..Claimed::default() }),
            recv(subscription.news) -> news => match news {
                Ok(News::Mail) if call.ctx.guard.woken_within(&session.id, LATELY, Instant::now()) => settle(&subscription, until),
                Ok(News::Mail) => subscription.mail_noticed(),
                Ok(News::Event(_)) => {}
                Ok(News::Bye) | Err(_) => return Ok(Claimed::default()),
            },
            recv(after(pause)) -> _ => if left <= pause {
                return Ok(Claimed::default());
            },
        }
    }
    Ok(Claimed { displaced: true, ..Claimed::default() })
}

/// Takes along what came while the first were being claimed.
fn gather(call: &Call<'_>, session: &Arc<Session>, claim: &Claim, subscription: &Subscription, items: &mut Vec<InboxItem>) {
    let end = Instant::now() + MAX_GATHER;
    while items.len() < limit(claim) && Instant::now() < end && matches!(subscription.news.try_recv(), Ok(News::Mail)) {
        subscription.mail_noticed();
        // What can not be claimed now stays where it is.
        items.extend(take(call, session, claim).unwrap_or_default());
    }
}

/// Messages of one claim, as asked, within bounds.
fn limit(claim: &Claim) -> usize {
    match &claim.ids {
        Some(ids) => ids.len().clamp(1, MAX_NAMED),
        None => claim.limit.unwrap_or(DEFAULT_LIMIT).clamp(1, MAX_LIMIT),
    }
}

/// Lets a burst of messages come to its end.
fn settle(subscription: &Subscription, until: Instant) {
    let end = until.min(Instant::now() + MAX_BURST);
    loop {
        subscription.mail_noticed();
        let left = end.saturating_duration_since(Instant::now()).min(BURST_GAP);
        match subscription.news.recv_timeout(left) {
            Ok(News::Mail) => {}
            Ok(News::Event(_)) if Instant::now() < end => {}
            // The end of the subscription is met again where it is waited for.
            Ok(_) | Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// One claim, without waiting, and what tries this path.
fn take_all(call: &Call<'_>, session: &Arc<Session>, claim: &Claim) -> Result<Vec<InboxItem>, Reply> {
    let mut items = take(call, session, claim)?;
    items.extend(call.ctx.canaries.claim(session.serial, &session.mesh, claim.path, now_millis()));
    Ok(items)
}

/// One claim, without waiting; what must not be offered automatically is left out.
fn take(call: &Call<'_>, session: &Arc<Session>, claim: &Claim) -> Result<Vec<InboxItem>, Reply> {
    let now = Instant::now();
    let has_hooks = call.ctx.turns.has_hooks(&session.id, now);
    let status = session.outward().status.filter(|status| *status != Status::Working || call.ctx.turns.is_busy(&session.id, now));
    let priorities = priorities(claim, status, has_hooks);
    if priorities.is_empty() {
        if session.outward().status == Some(Status::Dnd) {
            hold(call, None, Priority::ALL.to_vec(), "dnd")?;
        }
        return Ok(Vec::new());
    }
    let settings = call.ctx.settings();
    let budget = Budget { window: settings.wake_window(), wakes: settings.wake_budget() };
    let automatic = claim.path.is_automatic();
    let held = if automatic { call.ctx.guard.held(&session.id, budget, now) } else { Vec::new() };
    if !held.is_empty() {
        hold(call, Some(held.clone()), priorities.clone(), "budget")?;
    }
    let wall = now_millis();
    let lease = i64::try_from(CLAIM_LEASE.as_millis()).unwrap_or(i64::MAX);
    let rows = call.ctx.inbox.claim(inbox::Claim {
        scope: call.caller.scope(call.ctx),
        path: claim.path.as_str().to_owned(),
        priorities,
        held,
        only: claim.ids.clone().map(row_ids),
        limit: limit(claim),
        now: wall,
        until: wall.saturating_add(lease),
    });
    let rows = rows.map_err(|err| Reply::store(&err))?;
    let admitted = |row: &Inbound| {
        let text = body_parts(row.body.clone()).0.unwrap_or_default();
        let message = Message { id: row.id.as_str(), sender: &row.sender_pubkey, text: &text };
        !automatic || call.ctx.guard.admit(&session.id, &message, budget, now)
    };
    let (rows, repeats): (Vec<Inbound>, Vec<Inbound>) = rows.into_iter().partition(admitted);
    if !repeats.is_empty() {
        let ids = repeats.into_iter().map(|row| row.id).collect();
        let withheld = call.ctx.inbox.withheld(ids, REPEAT.to_owned(), call.caller.scope(call.ctx), wall);
        withheld.map_err(|err| Reply::store(&err))?;
        call.ctx.receipts(&call.caller.scope(call.ctx));
    }
    Ok(rows.into_iter().map(item).collect())
}

/// Lets senders know that what they sent is here, and why the model does not get it by itself.
fn hold(call: &Call<'_>, senders: Option<Vec<String>>, priorities: Vec<Priority>, why: &str) -> Result<(), Reply> {
    let scope = call.caller.scope(call.ctx);
    let hold = inbox::Hold { scope: scope.clone(), senders, priorities, why: why.to_owned(), now: now_millis() };
    if 0 < call.ctx.inbox.hold(hold).map_err(|err| Reply::store(&err))? {
        call.ctx.receipts(&scope);
    }
    Ok(())
}

/// What a path may bring now: `now` interrupts, `next` waits for the end of the turn, `low` for a person. Where hooks bring the
/// mail a channel brings none: its client may drop what it is told without a word.
fn priorities(claim: &Claim, status: Option<Status>, has_hooks: bool) -> Vec<Priority> {
    let may: &[Priority] = match (claim.path, status) {
        (Path::Wake | Path::Stop | Path::ToolUse | Path::Channel, Some(Status::Dnd)) => &[],
        (Path::Channel, _) if has_hooks => &[],
        (Path::Wake | Path::Channel, Some(Status::Working)) | (Path::Stop | Path::ToolUse, _) => &[Priority::Now],
        (Path::Wake | Path::Channel, _) => &[Priority::Now, Priority::Next],
        _ => &Priority::ALL,
    };
    let asked = |priority: &&Priority| claim.priorities.as_ref().is_none_or(|asked| asked.contains(priority));
    may.iter().filter(asked).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_path_may_bring() {
        use Priority::{Low, Next, Now};
        for (path, status, asked, expected) in [
            (Path::Wake, None, None, &[Now, Next][..]),
            (Path::Wake, Some(Status::Idle), None, &[Now, Next]),
            (Path::Wake, Some(Status::Working), None, &[Now]),
            (Path::Wake, Some(Status::Dnd), None, &[]),
            (Path::Stop, Some(Status::Working), None, &[Now]),
            (Path::ToolUse, Some(Status::Dnd), None, &[]),
            (Path::Prompt, Some(Status::Dnd), None, &[Now, Next, Low]),
            (Path::SessionStart, None, None, &[Now, Next, Low]),
            (Path::Channel, None, None, &[Now, Next]),
            (Path::Channel, Some(Status::Working), None, &[Now]),
            (Path::Channel, Some(Status::Dnd), None, &[]),
            (Path::Wake, None, Some(vec![Low, Next]), &[Next]),
            (Path::Prompt, None, Some(vec![]), &[]),
        ] {
            let claim = Claim { priorities: asked, ..Claim::of(path) };
            assert_eq!(priorities(&claim, status, false), expected, "{path:?} {status:?}");
            let with_hooks = if path == Path::Channel { &[] } else { expected };
            assert_eq!(priorities(&claim, status, true), with_hooks, "{path:?} {status:?}");
        }
    }
}
