//! What the broker counts: for `/metrics`, in the text format of Prometheus, and for the status page. Names are the
//! reference's where they mean the same. Labels come from closed lists, so that nothing from outside makes a series, and none
//! names a person.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::wire::priority::Priority;

use super::presence::Kind;

/// Why a hello or a message was refused, as the codes say it; anything else counts as `other`.
const REASONS: [&str; 23] = [
    "attestation_mismatch",
    "bad_parent_pubkey",
    "bad_session_pubkey",
    "bad_signature",
    "blocked_by_grants",
    "capacity",
    "expired",
    "forbidden",
    "idempotency_conflict",
    "invalid",
    "kicked",
    "malformed",
    "parent_member_id_mismatch",
    "payload_too_large",
    "rate_limit",
    "replayed",
    "revoked",
    "target_not_found",
    "timestamp_skew",
    "topic_not_found",
    "ttl_too_long",
    "unauthorized",
    "unavailable",
];

/// Upper ends of the histogram's buckets.
const STORE_MILLIS: [u64; 9] = [1, 2, 5, 10, 25, 50, 100, 500, 2500];

/// A number that only grows.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add(&self, by: usize) {
        self.0.fetch_add(by as u64, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that goes up and down.
#[derive(Debug, Default)]
pub(super) struct Gauge(AtomicU64);

impl Gauge {
    pub(super) fn up(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn down(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Counts by reason.
#[derive(Debug, Default)]
pub(super) struct Reasons {
    known: [Counter; REASONS.len()],
    other: Counter,
}

impl Reasons {
    pub(super) fn add(&self, reason: &str) {
        let at = REASONS.iter().position(|known| *known == reason);
        at.and_then(|at| self.known.get(at)).unwrap_or(&self.other).add(1);
    }

    pub(super) fn total(&self) -> u64 {
        self.known.iter().chain([&self.other]).map(Counter::get).sum()
    }

    fn each(&self) -> impl Iterator<Item = (&'static str, u64)> {
        REASONS.iter().copied().chain(["other"]).zip(self.known.iter().chain([&self.other]).map(Counter::get))
    }
}

/// How long something took.
#[derive(Debug, Default)]
pub(super) struct Times {
    buckets: [Counter; STORE_MILLIS.len()],
    count: Counter,
    micros: AtomicU64,
}

impl Times {
    pub(super) fn add(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        if let Some(at) = STORE_MILLIS.iter().position(|end| micros <= end * 1000) {
            self.buckets[at].add(1);
        }
        self.count.add(1);
        self.micros.fetch_add(micros, Ordering::Relaxed);
    }
}

/// What became of a script's request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    Served,
    /// The key is missing, wrong or not for this.
    Denied,
    Limited,
    /// There is something wrong with the request.
    Refused,
    Failed,
}

impl Asked {
    const ALL: [(Asked, &str); 5] = [
        (Asked::Served, "served"),
        (Asked::Denied, "denied"),
        (Asked::Limited, "limited"),
        (Asked::Refused, "refused"),
        (Asked::Failed, "failed"),
    ];

    pub(super) fn of(status: u16) -> Asked {
        match status {
            200..=299 => Asked::Served,
            401 | 403 => Asked::Denied,
            429 => Asked::Limited,
            500.. => Asked::Failed,
            _ => Asked::Refused,
        }
    }
}

/// Everything that is counted.
#[derive(Debug, Default)]
pub(super) struct Metrics {
    /// Connections of any kind, those that never said hello included.
    pub(super) sockets: Counter,
    pub(super) hellos: Counter,
    pub(super) hellos_refused: Reasons,
    /// Connections that ended without a hello in time.
    pub(super) no_hello: Counter,
    /// Connections turned away because of how many there were.
    pub(super) crowded: Counter,
    pub(super) members: Gauge,
    pub(super) sessions: Gauge,
    pub(super) passing: Gauge,
    /// By priority: now, next, low.
    routed: [Counter; 3],
    pub(super) rejected: Reasons,
    pub(super) deliveries: Counter,
    pub(super) acks: Counter,
    pub(super) bytes_in: Counter,
    pub(super) bytes_delivered: Counter,
    /// From a burst of messages to their being on the disk.
    pub(super) stored: Times,
    pub(super) store_errors: Counter,
    /// Requests of scripts, by [`Asked`].
    asked: [Counter; Asked::ALL.len()],
}

/// What is known only at the moment of asking.
#[derive(Debug, Clone, Copy)]
pub(super) struct Now {
    pub(super) connections: usize,
    pub(super) uptime: Duration,
    /// Nothing if the database did not answer.
    pub(super) totals: Option<crate::store::hub::Totals>,
}

impl Metrics {
    pub(super) fn of(&self, kind: Kind) -> &Gauge {
        match kind {
            Kind::Member => &self.members,
            Kind::Session(_) => &self.sessions,
            Kind::Passing(_) => &self.passing,
        }
    }

    pub(super) fn routed(&self, priority: Priority) {
        let at = Priority::ALL.iter().position(|known| *known == priority).unwrap_or(1);
        self.routed[at].add(1);
    }

    pub(super) fn asked(&self, what: Asked) {
        self.asked[what as usize].add(1);
    }

    pub(super) fn messages(&self) -> u64 {
        self.routed.iter().map(Counter::get).sum()
    }

    /// All of it as `/metrics` shows it.
    pub(super) fn text(&self, now: &Now) -> String {
        let mut page = Page(String::with_capacity(6 * 1024));
        let totals = now.totals.unwrap_or_default();
        page.one("broker_connections_total", "counter", "Hellos that were accepted.", self.hellos.get());
        page.labelled(
            "broker_connections_rejected_total",
            "counter",
            "Hellos that were refused, and connections that were turned away.",
            "reason",
            self.hellos_refused.each().chain([("no_hello", self.no_hello.get()), ("too_many_connections", self.crowded.get())]),
        );
        let kinds = [("member", &self.members), ("session", &self.sessions), ("passing", &self.passing)];
        let active = kinds.map(|(kind, gauge)| (kind, gauge.get()));
        let sum = active.iter().map(|(_, count)| count).sum();
        page.one("broker_connections_active", "gauge", "Connections that have said hello.", sum);
        page.labelled("broker_connections", "gauge", "The same, by what they are to a mesh.", "kind", active);
        page.one("broker_sockets", "gauge", "Connections open now, whatever they are for.", now.connections as u64);
        page.one("broker_sockets_total", "counter", "Connections that were taken.", self.sockets.get());
        page.labelled(
            "broker_messages_routed_total",
            "counter",
            "Messages accepted and stored.",
            "priority",
            Priority::ALL.iter().zip(&self.routed).map(|(priority, count)| (priority.as_str(), count.get())),
        );
        page.labelled("broker_messages_rejected_total", "counter", "Messages refused.", "reason", self.rejected.each());
        let asked = Asked::ALL.iter().zip(&self.asked).map(|((_, word), count)| (*word, count.get()));
        page.labelled("broker_api_requests_total", "counter", "Requests of scripts with a key.", "result", asked);
        page.one("broker_deliveries_total", "counter", "Messages pushed to recipients.", self.deliveries.get());
        page.one("broker_acks_total", "counter", "Deliveries that recipients acknowledged.", self.acks.get());
        page.one("broker_received_bytes_total", "counter", "Bytes of frames received.", self.bytes_in.get());
        page.one("broker_delivered_bytes_total", "counter", "Bytes of messages pushed.", self.bytes_delivered.get());
        page.one("broker_queue_depth", "gauge", "Copies of messages that wait for their recipients.", totals.queued as u64);
        page.one("broker_queue_bytes", "gauge", "Their bytes.", totals.queued_bytes);
        page.one("broker_meshes", "gauge", "Meshes.", totals.meshes as u64);
        page.one("broker_db_healthy", "gauge", "1 if the database answers.", u64::from(now.totals.is_some()));
        page.one("broker_db_errors_total", "counter", "Bursts of messages that could not be stored.", self.store_errors.get());
        page.one("broker_uptime_seconds", "gauge", "Since the start.", now.uptime.as_secs());
        page.times("broker_store_seconds", "From a burst of messages to their being on the disk.", &self.stored);
        page.0
    }
}

/// A page that grows.
struct Page(String);

impl Page {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a string can not fail.
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    fn one(&mut self, name: &str, kind: &str, help: &str, value: u64) {
        self.head(name, kind, help);
        let _ = writeln!(self.0, "{name} {value}");
    }

    fn labelled(
        &mut self,
        name: &str,
        kind: &str,
        help: &str,
        label: &str,
        values: impl IntoIterator<Item = (&'static str, u64)>,
    ) {
        self.head(name, kind, help);
        for (word, value) in values {
            let _ = writeln!(self.0, "{name}{{{label}=\"{word}\"}} {value}");
        }
    }

    fn times(&mut self, name: &str, help: &str, times: &Times) {
        self.head(name, "histogram", help);
        let mut below = 0;
        for (end, bucket) in STORE_MILLIS.iter().zip(&times.buckets) {
            below += bucket.get();
            let _ = writeln!(self.0, "{name}_bucket{{le=\"{}\"}} {below}", Duration::from_millis(*end).as_secs_f64());
        }
        let count = times.count.get();
        let sum = Duration::from_micros(times.micros.load(Ordering::Relaxed)).as_secs_f64();
        let _ = writeln!(self.0, "{name}_bucket{{le=\"+Inf\"}} {count}\n{name}_sum {sum}\n{name}_count {count}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_a_comment_or_a_sample_that_was_announced() {
        let metrics = Metrics::default();
        metrics.routed(Priority::Low);
        metrics.rejected.add("rate_limit");
        metrics.asked(Asked::of(403));
        metrics.rejected.add("alice's own words");
        metrics.stored.add(Duration::from_millis(3));
        metrics.stored.add(Duration::from_secs(60));
        let text = metrics.text(&Now { connections: 3, uptime: Duration::from_secs(7), totals: None });
        let mut announced = "";
        for line in text.lines() {
            match line.strip_prefix("# ") {
                Some(comment) => announced = comment.split(' ').nth(1).unwrap(),
                None => {
                    let (name, value) = line.rsplit_once(' ').unwrap();
                    assert!(name.starts_with(announced) && value.parse::<f64>().is_ok(), "{line}");
                }
            }
        }
        for sample in [
            "broker_messages_routed_total{priority=\"low\"} 1\n",
            "broker_messages_rejected_total{reason=\"rate_limit\"} 1\n",
            "broker_messages_rejected_total{reason=\"other\"} 1\n",
            "broker_api_requests_total{result=\"denied\"} 1\n",
            "broker_store_seconds_bucket{le=\"0.002\"} 0\n",
            "broker_store_seconds_bucket{le=\"0.005\"} 1\n",
            "broker_store_seconds_bucket{le=\"2.5\"} 1\n",
            "broker_store_seconds_count 2\n",
            "broker_db_healthy 0\n",
            "broker_sockets 3\n",
        ] {
            assert!(text.contains(sample), "{sample}");
        }
    }
}
