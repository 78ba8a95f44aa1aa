//! The command line: finds the verb, reads its arguments, asks the policy, runs it, and turns what comes back into text and
//! an exit status. Nothing here knows any verb by name.

mod broker_http;
mod complete;
mod context;
mod demo;
mod docs;
mod doctor;
mod error;
mod help;
mod home;
mod hook;
mod install;
mod left_out;
mod link;
mod man;
mod membership;
mod parse;
mod policy;
mod qr;
mod render;
mod spec;
mod suggest;
mod verbs;

use std::ffi::OsString;
use std::process::ExitCode;

use crate::base::exit::Exit;

use self::error::CliError;
use self::parse::{Parsed, Words};
use self::render::Out;
use self::spec::{HELP, JSON, VERBS};

/// Runs one command; `args` begin behind the program's name.
pub fn main(args: Vec<OsString>) -> ExitCode {
    let json = args.iter().take_while(|arg| *arg != "--").any(|arg| arg == JSON.long);
    let mut out = Out::stdio(json);
    let ended = run(args, &mut out).and_then(|exit| out.flush().map(|()| exit));
    let exit = ended.unwrap_or_else(|err| report(&err, &mut out));
    ExitCode::from(exit)
}

/// Says why the command failed. When even that cannot be written, the exit status still tells.
fn report(err: &CliError, out: &mut Out) -> Exit {
    if matches!(err, CliError::Output(_)) {
        // Whoever stopped reading wants nothing more; a full disk is news, and standard error may lie elsewhere.
        if err.exit() != Exit::Success {
            let _ = out.unwritten(err);
        }
        return err.exit();
    }
    match out.error(err).and_then(|()| out.flush()) {
        Ok(()) | Err(_) => err.exit(),
    }
}

fn run(args: Vec<OsString>, out: &mut Out) -> Result<Exit, CliError> {
    let words = Words::split(args)?;
    if words.head.iter().all(|word| word.starts_with('-')) && words.head.iter().any(|word| word == "--version" || word == "-V") {
        return verbs::version::print(out);
    }
    let mut words = parse::verb_first(words)?;
    let Some((verb, count)) = parse::find(&words.head) else { return without_verb(&words.head, out) };
    // A word more may lead to others, of which none is named.
    if let Some(prefix) = words.head.get(..=count).map(|words| words.join(" ")).filter(|prefix| !help::below(prefix).is_empty()) {
        return within(&prefix, words.head.get(count + 1), out);
    }
    words.head.drain(..count);
    if words.head.iter().any(|word| word == HELP.long) {
        return help::long(verb, out);
    }
    if words.head.iter().any(|word| Some(word.as_str()) == HELP.short) {
        return help::short(verb, out);
    }
    let parsed: Parsed = parse::parse(verb, words)?;
    policy::gate(&parsed, |name| std::env::var_os(name))?;
    (verb.run)(&parsed, out)
}

/// No verb is named, or none that there is.
fn without_verb(words: &[String], out: &mut Out) -> Result<Exit, CliError> {
    let Some(first) = words.iter().find(|word| !word.starts_with('-')) else {
        let whole = words.iter().any(|word| word == HELP.long);
        return if whole { help::global(out) } else { help::brief(out) };
    };
    if let Some(line) = left_out::answer(words) {
        return Err(CliError::usage(line));
    }
    if !help::below(first).is_empty() {
        return within(first, words.get(1), out);
    }
    let near = suggest::nearest(first, VERBS.iter().flat_map(spec::Verb::names));
    let hint = near.map_or("see: claudemesh help".to_owned(), |near| format!("did you mean: claudemesh {near}"));
    Err(CliError::usage(format!("unknown command: {first}")).with_hint(hint))
}

/// Words that several verbs share, and perhaps one more that none of them has.
fn within(first: &str, second: Option<&String>, out: &mut Out) -> Result<Exit, CliError> {
    let Some(second) = second.filter(|second| !second.starts_with('-')) else { return help::family(first, out) };
    let below = help::below(first);
    let rests = below.iter().flat_map(|verb| verb.names()).filter_map(|name| name.strip_prefix(first));
    let near = suggest::nearest(second, rests.map(str::trim_start));
    let hint = near.map_or(format!("see: claudemesh help {first}"), |near| format!("did you mean: claudemesh {first} {near}"));
    Err(CliError::usage(format!("unknown command: {first} {second}")).with_hint(hint))
}
