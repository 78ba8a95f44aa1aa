//! `launch`: a session that others can write to. Registers this process and becomes the session, so that the daemon sees the
//! session's end as the end of the process it knows.

mod claude;
mod kept;

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::base::config::{Config, Mesh};
use crate::base::exit::Exit;
use crate::base::ids::{SessionId, Token};
use crate::base::names::{is_display_name, is_group_name, is_uuid};
use crate::base::paths::Paths;
use crate::cli::context::{one_mesh, paths};
use crate::cli::error::CliError;
use crate::cli::membership::user_name;
use crate::cli::parse::Parsed;
use crate::cli::render::{Line, Out, Style};
use crate::cli::spec::{Count, Effect, Example, Flag, Group, MESH, Operand, Verb};
use crate::cli::verbs::down::offer_restart;
use crate::client::{Client, spawn, token};
use crate::crypto::keys::KeyPair;
use crate::crypto::random;
use crate::wire::grant::Capability;
use crate::wire::ipc::{Presence, Register};
use crate::wire::json::{self, Value};

pub(in crate::cli) use self::kept::{keys, name as kept_name, write_token};

const NAME: Flag = Flag::valued("--name", "NAME", "What others call the session; default: as before, or $USER.");
const ROLE: Flag = Flag::valued("--role", "ROLE", "What it is there for, in a word or two.");
const GROUPS: Flag = Flag::valued("--groups", "LIST", "Groups it is in, as in frontend:lead,reviewers.");
const CAPS: Flag = Flag::valued("--caps", "LIST", "All it may do: dm, broadcast, state-read, state-write; or none.");
const RESUME: Flag = Flag::valued("--resume", "UUID", "Go on with this session: it keeps its address.");
const CONTINUE: Flag = Flag::switch("--continue", "Go on with the last session of this directory.");
const TAKE_OVER: Flag = Flag::switch("--take-over", "Have the session even if it runs elsewhere: mail comes here then.");
const QUIET: Flag = Flag { short: Some("-q"), ..Flag::switch("--quiet", "Print nothing.") };

pub(in crate::cli) const VERB: Verb = Verb {
    name: "launch",
    aliases: &["connect"],
    group: Group::Sessions,
    about: "Start a session that others can write to.",
    long: "Runs claude with the MCP server of this program, and gives it an address on the mesh. What stands behind -- goes to claude; \
           if its first word is no flag, it is another command that is run as the session instead. The exit status is the command's.\n\n\
           The session's address belongs to its id: launched again with --resume and the same id, it has the same address and name, and \
           finds what came in between. One that runs is not launched a second time unless --take-over says that it is meant.\n\n\
           With --caps the broker refuses the session whatever is not named: dm is to write to one peer, broadcast to many, state-read \
           and state-write are for what the mesh shares. It limits what is done in the session's name, not what its user may do.",
    operands: &[Operand { name: "MESH", about: "The mesh, as --mesh.", count: Count::Optional, choices: &[] }],
    tail: Some(Operand {
        name: "ARGS",
        about: "Arguments for claude, or a command to run instead.",
        count: Count::Any,
        choices: &[],
    }),
    flags: &[NAME, MESH, ROLE, GROUPS, CAPS, RESUME, CONTINUE, TAKE_OVER, QUIET],
    effect: Effect::Local,
    examples: &[
        Example { command: "claudemesh launch --name alice", about: "a session called alice" },
        Example { command: "claudemesh launch --name bob --role reviewer -- --model opus", about: "with a flag for claude" },
        Example { command: "claudemesh launch --name log -- claudemesh inbox --follow", about: "another program as the session" },
    ],
    run,
};

/// Names the process that became the session.
pub(in crate::cli) const PROCESS: &str = "CLAUDEMESH_SESSION_PID";

/// Holds the rights of a session that has some only.
const CAPS_VAR: &str = "CLAUDEMESH_CAPS";

/// What a session can be allowed.
const GIVEN: [Capability; 4] = [Capability::Dm, Capability::Broadcast, Capability::StateRead, Capability::StateWrite];

/// Stands for an empty list.
const NO_CAPS: &str = "none";

/// What says who a session is: another's, where `launch` runs within one, must not reach this one's. `CLAUDEMESH_CONFIG_DIR` is
/// how the reference moved a session's configuration.
const OF_ANOTHER: [&str; 7] = [
    token::TOKEN,
    "CLAUDEMESH_CONFIG_DIR",
    "CLAUDEMESH_ROLE",
    CAPS_VAR,
    "CLAUDE_CODE_SESSION_ID",
    "CLAUDE_ENV_FILE",
    "CLAUDE_PID",
];

/// Everything that is known before the daemon is asked.
struct Session {
    id: SessionId,
    name: String,
    /// It was asked for by this name.
    is_named: bool,
    role: Option<String>,
    groups: Vec<String>,
    caps: Option<Vec<String>>,
    quiet: bool,
}

