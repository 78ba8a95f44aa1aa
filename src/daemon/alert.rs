//! Tells the person at this machine that mail came for a session that nothing wakes: by a command of their own, which is given
//! the sender's name and the mesh and never a word of what was written.

use std::io::{self, Read};
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::base::thread;
use crate::store::inbox::NewInbound;
use crate::sys::poll;
use crate::wire::peer::{Reach, Status};
use crate::wire::priority::Priority;

use super::ctx::Ctx;
use super::sessions::Session;

/// Between two alerts, of whatever session.
const EVERY: Duration = Duration::from_secs(10);

/// How long the command may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Waits for a command.
const STACK: usize = 64 * 1024;

/// When the last alert was given, and whether its command still runs. Guards nothing else.
#[derive(Debug, Default)]
pub(super) struct Alerts(Mutex<Last>);

#[derive(Debug, Default)]
struct Last {
    at: Option<Instant>,
    runs: bool,
}

impl Alerts {
    /// Whether one may be given now; then it counts as given.
    fn admit(&self, now: Instant) -> bool {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if last.runs || last.at.is_some_and(|at| now.saturating_duration_since(at) < EVERY) {
            return false;
        }
        *last = Last { at: Some(now), runs: true };
        true
    }

    fn done(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).runs = false;
    }
}

/// Of whom a person should hear, if these come for this session: of whoever wrote last what does not wait by itself.
pub(super) fn sender(ctx: &Ctx, session: Option<&Arc<Session>>, rows: &[NewInbound]) -> Option<String> {
    let session = session.filter(|_| !ctx.settings().notify_command.is_empty())?;
    let seen = ctx.sightings.of(session);
    let wakes = seen.reach.iter().flatten().any(|way| matches!(way, Reach::Wake | Reach::Channel));
    if seen.waiting || seen.channel || wakes || session.outward().status == Some(Status::Dnd) {
        return None;
    }
    rows.iter().rfind(|row| row.priority != Priority::Low).map(|row| row.sender_name.clone())
}

/// Runs the command, if one ran not long ago; nobody waits for it.
pub(super) fn give(ctx: &Arc<Ctx>, sender: String, mesh: String) {
    let command = ctx.settings().notify_command;
    let Some((program, args)) = command.split_first().filter(|_| ctx.alerts.admit(Instant::now())) else { return };
    let mut command = Command::new(program);
    command.args(args).args([sender, mesh]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).env_remove("NOTIFY_SOCKET");
    let on_thread = ctx.clone();
    let started = thread::spawn("alert", STACK, move || {
        if let Err(err) = run(command) {
            log::warn!("notifyCommand of settings.json: {err}");
        }
        on_thread.alerts.done();
    });
    if let Err(err) = started {
        log::warn!("nobody can be notified: {err}");
        ctx.alerts.done();
    }
}

/// Runs it until it says nothing more, or for as long as it may.
fn run(mut command: Command) -> io::Result<()> {
    let mut child = command.spawn()?;
    let until = Instant::now() + PATIENCE;
    if let Some(mut out) = child.stdout.take() {
        let mut sink = [0; 1024];
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let Ok(ready) = poll::wait_one(out.as_fd(), true, false, None, Some(left)) else { break };
            // What it says is nobody's; its end is what is waited for.
            if left.is_zero() || (ready.event.any() && !matches!(out.read(&mut sink), Ok(1..))) {
                break;
            }
        }
    }
    // One that has ended is only waited for.
    let _ = child.kill();
    child.wait().map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_and_not_one_after_the_other() {
        let alerts = Alerts::default();
        let start = Instant::now();
        assert!(alerts.admit(start));
        assert!(!alerts.admit(start + EVERY * 2), "it still runs");
        alerts.done();
        assert!(!alerts.admit(start + EVERY / 2));
        assert!(alerts.admit(start + EVERY));
    }

    #[test]
    fn a_command_is_run_to_its_end_and_its_failure_is_known() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo some; echo more"]).stdout(Stdio::piped());
        run(command).unwrap();
        assert!(run(Command::new("/no/such/command")).is_err());
    }
}
