//! `version`, `--version`, `-V`.

use serde::Serialize;

use crate::base::exit::Exit;
use crate::cli::context;
use crate::cli::error::CliError;
use crate::cli::parse::Parsed;
use crate::cli::render::Out;
use crate::cli::spec::{Effect, Example, Group, Verb};

pub(in crate::cli) const VERB: Verb = Verb {
    name: "version",
    aliases: &[],
    group: Group::About,
    about: "Show the version of this program.",
    long: "--version and -V do the same.",
    operands: &[],
    tail: None,
    flags: &[],
    effect: Effect::Read,
    examples: &[Example { command: "claudemesh version --json", about: "for a script" }],
    run: |_: &Parsed, out: &mut Out| print(out),
};

#[derive(Serialize)]
struct Version {
    version: &'static str,
}

pub(in crate::cli) fn print(out: &mut Out) -> Result<Exit, CliError> {
    if out.is_json() {
        out.json(&Version { version: context::VERSION })?;
    } else {
        out.info(&format!("claudemesh v{}", context::VERSION))?;
    }
    Ok(Exit::Success)
}
