//! `peer list`: who is on the meshes.

use serde::Serialize;

use crate::base::config::Config;
use crate::base::exit::Exit;
use crate::base::ids::{PublicKey, Slug};
use crate::cli::context::{note_skew, paths, warm};
use crate::cli::error::CliError;
use crate::cli::parse::Parsed;
use crate::cli::render::{Line, Out, Style};
use crate::cli::spec::{Effect, Example, Flag, Group, MESH, Verb};
use crate::client::Client;
use crate::wire::ipc::{PeerOnMesh, Peers};
use crate::wire::peer::{Peer, PeerRole, Reach, Status};

const ALL: Flag = Flag::switch("--all", "Also the connections that daemons keep for themselves.");

pub(in crate::cli) const VERB: Verb = Verb {
    name: "peer list",
    aliases: &["peers"],
    group: Group::Sessions,
    about: "Show who is on the mesh, and who is away.",
    long: "Inside a session: the session's mesh. Outside: every joined mesh. A mesh whose broker did not answer is named, and is not \
           the same as an empty one; if none answered the status is 4.\n\n\
           Behind a peer stands how mail gets to its model, where its daemon says so: it can be woken when it is idle (wake, \
           channel), or hears while it works (turn), or reads when it looks.",
    operands: &[],
    tail: None,
    flags: &[MESH, ALL],
    effect: Effect::Read,
    examples: &[
        Example { command: "claudemesh peers", about: "who is there" },
        Example { command: "claudemesh peer list --mesh home --json", about: "for a script" },
    ],
    run,
};

/// A row of the reference's JSON.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Row<'a> {
    #[serde(flatten)]
    peer: &'a PeerOnMesh,
    is_self: bool,
    is_this_session: bool,
}

#[derive(Serialize)]
struct OfMesh<'a> {
    mesh: &'a str,
    peers: Vec<Row<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
}

/// Who asks.
struct Asker {
    config: Config,
    session: Option<PublicKey>,
    mesh: Option<Slug>,
}

impl Asker {
    fn row<'a>(&self, peer: &'a PeerOnMesh) -> Row<'a> {
        let is_self = self.config.mesh(&peer.mesh).is_some_and(|mesh| mesh.pubkey == peer.peer.member_pubkey);
        let is_this_session = self.session == Some(peer.peer.pubkey);
        Row { peer, is_self, is_this_session }
    }

    fn meshes(&self, wanted: Option<&str>) -> Result<Vec<Slug>, CliError> {
        if wanted.is_none()
            && let Some(mesh) = &self.mesh
        {
            return Ok(vec![mesh.clone()]);
        }
        if wanted.is_some() || self.config.meshes.is_empty() {
            return Ok(vec![super::super::context::one_mesh(&self.config, wanted)?.slug.clone()]);
        }
        Ok(self.config.meshes.iter().map(|mesh| mesh.slug.clone()).collect())
    }
}

fn run(parsed: &Parsed, out: &mut Out) -> Result<Exit, CliError> {
    let client = warm(out)?;
    let asker = asker(&client)?;
    let meshes = asker.meshes(parsed.value(&MESH))?;
    let answer = client.peers(parsed.value(&MESH))?;
    let all = parsed.is_set(&ALL);
    let lists: Vec<OfMesh<'_>> = meshes.iter().map(|mesh| of_mesh(mesh, &answer, &asker, all)).collect();
    if !out.is_json() {
        for (list, mesh) in lists.iter().zip(&meshes) {
            show(list, hidden(mesh, &answer, all), out)?;
        }
    } else if let [only] = lists.as_slice() {
        match only.error {
            None => out.json_pretty(&only.peers)?,
            Some(_) => out.json_pretty(&only)?,
        }
    } else {
        out.json_pretty(&lists)?;
    }
    note_skew(&client, out)?;
    let silent = lists.iter().all(|list| list.error.is_some());
    Ok(if silent { Exit::Network } else { Exit::Success })
}

fn asker(client: &Client) -> Result<Asker, CliError> {
    let config = Config::load(&paths()?.config_file())?;
    let me = client.token().map(|_| client.me()).transpose()?.map(|me| me.session);
    let session = me.as_ref().and_then(|me| me.presence.as_ref()).map(|presence| presence.session_pubkey.0);
    Ok(Asker { config, session, mesh: me.map(|me| me.mesh) })
}

fn of_mesh<'a>(mesh: &'a Slug, answer: &'a Peers, asker: &Asker, all: bool) -> OfMesh<'a> {
    let wanted = |peer: &&PeerOnMesh| peer.mesh == *mesh && (all || peer.peer.peer_role != PeerRole::ControlPlane);
    let mut peers: Vec<Row<'_>> = answer.peers.iter().filter(wanted).map(|peer| asker.row(peer)).collect();
    peers.sort_by_key(|row| (!row.peer.peer.online, !row.is_this_session, !row.is_self));
    OfMesh { mesh: mesh.as_str(), peers, error: answer.unanswered.get(mesh.as_str()).map(String::as_str) }
}

