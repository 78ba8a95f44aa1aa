//! Files as they are and as they should be, and the step from the one to the other.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::diff;
use super::edits::Odd;
use super::record::Record;
use crate::base::atomic_file;
use crate::base::exit::Exit;
use crate::cli::error::CliError;
use crate::wire::json;
use crate::wire::tree::Tree;

/// Largest file of the client's that is read, in bytes.
const MAX_FILE: u64 = 64 * 1024 * 1024;

/// Behind the name of a file as it was before the first change.
const BACKUP: &str = ".before-claudemesh";

/// A file as it is and as it should be.
#[derive(Debug)]
pub(in crate::cli) struct Change {
    pub(in crate::cli) path: PathBuf,
    /// `None`: there is no such file.
    pub(super) before: Option<String>,
    pub(super) after: Option<String>,
    /// Whether the file as it was is kept beside it.
    pub(super) keeps_backup: bool,
    /// Directories that go with the file, each unless something else is in it; the innermost first.
    pub(super) dirs: Vec<PathBuf>,
}

pub(super) fn read(path: &Path) -> Result<Change, CliError> {
    // A file that lies elsewhere, as those of people who keep them under version control, is changed there.
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let unread = |err| CliError::io(format!("{} can not be read", path.display()), err);
    let before = match fs::metadata(&path) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => None,
        Err(err) => return Err(unread(err)),
        Ok(meta) if MAX_FILE < meta.len() => return Err(unread(io::ErrorKind::FileTooLarge.into())),
        Ok(_) => Some(fs::read_to_string(&path).map_err(unread)?),
    };
    Ok(Change { after: before.clone(), before, path, keeps_backup: true, dirs: Vec::new() })
}

/// What the file says now; one that is not there or empty says nothing.
pub(super) fn parse(found: &Change) -> Result<Tree, String> {
    let text = found.before.as_deref().filter(|text| !text.trim().is_empty()).unwrap_or("{}");
    json::decode(text.as_bytes()).map_err(|err| err.to_string())
}

/// Changes one file of JSON. One that is not there is made only if that puts something into it.
pub(super) fn edit(path: &Path, change: impl FnOnce(&mut Tree) -> Result<(), Odd>) -> Result<Change, CliError> {
    let found = read(path)?;
    let odd = |what: String| {
        CliError::refused(Exit::Failure, format!("{}: {what}", found.path.display()))
            .with_hint("nothing was changed; put it right first")
    };
    let before = parse(&found).map_err(odd)?;
    let mut after = before.clone();
    change(&mut after).map_err(|Odd(part)| odd(format!("{part} has an unexpected shape")))?;
    if after == before {
        return Ok(found);
    }
    Ok(Change { after: Some(json::encode_pretty(&after) + "\n"), ..found })
}

/// A file that says the same again as before the first change is that file, to the byte, and its copy is of no more use. One
/// that an installation made and that says nothing goes.
pub(super) fn restore(change: Change, record: &Record) -> Result<Vec<Change>, CliError> {
    let copy = read(&backup_of(&change.path))?;
    let tree = |text: &Option<String>| text.as_ref().and_then(|text| json::decode::<Tree>(text.as_bytes()).ok());
    let left = tree(&change.after);
    if copy.before.is_some() && left == tree(&copy.before) {
        let restored = Change { after: copy.before.clone(), keeps_backup: false, ..change };
        return Ok(vec![restored, Change { after: None, keeps_backup: false, ..copy }]);
    }
    let is_empty = left.is_none_or(|left| left.is_empty());
    let was_made = record.files.iter().any(|file| fs::canonicalize(file).is_ok_and(|file| file == change.path));
    let after = if is_empty && was_made { None } else { change.after };
    Ok(vec![Change { after, keeps_backup: false, ..change }])
}

fn backup_of(path: &Path) -> PathBuf {
    let mut backup = path.to_owned().into_os_string();
    backup.push(BACKUP);
    PathBuf::from(backup)
}

/// Makes the changes, all of them or none.
pub(in crate::cli) fn apply(changes: &[Change]) -> Result<(), CliError> {
    let mut done: Vec<Change> = Vec::new();
    for change in changes.iter().filter(|change| change.is_one()) {
        // In the order in which they are taken back, the last first.
        if let Err(err) = change.back_up(&mut done).and_then(|()| change.write(&mut done)) {
            for change in done.iter().rev() {
                change.take_back();
            }
            return Err(err);
        }
    }
    Ok(())
}

impl Change {
    pub(in crate::cli) fn is_one(&self) -> bool {
        self.before != self.after
    }

    /// Keeps the file beside itself as it was before the first change ever.
    fn back_up(&self, done: &mut Vec<Change>) -> Result<(), CliError> {
        let path = backup_of(&self.path);
        if !self.keeps_backup || self.before.is_none() || path.exists() {
            return Ok(());
        }
        Change { path, before: None, after: self.before.clone(), keeps_backup: false, dirs: Vec::new() }.write(done)
    }

    fn write(&self, done: &mut Vec<Change>) -> Result<(), CliError> {
        let failed = |err| CliError::io(format!("{} can not be written", self.path.display()), err);
        self.put(self.after.as_deref()).map_err(failed)?;
        let Change { path, before, after, .. } = self;
        let (path, before, after) = (path.clone(), before.clone(), after.clone());
        done.push(Change { path, before, after, keeps_backup: false, dirs: Vec::new() });
        Ok(())
    }

    fn put(&self, text: Option<&str>) -> io::Result<()> {
        let Some(text) = text else {
            fs::remove_file(&self.path)?;
            if self.path.ends_with("claudemesh/SKILL.md") {
                // A directory of its own goes with it, unless something else is there.
                let _ = self.path.parent().map(fs::remove_dir);
            }
            for dir in &self.dirs {
                let _ = fs::remove_dir(dir);
            }
            return Ok(());
        };
        if let Some(dir) = self.path.parent() {
            atomic_file::private_dir(dir)?;
        }
        atomic_file::rewrite(&self.path, text.as_bytes())
    }

    fn take_back(&self) {
        if let Err(err) = self.put(self.before.as_deref()) {
            log::error!("{} could not be put back as it was: {err}", self.path.display());
        }
    }

    /// The lines that differ.
    pub(in crate::cli) fn diff(&self) -> Vec<String> {
        diff::diff(self.before.as_deref().unwrap_or_default(), self.after.as_deref().unwrap_or_default())
    }
}