fn run(parsed: &Parsed, out: &mut Out) -> Result<Exit, CliError> {
    let mut session = session(parsed)?;
    let paths = paths()?;
    let command = command(parsed, &session)?;
    let client = daemon(&paths, &session, out)?;
    if !parsed.is_set(&TAKE_OVER) {
        refuse_running(&client, &session.id)?;
    }
    // Only now: a daemon that was just started may have made the mesh.
    let config = Config::load(&paths.config_file())?;
    let mesh = one_mesh(&config, parsed.value(&MESH).or(parsed.operands.first().map(String::as_str)))?;
    if !session.is_named
        && let Some(name) = kept_name(&paths, mesh, &session.id)
    {
        session.name = name;
    }
    let keys = keys(&paths, mesh, &session.id, &session.name)?;
    let token = random::token();
    let file = write_token(&paths, &session.id, &token)?;
    let registered = client.register(&registration(&session, mesh, &keys, &token, runs_claude(parsed)));
    if let Err(err) = registered {
        kept::remove(&file);
        return Err(err.into());
    }
    if !session.quiet && !out.is_json() {
        announce(&session, mesh, out)?;
    }
    out.flush()?;
    let err = become_session(command, &session, &file);
    kept::give_back(&client, &token, &file);
    Err(CliError::io("the session can not be started", err))
}

/// A session that runs has its address and its mail where it runs. Who started its process anew may have it.
fn refuse_running(client: &Client, id: &SessionId) -> Result<(), CliError> {
    let Some(running) = client.running(id)?.filter(|running| running.pid != std::process::id()) else { return Ok(()) };
    let what = format!("the session runs already: {}@{}, pid {}", running.display_name, running.mesh, running.pid);
    let hint = format!("go on where it runs, or end it first (kill {}); --take-over has its mail come here instead", running.pid);
    Err(CliError::refused(Exit::AlreadyExists, what).with_hint(hint))
}

/// The daemon, restarted first if it is of another version and the user wants that: now is when it disturbs least.
fn daemon(paths: &Paths, session: &Session, out: &mut Out) -> Result<Client, CliError> {
    let client = spawn::ensure(paths)?;
    if session.quiet || client.started_in().is_some() {
        return Ok(client);
    }
    client.version()?;
    match offer_restart(&client, paths, out)? {
        Some((flags, turn)) => {
            Ok(spawn::ensure_in(&turn, paths, &spawn::Launcher::from_env().map_err(spawn::SpawnError::Io)?.with_flags(flags))?)
        }
        None => Ok(client),
    }
}

fn session(parsed: &Parsed) -> Result<Session, CliError> {
    let name = match parsed.value(&NAME) {
        Some(name) => name.to_owned(),
        None => user_name().unwrap_or_else(|| "session".to_owned()),
    };
    if !is_display_name(&name) {
        return Err(CliError::usage(format!("--name: \"{name}\" is no name"))
            .with_hint("1 to 64 visible characters that do not begin with @, #, * or -"));
    }
    if name.contains('@') {
        return Err(CliError::usage(format!("--name: \"{name}\" would be read as a name and its mesh"))
            .with_hint("leave the @ out; name the mesh with --mesh"));
    }
    let mut groups = Vec::new();
    for group in parsed.value(&GROUPS).unwrap_or_default().split(',').map(str::trim).filter(|group| !group.is_empty()) {
        let group = group.trim_start_matches('@');
        if !is_group_name(group.split(':').next().unwrap_or(group)) {
            return Err(CliError::usage(format!("--groups: \"{group}\" is no group")).with_hint("as in frontend:lead,reviewers"));
        }
        groups.push(format!("@{group}"));
    }
    Ok(Session {
        id: session_id(parsed)?,
        name,
        is_named: parsed.value(&NAME).is_some(),
        role: parsed.value(&ROLE).map(str::to_owned),
        groups,
        caps: parsed.value(&CAPS).map(caps).transpose()?,
        quiet: parsed.is_set(&QUIET),
    })
}

/// The rights that are named; a mistyped one would be one too few.
fn caps(list: &str) -> Result<Vec<String>, CliError> {
    let words = list.split(',').map(str::trim).filter(|word| !word.is_empty() && *word != NO_CAPS);
    let known = |word: &str| GIVEN.iter().any(|capability| capability.as_str() == word);
    words
        .map(|word| match known(word) {
            true => Ok(word.to_owned()),
            false => Err(CliError::usage(format!("--caps: \"{word}\" is nothing a session can be allowed"))
                .with_hint("a list of dm, broadcast, state-read, state-write; or none")),
        })
        .collect()
}

