//! The daemon's life as its user and its service manager see it: starting, reading settings again, stopping, starting anew.

mod host;
mod log;
mod manager;
mod service;
mod skew;
mod start_stop;
mod stopping;
mod succession;
mod tcp;
mod terminal;

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::support::home::Home;
use crate::support::process::{Ended, Process};
use crate::support::wait::{PATIENCE, until};

/// Ends the daemon that was started in a home, whatever became of the test.
struct Quiet<'a>(&'a Home);

impl Drop for Quiet<'_> {
    fn drop(&mut self) {
        // Nothing to stop is fine.
        let _ = self.0.command(&["down"]).output();
    }
}

fn run(home: &Home, args: &[&str]) -> Ended {
    Process::run(home.command(args))
}

/// Starts a daemon that stays behind, and says its pid.
#[track_caller]
fn up(home: &Home, flags: &[&str]) -> u32 {
    let ended = run(home, &[&["up", "--json"], flags].concat());
    assert!(ended.status.success(), "{ended:?}");
    let answer: Value = serde_json::from_str(&ended.out).unwrap();
    u32::try_from(answer["pid"].as_u64().unwrap()).unwrap()
}

fn signal(pid: u32, signal: rustix::process::Signal) {
    rustix::process::kill_process(rustix::process::Pid::from_raw(pid.cast_signed()).unwrap(), signal).unwrap();
}

fn settings(home: &Home, text: &str) {
    std::fs::create_dir_all(home.join("daemon")).unwrap();
    std::fs::write(home.join("daemon/settings.json"), text).unwrap();
}

fn log(home: &Home) -> String {
    std::fs::read_to_string(home.join("daemon/daemon.log")).unwrap_or_default()
}

#[track_caller]
fn await_log(home: &Home, text: &str) {
    until(text, || log(home).contains(text).then_some(()));
}

fn mode(path: &Path) -> u32 {
    std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(path).unwrap()) & 0o777
}
