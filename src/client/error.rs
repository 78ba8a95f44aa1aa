//! Why a call to the daemon brought no answer.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::base::exit::Exit;
use crate::wire::ipc::Problem;

use super::spawn::SpawnError;

/// How a call failed. `Display` says what happened, [`Error::hint`] what to do about it.
#[derive(Debug)]
pub enum Error {
    /// Nobody listens on the socket.
    NoDaemon(PathBuf),
    /// The daemon hung up without a whole answer, as one does that has ended. Unless the request was `unread`, nobody knows whether
    /// it was carried out.
    Gone {
        unread: bool,
    },
    /// The daemon ended as it was asked, and there is none in its place.
    Spawn(Box<SpawnError>),
    /// No complete answer within the deadline. Whether the request was carried out is not known.
    Timeout,
    /// The daemon answered, and its answer is no.
    Refused {
        status: u16,
        problem: Box<Problem>,
    },
    /// The answer is not one that a daemon gives.
    Protocol(String),
    Io(io::Error),
}

impl Error {
    /// What to do about it, where there is anything to do.
    pub fn hint(&self) -> Option<String> {
        match self {
            Error::NoDaemon(_) => Some("start it with: claudemesh up".to_owned()),
            Error::Gone { unread: true } => Some("try again; see: claudemesh status".to_owned()),
            Error::Gone { unread: false } => Some("it may have been done: look before you do it again".to_owned()),
            Error::Spawn(err) => err.hint(),
            Error::Timeout => Some("the daemon is busy or stuck; if it stays so: claudemesh daemon restart".to_owned()),
            Error::Refused { problem, status } => problem.hint.clone().or_else(|| {
                (*status == 401)
                    .then(|| "this session has ended or is not registered; start it with: claudemesh launch".to_owned())
            }),
            Error::Protocol(_) => {
                Some("the socket belongs to something else, or to another version; see: claudemesh status".to_owned())
            }
            Error::Io(err) if err.kind() == io::ErrorKind::InvalidFilename => Some(
                "the path of the daemon's socket is too long for the system: name a directory with a shorter one with \
                 CLAUDEMESH_DAEMON_DIR"
                    .to_owned(),
            ),
            Error::Io(_) => None,
        }
    }

    /// The status a command ends with that has nothing better to say.
    pub fn exit(&self) -> Exit {
        match self {
            Error::NoDaemon(_) | Error::Gone { .. } | Error::Timeout => Exit::Network,
            Error::Spawn(err) => err.exit(),
            Error::Refused { status: 401 | 403, .. } => Exit::Denied,
            Error::Refused { status: 404, .. } => Exit::NotFound,
            Error::Refused { status: 409, .. } => Exit::AlreadyExists,
            Error::Refused { status: 502..=504, .. } => Exit::Network,
            Error::Refused { .. } => Exit::Failure,
            Error::Protocol(_) => Exit::Internal,
            Error::Io(_) => Exit::Io,
        }
    }

    /// Sorts what the system said about the socket at `path`.
    pub(super) fn of_connect(err: io::Error, path: &std::path::Path) -> Error {
        match err.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Error::NoDaemon(path.to_owned()),
            _ => Error::from(err),
        }
    }
}

impl From<SpawnError> for Error {
    fn from(err: SpawnError) -> Error {
        Error::Spawn(Box::new(err))
    }
}

impl From<io::Error> for Error {
    fn from(err: io::Error) -> Error {
        match err.kind() {
            io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => Error::Timeout,
            io::ErrorKind::InvalidData => Error::Protocol(err.to_string()),
            _ => Error::Io(err),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::NoDaemon(path) => write!(f, "no daemon answers at {}", path.display()),
            Error::Gone { .. } => f.write_str("the daemon ended before it answered"),
            Error::Spawn(err) => err.fmt(f),
            Error::Timeout => f.write_str("the daemon did not answer in time"),
            Error::Refused { problem, .. } => match &problem.detail {
                Some(detail) => write!(f, "{}: {detail}", problem.error),
                None => f.write_str(&problem.error),
            },
            Error::Protocol(text) => write!(f, "not the answer of a daemon: {text}"),
            Error::Io(err) => write!(f, "cannot speak to the daemon: {err}"),
        }
    }
}

impl std::error::Error for Error {}
