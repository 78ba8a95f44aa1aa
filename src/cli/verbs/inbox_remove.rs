//! `inbox flush` and `inbox delete`.

use serde::Serialize;

use crate::base::exit::Exit;
use crate::base::time::parse_iso;
use crate::cli::context::{note_skew, warm};
use crate::cli::error::CliError;
use crate::cli::parse::Parsed;
use crate::cli::render::Out;
use crate::cli::spec::{Effect, Example, Flag, Group, MESH, Operand, Verb};

const BEFORE: Flag = Flag::valued("--before", "TIME", "What came before this time (ISO 8601; UTC unless it says otherwise).");
const ALL: Flag = Flag::switch("--all", "Everything.");

pub(in crate::cli) const FLUSH: Verb = Verb {
    name: "inbox flush",
    aliases: &["message inbox flush"],
    group: Group::Messages,
    about: "Remove many messages from the inbox.",
    long: "At least one of --mesh, --before and --all says which.",
    operands: &[],
    tail: None,
    flags: &[MESH, BEFORE, ALL],
    effect: Effect::Write,
    examples: &[Example { command: "claudemesh inbox flush --before 2025-10-09", about: "what is old" }],
    run: flush,
};

pub(in crate::cli) const DELETE: Verb = Verb {
    name: "inbox delete",
    aliases: &["inbox rm", "message inbox delete"],
    group: Group::Messages,
    about: "Remove one message from the inbox.",
    long: "",
    operands: &[Operand::one("ID", "The row's id, as `inbox --json` shows it.")],
    tail: None,
    flags: &[],
    effect: Effect::Write,
    examples: &[Example { command: "claudemesh inbox delete 6f1c9a52-5d0f-4c1c-9d55-0b8f4d1e2a3b", about: "by its id" }],
    run: delete,
};

#[derive(Serialize)]
struct Flushed {
    ok: bool,
    removed: usize,
}

#[derive(Serialize)]
struct Deleted<'a> {
    ok: bool,
    id: &'a str,
}

fn flush(parsed: &Parsed, out: &mut Out) -> Result<Exit, CliError> {
    let (mesh, before) = (parsed.value(&MESH), parsed.value(&BEFORE));
    if mesh.is_none() && before.is_none() && !parsed.is_set(&ALL) {
        return Err(CliError::usage("which messages?").with_hint("say so with --mesh, --before or --all"));
    }
    if let Some(text) = before.filter(|text| parse_iso(text).is_none()) {
        return Err(
            CliError::usage(format!("--before: \"{text}\" is no time")).with_hint("as in 2025-10-09 or 2025-10-09T08:53:20Z")
        );
    }
    let client = warm(out)?;
    let removed = client.flush(mesh, before)?.removed;
    if out.is_json() {
        out.json(&Flushed { ok: true, removed })?;
    } else {
        let mut which: Vec<String> = mesh.iter().map(|mesh| format!("from mesh \"{mesh}\"")).collect();
        which.extend(before.map(|before| format!("older than {before}")));
        let which = if which.is_empty() { "from all meshes".to_owned() } else { which.join(", ") };
        out.ok(&format!("Flushed {removed} message{} {which}.", if removed == 1 { "" } else { "s" }), None)?;
    }
    note_skew(&client, out)?;
    Ok(Exit::Success)
}

fn delete(parsed: &Parsed, out: &mut Out) -> Result<Exit, CliError> {
    let id = parsed.first();
    let missing =
        || CliError::refused(Exit::NotFound, format!("no inbox row with id \"{id}\"")).or_list("claudemesh inbox --json");
    let client = warm(out)?;
    let removed = match client.delete(id) {
        Ok(reply) => reply.removed,
        Err(crate::client::Error::Refused { status: 404, .. }) => return Err(missing()),
        Err(err) => return Err(err.into()),
    };
    if removed == 0 {
        return Err(missing());
    }
    if out.is_json() {
        out.json(&Deleted { ok: true, id })?;
    } else {
        out.ok(&format!("Deleted inbox row {id}."), None)?;
    }
    note_skew(&client, out)?;
    Ok(Exit::Success)
}
