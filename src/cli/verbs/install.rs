//! `install` and `uninstall`: this program in the client's own files.

use std::path::PathBuf;

use serde::Serialize;

use crate::base::exit::Exit;
use crate::cli::error::CliError;
use crate::cli::install::{Change, Client};
use crate::cli::parse::Parsed;
use crate::cli::render::Out;
use crate::cli::spec::{Effect, Example, Flag, Group, Verb};

const DRY_RUN: Flag = Flag::switch("--dry-run", "Show what would change, and change nothing.");

pub(in crate::cli) const INSTALL: Verb = Verb {
    name: "install",
    aliases: &[],
    group: Group::Sessions,
    about: "Make every claude of this user a session of the mesh.",
    long: "Adds this program to claude's own files: the MCP server to ~/.claude.json, hooks and permissions for reading to \
           ~/.claude/settings.json, and a skill. Everything else in them stays as it is, in its order; a file as it was before the \
           first change stays beside it. Sessions that `claudemesh launch` starts need none of this.",
    operands: &[],
    tail: None,
    flags: &[DRY_RUN],
    effect: Effect::Local,
    examples: &[
        Example { command: "claudemesh install --dry-run", about: "what would change" },
        Example { command: "claudemesh install", about: "change it" },
    ],
    run: |parsed, out| {
        let program = program()?;
        let client = Client::from_env()?;
        apply(parsed, client.install(&program)?, "installed; claude finds it when it starts anew", out)
    },
};

pub(in crate::cli) const UNINSTALL: Verb = Verb {
    name: "uninstall",
    aliases: &[],
    group: Group::Sessions,
    about: "Take out of claude's files what install has put there.",
    long: "Messages, meshes and the daemon stay.",
    operands: &[],
    tail: None,
    flags: &[DRY_RUN],
    effect: Effect::Local,
    examples: &[Example { command: "claudemesh uninstall", about: "claude knows nothing of the mesh any more" }],
    run: |parsed, out| apply(parsed, Client::from_env()?.uninstall()?, "removed", out),
};

#[derive(Serialize)]
struct Answer<'a> {
    ok: bool,
    dry_run: bool,
    changed: Vec<&'a PathBuf>,
    unchanged: Vec<&'a PathBuf>,
}

fn apply(parsed: &Parsed, changes: Vec<Change>, done: &str, out: &mut Out) -> Result<Exit, CliError> {
    let dry_run = parsed.is_set(&DRY_RUN);
    let (changed, unchanged): (Vec<&Change>, Vec<&Change>) = changes.iter().partition(|change| change.is_one());
    if !dry_run {
        changed.iter().try_for_each(|change| change.write())?;
    }
    if out.is_json() {
        let paths = |changes: &[&Change]| changes.iter().map(|change| change.path.clone()).collect::<Vec<_>>();
        let (changed, unchanged) = (paths(&changed), paths(&unchanged));
        out.json(&Answer { ok: true, dry_run, changed: changed.iter().collect(), unchanged: unchanged.iter().collect() })?;
        return Ok(Exit::Success);
    }
    for change in &changed {
        if dry_run {
            out.info(&change.path.display().to_string())?;
            change.diff().iter().try_for_each(|line| out.info(line))?;
        } else {
            out.ok(&change.path.display().to_string(), None)?;
        }
    }
    match (changed.is_empty(), dry_run) {
        (true, _) => out.info("nothing to change")?,
        (false, false) => out.info(done)?,
        (false, true) => {}
    }
    Ok(Exit::Success)
}

/// How the client is to call this program: by its name where that leads here, else by its path.
fn program() -> Result<String, CliError> {
    let me = std::env::current_exe().map_err(|err| CliError::io("this program's own path is not known", err))?;
    let path = std::env::var_os("PATH").unwrap_or_default();
    let first = std::env::split_paths(&path).map(|dir| dir.join("claudemesh")).find(|file| file.is_file());
    let is_me = first.and_then(|file| std::fs::canonicalize(file).ok()).is_some_and(|file| file == me);
    Ok(if is_me { "claudemesh".to_owned() } else { me.to_string_lossy().into_owned() })
}
