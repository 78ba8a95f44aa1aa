//! The commands that a model may run without being asked each time: those that only look, as the table of verbs says.

use crate::cli::spec::{Effect, JSON, VERBS, Verb};

/// Rules of earlier installations that allowed more than looking: `inbox flush` begins with `inbox`.
pub(super) const FORMER: [&str; 2] = ["Bash(claudemesh inbox:*)", "Bash(claudemesh status:*)"];

/// The rules for `permissions.allow`.
pub(super) fn rules() -> Vec<String> {
    VERBS.iter().filter(|verb| verb.effect == Effect::Read).flat_map(rules_of).collect()
}

/// One rule for a verb and whatever follows it. Where a verb that changes something begins with the same words, each flag has
/// a rule of its own instead: behind a flag no word is taken for a part of a verb's name.
fn rules_of(verb: &Verb) -> Vec<String> {
    let name = verb.name;
    if !changes_something(name) {
        return vec![format!("Bash(claudemesh {name}:*)")];
    }
    let flags = verb.flags.iter().chain([&JSON]).map(|flag| format!("Bash(claudemesh {name} {}:*)", flag.long));
    std::iter::once(format!("Bash(claudemesh {name})")).chain(flags).collect()
}

/// Whether a command that begins so can be another than one that looks.
fn changes_something(beginning: &str) -> bool {
    let others = VERBS.iter().filter(|verb| verb.effect != Effect::Read);
    others.flat_map(Verb::names).any(|name| name.starts_with(beginning))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::parse::find;

    #[test]
    fn behind_a_flag_no_word_belongs_to_a_verbs_name() {
        let words: Vec<String> = "inbox --unread flush --all".split(' ').map(str::to_owned).collect();
        assert_eq!(find(&words).map(|(verb, _)| verb.name), Some("inbox"));
    }

    #[test]
    fn no_rule_allows_a_verb_that_changes_something() {
        let rules = rules();
        for rule in &rules {
            let command = rule.strip_prefix("Bash(claudemesh ").and_then(|rest| rest.strip_suffix(')')).unwrap();
            match command.strip_suffix(":*") {
                Some(beginning) => assert!(!changes_something(beginning), "{rule}"),
                None => assert!(VERBS.iter().any(|verb| verb.name == command && verb.effect == Effect::Read), "{rule}"),
            }
        }
        for expected in ["inbox)", "inbox --unread:*)", "status)", "peer list:*)", "message status:*)", "help:*)"] {
            assert!(rules.contains(&format!("Bash(claudemesh {expected}")), "{expected} of {rules:?}");
        }
    }
}
