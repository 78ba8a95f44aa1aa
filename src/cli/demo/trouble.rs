//! Why the demo can not go on.

use std::fmt;
use std::io;

use crate::base::exit::Exit;
use crate::client;

/// Why the demo can not go on.
#[derive(Debug)]
pub(super) enum Trouble {
    /// What was waited for did not happen in time; the daemon's last words.
    Late {
        what: String,
        log: Option<String>,
    },
    /// A process ended that should run; its last words.
    Ended {
        who: String,
        said: Option<String>,
    },
    Client(client::Error),
    Io(&'static str, io::Error),
    Interrupted,
}

impl Trouble {
    pub(super) fn exit(&self) -> Exit {
        match self {
            Trouble::Late { .. } | Trouble::Ended { .. } | Trouble::Interrupted => Exit::Failure,
            Trouble::Client(err) => err.exit(),
            Trouble::Io(..) => Exit::Io,
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let told = |f: &mut fmt::Formatter<'_>, said: &Option<String>| said.as_ref().map_or(Ok(()), |said| write!(f, ": {said}"));
        match self {
            Trouble::Late { what, log } => {
                write!(f, "{what} did not happen in time")?;
                told(f, log)
            }
            Trouble::Ended { who, said } => {
                write!(f, "{who} ended by itself")?;
                told(f, said)
            }
            Trouble::Client(err) => err.fmt(f),
            Trouble::Io(what, err) => write!(f, "{what}: {err}"),
            Trouble::Interrupted => f.write_str("it was told to"),
        }
    }
}

impl From<client::Error> for Trouble {
    fn from(err: client::Error) -> Trouble {
        Trouble::Client(err)
    }
}
