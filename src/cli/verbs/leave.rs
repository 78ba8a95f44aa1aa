//! `leave`: off a mesh, there and here.

use serde::Serialize;

use crate::base::exit::Exit;
use crate::cli::broker_http::{Broker, Call};
use crate::cli::error::CliError;
use crate::cli::membership::{files, joined, remove, secret};
use crate::cli::parse::Parsed;
use crate::cli::render::Out;
use crate::cli::spec::{Effect, Example, Flag, Group, Operand, Verb};
use crate::wire::json::Value;
use crate::wire::mesh_api::Verdict;

const LOCAL: Flag = Flag::switch("--local", "Forget it here only; the broker is not told.");
const YES: Flag = Flag { short: Some("-y"), ..Flag::switch("--yes", "Forget even an owner's key.") };

pub(in crate::cli) const VERB: Verb = Verb {
    name: "leave",
    aliases: &["mesh leave"],
    group: Group::Servers,
    about: "Leave a mesh.",
    long: "The broker shuts this key out, and the entry and the key go from config.json; a daemon that runs notices within a second. \
           Messages that have arrived stay. The owner of a mesh deletes it, or with --local --yes gives up its key.",
    operands: &[Operand::one("SLUG", "The mesh.")],
    tail: None,
    flags: &[LOCAL, YES],
    effect: Effect::Write,
    examples: &[
        Example { command: "claudemesh leave team", about: "for good" },
        Example { command: "claudemesh leave team --local", about: "a mesh whose broker is gone" },
    ],
    run,
};

#[derive(Serialize)]
struct Left<'a> {
    schema_version: &'static str,
    ok: bool,
    slug: &'a str,
    remaining: usize,
}

fn run(parsed: &Parsed, out: &mut Out) -> Result<Exit, CliError> {
    let paths = files()?;
    let mesh = joined(&paths, parsed.first())?;
    let slug = mesh.slug.as_str();
    let owned = mesh.rest.get("role").and_then(Value::as_str) == Some("owner");
    if owned && !(parsed.is_set(&LOCAL) && parsed.is_set(&YES)) {
        return Err(CliError::refused(Exit::Denied, format!("you are the owner of \"{slug}\""))
            .with_hint(format!("delete it with: claudemesh mesh delete {slug}; or give up its key with --local --yes")));
    }
    if !parsed.is_set(&LOCAL) {
        let key = secret(&mesh)?;
        let call = Call::new("POST", format!("/mesh/{}/leave", mesh.mesh_id)).signed_by(&key);
        match Broker::at(&mesh.broker_url)?.call::<Verdict>(&call) {
            Ok(_) => {}
            // It is no member's key any more, or there is no such mesh: that is what was wanted.
            Err(err) if err.exit() == Exit::NotFound => {}
            Err(err) if err.exit() == Exit::Network => {
                return Err(CliError::refused(Exit::Network, err.to_string())
                    .with_hint(format!(
                        "if the broker heard it, it may have been carried out all the same; to be sure, run it again: claudemesh leave \
                         {slug}\nforget it on this machine only with: claudemesh leave {slug} --local"
                    )));
            }
            Err(err) => return Err(err),
        }
    }
    let remaining = remove(&paths, &mesh)?;
    if out.is_json() {
        out.json(&Left { schema_version: "1.0", ok: true, slug, remaining })?;
    } else {
        out.ok(&format!("left \"{slug}\""), Some(&format!("remaining: {remaining}")))?;
    }
    Ok(Exit::Success)
}
