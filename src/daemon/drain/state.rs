//! Which outbox rows go out next, over which link, and what their answers mean. No I/O: the thread in `drain` claims and
//! settles rows as this says.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use crate::base::backoff;
use crate::base::ids::Slug;
use crate::base::time::Millis;
use crate::daemon::link::Answer;
use crate::store::RowId;
use crate::store::outbox::{Outcome, Route};
use crate::wire::code::{Code, Retry};

/// Rows claimed from the outbox in one go.
pub(super) const CLAIM: usize = 64;

/// Delay after a refusal that may pass: doubled each time from the first to the last.
const RETRY_FROM: Duration = Duration::from_millis(500);
const RETRY_TO: Duration = Duration::from_secs(60);

/// How often a peer that is away is tried without having been heard of. Its return wakes its rows at once.
const AWAY_RETRY: Duration = Duration::from_secs(300);

/// A broker can not ask for a longer pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(600);

/// One connection of a link, told from the one before and the one after.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::daemon) struct Epoch(pub(in crate::daemon) u64);

/// The schedule over all links.
#[derive(Debug, Default)]
pub(super) struct State {
    lanes: HashMap<Route, Lane>,
}

/// A row on its way.
#[derive(Debug)]
struct Flight {
    attempts: u32,
    epoch: Epoch,
    /// A peer came back after it left: an answer that nobody is there may be older than that.
    peer_back: bool,
}

/// The rows of one link. They go out in order; how many may be in flight is the broker's to say.
#[derive(Debug, Default)]
struct Lane {
    /// Rows that may be in flight; `None` while the link is down.
    window: Option<usize>,
    /// Which connection of the link is open, or was last.
    epoch: Epoch,
    in_flight: HashMap<RowId, Flight>,
    /// Rows in flight on earlier connections, whose answers are still on their way. Nothing is claimed until they are
    /// back: a later row could overtake them.
    stale: usize,
    /// There may be rows that are due.
    wanted: bool,
    /// The last claim did not bring all of them.
    backlog: bool,
    /// When the earliest row that is not due yet will be.
    due: Option<Millis>,
    /// The broker asked for a pause.
    paused_until: Option<Millis>,
}

impl State {
    /// There may be work for this link. One without a connection looks for work by itself once it has one.
    pub(super) fn wake(&mut self, route: &Route) {
        if let Some(lane) = self.lanes.get_mut(route) {
            lane.wanted = true;
        }
    }

    pub(super) fn link_up(&mut self, route: Route, window: usize, epoch: Epoch) {
        let lane = self.lanes.entry(route).or_default();
        if epoch < lane.epoch {
            return; // told late: a later connection has opened since
        }
        lane.window = Some(window.max(1));
        lane.epoch = epoch;
        lane.stale = lane.in_flight.len();
        lane.wanted = true;
        lane.paused_until = None;
    }

    /// A peer of this mesh is there again.
    pub(super) fn peer_back(&mut self, mesh: &Slug) {
        let lanes = self.lanes.iter_mut().filter(|(route, _)| route.mesh == *mesh);
        lanes.flat_map(|(_, lane)| lane.in_flight.values_mut()).for_each(|flight| flight.peer_back = true);
    }

    /// The links of a mesh that have work, or had.
    pub(super) fn routes_of(&self, mesh: &Slug) -> Vec<Route> {
        self.lanes.keys().filter(|route| route.mesh == *mesh).cloned().collect()
    }

    /// The answers of what is in flight have been given, or are on their way. An end that is told after the next
    /// connection has opened changes nothing.
    pub(super) fn link_down(&mut self, route: &Route, epoch: Epoch) {
        if let Some(lane) = self.lanes.get_mut(route).filter(|lane| lane.epoch == epoch) {
            lane.window = None;
        }
        self.forget_idle(route);
    }

