//! What an installation added and what stood in its place before: so that taking it away again leaves what was there.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::wire::tree::Tree;

/// The record, as the file `installed.json` beside the configuration has it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Record {
    pub(super) version: u32,
    /// Files that were not there.
    pub(super) files: Vec<PathBuf>,
    /// Directories that were not there, the innermost first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) dirs: Vec<PathBuf>,
    /// Keys that were not there, each with those above it: `permissions/allow`.
    pub(super) keys: Vec<String>,
    /// Permission rules that were not there.
    pub(super) rules: Vec<String>,
    /// What was put in a place of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) server: Option<Put>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) skill: Option<Put>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) status_line: Option<Put>,
    /// `disableAllHooks` as it was, if it was taken out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) hooks_disabled: Option<Tree>,
    /// Hooks of the reference's program, which ours replace, each with its event.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) hooks: Vec<(String, Tree)>,
    /// Whether the daemon was made a service.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) service: bool,
}

/// A value of ours, and the one that was there before.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Put {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) replaced: Option<Tree>,
}

impl Record {
    /// Notes the directories that a new file needs and that are not there yet.
    pub(super) fn made_above(&mut self, file: &Path) {
        let missing = file.ancestors().skip(1).take_while(|dir| !dir.exists()).map(Path::to_owned);
        self.dirs.extend(missing);
        self.dirs.sort_by_key(|dir| std::cmp::Reverse(dir.components().count()));
        self.dirs.dedup();
    }

    /// A key's value, made and noted if it was not there. `None` where `tree` has no keys.
    pub(super) fn open<'a>(&mut self, tree: &'a mut Tree, within: &str, key: &str, or: fn() -> Tree) -> Option<&'a mut Tree> {
        let path = path(within, key);
        if tree.get(key).is_none() && !self.keys.contains(&path) {
            self.keys.push(path);
        }
        tree.entry(key, or)
    }

    /// Takes a key out again if nothing is left in it and it was made here.
    pub(super) fn close(&self, tree: &mut Tree, within: &str, key: &str) {
        if tree.get(key).is_some_and(Tree::is_empty) && self.keys.contains(&path(within, key)) {
            tree.remove(key);
        }
    }
}

fn path(within: &str, key: &str) -> String {
    if within.is_empty() { key.to_owned() } else { format!("{within}/{key}") }
}
