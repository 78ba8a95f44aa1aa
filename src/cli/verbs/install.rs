//! `install` and `uninstall`: this program in the client's own files.

use std::path::PathBuf;

use serde::Serialize;

use super::service;
use crate::base::exit::Exit;
use crate::cli::context::daemon_paths;
use crate::cli::error::CliError;
use crate::cli::install::{self, Change, Client, Wanted};
use crate::cli::parse::Parsed;
use crate::cli::render::Out;
use crate::cli::spec::{Effect, Example, Flag, Group, Verb};

const DRY_RUN: Flag = Flag::switch("--dry-run", "Show what would change, and change nothing.");
const NO_MCP: Flag = Flag::switch("--no-mcp", "Leave the MCP server out.");
const NO_HOOKS: Flag = Flag::switch("--no-hooks", "Leave the hooks out: only sessions of `launch` hear their mail.");
const NO_PERMISSIONS: Flag = Flag::switch("--no-permissions", "Leave the permissions out: claude asks before each command.");
const NO_SKILL: Flag = Flag::switch("--no-skill", "Leave the skill out.");
const STATUS_LINE: Flag =
    Flag::switch("--status-line", "Also show the mesh in claude's status line, unless something else is shown there.");
const ENABLE_HOOKS: Flag = Flag::switch("--enable-hooks", "Also take disableAllHooks out of claude's settings.");
const SERVICE: Flag = Flag::switch("--service", "Also install the daemon as a service, and bring it up.");
const NO_SERVICE: Flag = Flag::switch("--no-service", "Install no service, which is the default.");
const SKIP_SERVICE: Flag = Flag::switch("--skip-service", "As --no-service.");

pub(in crate::cli) const INSTALL: Verb = Verb {
    name: "install",
    aliases: &[],
    group: Group::Sessions,
    about: "Make every claude of this user a session of the mesh.",
    long: "Adds this program to claude's own files: the MCP server to ~/.claude.json, hooks and permissions for reading to \
           ~/.claude/settings.json, and a skill. Everything else in them stays as it is, in its order; a file as it was before the \
           first change stays beside it. All files are changed or none. Sessions that `claudemesh launch` starts need none of this.",
    operands: &[],
    tail: None,
    flags: &[DRY_RUN, STATUS_LINE, NO_HOOKS, NO_MCP, NO_PERMISSIONS, NO_SKILL, ENABLE_HOOKS, SERVICE, NO_SERVICE, SKIP_SERVICE],
    effect: Effect::Local,
    examples: &[
        Example { command: "claudemesh install --dry-run", about: "what would change" },
        Example { command: "claudemesh install", about: "change it" },
        Example { command: "claudemesh install --status-line --service", about: "and more" },
    ],
    run: |parsed, out| {
        let wanted = wanted(parsed)?;
        let changes = Client::from_env()?.install(&daemon_paths()?, &program()?, wanted)?;
        let dry_run = parsed.is_set(&DRY_RUN);
        if wanted.service {
            // Where there can be no service, nothing else is changed either.
            service::set_up(true)?;
        }
        if !dry_run {
            install::apply(&changes)?;
        }
        let service = if wanted.service { Some(service::set_up(dry_run)?) } else { None };
        report(dry_run, &changes, service, "installed; claude finds it when it starts anew", out)
    },
};

pub(in crate::cli) const UNINSTALL: Verb = Verb {
    name: "uninstall",
    aliases: &[],
    group: Group::Sessions,
    about: "Take out of claude's files what install has put there.",
    long: "What stood in the place of something comes back, and a service that was installed with it goes. Messages, meshes and the \
           daemon stay.",
    operands: &[],
    tail: None,
    flags: &[DRY_RUN],
    effect: Effect::Local,
    examples: &[Example { command: "claudemesh uninstall", about: "claude knows nothing of the mesh any more" }],
    run: |parsed, out| {
        let removal = Client::from_env()?.uninstall(&daemon_paths()?)?;
        let dry_run = parsed.is_set(&DRY_RUN);
        if !dry_run {
            install::apply(&removal.changes)?;
        }
        let service = if removal.service { service::take_away(dry_run)? } else { None };
        report(dry_run, &removal.changes, service, "removed", out)
    },
};

fn wanted(parsed: &Parsed) -> Result<Wanted, CliError> {
    let service = parsed.is_set(&SERVICE);
    if service && (parsed.is_set(&NO_SERVICE) || parsed.is_set(&SKIP_SERVICE)) {
        return Err(CliError::usage("--service and --no-service can not both be meant"));
    }
    Ok(Wanted {
        server: !parsed.is_set(&NO_MCP),
        hooks: !parsed.is_set(&NO_HOOKS),
        permissions: !parsed.is_set(&NO_PERMISSIONS),
        skill: !parsed.is_set(&NO_SKILL),
        status_line: parsed.is_set(&STATUS_LINE),
        enable_hooks: parsed.is_set(&ENABLE_HOOKS),
        service,
    })
}

#[derive(Serialize)]
struct Answer<'a> {
    ok: bool,
    dry_run: bool,
    changed: Vec<&'a PathBuf>,
    unchanged: Vec<&'a PathBuf>,
    /// The unit that was installed or removed.
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<String>,
}

fn report(dry_run: bool, changes: &[Change], service: Option<String>, done: &str, out: &mut Out) -> Result<Exit, CliError> {
    let (changed, unchanged): (Vec<&Change>, Vec<&Change>) = changes.iter().partition(|change| change.is_one());
    if out.is_json() {
        let paths = |changes: Vec<&'_ Change>| changes.iter().map(|change| change.path.clone()).collect::<Vec<_>>();
        let (changed, unchanged) = (paths(changed), paths(unchanged));
        out.json(&Answer {
            ok: true,
            dry_run,
            changed: changed.iter().collect(),
            unchanged: unchanged.iter().collect(),
            service,
        })?;
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
    if let Some(unit) = &service {
        out.ok(unit, Some("the daemon's service"))?;
    }
    match (changed.is_empty() && service.is_none(), dry_run) {
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
