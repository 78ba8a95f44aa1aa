//! Help in its four lengths: what to start with, everything, one verb in short, one verb in full.

use super::error::CliError;
use super::render::{Line, Out, Style};
use super::spec::{Effect, GLOBAL, Group, Operand, VERBS, Verb};
use crate::base::exit::Exit;

type Ended = Result<Exit, CliError>;

const ABOUT: &str = "messages between AI coding sessions";

/// For somebody who typed the program's name and nothing else.
pub(super) fn brief(out: &mut Out) -> Ended {
    title(out)?;
    let start = [
        ("claudemesh demo", "see two sessions write to each other"),
        ("claudemesh launch --name alice", "start a session that others can write to"),
        ("claudemesh send bob \"hello\"", "write to another session"),
        ("claudemesh inbox", "read what came"),
        ("claudemesh peers", "see who is there"),
        ("claudemesh help", "everything else"),
    ];
    for (command, about) in start {
        row(out, command, about, 34)?;
    }
    Ok(Exit::Success)
}

/// Every verb, by group.
pub(super) fn global(out: &mut Out) -> Ended {
    title(out)?;
    out.line(&Line::plain("Usage: claudemesh <command> [flags] [arguments]"))?;
    for group in Group::ALL {
        out.blank()?;
        out.line(&Line::new().and(Style::Clay, group.title()))?;
        for verb in VERBS.iter().filter(|verb| verb.group == group) {
            row(out, &format!("  {}", synopsis(verb.name, verb)), verb.about, 44)?;
        }
    }
    out.blank()?;
    out.line(&Line::new().and(Style::Clay, "Flags of every command"))?;
    for flag in GLOBAL {
        row(out, &format!("  {}", flag.usage()), flag.about, 44)?;
    }
    out.blank()?;
    out.hint("claudemesh <command> --help says more; claudemesh help exit-codes lists the exit statuses")?;
    Ok(Exit::Success)
}

/// `-h`: how to type it.
pub(super) fn short(verb: &Verb, out: &mut Out) -> Ended {
    out.line(&Line::new().and(Style::Dim, "Usage: ").and(Style::Cyan, verb.usage()))?;
    out.info(verb.about)?;
    let operands: Vec<&Operand> = verb.operands.iter().chain(&verb.tail).collect();
    let rows: Vec<(String, String)> = operands
        .into_iter()
        .map(|operand| (operand.name.to_owned(), operand.about.to_owned()))
        .chain(verb.all_flags().map(|flag| {
            let choices = if flag.choices.is_empty() { String::new() } else { format!(" One of {}.", flag.choices.join(", ")) };
            (flag.usage(), format!("{}{choices}", flag.about))
        }))
        .collect();
    let width = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0) + 4;
    out.blank()?;
    for (name, about) in rows {
        row(out, &format!("  {name}"), &about, width)?;
    }
    Ok(Exit::Success)
}

/// `--help`: all there is to say.
pub(super) fn long(verb: &Verb, out: &mut Out) -> Ended {
    short(verb, out)?;
    for paragraph in verb.long.split("\n\n").filter(|paragraph| !paragraph.is_empty()) {
        out.blank()?;
        for line in wrap(paragraph, 96) {
            out.info(&line)?;
        }
    }
    if !verb.aliases.is_empty() {
        out.blank()?;
        out.info(&format!("Also: {}", verb.aliases.join(", ")))?;
    }
    out.blank()?;
    for example in verb.examples {
        out.line(&Line::new().and(Style::Dim, format!("# {}", example.about)))?;
        out.line(&Line::new().and(Style::Cyan, example.command))?;
    }
    out.blank()?;
    out.line(&Line::new().and(
        Style::Dim,
        match verb.effect {
            Effect::Read => "Changes nothing: allowed in every approval mode.",
            Effect::Write => "Changes something: refused (exit 7) in the approval modes plan and read-only.",
            Effect::Local => "Acts on this machine only: allowed in every approval mode.",
        },
    ))?;
    Ok(Exit::Success)
}

/// The verbs that begin with `first` and one word more.
pub(super) fn below(first: &str) -> Vec<&'static Verb> {
    VERBS.iter().filter(|verb| verb.names().any(|name| is_below(name, first))).collect()
}

fn is_below(name: &str, first: &str) -> bool {
    name.strip_prefix(first).is_some_and(|rest| rest.starts_with(' '))
}

/// A first word that several verbs share, alone.
pub(super) fn family(first: &str, out: &mut Out) -> Ended {
    for verb in below(first) {
        let name = verb.names().find(|name| is_below(name, first)).unwrap_or(verb.name);
        row(out, &synopsis(name, verb), verb.about, 44)?;
    }
    Ok(Exit::Success)
}

/// What each exit status means.
pub(super) fn exit_codes(out: &mut Out) -> Ended {
    for exit in Exit::ALL {
        row(out, &format!("{:>3}", exit.code()), exit.meaning(), 6)?;
    }
    row(out, "  N", Exit::Child(0).meaning(), 6)?;
    Ok(Exit::Success)
}

fn title(out: &mut Out) -> Result<(), CliError> {
    out.line(&Line::new().and(Style::Bold, "claudemesh").and(Style::Plain, format!(" {} — {ABOUT}", super::context::VERSION)))?;
    out.blank()
}

/// The verb under one of its names, and its operands, without the program's name and the flags.
fn synopsis(name: &str, verb: &Verb) -> String {
    let mut text = name.to_owned();
    for operand in verb.operands {
        text.push(' ');
        text.push_str(&operand.usage());
    }
    if let Some(tail) = &verb.tail {
        text.push_str(&format!(" [-- {}...]", tail.name));
    }
    text
}

/// Two columns; what is too long for the first pushes the second away by one space.
fn row(out: &mut Out, left: &str, right: &str, width: usize) -> Result<(), CliError> {
    out.line(&Line::new().and(Style::Cyan, format!("{left:width$}")).and(Style::Plain, format!(" {right}")))
}

/// The words of a paragraph in lines of at most `width` characters.
pub(super) fn wrap(paragraph: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in paragraph.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}
