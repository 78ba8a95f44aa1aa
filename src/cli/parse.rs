//! From words to a verb and its typed arguments. pico-args is the tokenizer; what it does not know is settled here before
//! and after it: a bare `--`, which flags take values, and what an unknown flag may have been.

use std::ffi::OsString;

use super::error::CliError;
use super::spec::{Flag, GLOBAL, VERBS, Verb};
use super::suggest::nearest;

/// What was typed for one verb.
#[derive(Debug)]
pub(super) struct Parsed {
    pub verb: &'static Verb,
    switches: Vec<&'static str>,
    values: Vec<(&'static str, String)>,
    pub operands: Vec<String>,
    /// What stood behind a bare `--`, for verbs that declare a tail.
    pub tail: Vec<OsString>,
}

impl Parsed {
    pub(super) fn is_set(&self, flag: &Flag) -> bool {
        self.switches.contains(&flag.long)
    }

    pub(super) fn value(&self, flag: &Flag) -> Option<&str> {
        self.values.iter().find(|(long, _)| *long == flag.long).map(|(_, value)| value.as_str())
    }

    /// The value as a number within `range`.
    pub(super) fn number(&self, flag: &Flag, range: std::ops::RangeInclusive<u32>) -> Result<Option<u32>, CliError> {
        let Some(text) = self.value(flag) else { return Ok(None) };
        let number = text.parse().ok().filter(|number| range.contains(number));
        number.map(Some).ok_or_else(|| {
            CliError::usage(format!("{}: \"{text}\" is no number from {} to {}", flag.long, range.start(), range.end()))
        })
    }

