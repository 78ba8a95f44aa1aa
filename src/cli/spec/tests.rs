use std::collections::BTreeSet;
use std::ffi::OsString;

use super::*;
use crate::cli::parse::{Words, find, parse};

/// Splits as a shell does, as far as examples go: spaces, and double quotes.
fn words(line: &str) -> Vec<OsString> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for c in line.chars() {
        match c {
            '"' => quoted = !quoted,
            ' ' if !quoted => words.push(String::new()),
            c => words.last_mut().unwrap().push(c),
        }
    }
    words.into_iter().filter(|word| !word.is_empty()).map(OsString::from).collect()
}

#[test]
fn no_name_stands_for_two_things() {
    let mut seen = BTreeSet::new();
    for verb in VERBS {
        for name in verb.names() {
            assert!(seen.insert(name), "{name}");
            assert!(name.split(' ').all(|word| word.chars().all(|c| c.is_ascii_lowercase() || c == '-')), "{name}");
        }
        let mut flags = BTreeSet::new();
        for flag in verb.all_flags() {
            assert!(flags.insert(flag.long), "{} {}", verb.name, flag.long);
            assert!(flag.short.is_none_or(|short| flags.insert(short)), "{} {:?}", verb.name, flag.short);
        }
    }
}

#[test]
fn every_verb_and_flag_says_what_it_is() {
    for verb in VERBS {
        assert!(verb.about.ends_with('.') && !verb.about.contains('\n'), "{}", verb.name);
        for flag in verb.all_flags() {
            assert!(flag.about.ends_with('.') && flag.long.starts_with("--"), "{} {}", verb.name, flag.long);
            assert!(flag.short.is_none_or(|short| short.len() == 2 && short.starts_with('-')), "{} {}", verb.name, flag.long);
            assert!(flag.choices.is_empty() || flag.value.is_some(), "{} {}: choices are for values", verb.name, flag.long);
        }
        let mut optional = false;
        for (at, operand) in verb.operands.iter().enumerate() {
            assert!(operand.about.ends_with('.'), "{} {}", verb.name, operand.name);
            assert!(!operand.count.is_many() || at + 1 == verb.operands.len(), "{}: only the last takes many", verb.name);
            assert!(!(optional && operand.count.is_required()), "{}: what is required comes first", verb.name);
            optional |= !operand.count.is_required();
        }
    }
}

#[test]
fn every_verb_has_an_example_and_every_example_parses() {
    for verb in VERBS {
        assert!(!verb.examples.is_empty(), "{}", verb.name);
        for example in verb.examples {
            let command = example.command.rsplit(" | ").next().unwrap();
            let mut words = words(command);
            assert_eq!(words.remove(0), "claudemesh", "{command}");
            let mut words = Words::split(words).unwrap();
            let (found, count) = find(&words.head).unwrap();
            assert_eq!(found.name, verb.name, "{command}");
            words.head.drain(..count);
            let parsed = parse(found, words);
            assert!(parsed.is_ok(), "{command}: {}", parsed.unwrap_err());
            assert!(!example.about.is_empty());
        }
    }
}

#[test]
fn what_changes_something_for_others_is_a_write() {
    for verb in VERBS {
        let last = verb.name.rsplit(' ').next().unwrap();
        let for_meshes = ["create", "rename", "invite", "revoke", "join", "leave"];
        let for_all = ["set", "summary", "visible", "remember", "forget", "publish", "remove", "post", "read"];
        let for_one = ["send", "flush", "delete", "requeue", "abort", "prune", "remind", "cancel", "claim", "complete"];
        let order = ["grant", "block", "unblock", "kick", "disconnect", "ban", "unban"];
        let writes = [&for_meshes[..], &for_all, &for_one, &order].iter().any(|verbs| verbs.contains(&last));
        assert_eq!(verb.effect == Effect::Write, writes, "{}", verb.name);
    }
}

#[test]
fn verbs_stand_together_with_their_group() {
    let mut groups: Vec<Group> = VERBS.iter().map(|verb| verb.group).collect();
    groups.dedup();
    assert_eq!(groups, Group::ALL);
}
