//! When a link speaks of receipts: mail goes first, many go together, and one frame at a time is on its way.

use std::time::{Duration, Instant};

use crate::base::time::Millis;
use crate::store::Seq;
use crate::wire::receipt::Stage;

/// How long receipts gather before they are told: one frame then stands for many, and a message that is put before a model
/// at once is spoken of once.
const GATHER: Duration = Duration::from_millis(20);

/// How long they wait at most while mail keeps coming.
const PATIENCE: Duration = Duration::from_millis(500);

/// How long after a refusal, or an error of the database, they are tried again.
pub(super) const AGAIN: Duration = Duration::from_secs(5);

/// What was told, as it was noted.
pub(super) type Told = Vec<(Seq, Stage, Millis)>;

/// One conversation's part of it.
#[derive(Debug, Default)]
pub(super) struct Outlet {
    /// The broker passes receipts on.
    on: bool,
    /// Something may be there to be told since then.
    since: Option<Instant>,
    /// Not before then.
    from: Option<Instant>,
    on_its_way: Option<(u64, Told)>,
}

impl Outlet {
    /// The broker passes receipts on; what was noted before may wait.
    pub(super) fn open(&mut self, now: Instant) {
        self.on = true;
        self.more(now);
    }

    pub(super) fn is_on(&self) -> bool {
        self.on
    }

    /// Something was noted.
    pub(super) fn more(&mut self, now: Instant) {
        if self.on {
            let since = *self.since.get_or_insert(now);
            self.from = Some(self.from.unwrap_or(now + GATHER).max(now + GATHER).min((since + PATIENCE).max(now)));
        }
    }

    /// There may be more.
    pub(super) fn at_once(&mut self, now: Instant) {
        self.since.get_or_insert(now);
        self.from = Some(now);
    }

    /// What there is could not be looked at, or was refused.
    pub(super) fn later(&mut self, now: Instant) {
        self.since.get_or_insert(now);
        self.from = Some(now + AGAIN);
    }

    /// When [`Outlet::begin`] wants to be called.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.from.filter(|_| self.on_its_way.is_none())
    }

    /// Whether it is time to look at what there is to tell.
    pub(super) fn begin(&mut self, now: Instant) -> bool {
        let due = self.deadline().is_some_and(|at| at <= now);
        if due {
            (self.since, self.from) = (None, None);
        }
        due
    }

    /// These went out, under this ticket.
    pub(super) fn sent(&mut self, ticket: u64, told: Told) {
        self.on_its_way = Some((ticket, told));
    }

    /// What was told under this ticket, if it was; there may be more.
    pub(super) fn answered(&mut self, ticket: u64, kept: bool, now: Instant) -> Option<Told> {
        let (_, told) = self.on_its_way.take_if(|(of, _)| *of == ticket)?;
        if kept {
            self.at_once(now)
        } else {
            self.later(now)
        }
        kept.then_some(told)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told() -> Told {
        vec![(Seq(1), Stage::Arrived, 5)]
    }

    #[test]
    fn nothing_is_said_to_a_broker_that_does_not_pass_it_on() {
        let mut outlet = Outlet::default();
        let now = Instant::now();
        outlet.more(now);
        assert!(outlet.deadline().is_none() && !outlet.begin(now + PATIENCE));
    }

    #[test]
    fn they_gather_wait_for_mail_and_not_for_ever() {
        let mut outlet = Outlet::default();
        let start = Instant::now();
        outlet.open(start);
        assert_eq!(outlet.deadline(), Some(start + GATHER));
        assert!(!outlet.begin(start + GATHER / 2));
        let mut now = start;
        while now < start + PATIENCE - GATHER {
            now += GATHER / 2;
            outlet.more(now);
            assert!(!outlet.begin(now), "mail keeps coming");
        }
        assert_eq!(outlet.deadline(), Some(start + PATIENCE));
        assert!(outlet.begin(start + PATIENCE));
        assert_eq!(outlet.deadline(), None);
    }

    #[test]
    fn one_frame_at_a_time_and_again_after_a_refusal() {
        let mut outlet = Outlet::default();
        let start = Instant::now();
        outlet.open(start);
        assert!(outlet.begin(start + GATHER));
        outlet.sent(7, told());
        outlet.more(start + GATHER);
        assert_eq!(outlet.deadline(), None, "one is on its way");
        assert_eq!(outlet.answered(6, true, start), None);
        assert_eq!(outlet.answered(7, true, start + GATHER), Some(told()));
        assert!(outlet.begin(start + GATHER), "there may be more");
        outlet.sent(8, told());
        assert_eq!(outlet.answered(8, false, start), None);
        assert_eq!(outlet.deadline(), Some(start + AGAIN));
        assert!(outlet.begin(start + AGAIN));
        outlet.later(start);
        assert_eq!(outlet.deadline(), Some(start + AGAIN));
        outlet.at_once(start);
        assert!(outlet.begin(start));
    }
}