    /// The first operand, of verbs that require one.
    pub(super) fn first(&self) -> &str {
        self.operands.first().map_or("", String::as_str)
    }
}

/// The words before the first bare `--`, and those behind it, if there is one.
#[derive(Debug)]
pub(super) struct Words {
    pub(super) head: Vec<String>,
    tail: Option<Vec<OsString>>,
}

impl Words {
    pub(super) fn split(mut args: Vec<OsString>) -> Result<Words, CliError> {
        let tail = args.iter().position(|arg| arg == "--").map(|at| {
            let tail = args.split_off(at + 1);
            args.pop();
            tail
        });
        let head = args.into_iter().map(utf8).collect::<Result<_, _>>()?;
        Ok(Words { head, tail })
    }
}

fn utf8(arg: OsString) -> Result<String, CliError> {
    arg.into_string().map_err(|arg| CliError::usage(format!("\"{}\" is not UTF-8", arg.to_string_lossy())))
}

/// The verb with the most words that `words` begins with, and how many those are.
pub(super) fn find(words: &[String]) -> Option<(&'static Verb, usize)> {
    let matches = |name: &str| {
        let count = name.split(' ').count();
        (count <= words.len() && name.split(' ').zip(words).all(|(a, b)| a == b)).then_some(count)
    };
    VERBS.iter().flat_map(|verb| verb.names().filter_map(matches).map(move |count| (verb, count))).max_by_key(|(_, count)| *count)
}

/// Moves flags that stand before the verb behind everything else. Only flags that every verb or most have may stand there.
pub(super) fn verb_first(mut words: Words) -> Result<Words, CliError> {
    let mut at = 0;
    while let Some(word) = words.head.get(at).filter(|word| 1 < word.len() && word.starts_with('-')) {
        let name = word.split('=').next().unwrap_or(word);
        let known = GLOBAL.iter().chain([&super::spec::MESH]).find(|flag| flag.long == name || flag.short == Some(name));
        let Some(flag) = known else {
            return Err(CliError::usage(format!("unknown flag {name} before a command"))
                .with_hint("flags of a command stand behind its name; see: claudemesh help"));
        };
        at += if flag.value.is_some() && !word.contains('=') { 2 } else { 1 };
    }
    let at = at.min(words.head.len());
    words.head.rotate_left(at);
    Ok(words)
}

/// Reads the words that follow a verb's name.
pub(super) fn parse(verb: &'static Verb, words: Words) -> Result<Parsed, CliError> {
    let given = with_bare_values(verb, words.head)?;
    let tokens = given.iter().map(|word| OsString::from(armour(verb, word))).collect();
    let mut pico = pico_args::Arguments::from_vec(tokens);
    let mut parsed = Parsed { verb, switches: Vec::new(), values: Vec::new(), operands: Vec::new(), tail: Vec::new() };
    // Valued flags first: a switch would be found inside their values.
    for flag in verb.all_flags().filter(|flag| flag.value.is_some()) {
        if let Some(value) = valued(&mut pico, flag, &given)? {
            parsed.values.push((flag.long, value));
        }
    }
    for flag in verb.all_flags().filter(|flag| flag.value.is_none()) {
        while contains(&mut pico, flag) {
            parsed.switches.push(flag.long);
        }
    }
    for word in pico.finish() {
        let word = utf8(word)?;
        if 1 < word.len() && word.starts_with('-') {
            return Err(leftover(verb, &word));
        }
        parsed.operands.push(word);
    }
    match words.tail {
        Some(tail) if verb.tail.is_some() => parsed.tail = tail,
        Some(tail) => parsed.operands.extend(tail.into_iter().map(utf8).collect::<Result<Vec<_>, _>>()?),
        None => {}
    }
    check_operands(verb, &parsed.operands)?;
    Ok(parsed)
}

/// Gives a flag that may stand without a value, and does, the one that is meant.
fn with_bare_values(verb: &Verb, given: Vec<String>) -> Result<Vec<String>, CliError> {
    let mut words = given.into_iter().peekable();
    let mut all = Vec::new();
    let mut operands = 0;
    while let Some(word) = words.next() {
        let flag = verb.all_flags().find(|flag| is(flag, &word));
        match flag.and_then(|flag| Some((flag, flag.bare?))) {
            Some((flag, bare)) if words.peek().is_none_or(|next| is_no_value(flag, next)) => {
                let next = words.peek().filter(|next| !next.starts_with('-'));
                // A mistyped value would be taken for the rest of a text, and said to somebody.
                if let Some(next) = next.filter(|_| verb.operands.len() <= operands && takes_text(verb)) {
                    return Err(mistyped(flag, next));
                }
                all.push(format!("{word}={bare}"));
            }
            _ => {
                let has_value = flag.is_some_and(|flag| flag.value.is_some());
                operands += usize::from(flag.is_none() && !word.starts_with("--"));
                all.push(word);
                all.extend(words.next_if(|_| has_value));
            }
        }
    }
    Ok(all)
}

fn takes_text(verb: &Verb) -> bool {
    verb.operands.last().is_some_and(|operand| operand.count.is_many())
}

fn mistyped(flag: &Flag, word: &str) -> CliError {
    let (long, name) = (flag.long, flag.value.unwrap_or_default());
    CliError::usage(format!("{long}: \"{word}\" is not one of {}", flag.choices.join(", ")))
        .with_hint(format!("write {long}={name}, or {long} behind the whole text if no {name} is meant"))
}

/// Whether the word behind a flag that may stand alone is not its value.
fn is_no_value(flag: &Flag, next: &str) -> bool {
    next.starts_with('-') || (!flag.choices.is_empty() && !flag.choices.contains(&next))
}

/// pico-args takes quotes around a value away; a value that begins with one gets a second pair to lose.
fn armour(verb: &Verb, word: &str) -> String {
    match word.split_once('=') {
        Some((name, value)) if value.starts_with(['"', '\'']) && verb.all_flags().any(|flag| is(flag, name)) => {
            format!("{name}='{value}'")
        }
        _ => word.to_owned(),
    }
}

fn is(flag: &Flag, name: &str) -> bool {
    flag.long == name || flag.short == Some(name)
}

fn valued(pico: &mut pico_args::Arguments, flag: &'static Flag, given: &[String]) -> Result<Option<String>, CliError> {
    let name = flag.value.unwrap_or_default();
    let found = match flag.short {
        Some(short) => pico.opt_value_from_str::<_, String>([short, flag.long]),
        None => pico.opt_value_from_str::<_, String>(flag.long),
    };
    let value = found.map_err(|_| CliError::usage(format!("{} needs a value ({name})", flag.long)))?;
    let Some(value) = value else { return Ok(None) };
    let spelled = |name: &str| given.iter().any(|word| *word == format!("{name}={value}"));
    if value.starts_with("--") && !spelled(flag.long) {
        return Err(CliError::usage(format!("{} needs a value ({name}), and {value} is a flag", flag.long))
            .with_hint(format!("if it is meant: {}={value}", flag.long)));
    }
    if !flag.choices.is_empty() && !flag.choices.contains(&value.as_str()) {
        return Err(CliError::usage(format!("{}: \"{value}\" is not one of {}", flag.long, flag.choices.join(", "))));
    }
    Ok(Some(value))
}

fn contains(pico: &mut pico_args::Arguments, flag: &'static Flag) -> bool {
    match flag.short {
        Some(short) => pico.contains([short, flag.long]),
        None => pico.contains(flag.long),
    }
}

/// What to say about a word with a hyphen that no flag took.
fn leftover(verb: &'static Verb, word: &str) -> CliError {
    let name = word.split('=').next().unwrap_or(word);
    if let Some(flag) = verb.all_flags().find(|flag| is(flag, name)) {
        return CliError::usage(match flag.value {
            Some(_) => format!("{} is given twice", flag.long),
            None => format!("{} takes no value", flag.long),
        });
    }
    let error = CliError::usage(format!("unknown flag {word}"));
    if let Some(near) = nearest(name, verb.all_flags().map(|flag| flag.long)) {
        return error.with_hint(format!("did you mean {near}?"));
    }
    if verb.operands.iter().any(|operand| operand.count.is_many()) {
        return error.with_hint(format!(
            "text that begins with \"-\" stands behind a bare \"--\": claudemesh {} ... -- \"{word}\"",
            verb.name
        ));
    }
    error.with_hint(format!("see: claudemesh help {}", verb.name))
}

fn check_operands(verb: &'static Verb, given: &[String]) -> Result<(), CliError> {
    let usage = || format!("usage: {}", verb.usage());
    let required = verb.operands.iter().filter(|operand| operand.count.is_required()).count();
    if given.len() < required {
        let missing = verb.operands.get(given.len()).map_or("", |operand| operand.name);
        return Err(CliError::usage(format!("missing {missing}")).with_hint(usage()));
    }
    if let Some(extra) = given.get(verb.operands.len())
        && !verb.operands.last().is_some_and(|operand| operand.count.is_many())
    {
        let below = VERBS.iter().filter_map(|other| other.name.strip_prefix(verb.name)?.strip_prefix(' '));
        let hint = nearest(extra, below).map(|near| format!("did you mean: claudemesh {} {near}", verb.name));
        return Err(CliError::usage(format!("unexpected argument \"{extra}\"")).with_hint(hint.unwrap_or_else(usage)));
    }
    for (operand, word) in verb.operands.iter().zip(given) {
        if !operand.choices.is_empty() && !operand.choices.contains(&word.as_str()) {
            let text = format!("{}: \"{word}\" is not one of {}", operand.name, operand.choices.join(", "));
            return Err(CliError::usage(text));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
