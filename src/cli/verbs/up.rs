//! `up`: a running daemon, or this process as one.

use std::fmt;
use std::fs;

use serde::Serialize;

use crate::base::exit::Exit;
use crate::base::logging;
use crate::base::paths::Paths;
use crate::base::settings::ClonePolicy;
use crate::base::time::{iso, now_millis};
use crate::cli::context::{VERSION, daemon_paths, note_service, paths, skew};
use crate::cli::error::CliError;
use crate::cli::home::{self, HomeError};
use crate::cli::parse::Parsed;
use crate::cli::render::Out;
use crate::cli::spec::{Effect, Example, Flag, Group, Verb};
use crate::cli::verbs::daemon::no_listener;
use crate::cli::verbs::down::offer_restart;
use crate::client::Client;
use crate::client::spawn::{self, SpawnError, Turn};
use crate::daemon::{self, Flags};
use crate::wire::ipc::{Health, TcpHealth};

const CLONE_POLICY: Flag = Flag {
    choices: &["refuse", "warn", "allow"],
    ..Flag::valued("--clone-policy", "POLICY", "What to do when the files come from another host; default: settings.json.")
};
/// The reference's daemon listens on TCP unless it is told not to, so that its units and scripts tell it.
const NO_TCP: Flag = Flag::switch("--no-tcp", "No TCP listener, whatever settings.json says.");
const TCP: Flag = Flag {
    bare: Some("47823"),
    ..Flag::valued(
        "--tcp",
        "PORT",
        "Answer on 127.0.0.1 too, default port 47823, to whoever presents the token in daemon/local-token.",
    )
};
const PUBLIC_HEALTH: Flag = Flag::switch("--public-health", "Answer /v1/health on that port without the token.");
const FOREGROUND: Flag = Flag::switch("--foreground", "Be the daemon, until ended; its log goes to standard error.");

pub(in crate::cli) const VERB: Verb = Verb {
    name: "up",
    aliases: &["daemon up", "daemon start"],
    group: Group::Daemon,
    about: "Start the daemon, if it does not run.",
    long: "Where no mesh is joined, the mesh \"home\" is made, on a broker inside the daemon that only this machine reaches: nothing \
           else is needed for sessions on one machine.\n\n\
           Commands that need the daemon start it themselves. With --foreground this process is the daemon, for a service manager: it \
           prints one JSON line once its socket answers, and ends on SIGTERM.",
    operands: &[],
    tail: None,
    flags: &[FOREGROUND, CLONE_POLICY, TCP, PUBLIC_HEALTH, NO_TCP],
    effect: Effect::Local,
    examples: &[
        Example { command: "claudemesh up", about: "start it, if it does not run" },
        Example { command: "claudemesh daemon up --foreground", about: "as a service manager does" },
    ],
    run,
};

#[derive(Serialize)]
pub(super) struct Up {
    ok: bool,
    detached: bool,
    pid: u32,
    log: String,
    already_running: bool,
    /// Of the daemon that runs, if it is another than this program's.
    #[serde(skip_serializing_if = "Option::is_none")]
    daemon_version: Option<String>,
    /// Flags that a daemon which runs already does without.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    not_applied: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tcp: Option<TcpHealth>,
}

fn run(parsed: &Parsed, out: &mut Out) -> Result<Exit, CliError> {
    let wanted = Flags {
        clone_policy: parsed.value(&CLONE_POLICY).and_then(ClonePolicy::parse),
        tcp: parsed.value(&TCP).map(port).transpose()?,
        no_tcp: parsed.is_set(&NO_TCP),
        public_health: parsed.is_set(&PUBLIC_HEALTH),
    };
    if parsed.is_set(&FOREGROUND) {
        return Ok(foreground(&daemon_paths()?, &wanted));
    }
    start(&paths()?, wanted.texts(), None, out)
}

fn port(text: &str) -> Result<u16, CliError> {
    text.parse().map_err(|_| CliError::usage(format!("{}: \"{text}\" is no port", TCP.long)))
}

/// Starts the daemon beside this process, with these flags, and says so. A turn lasts until there is one.
pub(super) fn start(paths: &Paths, flags: Vec<String>, turn: Option<Turn>, out: &mut Out) -> Result<Exit, CliError> {
    let mut launcher = spawn::Launcher::from_env().map_err(SpawnError::Io)?.with_flags(flags);
    let mut client = ensure(paths, &launcher, turn)?;
    let mut health = client.health()?;
    if client.started_in().is_none()
        && let Some((before, turn)) = offer_restart(&client, paths, out)?
    {
        if launcher.flags.is_empty() {
            launcher.flags = before;
        }
        client = ensure(paths, &launcher, Some(turn))?;
        health = client.health()?;
    }
    let pid = health.pid;
    note_service(&client, out)?;
    let log = paths.log_file().display().to_string();
    let already_running = client.started_in().is_none();
    let not_applied = if already_running { missing(&launcher.flags, &health) } else { Vec::new() };
    if out.is_json() {
        let daemon_version = skew(&client).map(str::to_owned);
        let tcp = health.tcp;
        out.json(&Up { ok: true, detached: true, pid, log, already_running, daemon_version, not_applied, tcp })?;
        return Ok(Exit::Success);
    }
    if already_running {
        out.ok(&format!("daemon is already running (pid {pid})"), None)?;
    } else {
        out.ok(&format!("daemon started (pid {pid})"), None)?;
        out.hint(&format!("log:  {log}"))?;
        out.hint("stop: claudemesh daemon down")?;
    }
    if !not_applied.is_empty() {
        let flags = not_applied.join(" ");
        let hint = format!("start it anew with them: claudemesh down && claudemesh up {}", launcher.flags.join(" "));
        out.warn(&format!("it runs without {flags}"), Some(&hint))?;
    }
    if let Some(TcpHealth { port, error: Some(why), .. }) = &health.tcp {
        let hint = "it is tried again every few seconds; see with: claudemesh daemon status";
        out.warn(&no_listener(*port, Some(why)), Some(hint))?;
    }
    Ok(Exit::Success)
}

