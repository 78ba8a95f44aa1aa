//! `mcp`: the server that a session runs beside itself.

use crate::base::exit::Exit;
use crate::base::logging;
use crate::cli::context::{paths, session_token};
use crate::cli::error::CliError;
use crate::cli::parse::Parsed;
use crate::cli::render::Out;
use crate::cli::spec::{Effect, Example, Group, Verb};
use crate::mcp::{self, Connection, Options, Start};

pub(in crate::cli) const VERB: Verb = Verb {
    name: "mcp",
    aliases: &[],
    group: Group::Servers,
    about: "Serve one session its mail, as an MCP server on standard input and output.",
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
    let options = Options { paths: paths()?, token, start: Start::Own, mark_seen: MARK_SEEN };
    Ok(mcp::run(Connection::stdio(), options))
}

/// Clients drop channel notifications without a word when channels are off, so that one which was written may not have been
/// shown; other ways show what is unread.
const MARK_SEEN: bool = false;