    /// The link is gone without a word: what it had is sent again by the next.
    pub(super) fn link_died(&mut self, route: &Route) -> Vec<(RowId, Outcome)> {
        let lost = self.lanes.get_mut(route).map(|lane| {
            lane.window = None;
            lane.stale = 0;
            lane.wanted = true;
            lane.in_flight.drain().map(|(row, _)| (row, Outcome::Returned)).collect()
        });
        self.forget_idle(route);
        lost.unwrap_or_default()
    }

    /// Times that were computed before mean nothing any more. Returns the links that may have rows waiting.
    pub(super) fn clock_set_back(&mut self) -> Vec<Route> {
        for lane in self.lanes.values_mut() {
            lane.due = None;
            lane.paused_until = None;
            lane.wanted = true;
        }
        self.lanes.keys().cloned().collect()
    }

    /// The link that should be fed next, on which of its connections, and with how many rows at most.
    pub(super) fn next_claim(&mut self, now: Millis) -> Option<(Route, Epoch, usize)> {
        for (route, lane) in &mut self.lanes {
            if lane.due.is_some_and(|due| due <= now) {
                lane.due = None;
                lane.wanted = true;
            }
            if lane.paused_until.is_some_and(|until| until <= now) {
                lane.paused_until = None;
            }
            let Some(window) = lane.window else { continue };
            let room = window.saturating_sub(lane.in_flight.len()).min(CLAIM);
            // What comes in while rows are on their way gathers until they are answered, and then goes together: under load
            // each transaction carries many. A backlog is fed as far as the window allows.
            let worth_it = lane.in_flight.is_empty() || (lane.backlog && room == CLAIM.min(window));
            if lane.wanted && lane.paused_until.is_none() && lane.stale == 0 && 0 < room && worth_it {
                return Some((route.clone(), lane.epoch, room));
            }
        }
        None
    }

    /// Whether this row is on its way already.
    pub(super) fn flies(&self, route: &Route, row: &RowId) -> bool {
        self.lanes.get(route).is_some_and(|lane| lane.in_flight.contains_key(row))
    }

    /// The rows that a claim brought are on their way. `more`: it brought as many as it might, and there may be more.
    pub(super) fn claimed(
        &mut self,
        route: &Route,
        rows: impl Iterator<Item = (RowId, u32)>,
        more: bool,
        next_due: Option<Millis>,
    ) {
        let Some(lane) = self.lanes.get_mut(route) else { return };
        let epoch = lane.epoch;
        lane.in_flight.extend(rows.map(|(row, attempts)| (row, Flight { attempts, epoch, peer_back: false })));
        lane.backlog = more;
        lane.wanted = lane.backlog;
        lane.due = next_due;
        self.forget_idle(route);
    }

    /// The claim could not be made; it is tried again at `at`.
    pub(super) fn claim_failed(&mut self, route: &Route, at: Millis) {
        if let Some(lane) = self.lanes.get_mut(route) {
            lane.wanted = true;
            lane.paused_until = Some(at);
        }
    }

