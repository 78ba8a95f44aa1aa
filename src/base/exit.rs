//! Every exit status of the program, each with its sentence. The man page and `claudemesh help exit-codes` print this table.

use std::process::ExitCode;

/// How a command ended. The numbers up to 10 are those of the reference's command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    Success,
    Failure,
    Unavailable,
    Usage,
    Network,
    NotFound,
    AlreadyExists,
    Denied,
    Internal,
    CommandMissing,
    Io,
    Timeout,
    Undelivered,
    NotKnown,
    /// What a command that `launch` started ended with; 128 + N if signal N ended it.
    Child(u8),
}

impl Exit {
    /// Every status that the program itself chooses, in numeric order.
    pub const ALL: &[Exit] = &[
        Exit::Success,
        Exit::Failure,
        Exit::Unavailable,
        Exit::Usage,
        Exit::Network,
        Exit::NotFound,
        Exit::AlreadyExists,
        Exit::Denied,
        Exit::Internal,
        Exit::CommandMissing,
        Exit::Io,
        Exit::Timeout,
        Exit::Undelivered,
        Exit::NotKnown,
    ];

    pub fn code(self) -> u8 {
        match self {
            Exit::Success => 0,
            Exit::Failure => 1,
            Exit::Unavailable => 2,
            Exit::Usage => 3,
            Exit::Network => 4,
            Exit::NotFound => 5,
            Exit::AlreadyExists => 6,
            Exit::Denied => 7,
            Exit::Internal => 8,
            Exit::CommandMissing => 9,
            Exit::Io => 10,
            Exit::Timeout => 11,
            Exit::Undelivered => 12,
            Exit::NotKnown => 13,
            Exit::Child(code) => code,
        }
    }

    pub fn meaning(self) -> &'static str {
        match self {
            Exit::Success => "The command did what it was asked to.",
            Exit::Failure => "The command was understood and could not be carried out; the text says why.",
            Exit::Unavailable => "There is no session or no mesh here to act for.",
            Exit::Usage => "The command line could not be understood, or names something this program leaves out.",
            Exit::Network => {
                "The daemon or the broker could not be reached, or this host is not the one the daemon's files belong to."
            }
            Exit::NotFound => "No such peer, message, mesh or session.",
            Exit::AlreadyExists => "What should be made is there already.",
            Exit::Denied => "Refused: by policy, by a grant, or because the token is not known.",
            Exit::Internal => "A fault of the program itself.",
            Exit::CommandMissing => "The command that should be launched is not installed.",
            Exit::Io => "A file or a pipe could not be read or written.",
            Exit::Timeout => "What was waited for did not come in time; it may still come.",
            Exit::Undelivered => "The message is dead or has expired: it does not get where it was waited for.",
            Exit::NotKnown => "Nobody says what became of the message: its broker passes on nothing of what recipients say.",
            Exit::Child(_) => "The status of the command that was launched.",
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_in_order() {
        let codes: Vec<u8> = Exit::ALL.iter().map(|exit| exit.code()).collect();
        assert_eq!(codes, (0..=13).collect::<Vec<u8>>());
    }
}
