//! What was seen of each session's ways into its model: which hooks have fired, whether a waiter stands by, whether its channel
//! is open. Known to this daemon's life alone: the next event of the client says it again.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::base::time::Millis;
use crate::store::outbox::{Route, Sender};
use crate::wire::ipc::{Delivery, Path, Sighting};
use crate::wire::peer::{Reach, Status};

use super::ctx::Ctx;
use super::outward::Change;
use super::rpc;
use super::sessions::{Serial, Session, Sessions};

/// A waiter that left is still counted for this long: between two waits it is away for a moment.
const BETWEEN_WAITS: Duration = Duration::from_secs(10);

/// A session of which nothing was seen for this long has no way in; before that, nothing is known.
const QUIET: Duration = Duration::from_secs(30);

/// The table, by registration: a session that is registered anew begins blank. Guards only the map.
#[derive(Debug, Default)]
pub(super) struct Sightings {
    table: Mutex<HashMap<Serial, Seen>>,
    /// Something was noted since the last look. Most of the time nothing is, and nobody looks through all sessions for that.
    news: AtomicBool,
}

#[derive(Debug, Clone, Default)]
struct Seen {
    /// The latest of each path.
    at: Vec<Sighting>,
    waiters: usize,
    /// When the last waiter left.
    waited: Option<Instant>,
    streams: usize,
}

/// A way in that is open as long as this lives.
#[derive(Debug)]
pub(super) struct Standing<'a> {
    sightings: &'a Sightings,
    session: Serial,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Waiter,
    Stream,
}

impl Sightings {
    /// A path of this session asked for its mail.
    pub(super) fn saw(&self, session: Serial, path: Path, now: Millis) {
        let mut table = self.lock();
        let seen = table.entry(session).or_default();
        seen.at.retain(|sighting| sighting.path != path);
        seen.at.push(Sighting { path, at: now });
        drop(table);
        self.note();
    }

    /// Something of a session has changed that its reach may depend on.
    pub(super) fn note(&self) {
        self.news.store(true, Ordering::Release);
    }

    /// A waiter stands by.
    pub(super) fn waiter(&self, session: Serial) -> Standing<'_> {
        self.stand(session, Kind::Waiter)
    }

    /// Somebody follows the session's events.
    pub(super) fn stream(&self, session: Serial) -> Standing<'_> {
        self.stand(session, Kind::Stream)
    }

    fn stand(&self, session: Serial, kind: Kind) -> Standing<'_> {
        let mut table = self.lock();
        let seen = table.entry(session).or_default();
        *seen.count(kind) += 1;
        drop(table);
        self.note();
        Standing { sightings: self, session, kind }
    }

    /// What was seen, for whoever asks what is wrong.
    pub(super) fn of(&self, session: &Session) -> Delivery {
        let seen = self.get(session.serial);
        let last = seen.at.iter().rev().find(|sighting| sighting.path.is_hook());
        Delivery {
            last_hook: last.map(|sighting| sighting.path),
            last_hook_at: last.map(|sighting| sighting.at),
            hooks_fire: seen.hooks_fire(),
            waiting: seen.waiters != 0,
            channel: seen.channel(),
            reach: session.outward().reach,
            seen: seen.at,
        }
    }

    /// Forgets those who are gone, and returns of whose reach something else can be said than is said.
    fn reach(&self, sessions: &Sessions, wall: Millis, now: Instant) -> Vec<(std::sync::Arc<Session>, Vec<Reach>)> {
        let all = sessions.all();
        self.lock().retain(|serial, _| all.iter().any(|session| session.serial == *serial));
        let known = |session: std::sync::Arc<Session>| {
            let seen = self.get(session.serial);
            let is_young = wall.abs_diff(session.registered_at) < u64::try_from(QUIET.as_millis()).unwrap_or(u64::MAX);
            let (status, said) = session.standing();
            let reach = seen.reach(status, now);
            let is_known = !reach.is_empty() || !is_young || said.is_some();
            (is_known && said.as_ref() != Some(&reach)).then_some((session, reach))
        };
        all.into_iter().filter_map(known).collect()
    }

    fn get(&self, session: Serial) -> Seen {
        self.lock().get(&session).cloned().unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Serial, Seen>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Standing<'_> {
    fn drop(&mut self) {
        let mut table = self.sightings.lock();
        // A session that has ended is not brought back.
        let Some(seen) = table.get_mut(&self.session) else { return };
        let count = seen.count(self.kind);
        *count = count.saturating_sub(1);
        if self.kind == Kind::Waiter {
            seen.waited = Some(Instant::now());
        }
        drop(table);
        self.sightings.note();
    }
}

impl Seen {
    fn count(&mut self, kind: Kind) -> &mut usize {
        match kind {
            Kind::Waiter => &mut self.waiters,
            Kind::Stream => &mut self.streams,
        }
    }

    fn saw(&self, wanted: impl Fn(Path) -> bool) -> bool {
        self.at.iter().any(|sighting| wanted(sighting.path))
    }