    /// What an answer does to its row. `random` is uniform in `0.0..1.0`. `None` if the row is not in flight here.
    pub(super) fn answered(
        &mut self,
        route: &Route,
        row: RowId,
        answer: Answer,
        now: Millis,
        random: f64,
    ) -> Option<(RowId, Outcome)> {
        let lane = self.lanes.get_mut(route)?;
        let Flight { attempts, epoch, peer_back } = lane.in_flight.remove(&row)?;
        if epoch != lane.epoch {
            lane.stale = lane.stale.saturating_sub(1);
        }
        let outcome = match answer {
            Answer::Accepted { id, told } => Outcome::Done { broker_id: id, at: now, told },
            Answer::Lost => {
                lane.wanted = true;
                Outcome::Returned
            }
            Answer::Refused { code, text, retry_after_ms } => {
                let asked = Duration::from_millis(retry_after_ms.unwrap_or(0)).min(LONGEST_PAUSE);
                let backed_off = backoff::delay(RETRY_FROM, RETRY_TO, attempts.saturating_sub(1), random);
                match code.retry() {
                    Retry::Never => Outcome::Dead { error: text, at: now },
                    Retry::WhenPeerReturns if peer_back => later(lane, now, backed_off, text),
                    Retry::WhenPeerReturns => later(lane, now, AWAY_RETRY.mul_f64(0.8 + random / 5.0), text),
                    Retry::After(least) => {
                        let wait = match (&code, retry_after_ms) {
                            (Code::RateLimited, Some(_)) => least.max(asked),
                            // All sessions of a member share what the reference's broker grants: none may come always just
                            // before another.
                            (Code::RateLimited, None) => least.mul_f64(1.0 + random / 2.0),
                            _ => least.max(asked).max(backed_off),
                        };
                        let outcome = later(lane, now, wait, text);
                        // What follows on this link would meet the same refusal, unless this is about the one message: what
                        // goes to the same recipient waits behind it anyway.
                        if !matches!(code, Code::Other(_) | Code::Timeout | Code::KeyClosed | Code::KeyPending) {
                            // Until the last of those that were refused together is due: the broker counts from each.
                            lane.paused_until = lane.paused_until.max(outcome.due());
                        }
                        outcome
                    }
                }
            }
        };
        self.forget_idle(route);
        Some((row, outcome))
    }

    /// When [`State::next_claim`] should be asked again although nothing happened.
    pub(super) fn deadline(&self) -> Option<Millis> {
        self.lanes
            .values()
            .filter(|lane| lane.window.is_some())
            .filter_map(|lane| match lane.paused_until {
                Some(until) if lane.wanted => Some(until),
                Some(until) => lane.due.map(|due| due.max(until)),
                None => lane.due,
            })
            .min()
    }

    /// Rows in flight on all links.
    pub(super) fn in_flight(&self) -> HashSet<RowId> {
        self.lanes.values().flat_map(|lane| lane.in_flight.keys().cloned()).collect()
    }

    fn forget_idle(&mut self, route: &Route) {
        if self.lanes.get(route).is_some_and(|lane| lane.window.is_none() && lane.in_flight.is_empty()) {
            self.lanes.remove(route);
        }
    }
}

