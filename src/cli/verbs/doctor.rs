//! `doctor`: what is wrong, and which command puts it right.

use std::time::Duration;

use serde::Serialize;

use super::millis;
use crate::base::exit::Exit;
use crate::cli::context::{VERSION, cold, paths};
use crate::cli::doctor::{self, Entry, live};
use crate::cli::error::CliError;
use crate::cli::parse::Parsed;
use crate::cli::render::Out;
use crate::cli::spec::{Effect, Example, Flag, Group, Verb};

/// How long a message may take down a way of its own.
const PATIENCE: Duration = Duration::from_secs(30);

const LIVE: Flag =
    Flag::switch("--live", "Send a message of claudemesh's own down each way into each session here, and say which arrived.");
const WAIT: Flag = Flag::valued("--wait", "TIME", "With --live: how long to wait, at most 2m; default 30s.");

pub(in crate::cli) const VERB: Verb = Verb {
    name: "doctor",
    aliases: &[],
    group: Group::Sessions,
    about: "Find out what is wrong, and which command puts it right.",
    long: "Looks at the daemon, its service and files, the broker of each mesh, the clock, claude and what it knows of this program, \
           and whether the hooks of each session fire. Changes and starts nothing. The status is 1 if anything has failed.\n\n\
           With --live an idle session is woken for the test, which takes a turn of its model. A way that nobody used meanwhile, \
           as that beside a tool when no tool was used, is \"not exercised\": neither well nor broken.",
    operands: &[],
    tail: None,
    flags: &[LIVE, WAIT],
    effect: Effect::Local,
    examples: &[
        Example { command: "claudemesh doctor", about: "everything at a glance" },
        Example { command: "claudemesh doctor --live", about: "prove that mail gets in" },
    ],
    run,
};

#[derive(Serialize)]
struct Report<'a> {
    ok: bool,
    version: &'static str,
    checks: &'a [Entry],
}

fn run(parsed: &Parsed, out: &mut Out) -> Result<Exit, CliError> {
    let client = cold(None)?;
    let wait = parsed.value(&WAIT).map(|text| millis(&WAIT, text)).transpose()?.map_or(PATIENCE, Duration::from_millis);
    let mut entries = doctor::examine(paths()?, &client)?;
    if parsed.is_set(&LIVE) {
        entries.extend(live::fly(&client, wait)?);
    }
    let failed = entries.iter().filter(|entry| entry.has_failed()).count();
    if out.is_json() {
        out.json(&Report { ok: failed == 0, version: VERSION, checks: &entries })?;
    } else {
        out.section(&format!("doctor (v{VERSION})"))?;
        doctor::show(&entries, out)?;
        out.blank()?;
        out.info(&match failed {
            0 => "all is well".to_owned(),
            1 => "1 check has failed".to_owned(),
            count => format!("{count} checks have failed"),
        })?;
    }
    Ok(if failed == 0 { Exit::Success } else { Exit::Failure })
}
