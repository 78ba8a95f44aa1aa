//! The command line as one table. Parsing, help, the man page, completions, `docs/cli.md` and the policy gate all read
//! [`VERBS`]; adding a verb is a file in `verbs/` and a line here.

use super::error::CliError;
use super::parse::Parsed;
use super::render::Out;
use super::verbs;
use crate::base::exit::Exit;

/// One thing the program does.
#[derive(Debug)]
pub(super) struct Verb {
    /// One to three words, as help shows them.
    pub name: &'static str,
    /// Other names that mean the same; those of the reference among them.
    pub aliases: &'static [&'static str],
    pub group: Group,
    /// One sentence.
    pub about: &'static str,
    /// Paragraphs for `--help` and the man page, separated by empty lines. They may be empty.
    pub long: &'static str,
    pub operands: &'static [Operand],
    /// What stands behind a bare `--`, for verbs that keep it apart from their operands.
    pub tail: Option<Operand>,
    /// Its own flags; [`GLOBAL`] come on top.
    pub flags: &'static [Flag],
    pub effect: Effect,
    pub examples: &'static [Example],
    pub run: fn(&Parsed, &mut Out) -> Result<Exit, CliError>,
}

/// Heading under which help lists a verb.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Group {
    Messages,
    Sessions,
    Shared,
    Daemon,
    Servers,
    About,
}

impl Group {
    pub(super) const ALL: [Group; 6] =
        [Group::Messages, Group::Sessions, Group::Shared, Group::Daemon, Group::Servers, Group::About];

    pub(super) fn title(self) -> &'static str {
        match self {
            Group::Messages => "Messages",
            Group::Sessions => "Sessions and peers",
            Group::Shared => "What a mesh shares",
            Group::Daemon => "Daemon",
            Group::Servers => "Meshes and servers",
            Group::About => "This program",
        }
    }
}

/// What a verb can change, which is what a policy asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// Nothing but what counts as read.
    Read,
    /// Messages and what others see.
    Write,
    /// Processes and files of this machine's user.
    Local,
}

/// How many words an operand takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Count {
    One,
    Optional,
    OneOrMore,
    Any,
}

impl Count {
    pub(super) fn is_required(self) -> bool {
        matches!(self, Count::One | Count::OneOrMore)
    }

    pub(super) fn is_many(self) -> bool {
        matches!(self, Count::OneOrMore | Count::Any)
    }
}

#[derive(Debug)]
pub(super) struct Operand {
    pub name: &'static str,
    pub about: &'static str,
    pub count: Count,
    /// The only words allowed, if any are listed.
    pub choices: &'static [&'static str],
}

impl Operand {
    pub(super) const fn one(name: &'static str, about: &'static str) -> Operand {
        Operand { name, about, count: Count::One, choices: &[] }
    }

    /// As usage lines write it.
    pub(super) fn usage(&self) -> String {
        let dots = if self.count.is_many() { "..." } else { "" };
        let name = if self.choices.is_empty() { self.name.to_owned() } else { self.choices.join("|") };
        if self.count.is_required() { format!("<{name}{dots}>") } else { format!("[{name}{dots}]") }
    }
}

#[derive(Debug)]
pub(super) struct Flag {
    /// With its two hyphens.
    pub long: &'static str,
    /// With its hyphen.
    pub short: Option<&'static str>,
    /// The name of its value; a switch has none.
    pub value: Option<&'static str>,
    /// The value that is meant where the flag stands without one.
    pub bare: Option<&'static str>,
    /// The only values allowed, if any are listed.
    pub choices: &'static [&'static str],
    pub about: &'static str,
}

impl Flag {
    pub(super) const fn switch(long: &'static str, about: &'static str) -> Flag {
        Flag { long, short: None, value: None, bare: None, choices: &[], about }
    }

    pub(super) const fn valued(long: &'static str, value: &'static str, about: &'static str) -> Flag {
        Flag { long, short: None, value: Some(value), bare: None, choices: &[], about }
    }

    /// As help lists it: `-m, --mesh SLUG`, `--wait[=STATE]`.
    pub(super) fn usage(&self) -> String {
        let short = self.short.map(|short| format!("{short}, ")).unwrap_or_default();
        let value = match (self.value, self.bare) {
            (Some(value), None) => format!(" {value}"),
            (Some(value), Some(_)) => format!("[={value}]"),
            (None, _) => String::new(),
        };
        format!("{short}{}{value}", self.long)
    }
}

/// A command line that works, and what it does.
#[derive(Debug)]
pub(super) struct Example {
    pub command: &'static str,
    pub about: &'static str,
}

pub(super) const MESH: Flag = Flag { short: Some("-m"), ..Flag::valued("--mesh", "SLUG", "Act on this mesh.") };
pub(super) const JSON: Flag = Flag::switch("--json", "Print JSON, errors too.");
pub(super) const HELP: Flag =
    Flag { short: Some("-h"), ..Flag::switch("--help", "Say what the command does; -h is the short form.") };
pub(super) const APPROVAL_MODE: Flag = Flag {
    choices: super::policy::MODES,
    ..Flag::valued("--approval-mode", "MODE", "Which effects are allowed; default $CLAUDEMESH_APPROVAL_MODE, else write.")
};

