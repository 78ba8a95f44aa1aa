//! What a person or a program sees of a running broker: `/health`, `/health/ready`, `/metrics`, and a page at `/`. Numbers
//! only: no names, no keys, no meshes by name.

use std::net::IpAddr;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::answer::{Answer, Ask};
use super::page;
use crate::broker::Shared;
use crate::broker::metrics::Now;
use crate::wire::json::json;

/// Rates are of a stretch at least this long.
const STRETCH: Duration = Duration::from_secs(10);

/// Two moments of the past, for rates. Guards only itself.
#[derive(Debug, Default)]
pub(in crate::broker) struct Past(Mutex<[Option<Sample>; 2]>);

#[derive(Debug, Clone, Copy)]
struct Sample {
    at: Instant,
    messages: u64,
    deliveries: u64,
}

impl Past {
    /// Messages and deliveries a second, since the older moment.
    fn rates(&self, now: Sample, started: Instant) -> (f64, f64) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept[1].is_none_or(|last| STRETCH <= now.at.saturating_duration_since(last.at)) {
            kept.swap(0, 1);
            kept[1] = Some(now);
        }
        let since = kept[0].unwrap_or(Sample { at: started, messages: 0, deliveries: 0 });
        drop(kept);
        let seconds = now.at.saturating_duration_since(since.at).as_secs_f64().max(0.001);
        let rate = |now: u64, then: u64| precise(now.saturating_sub(then)) / seconds;
        (rate(now.messages, since.messages), rate(now.deliveries, since.deliveries))
    }
}

fn precise(count: u64) -> f64 {
    u32::try_from(count).map_or(f64::from(u32::MAX), f64::from)
}

/// Everybody may see the numbers, if that was wanted; else whoever asks from this machine, for this machine, and not on
/// somebody else's behalf.
fn may_look(shared: &Shared, ask: &Ask<'_>) -> Result<(), Answer> {
    let here = || ask.is_local() && ask.head.header("host").is_none_or(is_loopback_name);
    if shared.public_status || here() { Ok(()) } else { Err(Answer::not_found()) }
}

/// A page on the web can make its visitor's browser ask for `http://its.own.name:7900/`, and have that name lead here.
fn is_loopback_name(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(literal) => literal.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// What the database answered when it was last asked. Guards only itself.
#[derive(Debug, Default)]
pub(in crate::broker) struct Pulse(Mutex<Option<(Instant, Option<usize>)>>);

/// How old that may be: whoever asks for the broker's health is asked for nothing, so it may cost next to nothing.
const FRESH: Duration = Duration::from_secs(1);

impl Pulse {
    /// What is known, if it is fresh.
    fn known(&self, now: Instant) -> Option<Option<usize>> {
        let known = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.filter(|(at, _)| now.saturating_duration_since(*at) < FRESH).map(|(_, depth)| depth)
    }

    fn note(&self, depth: Option<usize>, now: Instant) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((now, depth));
    }
}

/// How much waits; nothing if the database does not answer.
fn depth(shared: &Shared) -> Option<usize> {
    if let Some(known) = shared.pulse.known(Instant::now()) {
        return known;
    }
    let depth = shared.hub.depth().ok();
    shared.pulse.note(depth, Instant::now());
    depth
}

pub(super) fn health(shared: &Shared) -> Answer {
    let depth = depth(shared);
    let body = json!({
        "status": if depth.is_some() { "ok" } else { "degraded" },
        "db": if depth.is_some() { "up" } else { "down" },
        "version": env!("CARGO_PKG_VERSION"),
        "gitSha": option_env!("CLAUDEMESH_GIT_SHA").unwrap_or("unknown"),
        "uptime": shared.started.elapsed().as_secs(),
        "connections": shared.connections.get(),
        "queued": depth,
    });
    Answer::json(if depth.is_some() { 200 } else { 503 }, &body)
}

