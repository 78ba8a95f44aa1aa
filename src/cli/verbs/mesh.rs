//! `mesh create`, `mesh rename` and `mesh delete`: what the owner of a mesh does. The owner's key is made here and stays here.

use std::io::Read;

use serde::Serialize;

use crate::base::config::{Config, Mesh};
use crate::base::exit::Exit;
use crate::base::ids::{MemberId, MemberKey, MeshId, Slug};
use crate::base::names::{is_display_name, is_slug};
use crate::base::time::{iso, now_millis};
use crate::cli::broker_http::{Broker, Call};
use crate::cli::error::CliError;
use crate::cli::membership::{
    Pending, add, files, free_slug, joined, member_name, remove, rename, secret, slug_of, taken, taken_by_another,
};
use crate::cli::parse::Parsed;
use crate::cli::render::Out;
use crate::cli::spec::{Effect, Example, Flag, Group, Operand, Verb};
use crate::crypto::{base64, random};
use crate::wire::json::{Map, Value};
use crate::wire::mesh_api::{CreateMesh, CreatedMesh, RenameMesh, Verdict};

/// Names the broker's admin token for scripts, where a file is in the way.
const ADMIN_TOKEN: &str = "CLAUDEMESH_ADMIN_TOKEN";

/// Largest token file that is read, in bytes.
const MAX_TOKEN_FILE: u64 = 4096;

const BROKER: Flag = Flag::valued("--broker", "URL", "The broker, as its members reach it.");
const NAME: Flag = Flag::valued("--name", "NAME", "What others call you; default $USER.");
const AS: Flag = Flag::valued("--as", "SLUG", "What the mesh is called on this machine.");
const TOKEN_FILE: Flag = Flag::valued("--token-file", "FILE", "Holds the broker's admin token; - is standard input.");
const YES: Flag = Flag { short: Some("-y"), ..Flag::switch("--yes", "Do not ask.") };

pub(in crate::cli) const CREATE: Verb = Verb {
    name: "mesh create",
    aliases: &["create", "new"],
    group: Group::Servers,
    about: "Make a mesh on a broker, and be its owner.",
    long: "The owner's key is made here and never leaves this machine: the broker learns the public half. A broker on this machine lets \
           its users make meshes; others ask for the admin token, by --token-file or $CLAUDEMESH_ADMIN_TOKEN.\n\n\
           Give the address by which the others reach the broker: invitations carry it.",
    operands: &[Operand::one("NAME", "What the mesh is called.")],
    tail: None,
    flags: &[BROKER, NAME, AS, TOKEN_FILE],
    effect: Effect::Write,
    examples: &[
        Example { command: "claudemesh mesh create team --broker https://mesh.example.org", about: "on a team's broker" },
        Example { command: "claudemesh mesh create lab --broker http://127.0.0.1:7900", about: "on this machine" },
    ],
    run: create,
};

pub(in crate::cli) const RENAME: Verb = Verb {
    name: "mesh rename",
    aliases: &["rename"],
    group: Group::Servers,
    about: "Give a mesh another name.",
    long: "For its admins. Others who have joined keep the name they know it by.",
    operands: &[Operand::one("SLUG", "The mesh."), Operand::one("NEW", "Its new slug.")],
    tail: None,
    flags: &[],
    effect: Effect::Write,
    examples: &[Example { command: "claudemesh mesh rename lab field", about: "lab is called field from now on" }],
    run: run_rename,
};

pub(in crate::cli) const DELETE: Verb = Verb {
    name: "mesh delete",
    aliases: &["delete"],
    group: Group::Servers,
    about: "Delete a mesh for everybody.",
    long: "For its owner. Everybody is sent away, and what the broker keeps of it goes. What has arrived on members' machines stays \
           there.",
    operands: &[Operand::one("SLUG", "The mesh.")],
    tail: None,
    flags: &[YES],
    effect: Effect::Write,
    examples: &[Example { command: "claudemesh mesh delete lab --yes", about: "without being asked" }],
    run: delete,
};

#[derive(Serialize)]
struct Created {
    schema_version: &'static str,
    slug: String,
    id: String,
    broker_url: String,
}

