//! `broker admin`: what whoever operates a broker asks of its data directory. Readings and backups work while the broker
//! runs; what replaces or rewrites the database needs it stopped.

use std::path::{Path, PathBuf};

use crate::base::exit::Exit;
use crate::base::ids::MeshId;
use crate::base::time::iso;
use crate::broker;
use crate::cli::error::CliError;
use crate::cli::parse::Parsed;
use crate::cli::render::{Line, Out, Style};
use crate::cli::spec::{Effect, Example, Flag, Group, Operand, Verb};
use crate::store;
use crate::store::hub::{self, Admin, MeshTotals};
use crate::wire::json::{Value, json};

use super::broker::{DATA, data_dir};

const LIMIT: Flag = Flag::valued("--limit", "N", "At most so many, 1 to 10000; default 50.");

/// What these verbs have in common.
const FAMILY: Verb = Verb {
    name: "",
    aliases: &[],
    group: Group::Servers,
    about: "",
    long: "",
    operands: &[],
    tail: None,
    flags: &[DATA],
    effect: Effect::Local,
    examples: &[],
    run: meshes,
};

pub(in crate::cli) const MESHES: Verb = Verb {
    name: "broker admin meshes",
    about: "List the meshes of a broker, with what waits in each.",
    examples: &[Example { command: "claudemesh broker admin meshes --data /var/lib/claudemesh", about: "while it runs" }],
    run: meshes,
    ..FAMILY
};

pub(in crate::cli) const MEMBERS: Verb = Verb {
    name: "broker admin members",
    about: "List the members of a mesh.",
    operands: &[Operand::one("MESH", "The mesh's slug or id.")],
    examples: &[Example { command: "claudemesh broker admin members acme --data /var/lib/claudemesh", about: "by its slug" }],
    run: members,
    ..FAMILY
};

pub(in crate::cli) const WAITING: Verb = Verb {
    name: "broker admin queue",
    about: "List for whom most mail waits.",
    flags: &[DATA, LIMIT],
    examples: &[Example { command: "claudemesh broker admin queue --limit 5 --data /var/lib/claudemesh", about: "the five" }],
    run: queue,
    ..FAMILY
};

pub(in crate::cli) const BACKUP: Verb = Verb {
    name: "broker admin backup",
    about: "Write a copy of a broker's database.",
    long: "The copy is of one moment, whole, and on the disk when the command ends; the broker may go on meanwhile. It holds \
           what the database holds: keep it as private.",
    operands: &[Operand::one("FILE", "The new file; it must not be there yet.")],
    examples: &[Example {
        command: "claudemesh broker admin backup hub-monday.db --data /var/lib/claudemesh",
        about: "while it runs",
    }],
    run: backup,
    ..FAMILY
};

pub(in crate::cli) const RESTORE: Verb = Verb {
    name: "broker admin restore",
    about: "Put a backup in the place of a broker's database.",
    long: "The broker must not run. The backup is checked first, and the database that it replaces is kept beside it under \
           another name. What was accepted after the backup is not in it; what was delivered after it is offered again, and \
           recipients recognise it.",
    operands: &[Operand::one("FILE", "A file that backup wrote.")],
    examples: &[Example {
        command: "claudemesh broker admin restore hub-monday.db --data /var/lib/claudemesh",
        about: "when it is stopped",
    }],
    run: restore,
    ..FAMILY
};

pub(in crate::cli) const COMPACT: Verb = Verb {
    name: "broker admin compact",
    about: "Give the room of deleted rows back to the file system.",
    long: "The broker must not run. It needs room for a second copy of the database meanwhile.",
    examples: &[Example { command: "claudemesh broker admin compact --data /var/lib/claudemesh", about: "when it is stopped" }],
    run: compact,
    ..FAMILY
};

pub(in crate::cli) const VERIFY: Verb = Verb {
    name: "broker admin verify",
    about: "Check a broker's database and its audit logs.",
    long: "Every page is looked at, and every entry of each mesh's audit log is hashed again over the one before. The head that \
           is printed can be noted elsewhere: while it is still among the entries, nothing before it was changed. Exit status 1: \
           something does not fit.",
    examples: &[Example { command: "claudemesh broker admin verify --data /var/lib/claudemesh", about: "while it runs" }],
    run: verify,
    ..FAMILY
};

fn failed(dir: &Path, err: &store::Error) -> CliError {
    let path = broker::database(dir);
    if !path.exists() {
        return CliError::refused(Exit::Failure, format!("there is no broker's database in {}", dir.display()))
            .with_hint("name its data directory with --data");
    }
    CliError::refused(Exit::Failure, format!("{}: {err}", path.display())).with_hint(err.remedy())
}

