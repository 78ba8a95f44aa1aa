//! `broker.json` in the data directory: what whoever operates the broker wants otherwise. Every key may be missing; a
//! missing file is all defaults.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use crate::base::time::Millis;
use crate::store::hub::Policy;
use crate::wire::json;

/// Largest file that is read, in bytes.
const MAX_FILE: u64 = 64 * 1024;

const DAY: u64 = 86_400;
const MIB: u64 = 1024 * 1024;

/// The settings, as they apply.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub(super) struct Settings {
    /// A message that nobody fetched for this many days is dropped.
    message_days: u32,
    /// Entries of the audit log stay this many days.
    audit_days: u32,
    /// Whether each message gets an entry in the audit log, too. Not unless it is asked for: a fifth of the throughput.
    audit_messages: bool,
    /// Mail that may wait in one mesh, in MiB.
    mesh_mib: u32,
    /// Mail that may wait for one recipient, in MiB.
    recipient_mib: u32,
    /// What one mesh may keep beside that, in MiB.
    kept_mib: u32,
    max_meshes: u32,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            message_days: 7,
            audit_days: 30,
            audit_messages: false,
            mesh_mib: 1024,
            recipient_mib: 256,
            kept_mib: 1024,
            max_meshes: 1000,
        }
    }
}

/// Why the settings could not be used.
#[derive(Debug)]
pub enum SettingsError {
    Read(PathBuf, io::Error),
    Parse(PathBuf, String),
    /// A number that must be at least 1.
    Zero(PathBuf, &'static str),
}

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SettingsError::Read(path, err) => write!(f, "{} can not be read: {err}", path.display()),
            SettingsError::Parse(path, err) => write!(f, "{} is not what settings look like: {err}", path.display()),
            SettingsError::Zero(path, key) => write!(f, "{}: {key} must be at least 1", path.display()),
        }
    }
}

impl std::error::Error for SettingsError {}

impl Settings {
    pub(super) fn load(path: &Path) -> Result<Settings, SettingsError> {
        let mut bytes = Vec::new();
        match File::open(path).and_then(|file| file.take(MAX_FILE).read_to_end(&mut bytes)) {
            Ok(_) => {}
            Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(Settings::default()),
            Err(err) => return Err(SettingsError::Read(path.to_owned(), err)),
        }
        let settings: Settings = json::decode(&bytes).map_err(|err| SettingsError::Parse(path.to_owned(), err.to_string()))?;
        let numbers = [
            ("messageDays", settings.message_days),
            ("auditDays", settings.audit_days),
            ("meshMib", settings.mesh_mib),
            ("recipientMib", settings.recipient_mib),
            ("keptMib", settings.kept_mib),
            ("maxMeshes", settings.max_meshes),
        ];
        match numbers.iter().find(|(_, number)| *number == 0) {
            Some((key, _)) => Err(SettingsError::Zero(path.to_owned(), key)),
            None => Ok(settings),
        }
    }

    pub(super) fn policy(&self) -> Policy {
        Policy {
            mesh_bytes: u64::from(self.mesh_mib) * MIB,
            recipient_bytes: u64::from(self.recipient_mib) * MIB,
            kept_bytes: u64::from(self.kept_mib) * MIB,
            meshes: usize::try_from(self.max_meshes).unwrap_or(usize::MAX),
            audit_messages: self.audit_messages,
        }
    }

    /// When a message that is sent at `now` is dropped.
    pub(super) fn expires_at(&self, now: Millis) -> Millis {
        now.saturating_add(millis(Duration::from_secs(u64::from(self.message_days) * DAY)))
    }

    /// Entries of the audit log from before this go.
    pub(super) fn audit_from(&self, now: Millis) -> Millis {
        now.saturating_sub(millis(Duration::from_secs(u64::from(self.audit_days) * DAY)))
    }
}

fn millis(time: Duration) -> Millis {
    Millis::try_from(time.as_millis()).unwrap_or(Millis::MAX)
}

#[cfg(test)]
mod tests {
    use tempfile::tempdir;

    use super::*;

    #[test]
    fn what_is_not_said_is_the_default_and_nonsense_is_named() {
        let dir = tempdir().unwrap();
        let path = dir.path().join("broker.json");
        assert_eq!(Settings::load(&path).unwrap(), Settings::default());
        assert!(!Settings::default().policy().audit_messages, "each costs a fifth of the throughput");
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            Settings::load(&path)
        };
        let settings = read(r#"{"messageDays":2,"recipientMib":1,"auditMessages":true,"keptMib":3}"#).unwrap();
        assert_eq!(settings.expires_at(5), 5 + 2 * 86_400_000);
        let policy = settings.policy();
        assert_eq!((policy.recipient_bytes, policy.audit_messages, policy.kept_bytes), (MIB, true, 3 * MIB));
        for (text, named) in [
            (r#"{"messageDays":0}"#, "messageDays must be at least 1"),
            (r#"{"mesageDays":1}"#, "mesageDays"),
            (r#"{"maxMeshes":-1}"#, "-1"),
            ("{", "not what settings look like"),
        ] {
            let err = read(text).unwrap_err().to_string();
            assert!(err.contains(named), "{text}: {err}");
        }
    }

    #[test]
    fn no_number_in_it_is_too_much() {
        for number in ["0", "1", "4294967295", "4294967296", "-1", "1e9", "null", "\"7\"", "[]"] {
            let names = ["messageDays", "auditDays", "meshMib", "recipientMib", "keptMib", "maxMeshes"];
            let text = names.map(|name| format!("{{\"{name}\":{number}}}"));
            for settings in text.iter().filter_map(|text| json::decode::<Settings>(text.as_bytes()).ok()) {
                let now = 1_760_000_000_000;
                assert!(now <= settings.expires_at(now) && settings.audit_from(now) <= now, "{settings:?}");
                assert!(settings.policy().kept_bytes <= u64::from(u32::MAX) * MIB);
            }
        }
    }
}