/// Flags of every verb. They may stand before it, too.
pub(super) const GLOBAL: &[Flag] = &[JSON, APPROVAL_MODE, HELP];

/// Every verb, in the order of help.
pub(super) const VERBS: &[Verb] = &[
    verbs::send::VERB,
    verbs::message::STATUS,
    verbs::later::REMIND,
    verbs::later::REMIND_LIST,
    verbs::later::REMIND_CANCEL,
    verbs::inbox::VERB,
    verbs::inbox_remove::FLUSH,
    verbs::inbox_remove::DELETE,
    verbs::launch::VERB,
    verbs::install::INSTALL,
    verbs::install::UNINSTALL,
    verbs::peers::VERB,
    verbs::whoami::VERB,
    verbs::profile::VERB,
    verbs::profile::SET,
    verbs::profile::STATUS,
    verbs::profile::SUMMARY,
    verbs::profile::VISIBLE,
    verbs::profile::GROUP_LIST,
    verbs::profile::GROUP_JOIN,
    verbs::profile::GROUP_LEAVE,
    verbs::order::GRANT_LIST,
    verbs::order::GRANT,
    verbs::order::REVOKE,
    verbs::order::BLOCK,
    verbs::order::UNBLOCK,
    verbs::order::KICK,
    verbs::order::DISCONNECT,
    verbs::order::BAN,
    verbs::order::UNBAN,
    verbs::order::BANS,
    verbs::status::VERB,
    verbs::doctor::VERB,
    verbs::state::LIST,
    verbs::state::GET,
    verbs::state::SET,
    verbs::memory::REMEMBER,
    verbs::memory::RECALL,
    verbs::memory::FORGET,
    verbs::skill::LIST,
    verbs::skill::GET,
    verbs::skill::PUBLISH,
    verbs::skill::REMOVE,
    verbs::topic::LIST,
    verbs::topic::CREATE,
    verbs::topic::JOIN,
    verbs::topic::LEAVE,
    verbs::topic::REMOVE,
    verbs::topic::MEMBERS,
    verbs::topic::POST,
    verbs::topic::HISTORY,
    verbs::topic_tail::TAIL,
    verbs::topic::READ,
    verbs::later::TASK_LIST,
    verbs::later::TASK_CREATE,
    verbs::later::TASK_CLAIM,
    verbs::later::TASK_COMPLETE,
    verbs::apikey::LIST,
    verbs::apikey::CREATE,
    verbs::apikey::REVOKE,
    verbs::up::VERB,
    verbs::down::VERB,
    verbs::down::RESTART,
    verbs::daemon::STATUS,
    verbs::daemon::VERSION,
    verbs::daemon::ACCEPT_HOST,
    verbs::order::RECONNECT,
    verbs::service::INSTALL,
    verbs::service::UNINSTALL,
    verbs::outbox::LIST,
    verbs::outbox::SHOW,
    verbs::outbox::REQUEUE,
    verbs::outbox::ABORT,
    verbs::outbox::PRUNE,
    verbs::broker::VERB,
    verbs::broker_admin::MESHES,
    verbs::broker_admin::MEMBERS,
    verbs::broker_admin::WAITING,
    verbs::broker_admin::BACKUP,
    verbs::broker_admin::RESTORE,
    verbs::broker_admin::COMPACT,
    verbs::broker_admin::VERIFY,
    verbs::mesh::CREATE,
    verbs::invite::VERB,
    verbs::invite::LIST,
    verbs::invite::REVOKE,
    verbs::join::VERB,
    verbs::list::VERB,
    verbs::leave::VERB,
    verbs::mesh::RENAME,
    verbs::mesh::DELETE,
    verbs::mcp::VERB,
    verbs::hook::VERB,
    verbs::status_line::VERB,
    verbs::demo::VERB,
    verbs::generate::VERB,
    verbs::help::VERB,
    verbs::version::VERB,
];

impl Verb {
    /// A verb without operands, flags and examples, which are given beside it.
    pub(super) const fn new(
        group: Group,
        effect: Effect,
        name: &'static str,
        about: &'static str,
        run: fn(&Parsed, &mut Out) -> Result<Exit, CliError>,
    ) -> Verb {
        Verb { name, aliases: &[], group, about, long: "", operands: &[], tail: None, flags: &[], effect, examples: &[], run }
    }

    /// Its name and its aliases.
    pub(super) fn names(&self) -> impl Iterator<Item = &'static str> {
        std::iter::once(self.name).chain(self.aliases.iter().copied())
    }

    /// Its own flags and those of every verb.
    pub(super) fn all_flags(&self) -> impl Iterator<Item = &'static Flag> + use<> {
        self.flags.iter().chain(GLOBAL)
    }

    /// `claudemesh send [flags] <TO> <TEXT...>`.
    pub(super) fn usage(&self) -> String {
        let mut usage = format!("claudemesh {}", self.name);
        if !self.flags.is_empty() {
            usage.push_str(" [flags]");
        }
        for operand in self.operands {
            usage.push(' ');
            usage.push_str(&operand.usage());
        }
        if let Some(tail) = &self.tail {
            usage.push_str(&format!(" [-- {}...]", tail.name));
        }
        usage
    }
}

#[cfg(test)]
mod tests;