fn hidden(mesh: &Slug, answer: &Peers, all: bool) -> usize {
    let control = |peer: &&PeerOnMesh| peer.mesh == *mesh && peer.peer.peer_role == PeerRole::ControlPlane;
    if all { 0 } else { answer.peers.iter().filter(control).count() }
}

fn show(list: &OfMesh<'_>, hidden: usize, out: &mut Out) -> Result<(), CliError> {
    let more = if hidden == 0 { String::new() } else { format!(", {hidden} control-plane hidden — use --all") };
    out.section(&format!("peers on {} ({}{more})", list.mesh, list.peers.len()))?;
    if let Some(why) = list.error {
        return out.warn(&format!("the broker of {} did not answer: {why}", list.mesh), Some("see: claudemesh status"));
    }
    if list.peers.is_empty() {
        return out.info("  (no peers connected)");
    }
    list.peers.iter().try_for_each(|row| show_peer(row, out))
}

/// How mail gets to a peer's model. Who did not say is not spoken of.
fn reach(ways: &[Reach]) -> String {
    let words: Vec<&str> = ways.iter().map(|way| way.as_str()).collect();
    match (ways.contains(&Reach::Wake) || ways.contains(&Reach::Channel), words.is_empty()) {
        (_, true) => " · reads when it looks".to_owned(),
        (true, _) => format!(" · can be woken ({})", words.join(", ")),
        (false, _) => format!(" · hears while it works ({})", words.join(", ")),
    }
}

/// What it says it is there for. Whoever says nothing is listed by the kind of its connection.
fn role(peer: &Peer) -> Option<&str> {
    peer.role.as_deref().filter(|role| !role.is_empty() && *role != peer.peer_role.as_str())
}

/// The rights of a session that has some only, in words.
pub(super) fn rights(caps: &[String]) -> String {
    if caps.is_empty() { "do nothing in the mesh".to_owned() } else { format!("only {}", caps.join(", ")) }
}

fn show_peer(row: &Row<'_>, out: &mut Out) -> Result<(), CliError> {
    let peer = &row.peer.peer;
    let style = match (peer.online, peer.status) {
        (false, _) => Style::Dim,
        (true, Status::Working) => Style::Yellow,
        (true, Status::Dnd) => Style::Red,
        (true, Status::Idle) => Style::Green,
    };
    let mine = match (row.is_this_session, row.is_self, peer.peer_role) {
        (_, _, PeerRole::ControlPlane) => " (a daemon)",
        (true, ..) => " (this session)",
        (false, true, _) => " (your other session)",
        (false, false, _) => "",
    };
    let groups: Vec<String> = peer
        .groups
        .iter()
        .map(|group| match &group.role {
            Some(role) => format!("@{}:{role}", group.name),
            None => format!("@{}", group.name),
        })
        .collect();
    let kind: Vec<&str> = [&peer.peer_type, &peer.channel, &peer.model].into_iter().flatten().map(String::as_str).collect();
    let short = |text: &str, count: usize| text.chars().take(count).collect::<String>();
    let line = Line::new()
        .and(style, if peer.online { "●" } else { "○" })
        .and(Style::Bold, format!(" {}", peer.display_name))
        .and(Style::Dim, mine)
        .maybe(Style::Plain, role(peer).map(|role| format!(" · {role}")))
        .maybe(Style::Cyan, (!groups.is_empty()).then(|| format!(" [{}]", groups.join(", "))))
        .maybe(Style::Dim, (!kind.is_empty()).then(|| format!(" ({})", kind.join(", "))))
        .and(Style::Dim, format!(" · {}…", short(&peer.pubkey.to_hex(), 16)))
        .maybe(Style::Dim, (!peer.session_id.is_empty()).then(|| format!(" · sid:{}", short(&peer.session_id, 8))))
        .maybe(Style::Yellow, peer.allowed_caps.as_deref().map(|caps| format!(" · may {}", rights(caps))))
        .maybe(Style::Dim, peer.reach.as_deref().filter(|_| peer.online).map(reach))
        .maybe(Style::Plain, peer.summary.clone().filter(|summary| !summary.is_empty()).map(|summary| format!("  — {summary}")));
    out.line(&line)?;
    if !peer.online {
        let since = if peer.connected_at.is_empty() { String::new() } else { format!(", last seen {}", peer.connected_at) };
        out.line(&Line::new().and(Style::Dim, format!("   away{since}")))?;
    }
    if peer.cwd.is_empty() { Ok(()) } else { out.line(&Line::new().and(Style::Dim, format!("   cwd: {}", peer.cwd))) }
}
