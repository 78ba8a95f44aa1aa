//! `doctor --live`: a message of this program's own down each way into each session.

use std::time::Duration;

use super::sessions::relaunch;
use super::{Entry, Finding};
use crate::cli::error::CliError;
use crate::client::{Client, Error};
use crate::wire::ipc::{CanaryState, CanaryView, Path};

/// Sends them, and says which arrived within the time.
pub(in crate::cli) fn fly(client: &Client, wait: Duration) -> Result<Vec<Entry>, CliError> {
    let entry = |finding| Entry { check: "live", finding };
    let flown = match client.fly_canaries(wait) {
        Ok(flown) => flown.canaries,
        // Said by the checks already, with what to do.
        Err(Error::NoDaemon(_)) => return Ok(Vec::new()),
        Err(Error::Refused { status: 404, .. }) => {
            let text = "the daemon is of another version and can not be tried so";
            return Ok(vec![entry(Finding::failed(text, "claudemesh daemon restart"))]);
        }
        Err(err) => return Err(err.into()),
    };
    if flown.is_empty() {
        return Ok(vec![entry(Finding::unknown("no session runs on this machine: nothing to try"))]);
    }
    Ok(flown.iter().map(|canary| entry(judge(canary))).collect())
}

fn judge(canary: &CanaryView) -> Finding {
    let name = format!("{}@{}, {}", canary.display_name, canary.mesh, canary.path.as_str());
    match (canary.state, canary.due) {
        (CanaryState::Arrived, _) if canary.path == Path::Channel => {
            Finding::ok(format!("{name}: given to claude; whether it showed it can not be told"))
        }
        (CanaryState::Arrived, _) => Finding::ok(format!("{name}: arrived")),
        (CanaryState::Claimed, _) => {
            let text = format!("{name}: it was taken, and did not get to the model");
            Finding::failed(text, relaunch(&canary.session_id))
                .after("try once more; if it stays so, end that session where it runs")
        }
        (CanaryState::Waiting, true) => {
            // The session runs, and may only be busy: it is not to be started a second time.
            Finding::failed(format!("{name}: not in time"), "claudemesh doctor --live, once the session has nothing else to do")
        }
        (CanaryState::Waiting, false) => Finding::unknown(format!("{name}: not exercised: {}", because(canary.path))),
    }
}

/// Why a way may not be taken while a test runs.
fn because(path: Path) -> &'static str {
    match path {
        Path::Wake => "no hook waits beside the session",
        Path::Stop => "no turn ended",
        Path::ToolUse => "no tool was used",
        Path::Prompt => "nobody asked anything",
        Path::Channel => "no channel is connected",
        Path::SessionStart | Path::Tool => "nothing asked",
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;
    use crate::base::ids::Slug;

    #[test]
    fn what_nobody_used_is_neither_well_nor_broken() {
        for (path, state, due, verdict, part) in [
            (Path::Wake, CanaryState::Arrived, true, Verdict::Ok, "arrived"),
            (Path::Wake, CanaryState::Waiting, true, Verdict::Failed, "not in time"),
            (Path::Wake, CanaryState::Claimed, true, Verdict::Failed, "taken"),
            (Path::ToolUse, CanaryState::Waiting, false, Verdict::Unknown, "not exercised: no tool was used"),
            (Path::Channel, CanaryState::Arrived, true, Verdict::Ok, "can not be told"),
        ] {
            let (session_id, display_name, mesh) = ("id".to_owned(), "bob".to_owned(), Slug::new("home"));
            let found = judge(&CanaryView { session_id, display_name, mesh, path, due, state });
            assert!(found.verdict == verdict && found.text.contains(part), "{found:?}");
            assert_eq!(found.fix.is_some(), verdict == Verdict::Failed);
        }
    }
}
