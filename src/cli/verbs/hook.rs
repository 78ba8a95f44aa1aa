//! `hook`: what the client runs at its events.

use crate::base::exit::Exit;
use crate::cli::context::paths;
use crate::cli::error::CliError;
use crate::cli::hook::{self, Event};
use crate::cli::parse::Parsed;
use crate::cli::render::Out;
use crate::cli::spec::{Effect, Example, Group, Operand, Verb};

pub(in crate::cli) const VERB: Verb = Verb {
    name: "hook",
    aliases: &[],
    group: Group::Servers,
    about: "Bring a session its mail at an event of its client.",
    long: "Run by the client, not by hand: it reads the client's JSON on standard input and writes the client's JSON. \
           `claudemesh install` and `claudemesh launch` tell claude how. Events: SessionStart, UserPromptSubmit, PostToolUse, \
           PostToolBatch, Stop, StopFailure, Notification, SessionEnd; Wait stays beside an idle session and ends with status 2 when there is mail for it.\n\n\
           A daemon that is away is no error: the hook ends with status 0 and says nothing.",
    operands: &[Operand::one("EVENT", "The event, by the client's name for it.")],
    tail: None,
    flags: &[],
    effect: Effect::Local,
    examples: &[Example { command: "claudemesh hook UserPromptSubmit", about: "as an entry of settings.json runs it" }],
    run,
};

fn run(parsed: &Parsed, _: &mut Out) -> Result<Exit, CliError> {
    let word = parsed.operands.first().map(String::as_str).unwrap_or_default();
    let Some(event) = Event::parse(word) else {
        return Err(CliError::usage(format!("hook: \"{word}\" is no event")).with_hint("see: claudemesh help hook"));
    };
    // A session that belongs to nobody's home has no mail.
    let Ok(paths) = paths() else { return Ok(Exit::Success) };
    Ok(match hook::run(event, &paths) {
        0 => Exit::Success,
        code => Exit::Child(code),
    })
}
