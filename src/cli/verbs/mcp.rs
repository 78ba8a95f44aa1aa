//! `mcp`: the server that a session runs beside itself.

use crate::base::exit::Exit;
use crate::base::logging;
use crate::base::names::is_uuid;
use crate::base::settings::Settings;
use crate::cli::context::{paths, session_token};
use crate::cli::error::CliError;
use crate::cli::parse::Parsed;
use crate::cli::render::Out;
use crate::cli::spec::{Effect, Example, Group, Verb};
use crate::mcp::{self, Connection, Options, Start};

/// Environment variable in which `launch` tells whether its client shows channel notifications: `on` or `off`.
pub(super) const CHANNELS: &str = "CLAUDEMESH_CHANNELS";

pub(in crate::cli) const VERB: Verb = Verb {
    name: "mcp",
    aliases: &[],
    group: Group::Servers,
    about: "Serve one session its mail and its mesh's skills, as an MCP server on standard input and output.",
    long: "Started by the session's client, not by hand; `claudemesh launch` tells claude how.",
    operands: &[],
    tail: None,
    flags: &[],
    effect: Effect::Local,
    examples: &[Example { command: "claudemesh mcp", about: "as an entry of mcpServers runs it" }],
    run,
};

fn run(_: &Parsed, _: &mut Out) -> Result<Exit, CliError> {
    logging::init(log::LevelFilter::Info);
    let token = session_token()?;
    let paths = paths()?;
    // A session that was not launched registers itself from a hook, under the id that its client gave both of us.
    let id = var("CLAUDE_CODE_SESSION_ID").filter(|id| token.is_none() && is_uuid(id));
    let own = id.map(|id| paths.session_token(&id.to_ascii_lowercase()));
    let mesh = var("CLAUDEMESH_MESH").or_else(|| Settings::load(&paths.settings_file()).ok()?.default_mesh);
    let options = Options { paths, token, own, mesh, start: Start::Own, channels: channels() };
    Ok(mcp::run(Connection::stdio(), options))
}

fn var(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// What `launch` says about the client it starts. Without a word the client is taken to show what it is notified of: no other
/// path is known to bring anything.
fn channels() -> bool {
    !std::env::var(CHANNELS).is_ok_and(|value| value == "off")
}
