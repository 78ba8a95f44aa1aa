//! `config.json`: which meshes this user has joined. Its shape is the reference's; keys that we do not know are kept.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::atomic_file;
use super::ids::{MemberId, MemberKey, MeshId, Slug};
use super::names::is_slug_any_case;

/// The whole file. A missing file is an empty configuration.
#[derive(Debug, Clone, Default)]
pub struct Config {
    pub meshes: Vec<Mesh>,
    pub display_name: Option<String>,
    /// Other top-level keys, as they came.
    rest: Map<String, Value>,
    /// Entries of `meshes` that could not be read. They are written back untouched: whoever can mend them may want to.
    unreadable: Vec<Value>,
}

/// One joined mesh.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Mesh {
    pub mesh_id: MeshId,
    pub member_id: MemberId,
    pub slug: Slug,
    #[serde(default)]
    pub name: String,
    pub pubkey: MemberKey,
    /// 128 hex characters, the only place where the member's secret is kept; [`crate::base`] does not look inside.
    pub secret_key: SecretText,
    /// `ws://` or `wss://`, with its path.
    pub broker_url: String,
    /// ISO 8601.
    #[serde(default)]
    pub joined_at: String,
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

impl fmt::Debug for Mesh {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mesh({} {} {:?} {})", self.slug, self.mesh_id, self.pubkey, self.broker_url)
    }
}

/// A secret as its file spells it. It is written back to that file only, and prints redacted.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SecretText(String);

impl SecretText {
    pub fn new(hex: String) -> SecretText {
        SecretText(hex)
    }

    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText(redacted)")
    }
}

/// Why the configuration could not be used.
#[derive(Debug)]
pub enum Error {
    Read(PathBuf, io::Error),
    Parse(PathBuf, serde_json::Error),
    Write(PathBuf, io::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Read(path, err) => write!(f, "Failed to load {}: {err}", path.display()),
            Error::Parse(path, err) => write!(f, "Failed to load {}: {err}", path.display()),
            Error::Write(path, err) => write!(f, "Failed to write {}: {err}", path.display()),
        }
    }
}

impl std::error::Error for Error {}

/// Largest configuration that is read, in bytes: a thousand meshes fit many times over.
const MAX_CONFIG: u64 = 4 * 1024 * 1024;

impl Config {
    /// Reads `path`. A file without a `meshes` array has none, as in the reference. Entries with a slug or
    /// keys that can not be right are left out and logged, so that one bad entry does not take the others down.
    pub fn load(path: &Path) -> Result<Config, Error> {
        let bytes = match read_capped(path) {
            Ok(bytes) => bytes,
            Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(Config::default()),
            Err(err) => return Err(Error::Read(path.to_owned(), err)),
        };
        Config::parse(&bytes).map_err(|err| Error::Parse(path.to_owned(), err))
    }

    /// Reads the bytes of a `config.json`.
    pub fn parse(bytes: &[u8]) -> Result<Config, serde_json::Error> {
        let Value::Object(mut whole) = serde_json::from_slice(bytes)? else {
            return Ok(Config::default());
        };
        let entries = match whole.remove("meshes") {
            Some(Value::Array(entries)) => entries,
            _ => Vec::new(),
        };
        let mut config = Config::default();
        whole.remove("version");
        if let Some(Value::String(name)) = whole.get("displayName") {
            config.display_name = Some(name.clone());
            whole.remove("displayName");
        }
        config.rest = whole;
        for entry in entries {
            match serde_json::from_value::<Mesh>(entry.clone()) {
                Ok(mesh) if is_slug_any_case(mesh.slug.as_str()) => config.meshes.push(mesh),
                Ok(mesh) => {
                    log::warn!("config.json: mesh {:?} left out: its slug is not [A-Za-z0-9._-]", mesh.slug);
                    config.unreadable.push(entry);
                }
                Err(err) => {
                    log::warn!("config.json: a mesh entry was left out: {err}");
                    config.unreadable.push(entry);
                }
            }
        }
        Ok(config)
    }

    /// The file's JSON value: known keys first, then the rest as it came.
    fn to_value(&self) -> Result<Value, serde_json::Error> {
        let mut meshes = self.meshes.iter().map(serde_json::to_value).collect::<Result<Vec<Value>, _>>()?;
        meshes.extend(self.unreadable.iter().cloned());
        let mut whole = Map::new();
        whole.insert("version".to_owned(), 1.into());
        whole.insert("meshes".to_owned(), Value::Array(meshes));
        if let Some(name) = &self.display_name {
            whole.insert("displayName".to_owned(), name.as_str().into());
        }
        whole.extend(self.rest.clone());
        Ok(Value::Object(whole))
    }

    /// Writes the file, 0600 in a 0700 directory, whole or not at all.
    pub fn store(&self, path: &Path) -> Result<(), Error> {
        let write = || {
            if let Some(dir) = path.parent() {
                atomic_file::private_dir(dir)?;
            }
            let mut text = serde_json::to_string_pretty(&self.to_value()?)?;
            text.push('\n');
            atomic_file::write(path, text.as_bytes())
        };
        write().map_err(|err| Error::Write(path.to_owned(), err))
    }

    /// The joined mesh of this slug; the last one, if the file names it twice.
    pub fn mesh(&self, slug: &Slug) -> Option<&Mesh> {
        self.meshes.iter().rfind(|mesh| mesh.slug == *slug)
    }
}

fn read_capped(path: &Path) -> io::Result<Vec<u8>> {
    use std::io::Read;
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(MAX_CONFIG + 1).read_to_end(&mut bytes)?;
    if MAX_CONFIG < bytes.len() as u64 {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "larger than 4 MiB"));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = r#"{"version":1,"displayName":"Ann","groups":[{"name":"eng"}],"meshes":[
        {"meshId":"m","memberId":"i","slug":"acme","name":"Acme","pubkey":"8a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c",
         "secretKey":"00","brokerUrl":"ws://127.0.0.1:7900/ws","joinedAt":"2025-10-09T08:53:20.000Z","rootKey":"CQk","inviteVersion":1},
        {"slug":"../../etc","meshId":7}]}"#;

    #[test]
    fn keeps_what_it_does_not_know_and_leaves_out_what_is_broken() {
        let config = Config::parse(ONE.as_bytes()).unwrap();
        assert_eq!(config.meshes.len(), 1);
        let written = config.to_value().unwrap();
        assert_eq!(written["groups"][0]["name"], "eng");
        assert_eq!(written["meshes"][0]["rootKey"], "CQk");
        assert_eq!(written["meshes"][0]["inviteVersion"], 1);
        assert_eq!(written["version"], 1);
        assert_eq!(written["meshes"][1]["slug"], "../../etc", "what can not be read is not thrown away");
        assert!(!format!("{config:?}").contains("secretKey"));
    }

    #[test]
    fn odd_files_read_as_empty_and_broken_ones_do_not() {
        for odd in ["[]", "{}", r#"{"meshes":{}}"#, "null"] {
            assert!(Config::parse(odd.as_bytes()).unwrap().meshes.is_empty(), "{odd}");
        }
        let named = Config::parse(br#"{"displayName":"Ann","groups":[1]}"#).unwrap().to_value().unwrap();
        assert_eq!((&named["displayName"], &named["groups"][0]), (&"Ann".into(), &1.into()));
        assert!(Config::parse(b"{").is_err());
        assert!(Config::load(Path::new("/no/such/config.json")).unwrap().meshes.is_empty());
    }
}