pub(super) fn ready(shared: &Shared) -> Answer {
    let reason = match () {
        () if shared.stopping.load(Ordering::Acquire) => Some("stopping"),
        () if depth(shared).is_none() => Some("db_down"),
        () => None,
    };
    let mut body = json!({
        "status": if reason.is_none() { "ready" } else { "not_ready" },
        "version": env!("CARGO_PKG_VERSION"),
        "gitSha": option_env!("CLAUDEMESH_GIT_SHA").unwrap_or("unknown"),
        "uptime": shared.started.elapsed().as_secs(),
    });
    if let Some(reason) = reason {
        body["reason"] = reason.into();
    }
    Answer::json(if reason.is_none() { 200 } else { 503 }, &body)
}

/// `GET /metrics`.
pub(super) fn metrics(shared: &Shared, ask: &Ask<'_>) -> Result<Answer, Answer> {
    may_look(shared, ask)?;
    Ok(Answer::metrics(shared.metrics.text(&now(shared))))
}

fn now(shared: &Shared) -> Now {
    Now { connections: shared.connections.get(), uptime: shared.started.elapsed(), totals: shared.hub.totals().ok() }
}

/// `GET /`.
pub(super) fn page(shared: &Shared, ask: &Ask<'_>) -> Result<Answer, Answer> {
    may_look(shared, ask)?;
    let (now, metrics) = (now(shared), &shared.metrics);
    let sample = Sample { at: Instant::now(), messages: metrics.messages(), deliveries: metrics.deliveries.get() };
    let (sent, delivered) = shared.past.rates(sample, shared.started);
    let totals = now.totals.unwrap_or_default();
    let rows = [
        ("State", if now.totals.is_some() { "serving" } else { "the database does not answer" }.to_owned()),
        ("Up for", span(now.uptime)),
        ("Connections", now.connections.to_string()),
        ("Sessions", metrics.sessions.get().to_string()),
        ("Members' daemons", metrics.members.get().to_string()),
        ("Meshes", totals.meshes.to_string()),
        ("Messages a second", format!("{sent:.1}")),
        ("Deliveries a second", format!("{delivered:.1}")),
        ("Messages since the start", metrics.messages().to_string()),
        ("Refused since the start", (metrics.rejected.total() + metrics.hellos_refused.total()).to_string()),
        ("Waiting for their recipients", format!("{} ({} KiB)", totals.queued, totals.queued_bytes / 1024)),
        ("Version", env!("CARGO_PKG_VERSION").to_owned()),
    ];
    Ok(Answer::html(200, page::status(&rows)))
}

/// `3 d 4 h`, `4 h 5 min`, `5 min 6 s`.
fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    match (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60) {
        (0, 0, minutes, seconds) => format!("{minutes} min {seconds} s"),
        (0, hours, minutes, _) => format!("{hours} h {minutes} min"),
        (days, hours, _, _) => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_database_is_asked_for_its_health_once_a_second() {
        let (pulse, start) = (Pulse::default(), Instant::now());
        assert_eq!(pulse.known(start), None);
        for answer in [Some(7), None] {
            pulse.note(answer, start);
            assert_eq!(pulse.known(start + FRESH - Duration::from_millis(1)), Some(answer));
            assert_eq!(pulse.known(start + FRESH), None);
        }
    }

    #[test]
    fn names_of_this_machine_and_others() {
        for host in ["localhost", "LOCALHOST:7900", "127.0.0.1", "127.0.0.9:7900", "[::1]:7900", "[::1]"] {
            assert!(is_loopback_name(host), "{host}");
        }
        for host in ["", "evil.example:7900", "10.0.0.1", "localhost.evil.example", "[::2]:1", "127.0.0.1.evil.example"] {
            assert!(!is_loopback_name(host), "{host}");
        }
    }

    #[test]
    fn rates_are_of_a_stretch_and_not_of_a_moment() {
        let (past, start) = (Past::default(), Instant::now());
        let sample =
            |seconds: u64, messages| Sample { at: start + Duration::from_secs(seconds), messages, deliveries: 2 * messages };
        assert_eq!(past.rates(sample(10, 100), start), (10.0, 20.0));
        assert_eq!(past.rates(sample(20, 100), start), (0.0, 0.0));
        assert_eq!(past.rates(sample(25, 250), start), (10.0, 20.0));
        assert_eq!((span(Duration::from_secs(65)), span(Duration::from_secs(90_000))), ("1 min 5 s".into(), "1 d 1 h".into()));
    }
}
