//! `whoami`: which session, which meshes, which files. Never a secret.

use serde::Serialize;

use crate::base::config::Config;
use crate::base::exit::Exit;
use crate::cli::context::{cold, paths, session_token};
use crate::cli::error::CliError;
use crate::cli::parse::Parsed;
use crate::cli::render::Out;
use crate::cli::spec::{Effect, Example, Group, Verb};
use crate::cli::verbs::peers::rights;
use crate::client;
use crate::wire::ipc::SessionView;

pub(in crate::cli) const VERB: Verb = Verb {
    name: "whoami",
    aliases: &[],
    group: Group::Sessions,
    about: "Show which session and which member this is.",
    long: "Starts nothing: a session is shown if the environment names one and the daemon runs. The status is 2 if there is neither a \
           session nor a joined mesh.",
    operands: &[],
    tail: None,
    flags: &[],
    effect: Effect::Read,
    examples: &[Example { command: "claudemesh whoami --json", about: "for a script" }],
    run,
};

#[derive(Serialize)]
struct WhoAmI {
    schema_version: &'static str,
    /// There are no accounts; the reference's scripts ask.
    signed_in: bool,
    local: Local,
    session: Option<SessionView>,
}

#[derive(Serialize)]
struct Local {
    config_path: String,
    daemon_path: String,
    meshes: Vec<Joined>,
}

#[derive(Serialize)]
struct Joined {
    slug: String,
    mesh_id: String,
    member_id: String,
    pubkey_prefix: String,
    broker_url: String,
}

fn run(_: &Parsed, out: &mut Out) -> Result<Exit, CliError> {
    let paths = paths()?;
    let config = Config::load(&paths.config_file())?;
    let session = match session_token()? {
        None => None,
        Some(token) => match cold(Some(token))?.me() {
            Ok(me) => Some(me.session),
            Err(client::Error::NoDaemon(_)) => None,
            Err(err) => return Err(err.into()),
        },
    };
    let meshes: Vec<Joined> = config
        .meshes
        .iter()
        .map(|mesh| Joined {
            slug: mesh.slug.to_string(),
            mesh_id: mesh.mesh_id.to_string(),
            member_id: mesh.member_id.to_string(),
            pubkey_prefix: mesh.pubkey.to_string().chars().take(12).collect(),
            broker_url: mesh.broker_url.clone(),
        })
        .collect();
    let exit = if session.is_none() && meshes.is_empty() { Exit::Unavailable } else { Exit::Success };
    let local = Local {
        config_path: paths.config_file().display().to_string(),
        daemon_path: paths.daemon_dir().display().to_string(),
        meshes,
    };
    let answer = WhoAmI { schema_version: "1.0", signed_in: false, local, session };
    if out.is_json() {
        out.json_pretty(&answer)?;
    } else {
        show(&answer, out)?;
    }
    Ok(exit)
}

fn show(answer: &WhoAmI, out: &mut Out) -> Result<(), CliError> {
    out.blank()?;
    let mut pairs: Vec<(&str, String)> = Vec::new();
    if let Some(session) = &answer.session {
        pairs.push(("this session", format!("{} on {}", session.display_name, session.mesh)));
        pairs.push(("session id", session.session_id.clone()));
        if let Some(presence) = &session.presence {
            pairs.push(("session key", presence.session_pubkey.to_string()));
        }
        pairs.extend(session.role.clone().map(|role| ("role", role)));
        pairs.extend(session.caps.as_deref().map(|caps| ("may", rights(caps))));
        if !session.groups.is_empty() {
            pairs.push(("groups", session.groups.join(", ")));
        }
        pairs.extend(session.cwd.clone().map(|cwd| ("cwd", cwd)));
        pairs.push(("pid", session.pid.to_string()));
    } else {
        pairs.push(("this session", "none".to_owned()));
    }
    for mesh in &answer.local.meshes {
        pairs.push(("mesh", format!("{} as {}… via {}", mesh.slug, mesh.pubkey_prefix, mesh.broker_url)));
    }
    if answer.local.meshes.is_empty() {
        pairs.push(("mesh", "none joined; make one on this machine with: claudemesh up".to_owned()));
    }
    pairs.push(("config", answer.local.config_path.clone()));
    pairs.push(("daemon", answer.local.daemon_path.clone()));
    out.pairs(&pairs)?;
    out.blank()
}