    /// Whether any hook of the client fired in this session.
    fn hooks_fire(&self) -> bool {
        self.saw(Path::is_hook)
    }

    /// Whether a server that offers mail by notifications is connected.
    fn channel(&self) -> bool {
        self.streams != 0 && self.saw(|path| path == Path::Channel)
    }

    /// By which paths mail gets in. A waiter is away while its session works, and comes back at the end of the turn.
    fn reach(&self, status: Option<Status>, now: Instant) -> Vec<Reach> {
        let between = self.waited.is_some_and(|left| now.saturating_duration_since(left) < BETWEEN_WAITS);
        let at_work = status == Some(Status::Working) && self.saw(|path| path == Path::Wake);
        let ways = [
            (Reach::Wake, self.waiters != 0 || between || at_work),
            (Reach::Turn, self.saw(|path| path.is_hook() && path != Path::Wake)),
            (Reach::Channel, self.channel()),
        ];
        ways.into_iter().filter(|(_, open)| *open).map(|(way, _)| way).collect()
    }
}

/// Tells the brokers of every session whose reach has changed, if something was noted, or if time alone may have changed it.
/// Nobody is waited for.
pub(super) fn announce(ctx: &Ctx, wall: Millis, now: Instant, time_counts: bool) {
    if !ctx.sightings.news.swap(false, Ordering::AcqRel) && !time_counts {
        return;
    }
    for (session, reach) in ctx.sightings.reach(&ctx.sessions, wall, now) {
        session.change(|outward| outward.apply(Change::Reach(reach.clone())));
        if let Some(key) = session.public_key() {
            let route = Route { mesh: session.mesh.clone(), sender: Sender::Session(key) };
            // A link that is not open is told with everything else when it opens.
            let _ = rpc::ask(&ctx.links, &route, move |id| Change::Reach(reach).frame(Some(id)));
            ctx.rosters.forget(&session.mesh);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_waiter_counts_while_it_is_there_and_for_the_moment_between_two_waits() {
        let sightings = Sightings::default();
        let (session, later) = (Serial(1), Instant::now() + BETWEEN_WAITS * 2);
        let reach = |status, now| sightings.get(session).reach(status, now);
        assert_eq!(reach(None, later), []);
        let waiter = sightings.waiter(session);
        sightings.saw(session, Path::Wake, 1);
        let next = sightings.waiter(session);
        drop(waiter);
        assert_eq!(reach(None, later), [Reach::Wake], "the next stands by");
        drop(next);
        assert_eq!(reach(Some(Status::Idle), Instant::now()), [Reach::Wake]);
        assert_eq!(reach(Some(Status::Idle), later), []);
        assert_eq!(reach(Some(Status::Working), later), [Reach::Wake], "it comes back when the turn ends");
        assert!(sightings.get(session).hooks_fire() && !sightings.get(Serial(2)).hooks_fire());
    }

    #[test]
    fn a_channel_is_a_stream_of_somebody_who_offers() {
        let sightings = Sightings::default();
        let session = Serial(1);
        let reach = || sightings.get(session).reach(None, Instant::now());
        let stream = sightings.stream(session);
        assert_eq!(reach(), [], "whoever follows the inbox is no channel");
        sightings.saw(session, Path::Channel, 1);
        assert_eq!(reach(), [Reach::Channel]);
        assert!(!sightings.get(session).hooks_fire());
        drop(stream);
        assert_eq!(reach(), []);
        sightings.saw(session, Path::Stop, 2);
        sightings.saw(session, Path::Tool, 3);
        assert_eq!(reach(), [Reach::Turn]);
        assert!(sightings.get(session).hooks_fire());
        let seen = sightings.get(session).at;
        assert_eq!(
            seen.iter().map(|sighting| (sighting.path, sighting.at)).collect::<Vec<_>>(),
            [(Path::Channel, 1), (Path::Stop, 2), (Path::Tool, 3)]
        );
    }

    #[test]
    fn a_session_that_was_quiet_for_long_has_no_way_in_and_a_new_one_is_not_known_yet() {
        let (sightings, sessions) = (Sightings::default(), Sessions::default());
        let (session, _) = sessions.insert(super::super::sessions::tests::session(1, "a", None));
        let quiet = i64::try_from(QUIET.as_millis()).unwrap();
        let said = |wall: Millis| {
            let reach = sightings.reach(&sessions, wall, Instant::now());
            reach.into_iter().map(|(_, reach)| reach).collect::<Vec<_>>()
        };
        assert!(said(quiet - 1).is_empty());
        assert_eq!(said(quiet), [vec![]]);
        sightings.saw(session.serial, Path::Prompt, 1);
        assert_eq!(said(1), [vec![Reach::Turn]]);
        sessions.remove(&session.token);
        assert!(said(1).is_empty());
        assert!(sightings.lock().is_empty(), "who is gone is forgotten");
    }
}