fn open(parsed: &Parsed) -> Result<(PathBuf, Admin), CliError> {
    let dir = data_dir(parsed)?;
    let admin = Admin::open(&broker::database(&dir)).map_err(|err| failed(&dir, &err))?;
    Ok((dir, admin))
}

/// Keeps the broker away until it is dropped.
fn stopped(parsed: &Parsed) -> Result<(PathBuf, broker::Held), CliError> {
    let dir = data_dir(parsed)?;
    let lock = broker::keep_out(&dir).map_err(|err| {
        let refused = CliError::refused(Exit::Failure, err.to_string());
        match err {
            broker::StartError::Held { .. } => refused.with_hint("stop it first"),
            _ => refused,
        }
    })?;
    Ok((dir, lock))
}

fn meshes(parsed: &Parsed, out: &mut Out) -> Result<Exit, CliError> {
    let (dir, admin) = open(parsed)?;
    let rows = admin.meshes().map_err(|err| failed(&dir, &err))?;
    if out.is_json() {
        let rows: Vec<Value> = rows.iter().map(mesh_json).collect();
        out.json(&json!({"meshes": rows}))?;
    } else if rows.is_empty() {
        out.info("no meshes")?;
    }
    for row in rows.iter().filter(|_| !parsed.is_set(&crate::cli::spec::JSON)) {
        let text = format!(
            "  {}, {} members, {} waiting ({} KiB), {} audit entries",
            row.mesh.id,
            row.members,
            row.queued,
            row.queued_bytes / 1024,
            row.audit_entries
        );
        out.line(&Line::new().and(Style::Bold, row.mesh.slug.as_str()).and(Style::Dim, text))?;
    }
    Ok(Exit::Success)
}

fn mesh_json(row: &MeshTotals) -> Value {
    json!({
        "id": row.mesh.id, "slug": row.mesh.slug, "name": row.mesh.name, "owner": row.mesh.owner, "createdAt": iso(row.mesh.created_at),
        "archivedAt": row.mesh.archived_at.map(iso), "members": row.members, "queued": row.queued, "queuedBytes": row.queued_bytes,
        "auditEntries": row.audit_entries,
    })
}

/// The one mesh of this slug or id.
fn find(dir: &Path, admin: &Admin, name: &str) -> Result<MeshId, CliError> {
    let all = admin.meshes().map_err(|err| failed(dir, &err))?;
    let named: Vec<&MeshTotals> =
        all.iter().filter(|row| row.mesh.id.as_str() == name || row.mesh.slug.as_str() == name).collect();
    match named.as_slice() {
        [one] => Ok(one.mesh.id.clone()),
        [] => Err(CliError::refused(Exit::NotFound, format!("no mesh is called \"{name}\""))
            .with_hint("see: claudemesh broker admin meshes")),
        many => {
            let ids: Vec<&str> = many.iter().map(|row| row.mesh.id.as_str()).collect();
            Err(CliError::refused(
                Exit::Failure,
                format!("more than one mesh is called \"{name}\"; their ids: {}", ids.join(", ")),
            ))
        }
    }
}

fn members(parsed: &Parsed, out: &mut Out) -> Result<Exit, CliError> {
    let (dir, admin) = open(parsed)?;
    let mesh = find(&dir, &admin, parsed.first())?;
    let rows = admin.members(&mesh).map_err(|err| failed(&dir, &err))?;
    if out.is_json() {
        let row = |member: &hub::Member| {
            json!({
                "id": member.id, "pubkey": member.key, "displayName": member.display_name, "role": member.role.as_str(),
                "joinedAt": iso(member.joined_at), "revoked": member.revoked,
            })
        };
        out.json(&json!({"mesh": mesh, "members": rows.iter().map(row).collect::<Vec<_>>()}))?;
        return Ok(Exit::Success);
    }
    for member in rows {
        let revoked = if member.revoked { ", shut out" } else { "" };
        let text = format!("  {} {}, since {}{revoked}", member.key, member.role.as_str(), iso(member.joined_at));
        out.line(&Line::new().and(Style::Bold, member.display_name).and(Style::Dim, text))?;
    }
    Ok(Exit::Success)
}

