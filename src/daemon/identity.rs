//! Is this the machine that the daemon's files belong to? A home directory that was cloned to another host would otherwise
//! speak with the same keys from two places. The machine's own id decides; network addresses change and prove nothing.

use std::fmt;
use std::fs;
use std::io;

use serde::{Deserialize, Serialize};

use crate::base::atomic_file;
use crate::base::hex;
use crate::base::paths::Paths;
use crate::base::time::{iso, now_millis};
use crate::crypto::fingerprint::sha256;
use crate::wire::json;

/// `host_fingerprint.json`, in the reference's form and order of keys. The address is written empty: the reference accepts
/// a record whose host id is its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    schema_version: u32,
    fingerprint: String,
    #[serde(default)]
    host_id: String,
    #[serde(default)]
    stable_mac: String,
    #[serde(default)]
    written_at: String,
}

impl Record {
    fn of(host_id: &str) -> Record {
        Record {
            schema_version: 2,
            fingerprint: fingerprint(host_id, ""),
            host_id: host_id.to_owned(),
            stable_mac: String::new(),
            written_at: iso(now_millis()),
        }
    }
}

/// The files were written on another host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtherHost {
    pub stored: String,
    pub current: String,
}

impl fmt::Display for OtherHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "host_fingerprint mismatch: this daemon dir was started on a different host.\n  stored host_id: {}\n  current host_id: {}\n  if they were moved here on purpose: claudemesh daemon accept-host",
            crate::base::names::neutralise_line(&self.stored),
            self.current
        )
    }
}

impl std::error::Error for OtherHost {}

/// What the stored record says about this host.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// Nothing to compare with: write a record.
    First,
    Same,
    Other(OtherHost),
}

fn judge(stored: Option<&Record>, current: &str) -> Verdict {
    match stored {
        // A record of a host without an id would protect nothing, and the reference would take it for another host's.
        None if current.is_empty() => Verdict::Same,
        None => Verdict::First,
        // Without an id on either side there is nothing that could tell two hosts apart.
        Some(record) if record.host_id.is_empty() || current.is_empty() => Verdict::Same,
        Some(record) if record.host_id != current => {
            Verdict::Other(OtherHost { stored: record.host_id.clone(), current: current.to_owned() })
        }
        // Whatever its form: an old one stays as it is, so that the version of the reference that wrote it can return.
        Some(_) => Verdict::Same,
    }
}

/// Compares the stored record with this host, and writes one where there is none.
pub(super) fn check(paths: &Paths) -> io::Result<Result<(), OtherHost>> {
    let stored = match read(paths)? {
        Some(Err(err)) => {
            log::warn!("{} could not be read ({err}); it is written anew", paths.host_fingerprint().display());
            None
        }
        stored => stored.and_then(Result::ok),
    };
    let current = host_id();
    match judge(stored.as_ref(), &current) {
        Verdict::Same => Ok(Ok(())),
        Verdict::First => write(paths, &Record::of(&current)).map(Ok),
        Verdict::Other(other) => Ok(Err(other)),
    }
}

/// The other host that wrote the record, if one did. Nothing is written.
pub(super) fn look(paths: &Paths) -> io::Result<Option<OtherHost>> {
    match judge(read(paths)?.and_then(Result::ok).as_ref(), &host_id()) {
        Verdict::Other(other) => Ok(Some(other)),
        Verdict::First | Verdict::Same => Ok(None),
    }
}

/// The stored record, if there is one.
fn read(paths: &Paths) -> io::Result<Option<Result<Record, json::DecodeError>>> {
    match fs::read(paths.host_fingerprint()) {
        Ok(bytes) => Ok(Some(json::decode(&bytes))),
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(err) => Err(err),
    }
}

/// Makes this host the one that the daemon's files belong to. Returns the first 16 characters of its fingerprint.
pub fn accept_host(paths: &Paths) -> io::Result<String> {
    let record = Record::of(&host_id());
    atomic_file::private_dir(paths.daemon_dir())?;
    write(paths, &record)?;
    Ok(record.fingerprint[..16].to_owned())
}

fn write(paths: &Paths, record: &Record) -> io::Result<()> {
    atomic_file::write(&paths.host_fingerprint(), json::encode_pretty(record).as_bytes())
}

/// SHA-256 over `v2`, the host id and the address, with a NUL between.
fn fingerprint(host_id: &str, mac: &str) -> String {
    hex::encode(&sha256(format!("v2\0{host_id}\0{mac}").as_bytes()))
}

/// `linux:<machine-id>` or `darwin:<IOPlatformUUID>`; empty where the system has no such id.
fn host_id() -> String {
    if cfg!(target_os = "macos") {
        return darwin_id().map(|id| format!("darwin:{id}")).unwrap_or_default();
    }
    let read = |path: &str| fs::read_to_string(path).ok().map(|id| id.trim().to_owned()).filter(|id| !id.is_empty());
    ["/etc/machine-id", "/var/lib/dbus/machine-id"].into_iter().find_map(read).map(|id| format!("linux:{id}")).unwrap_or_default()
}

fn darwin_id() -> Option<String> {
    let output = std::process::Command::new("/usr/sbin/ioreg").args(["-rd1", "-c", "IOPlatformExpertDevice"]).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let line = text.lines().find(|line| line.contains("IOPlatformUUID"))?;
    line.rsplit('"').nth(1).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use tempfile::tempdir;

    use super::*;

    #[test]
    fn fingerprints_are_the_references() {
        assert_eq!(
            fingerprint("linux:0123456789abcdef0123456789abcdef", "00:e0:4c:68:00:c0"),
            "b281164154b60d235253d078d17c0cf69419dff3faffd4b3d4dd691f385a1752"
        );
        assert_eq!(fingerprint("", ""), "6c76aaa3a5211516ed20a9e1360f48791164358617e5f1796a46c3b417a5c1d6");
    }

    #[test]
    fn only_another_machines_id_is_a_mismatch() {
        let record = |schema_version, host_id: &str| Record { schema_version, ..Record::of(host_id) };
        for (stored, current, expected) in [
            (None, "linux:a", Verdict::First),
            (Some(record(2, "linux:a")), "linux:a", Verdict::Same),
            (None, "", Verdict::Same),
            (Some(record(1, "linux:a")), "linux:a", Verdict::Same),
            (Some(record(3, "linux:a")), "linux:a", Verdict::Same),
            (Some(record(2, "")), "linux:a", Verdict::Same),
            (Some(record(2, "linux:a")), "", Verdict::Same),
            (
                Some(record(2, "linux:a")),
                "linux:b",
                Verdict::Other(OtherHost { stored: "linux:a".into(), current: "linux:b".into() }),
            ),
        ] {
            assert_eq!(judge(stored.as_ref(), current), expected);
        }
    }

    #[test]
    fn a_clone_is_noticed_until_it_is_accepted() {
        let root = tempdir().unwrap();
        let paths = Paths::under(root.path());
        atomic_file::private_dir(paths.daemon_dir()).unwrap();
        assert_eq!(check(&paths).unwrap(), Ok(()));
        write(&paths, &Record::of("linux:somewhere-else")).unwrap();
        if !host_id().is_empty() {
            assert_eq!(check(&paths).unwrap().unwrap_err().stored, "linux:somewhere-else");
        }
        assert_eq!(accept_host(&paths).unwrap().len(), 16);
        assert_eq!(check(&paths).unwrap(), Ok(()));
    }
}
