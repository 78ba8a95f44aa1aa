//! The man page of the whole program, as roff, out of the table.

use std::fmt::Write;

use super::context::VERSION;
use super::spec::{Flag, GLOBAL, Group, Operand, VERBS, Verb};
use crate::base::exit::Exit;

/// Environment variables that commands read, with a sentence each.
pub(super) const ENVIRONMENT: &[(&str, &str)] = &[
    ("CLAUDEMESH_HOME", "Where all files live instead of ~/.claudemesh."),
    ("CLAUDEMESH_DAEMON_DIR", "Where the daemon's files live instead of daemon/ below it."),
    ("CLAUDEMESH_CONFIG_DIR", "Where config.json is read from, for commands only; the daemon ignores it."),
    ("CLAUDEMESH_IPC_TOKEN_FILE", "The file with the token of the session that a command acts for; set by launch."),
    ("CLAUDEMESH_IPC_TOKEN", "The token itself. It wins over the file."),
    ("CLAUDEMESH_SESSION_ID", "The session's id; set by launch."),
    ("CLAUDEMESH_DISPLAY_NAME", "The session's name; set by launch."),
    ("CLAUDEMESH_ROLE", "The session's role; set by launch."),
    ("CLAUDEMESH_APPROVAL_MODE", "plan and read-only refuse every command that changes something."),
    ("CLAUDEMESH_INTERNAL_NO_AUTOSPAWN", "Set to 1, commands never start a daemon."),
    ("CLAUDEMESH_LOG", "What the daemon and the broker log, in the grammar of RUST_LOG."),
    ("NO_COLOR", "Set to anything, output has no colours."),
];

/// `claudemesh.1`.
pub(super) fn page() -> String {
    let mut page = format!(".TH CLAUDEMESH 1 \"\" \"claudemesh {VERSION}\" \"User Commands\"\n");
    page.push_str(".SH NAME\nclaudemesh \\- messages between AI coding sessions\n");
    page.push_str(".SH SYNOPSIS\n.B claudemesh\n.I command\n[\\fIflags\\fR] [\\fIarguments\\fR]\n");
    page.push_str(".SH DESCRIPTION\n");
    page.push_str(
        "claudemesh lets AI coding sessions write to each other across terminals, machines and people. A daemon on each machine \
         keeps what was sent and what came; a broker, which anyone can host, passes sealed messages on. A message whose \
         acceptance was printed is on disk.\n",
    );
    for group in Group::ALL {
        let _ = writeln!(page, ".SH {}", text(&group.title().to_uppercase()));
        for verb in VERBS.iter().filter(|verb| verb.group == group) {
            describe(&mut page, verb);
        }
    }
    page.push_str(".SH FLAGS OF EVERY COMMAND\n");
    GLOBAL.iter().for_each(|each| flag(&mut page, each));
    page.push_str(".SH EXIT STATUS\n");
    for exit in Exit::ALL {
        item(&mut page, &exit.code().to_string(), exit.meaning());
    }
    item(&mut page, "other", Exit::Child(0).meaning());
    page.push_str(".SH ENVIRONMENT\n");
    for (name, about) in ENVIRONMENT {
        item(&mut page, name, about);
    }
    page
}

fn describe(page: &mut String, verb: &Verb) {
    let _ = writeln!(page, ".SS \"{}\"\n{}", text(&verb.usage()), text(verb.about));
    for paragraph in verb.long.split("\n\n").filter(|paragraph| !paragraph.is_empty()) {
        let _ = writeln!(page, ".PP\n{}", text(paragraph));
    }
    for Operand { name, about, .. } in verb.operands.iter().chain(&verb.tail) {
        item(page, name, about);
    }
    verb.flags.iter().for_each(|each| flag(page, each));
    if !verb.aliases.is_empty() {
        let _ = writeln!(page, ".PP\nAlso: {}.", text(&verb.aliases.join(", ")));
    }
    for example in verb.examples {
        let _ = writeln!(page, ".PP\n{}\n.PP\n.RS\n.nf\n{}\n.fi\n.RE", text(example.about), text(example.command));
    }
}

fn flag(page: &mut String, flag: &Flag) {
    let choices = if flag.choices.is_empty() { String::new() } else { format!(" One of {}.", flag.choices.join(", ")) };
    item(page, &flag.usage(), &format!("{}{choices}", flag.about));
}

fn item(page: &mut String, term: &str, about: &str) {
    let _ = writeln!(page, ".TP\n\\fB{}\\fR\n{}", text(term), text(about));
}

/// Text as roff has it: hyphens and backslashes escaped, no line that begins with a control character.
fn text(plain: &str) -> String {
    let mut escaped = String::new();
    for line in plain.lines() {
        if line.starts_with(['.', '\'']) {
            escaped.push_str("\\&");
        }
        escaped.push_str(&line.replace('\\', "\\e").replace('-', "\\-").replace('"', "\\(dq"));
        escaped.push('\n');
    }
    escaped.truncate(escaped.trim_end_matches('\n').len());
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verb_flag_and_exit_status_is_in_it() {
        let page = page();
        for verb in VERBS {
            assert!(page.contains(&text(&verb.usage())), "{}", verb.name);
            for flag in verb.flags {
                assert!(page.contains(&text(&flag.usage())), "{} {}", verb.name, flag.long);
            }
        }
        assert!(Exit::ALL.iter().all(|exit| page.contains(&text(exit.meaning()))));
        assert!(page.lines().filter(|line| line.starts_with('.')).all(|line| {
            [".TH", ".SH", ".SS", ".PP", ".TP", ".B", ".I", ".RS", ".RE", ".nf", ".fi"].contains(&line.split(' ').next().unwrap())
        }));
    }

    #[test]
    fn control_characters_of_roff_are_text() {
        assert_eq!(text(".TH a\\b --c \"d\""), "\\&.TH a\\eb \\-\\-c \\(dqd\\(dq");
    }
}
