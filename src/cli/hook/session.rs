//! Which session a hook speaks for, and how a client that `launch` did not start becomes one.

use std::fs;
use std::io::{self, Read};
use std::path::PathBuf;
use std::time::Duration;

use crate::base::atomic_file;
use crate::base::config::{Config, Mesh};
use crate::base::ids::{SessionId, Token};
use crate::base::names::{is_display_name, is_uuid};
use crate::base::paths::Paths;
use crate::base::settings::Settings;
use crate::cli::context::one_mesh;
use crate::cli::verbs::launch;
use crate::client::{Client, token};
use crate::crypto::random;
use crate::wire::hook::HookInput;
use crate::wire::ipc::{Presence, Register};
use crate::wire::json;

/// Longest hook input that is understood, in bytes; what stands behind it is read and dropped.
const MAX_INPUT: u64 = 1024 * 1024;

/// How long one look at the daemon takes at most.
const LOOK: Duration = Duration::from_millis(200);

/// How much is read of it altogether.
const MAX_DRAINED: u64 = 256 * 1024 * 1024;

/// Environment variable that asks for waking where a program runs the client, too: `always`.
const WAKE: &str = "CLAUDEMESH_WAKE";

/// Reads all that the client says, and makes of it what can be made.
pub(super) fn read(mut from: impl Read) -> HookInput {
    let mut bytes = Vec::new();
    // What can not be read is not there; the environment says the most important part as well.
    let _ = from.by_ref().take(MAX_INPUT).read_to_end(&mut bytes);
    let _ = io::copy(&mut from.take(MAX_DRAINED), &mut io::sink());
    let mut input = HookInput::parse(&bytes);
    input.session_id = input.session_id.or_else(|| env("CLAUDE_CODE_SESSION_ID").filter(|id| is_uuid(id)));
    input
}

