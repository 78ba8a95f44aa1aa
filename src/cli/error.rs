//! Why a command could not do what it was asked to. `Display` is what happened; [`CliError::hint`] is what to do.

use std::fmt;
use std::io;

use crate::base::config;
use crate::base::exit::Exit;
use crate::client;
use crate::client::spawn::SpawnError;
use crate::client::token::TokenError;
use crate::wire::json::Value;

#[derive(Debug)]
pub(super) enum CliError {
    /// The command line could not be understood.
    Usage {
        what: String,
        hint: Option<String>,
    },
    /// Understood, and not possible; the exit status says of which kind.
    Refused {
        exit: Exit,
        what: String,
        hint: Option<String>,
    },
    /// No daemon, and none could be started.
    Spawn(SpawnError),
    Client(client::Error),
    /// The environment names a session whose token cannot be used.
    Token(TokenError),
    Config(config::Error),
    /// Neither `CLAUDEMESH_HOME` nor `HOME` is set.
    NoHome,
    /// Standard output or standard error cannot be written.
    Output(io::Error),
    Io {
        what: String,
        err: io::Error,
    },
}

impl CliError {
    pub(super) fn usage(what: impl Into<String>) -> CliError {
        CliError::Usage { what: what.into(), hint: None }
    }

    pub(super) fn refused(exit: Exit, what: impl Into<String>) -> CliError {
        CliError::Refused { exit, what: what.into(), hint: None }
    }

    /// `what` was being done when the system refused.
    pub(super) fn io(what: impl Into<String>, err: io::Error) -> CliError {
        CliError::Io { what: what.into(), err }
    }

    /// With this advice, where the error takes any from outside.
    pub(super) fn with_hint(mut self, text: impl Into<String>) -> CliError {
        if let CliError::Usage { hint, .. } | CliError::Refused { hint, .. } = &mut self {
            *hint = Some(text.into());
        }
        self
    }

    /// Says by which command to find what is there, where what was asked for is not and nothing better is advised.
    pub(super) fn or_list(mut self, command: &str) -> CliError {
        if let CliError::Refused { exit: Exit::NotFound, hint: hint @ None, .. } = &mut self {
            *hint = Some(format!("see what there is with: {command}"));
        }
        self
    }

    /// What to do about it.
    pub(super) fn hint(&self) -> Option<String> {
        match self {
            CliError::Usage { hint, .. } | CliError::Refused { hint, .. } => hint.clone(),
            CliError::Spawn(err) => err.hint(),
            CliError::Client(err) => err.hint(),
            CliError::Token(err) => Some(err.hint()),
            CliError::Config(_) => Some("correct the file, or move it away and join again".to_owned()),
            CliError::NoHome => Some("set HOME, or CLAUDEMESH_HOME to a directory for this program's files".to_owned()),
            CliError::Output(_) | CliError::Io { .. } => None,
        }
    }

    pub(super) fn exit(&self) -> Exit {
        match self {
            CliError::Usage { .. } => Exit::Usage,
            CliError::Refused { exit, .. } => *exit,
            CliError::Spawn(err) => err.exit(),
            CliError::Client(err) => err.exit(),
            CliError::Token(_) => Exit::Denied,
            // Whoever stopped reading has seen enough.
            CliError::Output(err) if err.kind() == io::ErrorKind::BrokenPipe => Exit::Success,
            CliError::Config(_) | CliError::NoHome | CliError::Output(_) | CliError::Io { .. } => Exit::Io,
        }
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CliError::Usage { what, .. } | CliError::Refused { what, .. } => f.write_str(what),
            CliError::Spawn(err) => err.fmt(f),
            CliError::Client(err) => err.fmt(f),
            CliError::Token(err) => err.fmt(f),
            CliError::Config(err) => err.fmt(f),
            CliError::NoHome => f.write_str("there is no home directory to keep files in"),
            CliError::Output(err) => write!(f, "the output cannot be written: {err}"),
            CliError::Io { what, err } => write!(f, "{what}: {err}"),
        }
    }
}

impl std::error::Error for CliError {}

impl From<client::Error> for CliError {
    fn from(err: client::Error) -> CliError {
        // Whatever was asked for, the mesh was named or is the session's.
        if let client::Error::Refused { problem, .. } = &err
            && problem.error == "mesh_not_attached"
        {
            let mesh = problem.rest.get("mesh").and_then(Value::as_str).unwrap_or_default();
            let what = format!("mesh \"{mesh}\" not found");
            return CliError::Refused { exit: Exit::NotFound, what, hint: problem.hint.clone() };
        }
        CliError::Client(err)
    }
}

impl From<SpawnError> for CliError {
    fn from(err: SpawnError) -> CliError {
        CliError::Spawn(err)
    }
}

impl From<TokenError> for CliError {
    fn from(err: TokenError) -> CliError {
        CliError::Token(err)
    }
}

impl From<config::Error> for CliError {
    fn from(err: config::Error) -> CliError {
        CliError::Config(err)
    }
}
