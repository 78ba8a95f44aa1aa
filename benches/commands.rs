//! Whole processes: the command line against a warm daemon, and the daemon's own start.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::sizes::peak_of;
use crate::support::home::Home;
use crate::support::servers::Daemon;
use crate::support::session::Session;
use crate::table::{Measured, Scale};

const MS: Duration = Duration::from_millis(1);

/// From spawn to reaped, its output thrown away.
fn wall(mut command: Command) -> Duration {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let start = Instant::now();
    let status = command.status().unwrap();
    let time = start.elapsed();
    if !status.success() {
        eprintln!("{command:?} ended with {status}: the figure below is of a failure");
    }
    time
}

pub(crate) fn verbs(scale: Scale) -> Vec<Measured> {
    let home = Home::new();
    let daemon = Daemon::start(home.path());
    let alice = Session::open(&daemon, "home", "alice");
    let _bob = Session::open(&daemon, "home", "bob");
    let run = |args: &[&str]| {
        let mut command = home.command(args);
        command.env("CLAUDEMESH_IPC_TOKEN", &alice.token);
        command
    };
    let verbs: [&[&str]; 3] = [&["peer", "list", "--json"], &["send", "bob", "hello"], &["inbox"]];
    let mut measured = Vec::new();
    let mut peak = 0;
    for args in verbs {
        let what = format!("`{}`, whole process, warm daemon", args.join(" "));
        wall(run(args));
        let times = (0..scale.rounds(400)).map(|_| wall(run(args))).collect();
        measured.push(Measured::times(&what, times, 5 * MS, Some(15 * MS)));
        peak = (0..5).map(|_| peak_of(run(args))).max().max(Some(peak)).unwrap_or_default();
    }
    measured.push(Measured::at_most("the largest of these, peak memory", "MB", megabytes(peak), 8.0));
    measured
}

pub(crate) fn version(scale: Scale) -> Vec<Measured> {
    let home = Home::new();
    let times = (0..scale.rounds(500)).map(|_| wall(home.command(&["--version"]))).collect();
    vec![Measured::times("`--version`, whole process", times, 2 * MS, None)]
}

/// A hook with nothing to say: what every use of a tool and every turn pays, with a daemon that answers, one that hangs, and none.
pub(crate) fn hook(scale: Scale) -> Vec<Measured> {
    let home = Home::new();
    let mut daemon = Daemon::start(home.path());
    let alice = Session::open(&daemon, "home", "alice");
    let run = |event: &str| {
        let mut command = home.command(&["hook", event]);
        command.env("CLAUDEMESH_IPC_TOKEN", &alice.token).env("CLAUDEMESH_SESSION_ID", &alice.id);
        wall(command)
    };
    let measure = |event: &str, what: &str, rounds: usize, target: Duration| {
        run(event);
        let times = (0..scale.rounds(rounds)).map(|_| run(event)).collect();
        Measured::times_and_worst(&format!("`hook {event}`, {what}"), times, target, Duration::from_millis(50))
    };
    let mut measured: Vec<Measured> = ["PostToolUse", "UserPromptSubmit", "Stop", "SessionStart"]
        .into_iter()
        .map(|event| measure(event, "nothing to say, whole process", 400, 5 * MS))
        .collect();
    let pid = rustix::process::Pid::from_raw(daemon.pid().cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
    measured.push(measure("Stop", "beside a daemon that hangs", 40, 50 * MS));
    rustix::process::kill_process(pid, rustix::process::Signal::CONT).unwrap();
    let status_line = || {
        let mut command = home.command(&["status-line"]);
        command.env("CLAUDEMESH_IPC_TOKEN", &alice.token).env("CLAUDEMESH_SESSION_ID", &alice.id);
        wall(command)
    };
    status_line();
    let times = (0..scale.rounds(400)).map(|_| status_line()).collect();
    measured.push(Measured::times("`status-line`, whole process", times, 50 * MS, None));
    daemon.kill();
    measured.push(measure("Stop", "without a daemon", 400, 5 * MS));
    measured
}

pub(crate) fn daemon_start(scale: Scale) -> Vec<Measured> {
    let home = Home::new();
    let mut daemon = Daemon::start(home.path());
    let times = (0..scale.rounds(60))
        .map(|_| {
            daemon.terminate();
            let start = Instant::now();
            daemon.restart();
            daemon.assert_healthy();
            start.elapsed()
        })
        .collect();
    vec![Measured::times("daemon start to the first 200 on /v1/health", times, 25 * MS, None)]
}

/// Kibibytes as megabytes, to one decimal.
pub(crate) fn megabytes(kib: u64) -> f64 {
    (kib as f64 * 1024.0 / 1e5).round() / 10.0
}
