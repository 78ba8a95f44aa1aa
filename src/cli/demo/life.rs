//! What a message went through, and how that is shown.

use serde::Serialize;

use crate::base::time::{Millis, iso};
use crate::cli::error::CliError;
use crate::cli::render::{Line, Out, Style};

/// One message of the demo. Times are those of the records named beside them.
#[derive(Debug, Clone)]
pub(super) struct Life {
    pub(super) from: &'static str,
    pub(super) to: &'static str,
    pub(super) text: String,
    pub(super) client_id: String,
    /// The recipient was away when it was sent.
    pub(super) away: bool,
    /// Committed to the daemon's outbox.
    pub(super) queued: Option<Millis>,
    /// Acknowledged by the broker, which has it on disk.
    pub(super) relayed: Option<Millis>,
    /// Committed to the recipient's inbox.
    pub(super) arrived: Option<Millis>,
    /// Each time that a session's process printed it: who, and when.
    pub(super) shown: Vec<(&'static str, Millis)>,
    /// What was printed is what was sent.
    pub(super) intact: bool,
}

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    ReadOnce,
    NotRead,
    ReadTwice,
    ReadByAnother,
    Altered,
    /// Read, although no record says that it was queued, relayed and received.
    Unrecorded,
}

impl Verdict {
    pub(super) fn sentence(self) -> &'static str {
        match self {
            Verdict::ReadOnce => "read by the right session, once",
            Verdict::NotRead => "was not read",
            Verdict::ReadTwice => "was read more than once",
            Verdict::ReadByAnother => "was read by a session that it was not for",
            Verdict::Altered => "did not arrive as it was sent",
            Verdict::Unrecorded => "was read, and a record of its way is missing",
        }
    }
}

impl Life {
    pub(super) fn while_away(mut self) -> Life {
        self.away = true;
        self
    }

    pub(super) fn title(&self) -> String {
        format!("{} → {}{}", self.from, self.to, if self.away { " (away)" } else { "" })
    }

    pub(super) fn verdict(&self) -> Verdict {
        match self.shown.as_slice() {
            [] => Verdict::NotRead,
            shown if shown.iter().any(|(who, _)| *who != self.to) => Verdict::ReadByAnother,
            [_] if !self.intact => Verdict::Altered,
            [_] if [self.queued, self.relayed, self.arrived].contains(&None) => Verdict::Unrecorded,
            [_] => Verdict::ReadOnce,
            _ => Verdict::ReadTwice,
        }
    }

    /// Milliseconds from the queue to each later state.
    fn since_queued(&self, at: Option<Millis>) -> String {
        match (self.queued, at) {
            (Some(queued), Some(at)) => format!("+{} ms", at - queued),
            _ => "never".to_owned(),
        }
    }

    fn offered(&self) -> Option<Millis> {
        self.shown.first().map(|(_, at)| *at)
    }
}

const WIDTHS: [usize; 4] = [10, 10, 10, 10];

/// A row for each message.
pub(super) fn table(lives: &[Life], out: &mut Out) -> Result<(), CliError> {
    let width = lives.iter().map(|life| life.title().chars().count()).max().unwrap_or(0) + 2;
    let cells = |cells: [&str; 4]| cells.iter().zip(WIDTHS).map(|(cell, width)| format!("{cell:>width$}")).collect::<String>();
    out.blank()?;
    let head = format!("{:width$}{}", "message", cells(["queued", "relayed", "arrived", "offered"]));
    out.line(&Line::new().and(Style::Dim, head))?;
    for life in lives {
        let times = [
            if life.queued.is_some() { "0 ms".to_owned() } else { "never".to_owned() },
            life.since_queued(life.relayed),
            life.since_queued(life.arrived),
            life.since_queued(life.offered()),
        ];
        let row = cells([&times[0], &times[1], &times[2], &times[3]]);
        out.line(&Line::new().and(Style::Bold, format!("{:width$}", life.title())).and(Style::Plain, row))?;
        out.line(&Line::new().and(Style::Dim, format!("  “{}”", life.text)))?;
    }
    out.blank()?;
    for (state, meaning) in [
        ("queued", "on the sender's disk"),
        ("relayed", "on the broker's disk, sealed"),
        ("arrived", "opened, and on the recipient's disk"),
        ("offered", "put in front of the session"),
    ] {
        out.line(&Line::new().and(Style::Dim, format!("{state:9}{meaning}")))?;
    }
    Ok(())
}

/// The same for programs.
#[derive(Serialize)]
pub(super) struct Report {
    ok: bool,
    messages: Vec<Told>,
}

#[derive(Serialize)]
struct Told {
    from: &'static str,
    to: &'static str,
    client_message_id: String,
    away: bool,
    queued_at: Option<String>,
    relayed_at: Option<String>,
    arrived_at: Option<String>,
    offered_at: Option<String>,
    times_read: usize,
    verdict: &'static str,
}

impl Report {
    pub(super) fn new(ok: bool, lives: &[Life]) -> Report {
        let told = |life: &Life| Told {
            from: life.from,
            to: life.to,
            client_message_id: life.client_id.clone(),
            away: life.away,
            queued_at: life.queued.map(iso),
            relayed_at: life.relayed.map(iso),
            arrived_at: life.arrived.map(iso),
            offered_at: life.offered().map(iso),
            times_read: life.shown.len(),
            verdict: life.verdict().sentence(),
        };
        Report { ok, messages: lives.iter().map(told).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_reading_by_the_right_session_is_good() {
        let whole = Life {
            from: "alice",
            to: "bob",
            text: "hi".into(),
            client_id: "c".into(),
            away: false,
            queued: Some(1),
            relayed: Some(2),
            arrived: Some(3),
            shown: vec![("bob", 4)],
            intact: true,
        };
        let check = |change: fn(&mut Life), expected| {
            let mut life = whole.clone();
            change(&mut life);
            assert_eq!(life.verdict(), expected, "{life:?}");
        };
        check(|_| {}, Verdict::ReadOnce);
        check(|life| life.shown.clear(), Verdict::NotRead);
        check(|life| life.shown.push(("bob", 5)), Verdict::ReadTwice);
        check(|life| life.shown.push(("alice", 5)), Verdict::ReadByAnother);
        check(|life| life.shown[0].0 = "alice", Verdict::ReadByAnother);
        check(|life| life.intact = false, Verdict::Altered);
        check(|life| life.relayed = None, Verdict::Unrecorded);
        assert_eq!(whole.since_queued(whole.offered()), "+3 ms");
    }
}
