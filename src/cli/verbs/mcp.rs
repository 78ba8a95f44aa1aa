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

/// A message counts as seen once its notification has been written and flushed: this protocol knows no later sign. A client
/// whose channels are off drops it without a word; `claudemesh inbox` shows seen messages too.
const MARK_SEEN: bool = true;
