//! `docs/cli.md`, out of the table.

use std::fmt::Write;

use super::man::ENVIRONMENT;
use super::spec::{Effect, GLOBAL, Group, VERBS, Verb};
use crate::base::exit::Exit;

/// The reference of the command line in Markdown.
pub(super) fn page() -> String {
    let mut page = String::from(
        "# Command line\n\nWritten by `claudemesh generate docs` from the table that the program itself reads. Do not edit.\n",
    );
    for group in Group::ALL {
        let _ = write!(page, "\n## {}\n", group.title());
        for verb in VERBS.iter().filter(|verb| verb.group == group) {
            describe(&mut page, verb);
        }
    }
    page.push_str("\n## Flags of every command\n\n| flag | meaning |\n|---|---|\n");
    for flag in GLOBAL {
        row(&mut page, &flag.usage(), flag.about);
    }
    page.push_str("\n## Exit statuses\n\n| status | meaning |\n|---|---|\n");
    for exit in Exit::ALL {
        row(&mut page, &exit.code().to_string(), exit.meaning());
    }
    row(&mut page, "other", Exit::Child(0).meaning());
    page.push_str("\n## Environment\n\n| variable | meaning |\n|---|---|\n");
    for (name, about) in ENVIRONMENT {
        row(&mut page, name, about);
    }
    page
}

fn describe(page: &mut String, verb: &Verb) {
    let _ = write!(page, "\n### `{}`\n\n```\n{}\n```\n\n{}\n", verb.name, verb.usage(), verb.about);
    if !verb.long.is_empty() {
        let _ = write!(page, "\n{}\n", verb.long);
    }
    let operands: Vec<_> = verb.operands.iter().chain(&verb.tail).collect();
    if !operands.is_empty() || !verb.flags.is_empty() {
        page.push_str("\n| argument | meaning |\n|---|---|\n");
        operands.iter().for_each(|operand| row(page, operand.name, operand.about));
        verb.flags.iter().for_each(|flag| row(page, &flag.usage(), flag.about));
    }
    page.push_str("\n```sh\n");
    for example in verb.examples {
        let _ = writeln!(page, "{}   # {}", example.command, example.about);
    }
    page.push_str("```\n");
    let effect = match verb.effect {
        Effect::Read => "changes nothing",
        Effect::Write => "changes something; refused in the approval modes `plan` and `read-only`",
        Effect::Local => "acts on this machine only",
    };
    let aliases: Vec<String> = verb.aliases.iter().map(|alias| format!("`{alias}`")).collect();
    let also = if aliases.is_empty() { String::new() } else { format!(" Also: {}.", aliases.join(", ")) };
    let _ = write!(page, "\nEffect: {effect}.{also}\n");
}

fn row(page: &mut String, name: &str, about: &str) {
    let _ = writeln!(page, "| `{}` | {} |", name.replace('|', "\\|"), about.replace('|', "\\|"));
}