fn create(parsed: &Parsed, out: &mut Out) -> Result<Exit, CliError> {
    let name = parsed.first();
    if !is_display_name(name) {
        return Err(CliError::usage(format!("\"{name}\" is no name for a mesh")));
    }
    let mesh_slug = slug_of(name);
    if !is_slug(&mesh_slug) {
        return Err(CliError::usage(format!("\"{name}\" has nothing in it that a slug can be made of")));
    }
    let url = parsed
        .value(&BROKER)
        .ok_or_else(|| CliError::usage("missing --broker URL").with_hint("start a broker with: claudemesh broker"))?;
    let broker = Broker::at(url)?;
    let display_name = member_name(parsed.value(&NAME))?;
    let paths = files()?;
    let slug = local_slug(&Config::load(&paths.config_file())?, parsed.value(&AS), &mesh_slug)?;
    let admin = admin_token(parsed.value(&TOKEN_FILE))?;
    let pending = Pending::open(&paths, &format!("create|{}|{name}", broker.ws_url()))?;
    let body = CreateMesh { name: name.to_owned(), slug: mesh_slug, display_name };
    let call = Call::new("POST", "/mesh").with_body(&body).signed_by(&pending.pair.secret).with_admin(admin.as_deref());
    let made = broker.call::<CreatedMesh>(&call);
    let (made, pending) = pending.settle_if_refused(made)?;
    let mut rest = Map::new();
    rest.insert("role".to_owned(), Value::from("owner"));
    rest.insert("rootKey".to_owned(), Value::from(base64::encode_url(&random::bytes::<32>())));
    let mesh = Mesh {
        mesh_id: MeshId::new(made.mesh_id.as_str()),
        member_id: MemberId::new(made.member_id),
        slug: Slug::new(slug.as_str()),
        name: name.to_owned(),
        pubkey: MemberKey(pending.pair.public),
        secret_key: pending.pair.secret.to_secret_text(),
        broker_url: broker.ws_url(),
        joined_at: iso(now_millis()),
        rest,
    };
    add(&paths, mesh)?;
    pending.settle();
    if out.is_json() {
        out.json(&Created { schema_version: "1.0", slug, id: made.mesh_id, broker_url: broker.ws_url() })?;
    } else {
        out.ok(&format!("made mesh \"{slug}\" at {}", broker.ws_url()), None)?;
        out.hint(&format!("invite somebody with: claudemesh invite --mesh {slug}"))?;
    }
    Ok(Exit::Success)
}

/// What the mesh is to be called here, if that is not taken.
fn local_slug(config: &Config, wanted: Option<&str>, own: &str) -> Result<String, CliError> {
    let slug = wanted.unwrap_or(own);
    if !is_slug(slug) {
        return Err(CliError::usage(format!("--as: \"{slug}\" is no slug")).with_hint("lower-case letters, digits, . _ -"));
    }
    if config.mesh(&Slug::new(slug)).is_some() {
        return Err(taken(slug, &free_slug(config, slug)));
    }
    Ok(slug.to_owned())
}

fn admin_token(file: Option<&str>) -> Result<Option<String>, CliError> {
    let mut text = String::new();
    let read = match file {
        None => return Ok(std::env::var(ADMIN_TOKEN).ok().filter(|token| !token.is_empty())),
        Some("-") => std::io::stdin().take(MAX_TOKEN_FILE).read_to_string(&mut text),
        Some(path) => std::fs::File::open(path).and_then(|file| file.take(MAX_TOKEN_FILE).read_to_string(&mut text)),
    };
    read.map_err(|err| CliError::io("the admin token cannot be read", err))?;
    Ok(Some(text.trim().to_owned()))
}

#[derive(Serialize)]
struct Done {
    schema_version: &'static str,
    ok: bool,
    slug: String,
}

fn done(slug: &str, said: &str, out: &mut Out) -> Result<Exit, CliError> {
    if out.is_json() {
        out.json(&Done { schema_version: "1.0", ok: true, slug: slug.to_owned() })?;
    } else {
        out.ok(said, None)?;
    }
    Ok(Exit::Success)
}

fn run_rename(parsed: &Parsed, out: &mut Out) -> Result<Exit, CliError> {
    let [old, new] = parsed.operands.as_slice() else { return Err(CliError::usage("two slugs: the old one and the new one")) };
    if !is_slug(new) {
        return Err(CliError::usage(format!("\"{new}\" is no slug")).with_hint("lower-case letters, digits, . _ -"));
    }
    let paths = files()?;
    let mesh = joined(&paths, old)?;
    if old == crate::cli::home::SLUG {
        return Err(CliError::refused(Exit::Denied, "the mesh of this machine itself keeps its name"));
    }
    let config = Config::load(&paths.config_file())?;
    if old != new && config.mesh(&Slug::new(new.as_str())).is_some() {
        return Err(taken_by_another(old, new, &free_slug(&config, new)));
    }
    let key = secret(&mesh)?;
    let body = RenameMesh { slug: new.clone(), name: new.clone() };
    let call = Call::new("PATCH", format!("/mesh/{}", mesh.mesh_id)).with_body(&body).signed_by(&key);
    Broker::at(&mesh.broker_url)?.call::<Verdict>(&call)?;
    rename(&paths, &mesh.slug, new, new)?;
    done(new, &format!("mesh \"{old}\" is called \"{new}\" now"), out)
}

fn delete(parsed: &Parsed, out: &mut Out) -> Result<Exit, CliError> {
    let paths = files()?;
    let mesh = joined(&paths, parsed.first())?;
    let question = format!("delete mesh \"{}\" for everybody who is on it?", mesh.slug);
    if !parsed.is_set(&YES) && out.ask(&question)? != Some(true) {
        return Err(CliError::refused(Exit::Failure, "nothing was deleted").with_hint("say that it is meant with --yes"));
    }
    let key = secret(&mesh)?;
    let call = Call::new("DELETE", format!("/mesh/{}", mesh.mesh_id)).signed_by(&key);
    match Broker::at(&mesh.broker_url)?.call::<Verdict>(&call) {
        Ok(_) => {}
        // Deleted before, while nobody heard the answer.
        Err(err) if err.exit() == Exit::NotFound => {}
        Err(err) => return Err(err),
    }
    remove(&paths, &mesh)?;
    done(mesh.slug.as_str(), &format!("mesh \"{}\" is deleted", mesh.slug), out)
}
