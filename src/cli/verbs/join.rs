//! `join`: from a link to an entry of `config.json`, which the daemon that runs notices by itself.

use serde::Serialize;

use crate::base::config::{Config, Mesh};
use crate::base::exit::Exit;
use crate::base::ids::{MemberId, MemberKey, MeshId, Slug};
use crate::base::names::is_slug;
use crate::base::time::{iso, now_millis};
use crate::cli::broker_http::{Broker, Call, sentence};
use crate::cli::context::cold;
use crate::cli::error::CliError;
use crate::cli::link::{self, Checked, Link};
use crate::cli::membership::{Pending, add, files, free_slug, member_name, slug_of, taken};
use crate::cli::parse::Parsed;
use crate::cli::render::Out;
use crate::cli::spec::{Effect, Example, Flag, Group, Operand, Verb};
use crate::wire::ipc::{LinkFault, LinkStatus};
use crate::wire::json::{self, Map, Value, json};
use crate::wire::mesh_api::{Joined, ShortLink, Verdict};

const NAME: Flag = Flag::valued("--name", "NAME", "What others call you; default $USER.");
const AS: Flag = Flag::valued("--as", "SLUG", "What the mesh is called on this machine.");
const BROKER: Flag = Flag::valued("--broker", "URL", "The broker, for a code without its link.");

/// Websites keep short links too, and lead to the long one; from address to address this often at most.
const MAX_HOPS: usize = 4;

pub(in crate::cli) const VERB: Verb = Verb {
    name: "join",
    aliases: &["add"],
    group: Group::Servers,
    about: "Join a mesh by an invitation.",
    long: "Takes links as this program and the TypeScript claudemesh make them, long and short, and bare codes with --broker. The key is \
           made here; the broker learns the public half. A daemon that runs is on the mesh within a second.\n\n\
           To join a mesh again changes nothing; who was shut out of it leaves it first. A mesh whose name is taken on this machine gets another one by --as.",
    operands: &[Operand::one("LINK", "The invitation.")],
    tail: None,
    flags: &[NAME, AS, BROKER],
    effect: Effect::Write,
    examples: &[
        Example { command: "claudemesh join https://mesh.example.org/i/K3FJ7Q2MXPWA --name bob", about: "as bob" },
        Example { command: "claudemesh join K3FJ7Q2MXPWA --broker https://mesh.example.org", about: "by the code alone" },
    ],
    run,
};

#[derive(Serialize)]
struct Answer<'a> {
    schema_version: &'static str,
    ok: bool,
    slug: &'a str,
    mesh_id: &'a str,
    member_id: &'a str,
    broker_url: &'a str,
    already_member: bool,
}

fn run(parsed: &Parsed, out: &mut Out) -> Result<Exit, CliError> {
    let name = member_name(parsed.value(&NAME))?;
    let paths = files()?;
    let config = Config::load(&paths.config_file())?;
    if let Some(mesh) = config.mesh(&Slug::new(parsed.first())) {
        return already(mesh, out);
    }
    let token = token(parsed.first(), parsed.value(&BROKER))?;
    let invite = link::check(&token, now_millis())?;
    if let Some(mesh) = config.meshes.iter().rfind(|mesh| mesh.mesh_id.as_str() == invite.payload.mesh_id) {
        return already(mesh, out);
    }
    let slug = local_slug(&config, parsed.value(&AS), &invite.payload.mesh_slug, out)?;
    let broker = Broker::at(&invite.payload.broker_url)?;
    let pending = Pending::open(&paths, &format!("join|{token}"))?;
    let answer = broker.call::<Joined>(&request(&invite, &pending, &name));
    let (joined, pending) = pending.settle_if_refused(answer)?;
    let mut rest = Map::new();
    rest.insert("role".to_owned(), Value::from(invite.payload.role.as_str()));
    rest.insert("rootKey".to_owned(), Value::from(invite.payload.mesh_root_key.as_str()));
    let mesh = Mesh {
        mesh_id: MeshId::new(invite.payload.mesh_id.as_str()),
        member_id: MemberId::new(joined.member_id),
        slug: Slug::new(slug),
        name: invite.payload.mesh_slug.clone(),
        pubkey: MemberKey(pending.pair.public),
        secret_key: pending.pair.secret.to_secret_text(),
        broker_url: broker.ws_url(),
        joined_at: iso(now_millis()),
        rest,
    };
    add(&paths, mesh.clone())?;
    pending.settle();
    say(&mesh, false, out)?;
    if !out.is_json() {
        out.hint(&format!("you are {name} there; start a session with: claudemesh launch --mesh {}", mesh.slug))?;
        if !broker.is_tls() && !broker.is_loopback() {
            out.warn(
                "the way to the broker is not encrypted",
                Some("direct messages are sealed, but who writes to whom is not"),
            )?;
        }
    }
    Ok(Exit::Success)
}

fn request<'a>(invite: &Checked, pending: &Pending, name: &str) -> Call<'a> {
    Call::new("POST", "/join").with_body(&json!({
        "invite_token": invite.token,
        "invite_payload": invite.value,
        "peer_pubkey": pending.pair.public.to_hex(),
        "display_name": name,
    }))
}

