//! `broker`: the same broker that a daemon carries for itself, alone, for a team.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use serde::Serialize;

use crate::base::exit::Exit;
use crate::base::ids::Token;
use crate::base::logging;
use crate::base::time::{iso, now_millis};
use crate::broker;
use crate::broker::access::{Access, Policy};
use crate::cli::context::{VERSION, daemon_paths};
use crate::cli::error::CliError;
use crate::cli::parse::Parsed;
use crate::cli::render::Out;
use crate::cli::spec::{Effect, Example, Flag, Group, Verb};

const LISTEN: Flag = Flag::valued("--listen", "ADDR:PORT", "Where to listen; default 127.0.0.1:7900.");
pub(super) const DATA: Flag = Flag::valued("--data", "DIR", "Where its database is; default broker/ among this program's files.");
const CERT: Flag = Flag::valued("--tls-cert", "FILE", "PEM file of its certificate chain; read again on SIGHUP.");
const KEY: Flag = Flag::valued("--tls-key", "FILE", "PEM file of the certificate's key.");
const PROXY: Flag = Flag::valued("--trusted-proxy", "ADDR", "Take the client's address from this peer's X-Forwarded-For.");
const POLICY: Flag = Flag {
    choices: &["open", "token", "closed"],
    ..Flag::valued("--mesh-policy", "POLICY", "Who may make meshes: anybody, who has the admin token, nobody.")
};
const PUBLIC_STATUS: Flag =
    Flag::switch("--public-status", "Show /metrics and the status page at / to everybody, not only to this machine.");

pub(in crate::cli) const VERB: Verb = Verb {
    name: "broker",
    aliases: &[],
    group: Group::Servers,
    about: "Run a broker that several machines share.",
    long: "One process and one SQLite file. It sees sealed direct messages, not their text. It prints one JSON line once it listens, \
           logs to standard error, and ends on SIGTERM.\n\n\
           Without --mesh-policy, a broker on a loopback address lets this machine's own users make meshes, and any other \
           asks for the admin token. That is made at the first start, shown once in the JSON line, and kept in the file \
           admin-token of the data directory. Behind a proxy, name it with --trusted-proxy.\n\n\
           On the same port it answers GET /health and /health/ready, and to programs of this machine /metrics (for \
           Prometheus) and a status page at /. broker.json in its data directory sets limits: messageDays, auditDays, \
           auditMessages, meshMib, recipientMib, keptMib, maxMeshes.",
    operands: &[],
    tail: None,
    flags: &[LISTEN, DATA, CERT, KEY, PROXY, POLICY, PUBLIC_STATUS],
    effect: Effect::Local,
    examples: &[
        Example { command: "claudemesh broker --listen 0.0.0.0:7900 --data /var/lib/claudemesh", about: "for a team" },
        Example {
            command: "claudemesh broker --listen '[::]:443' --tls-cert /etc/ssl/mesh.pem --tls-key /etc/ssl/mesh.key",
            about: "with TLS, without a proxy",
        },
    ],
    run,
};

/// The data directory that was named, or the one that goes without saying.
pub(super) fn data_dir(parsed: &Parsed) -> Result<PathBuf, CliError> {
    match parsed.value(&DATA) {
        Some(dir) => Ok(PathBuf::from(dir)),
        None => Ok(daemon_paths()?.config_dir().join("broker")),
    }
}

fn run(parsed: &Parsed, out: &mut Out) -> Result<Exit, CliError> {
    logging::init(log::LevelFilter::Info);
    let text = parsed.value(&LISTEN).unwrap_or("127.0.0.1:7900");
    let listen: SocketAddr = text.parse().map_err(|_| {
        CliError::usage(format!("--listen: \"{text}\" is no address")).with_hint("as in 127.0.0.1:7900 or [::]:7900")
    })?;
    let data_dir = data_dir(parsed)?;
    let access = access(parsed, listen)?;
    let public_status = parsed.is_set(&PUBLIC_STATUS);
    let tls = access.tls.is_some();
    let mut said = Ok(());
    let ready = |running: &broker::Running| {
        let line = Started {
            msg: "broker_started",
            version: VERSION,
            pid: std::process::id(),
            listen: running.local_addr().to_string(),
            url: format!("{}://{}/ws", if tls { "wss" } else { "ws" }, running.local_addr()),
            admin_token: running.new_admin_token().map(Token::reveal),
            ts: iso(now_millis()),
        };
        said = out.json(&line).and_then(|()| out.flush());
    };
    let ended = broker::run(broker::Options { data_dir, listen, access, public_status }, ready);
    if let Err(err) = said {
        log::warn!("nobody reads that the broker has started: {err}");
    }
    ended.map_err(failed)
}

/// How the flags say that it meets the world.
fn access(parsed: &Parsed, listen: SocketAddr) -> Result<Access, CliError> {
    let trusted_proxy: Option<IpAddr> = match parsed.value(&PROXY) {
        None => None,
        Some(text) => Some(text.parse().map_err(|_| CliError::usage(format!("--trusted-proxy: \"{text}\" is no IP address")))?),
    };
    let tls = match (parsed.value(&CERT), parsed.value(&KEY)) {
        (Some(cert), Some(key)) => Some((PathBuf::from(cert), PathBuf::from(key))),
        (None, None) => None,
        _ => return Err(CliError::usage("--tls-cert and --tls-key go together")),
    };
    let policy = match parsed.value(&POLICY) {
        Some("open") => Policy::Open,
        Some("token") => Policy::Token,
        Some(_) => Policy::Closed,
        None if listen.ip().to_canonical().is_loopback() && trusted_proxy.is_none() => Policy::Local,
        None => Policy::Token,
    };
    Ok(Access { policy, admin: true, trusted_proxy, tls })
}

/// The one line on standard output, for whoever waits for it.
#[derive(Serialize)]
struct Started {
    msg: &'static str,
    version: &'static str,
    pid: u32,
    listen: String,
    /// What clients on this machine call it.
    url: String,
    /// Shown once.
    #[serde(skip_serializing_if = "Option::is_none")]
    admin_token: Option<String>,
    ts: String,
}

fn failed(err: broker::StartError) -> CliError {
    let refused = CliError::refused(Exit::Failure, err.to_string());
    match err {
        broker::StartError::Held { .. } => refused.with_hint("stop it first, or name another directory with --data"),
        broker::StartError::AddressInUse(_) => refused.with_hint("choose another address with --listen"),
        _ => refused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::parse::{Words, parse};

    #[test]
    fn strangers_make_no_meshes_unless_somebody_says_so() {
        for (line, expected) in [
            ("", Some(Policy::Local)),
            ("--listen [::1]:7900", Some(Policy::Local)),
            ("--listen 0.0.0.0:7900", Some(Policy::Token)),
            ("--listen [::]:7900", Some(Policy::Token)),
            ("--listen 127.0.0.1:7900 --trusted-proxy 127.0.0.1", Some(Policy::Token)),
            ("--listen 0.0.0.0:7900 --mesh-policy open", Some(Policy::Open)),
            ("--mesh-policy closed", Some(Policy::Closed)),
            ("--mesh-policy token", Some(Policy::Token)),
            ("--trusted-proxy localhost", None),
            ("--tls-cert x.pem", None),
            ("--tls-key x.pem", None),
        ] {
            let parsed = parse(&VERB, Words::split(line.split_whitespace().map(Into::into).collect()).unwrap()).unwrap();
            let listen = parsed.value(&LISTEN).unwrap_or("127.0.0.1:7900").parse().unwrap();
            assert_eq!(access(&parsed, listen).ok().map(|access| access.policy), expected, "{line}");
        }
    }
}