/// The rights of the session that `launch` started this client in: what it starts has no more.
pub(in crate::cli) fn caps_of_env() -> Option<Vec<String>> {
    let list = std::env::var(CAPS_VAR).ok()?;
    // What can not be read allows nothing.
    Some(caps(&list).unwrap_or_default())
}

fn session_id(parsed: &Parsed) -> Result<SessionId, CliError> {
    let asked = match parsed.value(&RESUME) {
        Some(id) if is_uuid(id) => Some(id.to_owned()),
        Some(id) => {
            return Err(CliError::usage(format!("--resume: \"{id}\" is no session id")).with_hint("a session's id is a UUID"));
        }
        None if parsed.is_set(&CONTINUE) => claude::last_session(),
        None if runs_claude(parsed) => claude::session_of(&parsed.tail),
        None => None,
    };
    Ok(SessionId::new(asked.map_or_else(random::uuid_v4, |id| id.to_ascii_lowercase())))
}

/// The command that becomes the session. Looked for first, so that nothing is registered for one that is not there.
fn command(parsed: &Parsed, session: &Session) -> Result<Command, CliError> {
    if let Some(first) = parsed.tail.first().filter(|first| !first.to_string_lossy().starts_with('-')) {
        let path = find(first).ok_or_else(|| {
            missing(&first.to_string_lossy())
                .with_hint("what stands behind -- is a command with its arguments, or flags for claude")
        })?;
        let mut command = Command::new(path);
        command.arg0(first).args(&parsed.tail[1..]);
        return Ok(command);
    }
    claude::command(parsed, session)
}

/// Whether the session is claude, and not another command.
fn runs_claude(parsed: &Parsed) -> bool {
    parsed.tail.first().is_none_or(|first| first.to_string_lossy().starts_with('-'))
}

fn missing(name: &str) -> CliError {
    CliError::refused(Exit::CommandMissing, format!("\"{name}\" is not installed, or not on PATH"))
}

/// Where claude is: along PATH, or where it installs itself.
pub(in crate::cli) fn claude() -> Option<PathBuf> {
    let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    let own = || [".local/bin/claude", ".claude/bin/claude"].iter().map(|path| home.join(path)).find(|path| path.exists());
    find(&OsString::from("claude")).or_else(own)
}

/// Where a command is: as it is if it has a slash in it, else along PATH.
pub(in crate::cli) fn find(command: &OsString) -> Option<PathBuf> {
    if command.to_string_lossy().contains('/') {
        return Some(PathBuf::from(command)).filter(|path| path.is_file());
    }
    std::env::split_paths(&std::env::var_os("PATH")?).map(|dir| dir.join(command)).find(|path| path.is_file())
}

fn registration(session: &Session, mesh: &Mesh, keys: &KeyPair, token: &Token, hooks: bool) -> Register {
    let presence = Presence {
        session_pubkey: keys.public.to_hex(),
        session_secret_key: keys.secret.to_secret_text().reveal().to_owned(),
        parent_attestation: None,
    };
    Register {
        hooks,
        caps: session.caps.clone(),
        token: token.reveal(),
        session_id: session.id.to_string(),
        mesh: mesh.slug.to_string(),
        display_name: session.name.clone(),
        pid: i64::from(std::process::id()),
        cwd: std::env::current_dir().ok().map(|dir| dir.to_string_lossy().into_owned()),
        role: session.role.clone(),
        groups: session.groups.iter().cloned().map(Value::String).collect(),
        presence: json::decode(json::encode(&presence).as_bytes()).ok(),
    }
}

fn announce(session: &Session, mesh: &Mesh, out: &mut Out) -> Result<(), CliError> {
    let role = session.role.as_ref().map(|role| format!(" ({role})"));
    let groups = (!session.groups.is_empty()).then(|| format!(" [{}]", session.groups.join(", ")));
    out.note(
        &Line::new()
            .and(Style::Green, "✔")
            .and(Style::Bold, format!(" {}@{}", session.name, mesh.slug))
            .maybe(Style::Plain, role)
            .maybe(Style::Cyan, groups)
            .and(Style::Dim, format!("  session {}", session.id)),
    )
}

/// Replaces this process. Returns only when it can not.
fn become_session(mut command: Command, session: &Session, token_file: &Path) -> std::io::Error {
    for name in OF_ANOTHER {
        command.env_remove(name);
    }
    command
        .env(token::TOKEN_FILE, token_file)
        .env("CLAUDEMESH_SESSION_ID", session.id.as_str())
        .env(PROCESS, std::process::id().to_string())
        .env("CLAUDEMESH_DISPLAY_NAME", &session.name)
        .envs(session.role.as_ref().map(|role| ("CLAUDEMESH_ROLE", role)));
    if let Some(caps) = &session.caps {
        command.env(CAPS_VAR, if caps.is_empty() { NO_CAPS.to_owned() } else { caps.join(",") });
    }
    command.exec()
}
