//! Memory.

use std::process::{Command, Stdio};
use std::time::Duration;

use crate::commands::megabytes;
use crate::support::home::Home;
use crate::support::mesh::World;
use crate::support::servers::Daemon;
use crate::support::session::Session;
use crate::table::{Measured, Scale};

/// A line of `/proc/<pid>/status` in KiB; `None` once the process has ended.
pub(crate) fn status(pid: u32, key: &str) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.trim_start_matches(':').trim().split(' ').next()?.parse().ok()
}

/// The peak of a short process in KiB. The kernel forgets it at the exit, so it is read over and over while the process
/// runs; what is missed is its last few microseconds.
pub(crate) fn peak_of(mut command: Command) -> u64 {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let mut peak = 0;
    while let Some(now) = status(child.id(), "VmHWM") {
        peak = peak.max(now);
    }
    child.wait().unwrap();
    peak
}

pub(crate) fn daemon_memory(scale: Scale) -> Vec<Measured> {
    let home = Home::new();
    let alone = Daemon::start(home.path());
    alone.assert_healthy();
    let carrying = status(alone.pid(), "VmRSS").unwrap();

    let world = World::pair();
    world.alice.assert_healthy();
    let idle = status(world.alice.pid(), "VmRSS").unwrap();
    let count = scale.rounds(200);
    let open = |n: usize| {
        let session = Session::prepare(&world.alice, "acme", &format!("s{n}"));
        session.register(std::process::id());
        session
    };
    // The first ones pay for what all share.
    let first: Vec<Session> = (0..5).map(open).collect();
    first.iter().for_each(Session::await_link);
    let before = status(world.alice.pid(), "VmRSS").unwrap();
    let sessions: Vec<Session> = (5..5 + count).map(open).collect();
    sessions.iter().for_each(Session::await_link);
    let after = status(world.alice.pid(), "VmRSS").unwrap();
    vec![
        Measured::at_most("daemon, idle, one mesh, no session: memory", "MB", megabytes(idle), 8.0),
        Measured::at_most("the same, with its own broker inside", "MB", megabytes(carrying), 8.0),
        Measured::at_most("each further session", "KB", after.saturating_sub(before) / count as u64, 64),
    ]
}

/// Processor time that a process has used, in clock ticks: fields 14 and 15 of proc_pid_stat(5).
fn ticks(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let after = text.rsplit(')').next().unwrap();
    after.split_ascii_whitespace().skip(11).take(2).map(|field| field.parse::<u64>().unwrap()).sum()
}

/// Ticks in a second, as Linux has them for programs.
const TICKS: f64 = 100.0;

pub(crate) fn idle(scale: Scale) -> Vec<Measured> {
    let world = World::pair();
    let sessions: Vec<Session> = (0..200)
        .map(|n| Session::prepare(&world.alice, "acme", &format!("s{n}")))
        .inspect(|s| s.register(std::process::id()))
        .collect();
    sessions.iter().for_each(Session::await_link);
    let pid = world.alice.pid();
    // A minute has two pings on each link in it.
    let span = Duration::from_secs(if matches!(scale, Scale::Full) { 60 } else { 20 });
    let before = ticks(pid);
    let (_still, quiet) = std::sync::mpsc::channel::<()>();
    // Nothing is ever sent here: this is what idle means.
    assert!(quiet.recv_timeout(span).is_err());
    let used = (ticks(pid) - before) as f64 / TICKS;
    let share = (used / span.as_secs_f64() * 10_000.0).round() / 100.0;
    vec![Measured::at_most("daemon, idle, 200 sessions: processor", "%", share, 0.1)]
}
