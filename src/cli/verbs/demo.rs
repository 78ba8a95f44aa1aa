//! `demo`: two sessions write to each other before your eyes.

use crate::base::exit::Exit;
use crate::cli::demo;
use crate::cli::error::CliError;
use crate::cli::parse::Parsed;
use crate::cli::render::Out;
use crate::cli::spec::{Effect, Example, Group, Verb};

pub(in crate::cli) const VERB: Verb = Verb {
    name: "demo",
    aliases: &[],
    group: Group::About,
    about: "See two sessions write to each other, one of them away for a while.",
    long: "Runs a daemon, a broker and two sessions as real processes in a directory of their own, which goes when it ends; your own \
           files and daemon are not touched. Prints the life of each message. The status is 0 only if each message was read by the \
           right session, exactly once.",
    operands: &[],
    tail: None,
    flags: &[],
    effect: Effect::Local,
    examples: &[Example { command: "claudemesh demo", about: "takes a second" }],
    run,
};

fn run(_: &Parsed, out: &mut Out) -> Result<Exit, CliError> {
    demo::run(out)
}