fn already(mesh: &Mesh, out: &mut Out) -> Result<Exit, CliError> {
    if let Some(why) = shut_out(mesh) {
        let slug = &mesh.slug;
        return Err(CliError::refused(Exit::Denied, format!("joined already as \"{slug}\", and not let in: {why}")).with_hint(
            format!(
                "an invitation lets in a new member, not this one: run claudemesh leave {slug}, then join again with the link"
            ),
        ));
    }
    say(mesh, true, out)?;
    Ok(Exit::Success)
}

/// Why the broker takes the member of a joined mesh for none any more, as far as a daemon runs and knows.
fn shut_out(mesh: &Mesh) -> Option<String> {
    let health = cold(None).ok()?.health().ok()?;
    let now = health.meshes.get(mesh.slug.as_str()).filter(|now| now.status == LinkStatus::Closed)?;
    match now.fault? {
        LinkFault::Banned | LinkFault::Refused | LinkFault::Deleted => {
            Some(now.last_error.clone().unwrap_or_else(|| "the broker refuses this member".to_owned()))
        }
        _ => None,
    }
}

fn say(mesh: &Mesh, already: bool, out: &mut Out) -> Result<(), CliError> {
    if out.is_json() {
        return out.json(&Answer {
            schema_version: "1.0",
            ok: true,
            slug: mesh.slug.as_str(),
            mesh_id: mesh.mesh_id.as_str(),
            member_id: mesh.member_id.as_str(),
            broker_url: &mesh.broker_url,
            already_member: already,
        });
    }
    let what = if already { "already on" } else { "joined" };
    out.ok(&format!("{what} \"{}\" at {}", mesh.slug, mesh.broker_url), None)
}

/// What the mesh is to be called here. Where that is taken, another name is offered.
fn local_slug(config: &Config, wanted: Option<&str>, theirs: &str, out: &mut Out) -> Result<String, CliError> {
    if let Some(slug) = wanted.filter(|slug| !is_slug(slug)) {
        return Err(CliError::usage(format!("--as: \"{slug}\" is no slug")).with_hint("lower-case letters, digits, . _ -"));
    }
    let slug = wanted.map_or_else(|| slug_of(theirs), str::to_owned);
    let slug = if is_slug(&slug) { slug } else { "mesh".to_owned() };
    if config.mesh(&Slug::new(slug.as_str())).is_none() {
        return Ok(slug);
    }
    let free = free_slug(config, &slug);
    match out.ask(&format!("another mesh is called \"{slug}\" here; call this one \"{free}\"?"))? {
        Some(true) => Ok(free),
        _ => Err(taken(&slug, &free)),
    }
}

/// The token behind whatever was typed.
fn token(text: &str, broker: Option<&str>) -> Result<String, CliError> {
    let bad = || {
        CliError::usage(format!("\"{}\" is no invitation", text.chars().take(40).collect::<String>()))
            .with_hint("as in https://BROKER/i/CODE, https://HOST/join/TOKEN, ic://join/TOKEN, TOKEN, or CODE with --broker URL")
    };
    match (link::parse(text).ok_or_else(bad)?, broker) {
        (Link::Token(token), _) => Ok(token),
        (Link::Short(url), _) => fetch(Broker::at(text).or_else(|_| Broker::at(&format!("https://{text}")))?, url.target()),
        (Link::Code(code), Some(broker)) => fetch(Broker::at(broker)?, &format!("/i/{code}")),
        (Link::Code(code), None) => Err(CliError::usage(format!("where is the code {code} kept?"))
            .with_hint(format!("name its broker: claudemesh join {code} --broker URL"))),
    }
}

/// Asks whoever keeps a short link. A broker of ours answers with the token; the reference's website leads to it.
fn fetch(mut broker: Broker, path: &str) -> Result<String, CliError> {
    let mut path = path.to_owned();
    for _ in 0..MAX_HOPS {
        let answer = broker.get(&path)?;
        if (300..400).contains(&answer.status)
            && let Some(to) = answer.header("location")
        {
            let to = if to.starts_with('/') { format!("{}{to}", broker.origin()) } else { to.to_owned() };
            match link::parse(&to) {
                Some(Link::Token(token)) => return Ok(token),
                Some(Link::Short(url)) => (broker, path) = (Broker::at(&to)?, url.target().to_owned()),
                Some(Link::Code(_)) | None => break,
            }
            continue;
        }
        if let Ok(ShortLink { token, .. }) = json::decode(&answer.body) {
            return Ok(token);
        }
        let error = json::decode::<Verdict>(&answer.body).ok().and_then(|verdict| verdict.error).unwrap_or_default();
        let exit = if answer.status == 404 { Exit::NotFound } else { Exit::Failure };
        return Err(match sentence(&error) {
            Some((what, hint)) => CliError::refused(exit, what).with_hint(hint),
            None if answer.status == 404 => CliError::refused(exit, format!("{} keeps no such invitation", broker.origin())),
            None => broker.strange(&format!("status {}", answer.status)),
        });
    }
    Err(broker.strange("it leads to nowhere"))
}