fn queue(parsed: &Parsed, out: &mut Out) -> Result<Exit, CliError> {
    let (dir, admin) = open(parsed)?;
    let limit = parsed.number(&LIMIT, 1..=10_000)?.unwrap_or(50);
    let rows = admin.queue(usize::try_from(limit).unwrap_or(50)).map_err(|err| failed(&dir, &err))?;
    if out.is_json() {
        let row = |row: &hub::WaitingRow| {
            json!({
                "mesh": row.mesh, "slug": row.slug, "recipient": row.recipient, "name": row.name, "copies": row.copies,
                "bytes": row.bytes, "oldest": row.oldest.map(iso),
            })
        };
        out.json(&json!({"queue": rows.iter().map(row).collect::<Vec<_>>()}))?;
        return Ok(Exit::Success);
    }
    if rows.is_empty() {
        out.info("nothing waits")?;
    }
    for row in rows {
        let since = row.oldest.map_or_else(String::new, |at| format!(", the oldest from {}", iso(at)));
        let text = format!("  {} in {}: {} ({} KiB){since}", row.recipient, row.slug, row.copies, row.bytes / 1024);
        out.line(&Line::new().and(Style::Bold, row.name.unwrap_or_else(|| "?".to_owned())).and(Style::Dim, text))?;
    }
    Ok(Exit::Success)
}

fn backup(parsed: &Parsed, out: &mut Out) -> Result<Exit, CliError> {
    let (dir, admin) = open(parsed)?;
    let file = Path::new(parsed.first());
    if file.exists() {
        return Err(CliError::refused(Exit::AlreadyExists, format!("{} is there already", file.display()))
            .with_hint("choose another name"));
    }
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
        let missing = CliError::refused(Exit::Io, format!("there is no directory {}", folder.display()));
        return Err(missing.with_hint("make it first, or name another"));
    }
    let bytes = admin
        .backup(file)
        .map_err(|err| CliError::refused(Exit::Failure, format!("no backup of {} was made: {err}", dir.display())))?;
    if out.is_json() {
        out.json(&json!({"file": file, "bytes": bytes}))?;
    } else {
        out.ok(&format!("{} ({} KiB)", file.display(), bytes / 1024), None)?;
    }
    Ok(Exit::Success)
}

fn restore(parsed: &Parsed, out: &mut Out) -> Result<Exit, CliError> {
    let file = Path::new(parsed.first());
    if !file.is_file() {
        return Err(CliError::refused(Exit::Failure, format!("{} is not there", file.display())));
    }
    let (dir, _lock) = stopped(parsed)?;
    let kept = hub::restore(file, &broker::database(&dir)).map_err(|err| {
        CliError::refused(Exit::Failure, format!("{} was not restored: {err}", file.display()))
            .with_hint("the broker's database is as it was")
    })?;
    if out.is_json() {
        out.json(&json!({"restored": file, "kept": kept}))?;
    } else {
        let kept = kept.map(|kept| format!("what was there is {} now", kept.display()));
        out.ok(&format!("restored {}", file.display()), kept.as_deref())?;
    }
    Ok(Exit::Success)
}

fn compact(parsed: &Parsed, out: &mut Out) -> Result<Exit, CliError> {
    let (dir, _lock) = stopped(parsed)?;
    if !broker::database(&dir).exists() {
        return Err(failed(&dir, &store::Error::Closed));
    }
    let (before, after) = hub::compact(&broker::database(&dir)).map_err(|err| failed(&dir, &err))?;
    if out.is_json() {
        out.json(&json!({"before": before, "after": after}))?;
    } else {
        out.ok(&format!("{} KiB before, {} KiB now", before / 1024, after / 1024), None)?;
    }
    Ok(Exit::Success)
}

fn verify(parsed: &Parsed, out: &mut Out) -> Result<Exit, CliError> {
    let (dir, admin) = open(parsed)?;
    let chains = admin.verify().map_err(|err| failed(&dir, &err))?;
    let valid = chains.iter().all(|chain| chain.broken_at.is_none());
    if out.is_json() {
        let row = |chain: &hub::Verdict| {
            json!({
                "mesh": chain.mesh, "valid": chain.broken_at.is_none(), "entries": chain.entries, "head": chain.head,
                "brokenAt": chain.broken_at,
            })
        };
        out.json(&json!({"valid": valid, "chains": chains.iter().map(row).collect::<Vec<_>>()}))?;
    } else {
        for chain in &chains {
            match chain.broken_at {
                None => out.ok(&format!("{}: {} entries", chain.mesh, chain.entries), Some(&chain.head))?,
                Some(at) => out.bad(&format!("{}: entry {at} does not fit the one before it", chain.mesh))?,
            }
        }
        if chains.is_empty() {
            out.info("every page is well; nothing was audited yet")?;
        }
    }
    Ok(if valid { Exit::Success } else { Exit::Failure })
}
