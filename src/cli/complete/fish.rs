//! fish: one line for each word and flag, each under the condition that its verb is being typed.

use std::fmt::Write;

use super::{VERBS, names, next_words, prefixes};

/// The script, for a `completions` directory.
pub(in crate::cli) fn script() -> String {
    let mut script = String::from(
        "# fish completion for claudemesh\nfunction __claudemesh_at\n    set -l typed (commandline -opc)\n    set -e typed[1]\n    \
         set -l words (string match -v -- '-*' $typed)\n    test \"$words\" = \"$argv\"\nend\n\
         function __claudemesh_in\n    set -l typed (commandline -opc)\n    set -e typed[1]\n    \
         set -l words (string match -v -- '-*' $typed)\n    string match -q -- \"$argv*\" \"$words\"\nend\ncomplete -c claudemesh -f\n",
    );
    let mut paths: Vec<String> = prefixes();
    paths.extend(names().map(|(name, _)| name.to_owned()).filter(|name| !next_words(name).is_empty()));
    paths.sort();
    paths.dedup();
    for path in paths {
        for (word, about) in next_words(&path) {
            let _ =
                writeln!(script, "complete -c claudemesh -n {} -a {word} -d {}", quoted(&condition("at", &path)), quoted(about));
        }
    }
    for verb in VERBS {
        for name in verb.names() {
            for choice in verb.operands.iter().flat_map(|operand| operand.choices) {
                let _ = writeln!(script, "complete -c claudemesh -n {} -a {choice}", quoted(&condition("at", name)));
            }
            for flag in verb.all_flags() {
                let short = flag.short.map(|short| format!(" -s {}", &short[1..])).unwrap_or_default();
                let value = if flag.value.is_some() { " -x" } else { "" };
                let choices =
                    if flag.choices.is_empty() { String::new() } else { format!(" -a {}", quoted(&flag.choices.join(" "))) };
                let _ = writeln!(
                    script,
                    "complete -c claudemesh -n {} -l {}{short}{value}{choices} -d {}",
                    quoted(&condition("in", name)),
                    &flag.long[2..],
                    quoted(flag.about)
                );
            }
        }
    }
    script
}

fn condition(kind: &str, path: &str) -> String {
    if path.is_empty() { format!("__claudemesh_{kind}") } else { format!("__claudemesh_{kind} {path}") }
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}
