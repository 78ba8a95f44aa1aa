//! `generate`: what packages install beside the program.

use crate::base::exit::Exit;
use crate::cli::error::CliError;
use crate::cli::parse::Parsed;
use crate::cli::render::Out;
use crate::cli::spec::{Count, Effect, Example, Group, Operand, Verb};
use crate::cli::{complete, docs, man};

pub(in crate::cli) const VERB: Verb = Verb {
    name: "generate",
    aliases: &["completions"],
    group: Group::About,
    about: "Print the man page, a shell's completions or the reference in Markdown.",
    long: "",
    operands: &[Operand {
        name: "WHAT",
        about: "What to print.",
        count: Count::One,
        choices: &["man", "bash", "zsh", "fish", "docs"],
    }],
    tail: None,
    flags: &[],
    effect: Effect::Local,
    examples: &[
        Example { command: "claudemesh generate man", about: "for man1/claudemesh.1" },
        Example { command: "claudemesh generate zsh", about: "for site-functions/_claudemesh" },
    ],
    run,
};

fn run(parsed: &Parsed, out: &mut Out) -> Result<Exit, CliError> {
    let document = match parsed.first() {
        "man" => man::page(),
        "bash" => complete::bash::script(),
        "zsh" => complete::zsh::script(),
        "fish" => complete::fish::script(),
        _ => docs::page(),
    };
    out.document(&document)?;
    Ok(Exit::Success)
}
