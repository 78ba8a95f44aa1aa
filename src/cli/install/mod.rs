//! Puts this program into the client's own files, and takes it out again. Everything is worked out first and written then;
//! a file that needs no change is not touched.

mod allowed;
mod edits;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::base::atomic_file;
use crate::base::exit::Exit;
use crate::cli::error::CliError;
use crate::wire::json;
use crate::wire::tree::Tree;

use self::edits::Odd;

/// What the model is told about this program; the plugin carries the same.
const SKILL: &str = include_str!("../../../contrib/plugin/skills/claudemesh/SKILL.md");

/// Largest file of the client's that is read, in bytes.
const MAX_FILE: u64 = 64 * 1024 * 1024;

/// Behind the name of a file as it was before the first change.
const BACKUP: &str = ".before-claudemesh";

/// Where the client keeps its files.
#[derive(Debug)]
pub(super) struct Client {
    /// `~/.claude.json`.
    state: PathBuf,
    /// `~/.claude`.
    dir: PathBuf,
}

/// A file as it is and as it should be.
#[derive(Debug)]
pub(super) struct Change {
    pub(super) path: PathBuf,
    /// `None`: there is no such file.
    before: Option<String>,
    after: Option<String>,
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

    /// What an installation of `program` changes.
    pub(super) fn install(&self, program: &str) -> Result<Vec<Change>, CliError> {
        Ok(vec![
            edit(&self.state, |file| edits::add_server(file, program))?,
            edit(&self.settings(), |file| edits::add_settings(file, program))?,
            Change { after: Some(SKILL.to_owned()), ..read(&self.skill())? },
        ])
    }

    /// What there is to take away.
    pub(super) fn uninstall(&self) -> Result<Vec<Change>, CliError> {
        Ok(vec![
            edit(&self.state, edits::remove_server)?,
            edit(&self.settings(), edits::remove_settings)?,
            Change { after: None, ..read(&self.skill())? },
        ])
    }

    fn settings(&self) -> PathBuf {
        self.dir.join("settings.json")
    }

    fn skill(&self) -> PathBuf {
        self.dir.join("skills/claudemesh/SKILL.md")
    }
}

fn read(path: &Path) -> Result<Change, CliError> {
    // A file that lies elsewhere, as those of people who keep them under version control, is changed there.
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let unread = |err| CliError::io(format!("{} can not be read", path.display()), err);
    let before = match fs::metadata(&path) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => None,
        Err(err) => return Err(unread(err)),
        Ok(meta) if MAX_FILE < meta.len() => return Err(unread(io::ErrorKind::FileTooLarge.into())),
        Ok(_) => Some(fs::read_to_string(&path).map_err(unread)?),
    };
    Ok(Change { after: before.clone(), before, path })
}

/// Changes one file of JSON. One that is not there is made only if that puts something into it.
fn edit(path: &Path, change: impl FnOnce(&mut Tree) -> Result<(), Odd>) -> Result<Change, CliError> {
    let found = read(path)?;
    let text = found.before.as_deref().filter(|text| !text.trim().is_empty()).unwrap_or("{}");
    let odd = |what: String| {
        CliError::refused(Exit::Failure, format!("{}: {what}", found.path.display()))
            .with_hint("nothing was changed; put it right first")
    };
    let before: Tree = json::decode(text.as_bytes()).map_err(|err| odd(err.to_string()))?;
    let mut after = before.clone();
    change(&mut after).map_err(|Odd(part)| odd(format!("{part} has an unexpected shape")))?;
    if after == before {
        return Ok(found);
    }
    Ok(Change { after: Some(json::encode_pretty(&after) + "\n"), ..found })
}

impl Change {
    pub(super) fn is_one(&self) -> bool {
        self.before != self.after
    }

    /// Writes it: whole or not at all. What was there before the first change ever is kept beside it.
    pub(super) fn write(&self) -> Result<(), CliError> {
        let failed = |err| CliError::io(format!("{} can not be written", self.path.display()), err);
        let Some(after) = &self.after else {
            fs::remove_file(&self.path).map_err(failed)?;
            // Its directory goes with it unless something else is there.
            let _ = self.path.parent().map(fs::remove_dir);
            return Ok(());
        };
        if let Some(dir) = self.path.parent() {
            atomic_file::private_dir(dir).map_err(failed)?;
        }
        let mut backup = self.path.clone().into_os_string();
        backup.push(BACKUP);
        let backup = PathBuf::from(backup);
        if let Some(before) = &self.before
            && !self.path.ends_with("SKILL.md")
            && !backup.exists()
        {
            atomic_file::write(&backup, before.as_bytes()).map_err(failed)?;
        }
        atomic_file::write(&self.path, after.as_bytes()).map_err(failed)
    }

    /// The lines that differ, as `diff` would mark them: what both begin and end with is left out.
    pub(super) fn diff(&self) -> Vec<String> {
        let lines = |text: &Option<String>| text.as_deref().unwrap_or_default().lines().map(str::to_owned).collect::<Vec<_>>();
        let (before, after) = (lines(&self.before), lines(&self.after));
        let head = before.iter().zip(&after).take_while(|(a, b)| a == b).count();
        let tail = before[head..].iter().rev().zip(after[head..].iter().rev()).take_while(|(a, b)| a == b).count();
        let gone = before[head..before.len() - tail].iter().map(|line| format!("- {line}"));
        gone.chain(after[head..after.len() - tail].iter().map(|line| format!("+ {line}"))).collect()
    }
}
