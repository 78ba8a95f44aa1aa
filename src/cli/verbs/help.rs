//! `help`.

use crate::base::exit::Exit;
use crate::cli::error::CliError;
use crate::cli::help;
use crate::cli::parse::{Parsed, find};
use crate::cli::render::Out;
use crate::cli::spec::{Count, Effect, Example, Group, Operand, VERBS, Verb};
use crate::cli::suggest::nearest;

pub(in crate::cli) const VERB: Verb = Verb {
    name: "help",
    aliases: &[],
    group: Group::About,
    about: "Show every command, or one in full.",
    long: "",
    operands: &[Operand {
        name: "COMMAND",
        about: "The command, or exit-codes for the exit statuses.",
        count: Count::Any,
        choices: &[],
    }],
    tail: None,
    flags: &[],
    effect: Effect::Read,
    examples: &[
        Example { command: "claudemesh help send", about: "one command in full" },
        Example { command: "claudemesh help exit-codes", about: "what a status means" },
    ],
    run,
};

fn run(parsed: &Parsed, out: &mut Out) -> Result<Exit, CliError> {
    let words = parsed.operands.as_slice();
    match words {
        [] => return help::global(out),
        [only] if only == "exit-codes" => return help::exit_codes(out),
        _ => {}
    }
    match find(words) {
        Some((verb, count)) if count == words.len() => help::long(verb, out),
        Some(_) | None => match words {
            words if !help::below(&words.join(" ")).is_empty() => help::family(&words.join(" "), out),
            _ => {
                let typed = words.join(" ");
                let near = nearest(&typed, VERBS.iter().flat_map(Verb::names));
                let hint = near.map_or("see: claudemesh help".to_owned(), |near| format!("did you mean: claudemesh help {near}"));
                Err(CliError::usage(format!("no command is called \"{typed}\"")).with_hint(hint))
            }
        },
    }
}