/// Which of these flags a daemon that runs does without, whether it has what they say from its own or from its settings.
fn missing(flags: &[String], health: &Health) -> Vec<String> {
    let tcp = health.tcp.as_ref();
    let has = |flag: &String| {
        health.started_with.contains(flag)
            || match flag.split_once('=') {
                Some((name, port)) if name == TCP.long => tcp.is_some_and(|tcp| tcp.port.to_string() == port),
                None if flag == NO_TCP.long => tcp.is_none(),
                None if flag == PUBLIC_HEALTH.long => tcp.is_some_and(|tcp| tcp.public_health),
                _ => false,
            }
    };
    flags.iter().filter(|flag| !has(flag)).cloned().collect()
}

fn ensure(paths: &Paths, launcher: &spawn::Launcher, turn: Option<Turn>) -> Result<Client, CliError> {
    // Whoever asks for it in so many words wants it tried again, however it failed a moment ago.
    let _ = fs::remove_file(paths.spawn_failure());
    let ensured = match &turn {
        Some(turn) => spawn::ensure_in(turn, paths, launcher),
        None => spawn::ensure_with(paths, launcher),
    };
    match ensured {
        Ok(client) => Ok(client),
        Err(err @ (SpawnError::Failed { .. } | SpawnError::Service { .. } | SpawnError::Late(_) | SpawnError::Held { .. })) => {
            // What is wrong with the files is told from a daemon that merely failed, as wherever else one is needed.
            let exit = match daemon::obstacle(paths, clone_policy(&launcher.flags)) {
                Some(daemon::StartError::OtherHost(_)) => Exit::Network,
                _ => Exit::Failure,
            };
            let refused = CliError::refused(exit, err.to_string());
            Err(err.hint().map_or(CliError::refused(exit, err.to_string()), |hint| refused.with_hint(hint)))
        }
        Err(err) => Err(err.into()),
    }
}

/// The policy among flags as [`Flags::texts`] has them.
fn clone_policy(flags: &[String]) -> Option<ClonePolicy> {
    flags.iter().find_map(|flag| ClonePolicy::parse(flag.strip_prefix(CLONE_POLICY.long)?.strip_prefix('=')?))
}

/// The one line on standard output, for whoever waits for it.
#[derive(Serialize)]
struct Started<'a> {
    msg: &'static str,
    version: &'static str,
    pid: u32,
    sock: String,
    tcp: Option<String>,
    meshes: &'a [String],
    ts: String,
}

/// Why this process did not become the daemon.
enum NotStarted {
    Daemon(daemon::StartError),
    Home(HomeError),
}

impl NotStarted {
    fn exit(&self) -> Exit {
        match self {
            NotStarted::Daemon(daemon::StartError::OtherHost(_)) => Exit::Network,
            NotStarted::Daemon(_) => Exit::Failure,
            NotStarted::Home(err) => err.exit(),
        }
    }
}

impl fmt::Display for NotStarted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NotStarted::Daemon(err) => err.fmt(f),
            NotStarted::Home(err) => write!(f, "the mesh \"home\" is not available: {err}"),
        }
    }
}

/// Is the daemon. Everything it has to say goes to the log, whose last line is the reason when it does not start.
fn foreground(paths: &Paths, wanted: &Flags) -> Exit {
    logging::init(log::LevelFilter::Info);
    let exit = serve(paths, wanted).unwrap_or_else(|err| {
        log::error!("{err}");
        err.exit()
    });
    if exit != Exit::Success {
        daemon::hold_off(paths);
    }
    exit
}

/// Runs the daemon, and the broker of `home` with it. What it held is free when it returns.
fn serve(paths: &Paths, wanted: &Flags) -> Result<Exit, NotStarted> {
    let mut lock = daemon::lock(paths).map_err(NotStarted::Daemon)?;
    let settings = daemon::admit(paths, wanted.clone_policy).map_err(NotStarted::Daemon)?;
    // Only now: the broker's files belong to whoever holds the lock, on the host that they are for.
    let broker = home::open(paths).map_err(NotStarted::Home)?;
    let sock = paths.socket().display().to_string();
    let ready = Box::new(move |ready: &daemon::Ready| {
        let line = Started {
            msg: "daemon_started",
            version: VERSION,
            pid: ready.pid,
            sock,
            tcp: ready.tcp.map(|address| address.to_string()),
            meshes: &ready.meshes,
            ts: iso(now_millis()),
        };
        let mut out = Out::stdio(true);
        if let Err(err) = out.json(&line).and_then(|()| out.flush()) {
            log::warn!("nobody reads that the daemon has started: {err}");
        }
    });
    let ended = daemon::run(daemon::Options { paths: paths.clone(), settings, flags: wanted.clone(), ready }, &mut lock);
    if let Some(broker) = broker {
        broker.stop();
    }
    ended.map_err(NotStarted::Daemon)
}
