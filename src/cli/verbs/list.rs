//! `list`: the joined meshes. It needs neither daemon nor network; a daemon that runs adds how each is doing.

use serde::Serialize;

use crate::base::config::{Config, Mesh};
use crate::base::exit::Exit;
use crate::cli::context::{cold, paths};
use crate::cli::error::CliError;
use crate::cli::parse::Parsed;
use crate::cli::render::{Line, Out, Style};
use crate::cli::spec::{Effect, Example, Group, Verb};
use crate::wire::ipc::LinkStatus;
use crate::wire::json::Value;

pub(in crate::cli) const VERB: Verb = Verb {
    name: "list",
    aliases: &["ls", "mesh list"],
    group: Group::Servers,
    about: "Show the meshes this machine has joined.",
    long: "Starts nothing and asks nobody but a daemon that runs.",
    operands: &[],
    tail: None,
    flags: &[],
    effect: Effect::Read,
    examples: &[Example { command: "claudemesh list --json", about: "for a script" }],
    run,
};

#[derive(Serialize)]
struct Listed {
    schema_version: &'static str,
    meshes: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    slug: String,
    name: String,
    mesh_id: String,
    member_id: String,
    role: String,
    broker_url: String,
    /// Of the member's link; `None` if no daemon runs, or it has not attached the mesh.
    status: Option<LinkStatus>,
}

fn run(_: &Parsed, out: &mut Out) -> Result<Exit, CliError> {
    let paths = paths()?;
    let config = Config::load(&paths.config_file())?;
    let health = cold(None)?.health().ok();
    let row = |mesh: &Mesh| Row {
        slug: mesh.slug.to_string(),
        name: mesh.name.clone(),
        mesh_id: mesh.mesh_id.to_string(),
        member_id: mesh.member_id.to_string(),
        role: mesh.rest.get("role").and_then(Value::as_str).unwrap_or("member").to_owned(),
        broker_url: mesh.broker_url.clone(),
        status: health.as_ref().and_then(|health| health.brokers.get(mesh.slug.as_str()).copied()),
    };
    let meshes: Vec<Row> = config.meshes.iter().map(row).collect();
    if out.is_json() {
        out.json(&Listed { schema_version: "1.0", meshes })?;
        return Ok(Exit::Success);
    }
    out.section(&format!("your meshes ({})", meshes.len()))?;
    for mesh in &meshes {
        let (style, mark, word) = match mesh.status {
            Some(LinkStatus::Open) => (Style::Green, "●", "online"),
            Some(LinkStatus::Connecting | LinkStatus::Reconnecting) => (Style::Yellow, "●", "connecting"),
            Some(LinkStatus::Closed) => (Style::Red, "●", "closed"),
            None if health.is_some() => (Style::Yellow, "●", "not attached"),
            None => (Style::Dim, "○", "no daemon runs"),
        };
        out.line(&Line::new().and(style, mark).and(Style::Bold, format!(" {}", mesh.slug)).and(Style::Dim, format!("  {word}")))?;
        out.line(&Line::new().and(Style::Dim, format!("  {}  {}", mesh.role, mesh.broker_url)))?;
    }
    if meshes.is_empty() {
        out.hint("make one with: claudemesh mesh create NAME --broker URL")?;
        out.hint("or join one with: claudemesh join LINK")?;
    }
    out.hint(&format!("config: {}", paths.config_file().display()))?;
    Ok(Exit::Success)
}