fn env(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The token of the session that the client runs: its own file if it has one, else what its environment names.
pub(super) fn token(paths: &Paths, input: &HookInput) -> Option<Token> {
    own_token(paths, input).or_else(|| token::from_env().ok().flatten())
}

/// The token in the session's own file.
pub(super) fn own_token(paths: &Paths, input: &HookInput) -> Option<Token> {
    let path: PathBuf = paths.session_token(&input.session_id.as_deref()?.to_ascii_lowercase());
    fs::read_to_string(path).ok().and_then(|text| Token::parse(text.trim()))
}

/// The token of the session that `launch` started, or that an earlier hook registered.
pub(super) fn known(paths: &Paths, input: &HookInput) -> Option<Token> {
    if is_launched(input) { token(paths, input) } else { own_token(paths, input) }
}

/// Whether the client stays when its turn is over, so that it can be woken. One that is run by a program (`claude -p`) waits
/// for its hooks when it has nothing else to do, and would not end: only who asks for that is woken there, and ends the
/// client by a signal.
pub(super) fn stays() -> bool {
    let by_a_program = env("CLAUDE_CODE_ENTRYPOINT").is_some_and(|entry| entry.starts_with("sdk"));
    !by_a_program || env(WAKE).as_deref() == Some("always")
}

/// Whether `launch` started this very session: its process ends it, and nothing else.
pub(super) fn is_launched(input: &HookInput) -> bool {
    let launched = env("CLAUDEMESH_SESSION_ID");
    let starts_anew = input.source.as_deref() == Some("startup");
    match (launched, &input.session_id) {
        // A client that the session's own shell runs has its environment, and is another process.
        (Some(launched), Some(id)) => {
            let has_token = || token::from_env().is_ok_and(|token| token.is_some());
            launched.eq_ignore_ascii_case(id) || !starts_anew && is_launched_process() && has_token()
        }
        (Some(_), None) => true,
        (None, _) => false,
    }
}

/// Whether the client is the process that `launch` became.
fn is_launched_process() -> bool {
    match (env(launch::PROCESS), env("CLAUDE_PID")) {
        (Some(launched), Some(client)) => launched == client,
        _ => true,
    }
}

/// Why a client is no session.
#[derive(Debug)]
pub(super) enum Unregistered {
    /// It can not be one.
    No,
    /// Nobody has chosen one of these meshes for it.
    Several(Vec<String>),
    /// The daemon does not answer, or refuses.
    Failed,
}

/// Makes the client a session of its own.
pub(super) fn register(client: &Client, paths: &Paths, input: &HookInput) -> Result<Token, Unregistered> {
    let id = input.session_id.as_deref().ok_or(Unregistered::No)?;
    let config = Config::load(&paths.config_file()).map_err(|_| Unregistered::Failed)?;
    if config.meshes.is_empty() {
        // A daemon that has just started is about to make one.
        return Err(Unregistered::Failed);
    }
    let chosen = env("CLAUDEMESH_MESH").or_else(|| Settings::load(&paths.settings_file()).ok()?.default_mesh);
    let Ok(mesh) = one_mesh(&config, chosen.as_deref()) else {
        return Err(Unregistered::Several(config.meshes.iter().map(|mesh| mesh.slug.to_string()).collect()));
    };
    register_on(client, paths, input, mesh, SessionId::new(id.to_ascii_lowercase())).ok_or(Unregistered::Failed)
}

fn register_on(client: &Client, paths: &Paths, input: &HookInput, mesh: &Mesh, id: SessionId) -> Option<Token> {
    let pid = client_pid()?;
    // Two hooks of one event run side by side: the second finds what the first has made.
    let run = paths.session_token(id.as_str()).parent()?.to_owned();
    atomic_file::private_dir(&run).ok()?;
    let lock = fs::File::open(run).ok()?;
    lock.lock().ok()?;
    if let Some(token) = own_token(paths, input).filter(|token| is_known(paths, token)) {
        return Some(token);
    }
    let token = random::token();
    let taken: Vec<String> = client
        .sessions()
        .ok()?
        .sessions
        .into_iter()
        .filter(|other| other.mesh == mesh.slug && other.session_id != id.as_str())
        .map(|other| other.display_name)
        .collect();
    let name = display_name(input, &id, launch::kept_name(paths, mesh, &id), &taken);
    let keys = launch::keys(paths, mesh, &id, &name).ok()?;
    let presence = Presence {
        session_pubkey: keys.public.to_hex(),
        session_secret_key: keys.secret.to_secret_text().reveal().to_owned(),
        parent_attestation: None,
    };
    let registration = Register {
        token: token.reveal(),
        session_id: id.to_string(),
        mesh: mesh.slug.to_string(),
        display_name: name,
        pid: i64::from(pid),
        cwd: input.cwd.clone(),
        role: env("CLAUDEMESH_ROLE"),
        groups: Vec::new(),
        presence: json::decode(json::encode(&presence).as_bytes()).ok(),
        caps: launch::caps_of_env(),
        hooks: true,
    };
    let file = launch::write_token(paths, &id, &token).ok()?;
    if client.register(&registration).is_err() {
        // Without a session behind it the file would only mislead.
        let _ = fs::remove_file(file);
        return None;
    }
    tell_shells(&file);
    Some(token)
}

/// Whether the daemon knows this token: a file may be left behind by a session that has ended.
fn is_known(paths: &Paths, token: &Token) -> bool {
    Client::new(paths).with_token(Some(token.clone())).with_deadline(LOOK).me().is_ok()
}

/// Commands that the model runs act for its session.
fn tell_shells(token_file: &std::path::Path) {
    let Some(path) = std::env::var_os("CLAUDE_ENV_FILE") else { return };
    let Some(text) = token_file.to_str().filter(|text| !text.contains(['\'', '\n'])) else { return };
    let line = format!("export {}='{text}'\n", token::TOKEN_FILE);
    let written = fs::OpenOptions::new().append(true).create(true).open(path);
    // Without it, commands act for the member: that works, too.
    let _ = written.and_then(|mut file| io::Write::write_all(&mut file, line.as_bytes()));
}

/// What others call it: as the user said, as it was called before, or as its directory is called, and told from others that are
/// called so.
fn display_name(input: &HookInput, id: &SessionId, kept: Option<String>, taken: &[String]) -> String {
    if let Some(name) = env("CLAUDEMESH_DISPLAY_NAME").filter(|name| is_display_name(name)) {
        return name;
    }
    if let Some(name) = kept.filter(|name| !taken.contains(name)) {
        return name;
    }
    let dir = input.cwd.as_deref().and_then(|cwd| cwd.rsplit('/').find(|part| !part.is_empty()));
    let plain: String = dir.unwrap_or_default().chars().filter(|c| c.is_alphanumeric() || "._-".contains(*c)).take(40).collect();
    let name = Some(plain).filter(|name| is_display_name(name)).unwrap_or_else(|| "session".to_owned());
    if taken.contains(&name) { format!("{name}-{}", &id.as_str()[..4]) } else { name }
}

/// The client's process: it says so itself, or it is what started this hook, past a shell.
fn client_pid() -> Option<u32> {
    if let Some(pid) = env("CLAUDE_PID").and_then(|pid| pid.parse().ok()) {
        return Some(pid);
    }
    let parent = std::os::unix::process::parent_id();
    let field = |name: &str| {
        let status = fs::read_to_string(format!("/proc/{parent}/status")).ok()?;
        status.lines().find_map(|line| line.strip_prefix(name)).map(|value| value.trim().to_owned())
    };
    let is_shell = field("Name:").is_some_and(|name| ["sh", "bash", "dash", "zsh"].contains(&name.as_str()));
    let pid = if is_shell { field("PPid:").and_then(|pid| pid.parse().ok()).unwrap_or(parent) } else { parent };
    // Whoever has the first process for a parent has lost its own.
    Some(pid).filter(|pid| 1 < *pid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_from_the_directory() {
        let id = SessionId::new("abcd4567-89ab-cdef-0123-456789abcdef");
        let named = |cwd: &str, taken: &[String]| {
            display_name(&HookInput { cwd: Some(cwd.into()), ..HookInput::default() }, &id, None, taken)
        };
        for (cwd, expected) in [("/srv/payments/", "payments"), ("/", "session"), ("/x/@#", "session"), ("/x/a b\u{202e}", "ab")]
        {
            assert_eq!(named(cwd, &[]), expected, "{cwd}");
        }
        let taken = ["payments".to_owned()];
        assert_eq!(named("/x/payments", &taken), "payments-abcd");
        let kept = |name: &str| display_name(&HookInput::default(), &id, Some(name.to_owned()), &taken);
        assert_eq!((kept("alice").as_str(), kept("payments").as_str()), ("alice", "session"));
    }
}
