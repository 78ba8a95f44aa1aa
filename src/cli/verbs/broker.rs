//! `broker`: the same broker that a daemon carries for itself, alone, for a team.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Serialize;

use crate::base::exit::Exit;
use crate::base::logging;
use crate::base::time::{iso, now_millis};
use crate::broker;
use crate::cli::context::{VERSION, daemon_paths};
use crate::cli::error::CliError;
use crate::cli::parse::Parsed;
use crate::cli::render::Out;
use crate::cli::spec::{Effect, Example, Flag, Group, Verb};

const LISTEN: Flag = Flag::valued("--listen", "ADDR:PORT", "Where to listen; default 127.0.0.1:7900.");
const DATA: Flag = Flag::valued("--data", "DIR", "Where its database is; default broker/ among this program's files.");

pub(in crate::cli) const VERB: Verb = Verb {
    name: "broker",
    aliases: &[],
    group: Group::Servers,
    about: "Run a broker that several machines share.",
    long: "One process and one SQLite file. It sees sealed direct messages, not their text. It prints one JSON line once it listens, \
           logs to standard error, and ends on SIGTERM.",
    operands: &[],
    tail: None,
    flags: &[LISTEN, DATA],
    effect: Effect::Local,
    examples: &[Example { command: "claudemesh broker --listen 0.0.0.0:7900 --data /var/lib/claudemesh", about: "for a team" }],
    run,
};

fn run(parsed: &Parsed, out: &mut Out) -> Result<Exit, CliError> {
    logging::init(log::LevelFilter::Info);
    let text = parsed.value(&LISTEN).unwrap_or("127.0.0.1:7900");
    let listen: SocketAddr = text.parse().map_err(|_| {
        CliError::usage(format!("--listen: \"{text}\" is no address")).with_hint("as in 127.0.0.1:7900 or [::]:7900")
    })?;
    let data_dir = match parsed.value(&DATA) {
        Some(dir) => PathBuf::from(dir),
        None => daemon_paths()?.config_dir().join("broker"),
    };
    let mut said = Ok(());
    let ready = |address: SocketAddr| {
        let line = Started {
            msg: "broker_started",
            version: VERSION,
            pid: std::process::id(),
            listen: address.to_string(),
            ts: iso(now_millis()),
        };
        said = out.json(&line).and_then(|()| out.flush());
    };
    let ended = broker::run(broker::Options { data_dir, listen }, ready);
    if let Err(err) = said {
        log::warn!("nobody reads that the broker has started: {err}");
    }
    ended.map_err(failed)
}

/// The one line on standard output, for whoever waits for it.
#[derive(Serialize)]
struct Started {
    msg: &'static str,
    version: &'static str,
    pid: u32,
    listen: String,
    ts: String,
}

fn failed(err: broker::StartError) -> CliError {
    let refused = CliError::refused(Exit::Failure, err.to_string());
    match err {
        broker::StartError::AddressInUse(_) => refused.with_hint("choose another address with --listen"),
        _ => refused,
    }
}