fn later(lane: &mut Lane, now: Millis, wait: Duration, error: String) -> Outcome {
    let at = now.saturating_add(Millis::try_from(wait.as_millis()).unwrap_or(Millis::MAX));
    lane.due = Some(lane.due.map_or(at, |due| due.min(at)));
    Outcome::Later { at, error }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::MessageId;
    use crate::store::outbox::Sender;

    fn route() -> Route {
        Route { mesh: Slug::new("home"), sender: Sender::Member }
    }

    fn rows(range: std::ops::Range<u32>) -> Vec<(RowId, u32)> {
        range.map(|n| (RowId::new(format!("{n}")), 1)).collect()
    }

    fn refused(code: Code, retry_after_ms: Option<u64>) -> Answer {
        Answer::Refused { text: code.to_string(), code, retry_after_ms }
    }

    fn accepted() -> Answer {
        Answer::Accepted { id: MessageId::new("M"), told: true }
    }

    #[test]
    fn a_link_that_is_down_is_not_fed_and_wakes_when_it_is_up() {
        let mut state = State::default();
        state.wake(&route());
        assert_eq!(state.next_claim(0), None);
        assert!(state.lanes.is_empty(), "what has no link costs nothing");
        state.link_up(route(), 256, Epoch(1));
        assert_eq!(state.next_claim(0), Some((route(), Epoch(1), CLAIM)));
        state.claimed(&route(), rows(0..64).into_iter(), true, None);
        assert_eq!(state.next_claim(0), Some((route(), Epoch(1), CLAIM)), "a full claim means there may be more");
        state.claimed(&route(), rows(64..65).into_iter(), false, None);
        assert_eq!(state.next_claim(0), None);
        state.wake(&route());
        assert_eq!(state.next_claim(0), None, "what comes meanwhile gathers");
        for (row, _) in rows(0..65) {
            state.answered(&route(), row, accepted(), 0, 0.0);
        }
        assert_eq!(state.next_claim(0), Some((route(), Epoch(1), CLAIM)));
        state.link_down(&route(), Epoch(1));
        assert_eq!(state.next_claim(0), None);
    }

    #[test]
    fn a_broker_that_does_not_keep_order_gets_one_at_a_time() {
        let mut state = State::default();
        state.link_up(route(), 1, Epoch(1));
        assert_eq!(state.next_claim(0), Some((route(), Epoch(1), 1)));
        state.claimed(&route(), rows(0..1).into_iter(), true, None);
        assert_eq!(state.next_claim(0), None);
        let answer = state.answered(&route(), RowId::new("0"), accepted(), 5, 0.0);
        assert_eq!(answer, Some((RowId::new("0"), Outcome::Done { broker_id: MessageId::new("M"), at: 5, told: true })));
        assert_eq!(state.next_claim(0), Some((route(), Epoch(1), 1)));
    }

    #[test]
    fn every_answer_lets_the_row_leave_in_flight() {
        for (answer, expected) in [
            (Answer::Lost, Outcome::Returned),
            (refused(Code::BlockedByGrants, None), Outcome::Dead { error: "blocked_by_grants".into(), at: 1000 }),
            (refused(Code::RateLimited, Some(3000)), Outcome::Later { error: "rate_limited".into(), at: 4000 }),
            (refused(Code::RateLimited, None), Outcome::Later { error: "rate_limited".into(), at: 2500 }),
            (refused(Code::Unavailable, None), Outcome::Later { error: "unavailable".into(), at: 1500 }),
            (refused(Code::NotConnected, None), Outcome::Later { error: "no_connected_peer".into(), at: 301_000 }),
        ] {
            let mut state = State::default();
            state.link_up(route(), 8, Epoch(1));
            state.claimed(&route(), rows(0..1).into_iter(), false, None);
            let outcome = state.answered(&route(), RowId::new("0"), answer, 1000, 1.0);
            assert_eq!(outcome, Some((RowId::new("0"), expected)));
            assert!(state.in_flight().is_empty());
            assert_eq!(state.answered(&route(), RowId::new("0"), Answer::Lost, 1000, 1.0), None, "answered once");
        }
    }

    #[test]
    fn an_answer_that_nobody_is_there_may_be_older_than_their_return() {
        let mut state = State::default();
        state.link_up(route(), 8, Epoch(1));
        state.claimed(&route(), rows(0..1).into_iter(), false, None);
        state.peer_back(&Slug::new("work"));
        state.peer_back(&route().mesh);
        let outcome = state.answered(&route(), RowId::new("0"), refused(Code::NotConnected, None), 1000, 1.0);
        assert_eq!(outcome, Some((RowId::new("0"), Outcome::Later { at: 1500, error: "no_connected_peer".into() })));
        state.claimed(&route(), rows(0..1).into_iter(), false, None);
        let outcome = state.answered(&route(), RowId::new("0"), refused(Code::NotConnected, None), 1500, 1.0);
        assert_eq!(outcome, Some((RowId::new("0"), Outcome::Later { at: 301_500, error: "no_connected_peer".into() })));
    }

    #[test]
    fn a_pause_holds_the_whole_link_and_ends() {
        let mut state = State::default();
        state.link_up(route(), 8, Epoch(1));
        state.claimed(&route(), rows(0..2).into_iter(), false, None);
        state.answered(&route(), RowId::new("0"), refused(Code::RateLimited, Some(2000)), 0, 0.0);
        state.wake(&route());
        assert_eq!(state.next_claim(1999), None);
        assert_eq!(state.deadline(), Some(2000));
        state.answered(&route(), RowId::new("1"), Answer::Lost, 1999, 0.0);
        assert_eq!(state.next_claim(2000), Some((route(), Epoch(1), 8)));
    }

    #[test]
    fn a_refusal_of_one_message_holds_up_no_others() {
        for code in [Code::Other("strange".into()), Code::Timeout] {
            let mut state = State::default();
            state.link_up(route(), 1, Epoch(1));
            state.claimed(&route(), rows(0..1).into_iter(), true, None);
            state.answered(&route(), RowId::new("0"), refused(code, None), 0, 0.0);
            state.wake(&route());
            assert_eq!(state.next_claim(1), Some((route(), Epoch(1), 1)));
        }
    }

    #[test]
    fn a_clock_that_was_set_back_ends_pauses_and_makes_everything_due() {
        let mut state = State::default();
        state.link_up(route(), 8, Epoch(1));
        state.claimed(&route(), std::iter::empty(), false, Some(3_600_000));
        state.claim_failed(&route(), 3_600_000);
        assert_eq!(state.next_claim(1000), None);
        assert_eq!(state.clock_set_back(), [route()]);
        assert_eq!(state.next_claim(1000), Some((route(), Epoch(1), 8)));
        assert_eq!(state.deadline(), None);
    }

    #[test]
    fn rows_that_are_not_due_are_asked_for_when_they_are() {
        let mut state = State::default();
        state.link_up(route(), 8, Epoch(1));
        assert!(state.next_claim(0).is_some());
        state.claimed(&route(), std::iter::empty(), false, Some(500));
        assert_eq!((state.next_claim(499), state.deadline()), (None, Some(500)));
        assert_eq!(state.next_claim(500), Some((route(), Epoch(1), 8)));
    }

    #[test]
    fn lost_rows_are_claimed_again_when_the_link_returns() {
        let mut state = State::default();
        state.link_up(route(), 8, Epoch(1));
        state.claimed(&route(), rows(0..1).into_iter(), false, None);
        state.link_down(&route(), Epoch(1));
        assert!(matches!(state.answered(&route(), RowId::new("0"), Answer::Lost, 0, 0.0), Some((_, Outcome::Returned))));
        assert_eq!(state.next_claim(0), None);
        state.link_up(route(), 8, Epoch(2));
        assert_eq!(state.next_claim(0), Some((route(), Epoch(2), 8)));
    }

    #[test]
    fn a_claim_that_brings_what_is_on_its_way_already_brings_more_later() {
        let mut state = State::default();
        state.link_up(route(), 8, Epoch(1));
        state.claimed(&route(), rows(0..2).into_iter(), true, None);
        assert!(state.flies(&route(), &RowId::new("0")) && !state.flies(&route(), &RowId::new("2")));
        // Their leases were over: it brought these alone, as many as it might.
        state.claimed(&route(), std::iter::empty(), true, None);
        for (row, _) in rows(0..2) {
            assert!(state.answered(&route(), row, accepted(), 0, 0.0).is_some());
        }
        assert_eq!(state.next_claim(0), Some((route(), Epoch(1), 8)));
    }

    #[test]
    fn nothing_overtakes_rows_of_an_earlier_connection() {
        let mut state = State::default();
        state.link_up(route(), 8, Epoch(1));
        state.claimed(&route(), rows(0..2).into_iter(), false, None);
        state.link_up(route(), 8, Epoch(2));
        state.link_down(&route(), Epoch(1));
        state.wake(&route());
        assert_eq!(state.next_claim(0), None);
        state.answered(&route(), RowId::new("0"), Answer::Lost, 0, 0.0);
        assert_eq!(state.next_claim(0), None);
        state.answered(&route(), RowId::new("1"), Answer::Lost, 0, 0.0);
        assert_eq!(state.next_claim(0), Some((route(), Epoch(2), 8)));
    }
}
