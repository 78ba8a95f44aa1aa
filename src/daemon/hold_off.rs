//! What fails for a lasting reason, under a service manager that starts the daemon anew whenever it ends, would be repeated
//! every few seconds for ever. So a process that did not start, or could not go on, stays a while before it ends, longer each
//! time until one has lasted. It holds nothing meanwhile: whoever has put things right can start a daemon by hand, or have the
//! manager restart this one.

use std::fs;
use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use crossbeam_channel::bounded;

use crate::base::atomic_file;
use crate::base::backoff;
use crate::base::paths::Paths;
use crate::base::service;
use crate::sys::dirs;
use crate::sys::notify;
use crate::sys::signals;

/// The first wait, and the longest.
const FLOOR: Duration = Duration::from_secs(3);
const CEILING: Duration = Duration::from_secs(300);

/// As many failures are taken for granted where they can not be counted: a wait of a minute and a half.
const UNCOUNTED: u32 = 5;

/// A daemon that has run this long is well, whatever happens to it later.
const TRIAL: Duration = Duration::from_secs(60);

/// When a daemon counts as well.
#[derive(Debug)]
pub(super) struct Trial(Option<Instant>);

impl Trial {
    pub(super) fn begin(now: Instant) -> Trial {
        // One that somebody started was put right by somebody.
        Trial(Some(if is_by_manager() { now + TRIAL } else { now }))
    }

    /// True once: the next failure is the first again.
    pub(super) fn is_passed(&mut self, now: Instant) -> bool {
        self.0.take_if(|at| *at <= now).is_some()
    }
}

fn is_by_manager() -> bool {
    service::is_service(|name| std::env::var_os(name), std::process::id())
}

/// Waits, if a service manager started this process. Any signal that could mean "go on" or "end" ends the wait.
pub fn hold_off(paths: &Paths) {
    if !is_by_manager() || io::stderr().is_terminal() {
        return;
    }
    let delay = backoff::delay(FLOOR, CEILING, count(paths), 1.0);
    let (woken, wake) = bounded(1);
    let watch = signals::watch(move |_| {
        // One is enough: whatever does not fit comes after it.
        let _ = woken.try_send(());
    });
    super::say(notify::State::HoldingOff(delay));
    match watch {
        // Whether it was woken or the time is over, it ends.
        Ok(_watch) => {
            let _ = wake.recv_timeout(delay);
        }
        Err(err) => log::warn!("signals can not be waited for, so neither can the next attempt: {err}"),
    }
}

/// Forgets the failures there were.
pub(super) fn reset(paths: &Paths) {
    // Mostly there is none.
    let _ = fs::remove_file(paths.start_failures());
}

/// How often it failed before, and notes that it did once more.
fn count(paths: &Paths) -> u32 {
    if dirs::private_dir_checked(paths.daemon_dir()).is_err() {
        return UNCOUNTED;
    }
    let file = paths.start_failures();
    let before = fs::read_to_string(&file).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0_u32);
    match atomic_file::write(&file, before.saturating_add(1).to_string().as_bytes()) {
        Ok(()) => before,
        Err(_) => before.max(UNCOUNTED),
    }
}

#[cfg(test)]
mod tests {
    use tempfile::tempdir;

    use super::*;

    #[test]
    fn a_daemon_is_well_once_it_has_lasted() {
        let now = Instant::now();
        let mut trial = Trial(Some(now + TRIAL));
        assert_eq!([0, 59, 60, 61].map(|after| trial.is_passed(now + Duration::from_secs(after))), [false, false, true, false]);
    }

    #[test]
    fn failures_in_a_row_are_counted_until_a_start_succeeds() {
        let root = tempdir().unwrap();
        let paths = Paths::under(root.path());
        assert_eq!((count(&paths), count(&paths), count(&paths)), (0, 1, 2));
        fs::write(paths.start_failures(), "many").unwrap();
        assert_eq!((count(&paths), count(&paths)), (0, 1));
        reset(&paths);
        assert_eq!(count(&paths), 0);
        fs::remove_dir_all(paths.daemon_dir()).unwrap();
        fs::write(paths.daemon_dir(), "").unwrap();
        assert_eq!(count(&paths), UNCOUNTED, "nothing can be noted there");
    }
}
