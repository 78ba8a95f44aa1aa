//! Puts this program into the client's own files, and takes it out again. Everything is worked out first and written then, all of
//! it or nothing; a file that needs no change is not touched.

mod allowed;
mod change;
mod diff;
mod edits;
mod record;

use std::path::PathBuf;

use crate::base::exit::Exit;
use crate::base::paths::Paths;
use crate::cli::error::CliError;
use crate::cli::hook;
use crate::wire::json::{self, Value};
use crate::wire::tree::Tree;

pub(super) use self::change::{Change, apply};
use self::change::{edit, parse, read, restore};
use self::record::{Put, Record};

/// What the model is told about this program; the plugin carries the same.
const SKILL: &str = include_str!("../../../contrib/plugin/skills/claudemesh/SKILL.md");

/// Where the client keeps its files.
#[derive(Debug)]
pub(super) struct Client {
    /// `~/.claude.json`.
    state: PathBuf,
    /// `~/.claude`.
    dir: PathBuf,
}

/// Which parts of an installation are wanted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    pub(super) server: bool,
    pub(super) hooks: bool,
    pub(super) permissions: bool,
    pub(super) skill: bool,
    pub(super) status_line: bool,
    /// Take out what forbids every hook.
    pub(super) enable_hooks: bool,
    /// Noted, so that it goes with the rest.
    pub(super) service: bool,
}

/// What an uninstallation does.
#[derive(Debug)]
pub(super) struct Removal {
    pub(super) changes: Vec<Change>,
    /// The daemon was made a service with the rest, and goes with it.
    pub(super) service: bool,
}

impl Client {
    /// As the client finds them: `CLAUDE_CONFIG_DIR`, else the home directory.
    pub(super) fn from_env() -> Result<Client, CliError> {
        let dir = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        if let Some(dir) = dir("CLAUDE_CONFIG_DIR") {
            return Ok(Client { state: dir.join(".claude.json"), dir });
        }
        let home = dir("HOME").ok_or(CliError::NoHome)?;
        Ok(Client { state: home.join(".claude.json"), dir: home.join(".claude") })
    }

    /// Whether an installation has put hooks into the user's own settings.
    pub(super) fn has_hooks(&self) -> bool {
        self.settings().is_ok_and(|settings| hook::settings::has_ours(&settings))
    }

    /// What an installation of `program` changes.
    pub(super) fn install(&self, paths: &Paths, program: &str, wanted: Wanted) -> Result<Vec<Change>, CliError> {
        let kept = read(&paths.installed_file())?;
        let mut record = record(&kept)?.unwrap_or_default();
        let state = edit(&self.state, |file| match wanted.server {
            true => edits::add_server(file, program, &mut record),
            false => Ok(()),
        })?;
        let settings = edit(&self.settings_file(), |file| {
            if wanted.hooks {
                edits::add_hooks(file, program, &mut record)?;
            }
            if wanted.enable_hooks {
                edits::enable_hooks(file, &mut record);
            }
            if wanted.permissions {
                edits::add_rules(file, &mut record)?;
            }
            if wanted.status_line {
                edits::add_status_line(file, program, &mut record)?;
            }
            Ok(())
        })?;
        let mut changes = vec![state, settings];
        if wanted.skill {
            let found = read(&self.skill_file())?;
            if found.before.as_deref() != Some(SKILL) {
                let replaced = found.before.clone().map(|text| Tree::Leaf(text.into()));
                record.skill.get_or_insert(Put { replaced });
            }
            changes.push(Change { after: Some(SKILL.to_owned()), keeps_backup: false, ..found });
        }
        let made = changes.iter().filter(|change| change.before.is_none() && change.after.is_some());
        let made: Vec<&Change> = made.collect();
        made.iter().for_each(|change| record.made_above(&change.path));
        record.files.extend(made.iter().map(|change| change.path.clone()));
        record.files.sort_unstable();
        record.files.dedup();
        record.service |= wanted.service;
        record.version = 1;
        if changes.iter().any(Change::is_one) || wanted.service {
            // Last, and so undone first.
            changes.push(Change { after: Some(json::encode_pretty(&record) + "\n"), keeps_backup: false, ..kept });
        }
        Ok(changes)
    }

    /// What there is to take away.
    pub(super) fn uninstall(&self, paths: &Paths) -> Result<Removal, CliError> {
        let kept = read(&paths.installed_file())?;
        let record = record(&kept)?.unwrap_or_else(edits::assumed);
        let state = edit(&self.state, |file| {
            edits::remove_server(file, &record);
            Ok(())
        })?;
        let settings = edit(&self.settings_file(), |file| {
            edits::remove_hooks(file, &record);
            edits::remove_rules(file, &record);
            edits::remove_status_line(file, &record);
            edits::forbid_hooks_again(file, &record);
            Ok(())
        })?;
        let mut changes = Vec::new();
        for change in [state, settings] {
            changes.extend(restore(change, &record)?);
        }
        if let Some(put) = &record.skill {
            let replaced = put.replaced.as_ref().and_then(|text| text.value().as_str().map(str::to_owned));
            changes.push(Change { after: replaced, keeps_backup: false, ..read(&self.skill_file())? });
        }
        // Last, when the directories are empty.
        changes.push(Change { after: None, keeps_backup: false, dirs: record.dirs, ..kept });
        Ok(Removal { changes, service: record.service })
    }

    /// The client's state as it stands; nothing if there is none.
    pub(super) fn state(&self) -> Result<Value, String> {
        look(&self.state)
    }

    /// The user's settings of the client as they stand; nothing if there are none.
    pub(super) fn settings(&self) -> Result<Value, String> {
        look(&self.settings_file())
    }

    fn settings_file(&self) -> PathBuf {
        self.dir.join("settings.json")
    }

    fn skill_file(&self) -> PathBuf {
        self.dir.join("skills/claudemesh/SKILL.md")
    }
}

fn look(path: &std::path::Path) -> Result<Value, String> {
    let found = read(path).map_err(|err| err.to_string())?;
    parse(&found).map(|tree| tree.value()).map_err(|why| format!("{}: {why}", path.display()))
}

fn record(kept: &Change) -> Result<Option<Record>, CliError> {
    let Some(text) = &kept.before else { return Ok(None) };
    json::decode(text.as_bytes()).map(Some).map_err(|err| {
        CliError::refused(Exit::Failure, format!("{}: {err}", kept.path.display()))
            .with_hint("nothing was changed; without that file, everything of this program's is taken for installed by it")
    })
}
