//! `settings.json` in the daemon's directory: what a person may want otherwise than the program does by itself. Every key
//! may be missing; a missing file is all defaults. It is ours alone, because the reference's programs drop keys they do
//! not know when they write `config.json`.

use std::fmt;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

/// What the daemon does when its files come from another host.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClonePolicy {
    /// Do not start: two hosts with the same keys would take each other's mail.
    #[default]
    Refuse,
    /// Say so in the log and start.
    Warn,
    Allow,
}

impl ClonePolicy {
    /// `refuse`, `warn` or `allow`.
    pub fn parse(text: &str) -> Option<ClonePolicy> {
        match text {
            "refuse" => Some(ClonePolicy::Refuse),
            "warn" => Some(ClonePolicy::Warn),
            "allow" => Some(ClonePolicy::Allow),
            _ => None,
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            ClonePolicy::Refuse => "refuse",
            ClonePolicy::Warn => "warn",
            ClonePolicy::Allow => "allow",
        }
    }
}

/// The settings, as they apply.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Settings {
    pub clone_policy: ClonePolicy,
    /// Messages received stay this many days.
    inbox_days: u32,
    /// Messages sent stay listed this many days after the broker took them; a late retry is recognised as long.
    sent_days: u32,
    /// A message that could not be handed to its broker for this many days is given up.
    give_up_days: u32,
    /// A message that could not be delivered stays listed this many days, for whoever wants to send it again.
    dead_days: u32,
    /// Port of the listener on 127.0.0.1; without it there is none.
    pub tcp_port: Option<u16>,
    /// Whether `/v1/health` answers on that port without the token.
    pub public_health: bool,
    /// Size in MiB at which `daemon.log` is put aside and begun anew.
    log_mib: u32,
    /// Within so many seconds one sender may wake a session [`Settings::wake_budget`] times without a person.
    wake_window_seconds: u32,
    wake_budget: u32,
    /// Whether senders are told what becomes of their messages here.
    pub receipts: bool,
    /// Event streams and waiting hooks at once; the next one is answered 429. Read when the daemon starts.
    max_streams: u32,
    /// A command that is run when mail comes for a session that nothing wakes, with the sender's name and the mesh behind it.
    pub notify_command: Vec<String>,
    /// The mesh of a claude that nobody launched, where several are joined.
    pub default_mesh: Option<String>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            clone_policy: ClonePolicy::Refuse,
            inbox_days: 30,
            sent_days: 7,
            give_up_days: 7,
            dead_days: 30,
            tcp_port: None,
            public_health: false,
            log_mib: 8,
            wake_window_seconds: 600,
            wake_budget: 20,
            receipts: true,
            max_streams: 4096,
            notify_command: Vec::new(),
            default_mesh: None,
        }
    }
}

/// Why the settings could not be used.
#[derive(Debug)]
pub enum Error {
    Read(PathBuf, io::Error),
    Parse(PathBuf, serde_json::Error),
    /// A number of days or MiB that makes no sense.
    Zero(PathBuf, &'static str),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Read(path, err) => write!(f, "{} can not be read: {err}", path.display()),
            Error::Parse(path, err) => write!(f, "{} is not what settings look like: {err}", path.display()),
            Error::Zero(path, key) => write!(f, "{}: {key} must be at least 1", path.display()),
        }
    }
}

impl std::error::Error for Error {}

/// Largest file that is read, in bytes.
const MAX_SETTINGS: u64 = 64 * 1024;

const DAY: Duration = Duration::from_secs(86_400);

impl Settings {
    pub fn load(path: &Path) -> Result<Settings, Error> {
        let mut bytes = Vec::new();
        match std::fs::File::open(path).and_then(|file| file.take(MAX_SETTINGS).read_to_end(&mut bytes)) {
            Ok(_) => {}
            Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(Settings::default()),
            Err(err) => return Err(Error::Read(path.to_owned(), err)),
        }
        let settings: Settings = serde_json::from_slice(&bytes).map_err(|err| Error::Parse(path.to_owned(), err))?;
        let numbers = [
            ("inboxDays", settings.inbox_days),
            ("sentDays", settings.sent_days),
            ("giveUpDays", settings.give_up_days),
            ("deadDays", settings.dead_days),
            ("logMib", settings.log_mib),
            ("wakeWindowSeconds", settings.wake_window_seconds),
            ("maxStreams", settings.max_streams),
        ];
        match numbers.iter().find(|(_, number)| *number == 0) {
            Some((key, _)) => Err(Error::Zero(path.to_owned(), key)),
            None => Ok(settings),
        }
    }

    pub fn keep_inbox(&self) -> Duration {
        DAY.saturating_mul(self.inbox_days)
    }

    pub fn keep_sent(&self) -> Duration {
        DAY.saturating_mul(self.sent_days)
    }

    pub fn give_up(&self) -> Duration {
        DAY.saturating_mul(self.give_up_days)
    }

    pub fn keep_dead(&self) -> Duration {
        DAY.saturating_mul(self.dead_days)
    }

    pub fn wake_window(&self) -> Duration {
        Duration::from_secs(u64::from(self.wake_window_seconds))
    }

    /// How often one sender may wake one session within the window. With 0, mail always waits for a person.
    pub fn wake_budget(&self) -> usize {
        usize::try_from(self.wake_budget).unwrap_or(usize::MAX)
    }

    pub fn max_streams(&self) -> usize {
        usize::try_from(self.max_streams).unwrap_or(usize::MAX)
    }

    /// In bytes.
    pub fn log_limit(&self) -> u64 {
        u64::from(self.log_mib) * 1024 * 1024
    }
}

#[cfg(test)]
mod tests {
    use tempfile::tempdir;

    use super::*;

    fn read(text: &str) -> Result<Settings, Error> {
        let dir = tempdir().unwrap();
        let path = dir.path().join("settings.json");
        std::fs::write(&path, text).unwrap();
        Settings::load(&path)
    }

    #[test]
    fn what_is_not_said_is_the_default() {
        assert_eq!(Settings::load(Path::new("/no/such/settings.json")).unwrap(), Settings::default());
        let settings = read(r#"{"clonePolicy":"warn","inboxDays":2}"#).unwrap();
        assert_eq!((settings.clone_policy, settings.keep_inbox()), (ClonePolicy::Warn, DAY * 2));
        assert_eq!(settings.keep_sent(), DAY * 7);
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        for (text, named) in [
            (r#"{"inboxDays":0}"#, "inboxDays must be at least 1"),
            (r#"{"inboxDaze":1}"#, "inboxDaze"),
            (r#"{"clonePolicy":"maybe"}"#, "maybe"),
            (r#"{"inboxDays":-12}"#, "-12"),
            ("{", "settings"),
        ] {
            let err = read(text).unwrap_err().to_string();
            assert!(err.contains(named), "{text}: {err}");
        }
    }
}
