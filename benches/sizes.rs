//! Memory.

use std::process::{Command, Stdio};

use crate::commands::megabytes;
use crate::support::home::Home;
use crate::support::mesh::World;
use crate::support::servers::Daemon;
use crate::support::session::Session;
use crate::table::{Measured, Scale};

/// A line of `/proc/<pid>/status` in KiB; `None` once the process has ended.
fn status(pid: u32, key: &str) -> Option<u64> {
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
