//! Completion scripts for three shells, out of the table.

pub(super) mod bash;
pub(super) mod fish;
pub(super) mod zsh;

use super::spec::{VERBS, Verb};

/// Every name a verb can be called by, aliases too.
fn names() -> impl Iterator<Item = (&'static str, &'static Verb)> {
    VERBS.iter().flat_map(|verb| verb.names().map(move |name| (name, verb)))
}

/// The words that can follow `prefix` (none: the first words), each once, with what they do where they end a name.
fn next_words(prefix: &str) -> Vec<(&'static str, &'static str)> {
    let mut words: Vec<(&str, &str)> = Vec::new();
    for (name, verb) in names() {
        let rest = if prefix.is_empty() { Some(name) } else { name.strip_prefix(prefix).and_then(|rest| rest.strip_prefix(' ')) };
        let Some(rest) = rest else { continue };
        let (word, about) = match rest.split_once(' ') {
            Some((word, _)) => (word, ""),
            None => (rest, verb.about),
        };
        match words.iter_mut().find(|(known, _)| *known == word) {
            Some((_, known)) if known.is_empty() => *known = about,
            Some(_) => {}
            None => words.push((word, about)),
        }
    }
    words
}

/// Beginnings of names that are followed by more words, the empty one first.
fn prefixes() -> Vec<String> {
    let mut prefixes = vec![String::new()];
    for (name, _) in names() {
        for (at, _) in name.match_indices(' ') {
            let prefix = name[..at].to_owned();
            if !prefixes.contains(&prefix) {
                prefixes.push(prefix);
            }
        }
    }
    prefixes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_follow_their_prefix_once() {
        let words = |prefix| next_words(prefix).into_iter().map(|(word, _)| word).collect::<Vec<_>>();
        assert!(words("").contains(&"inbox") && words("").contains(&"daemon"));
        assert_eq!(words("").iter().filter(|word| **word == "daemon").count(), 1);
        assert!(words("inbox").contains(&"flush") && words("daemon outbox").contains(&"requeue"));
        assert!(prefixes().contains(&"daemon outbox".to_owned()));
    }

    #[test]
    fn each_script_knows_every_verb_and_flag() {
        for script in [bash::script(), zsh::script(), fish::script()] {
            for verb in VERBS {
                let last = verb.name.rsplit(' ').next().unwrap();
                assert!(script.contains(last), "{}", verb.name);
                for flag in verb.all_flags() {
                    assert!(script.contains(flag.long.trim_start_matches('-')), "{} {}", verb.name, flag.long);
                }
            }
        }
    }
}
