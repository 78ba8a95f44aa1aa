//! `daemon outbox`: what was sent and what became of it, and what a person does about it.

use crate::base::exit::Exit;
use crate::base::names::neutralise_line;
use crate::cli::context::{cold, note_skew, session_token};
use crate::cli::error::CliError;
use crate::cli::parse::Parsed;
use crate::cli::render::Out;
use crate::cli::spec::{Effect, Example, Flag, Group, Operand, Verb};
use crate::client::{self, Client, OutboxStatus};
use crate::wire::ipc::{Abort, OutboxItem, OutboxRow, Prune, Requeue};

const FAILED: Flag = Flag::switch("--failed", "What was given up.");
const PENDING: Flag = Flag::switch("--pending", "What waits to be sent.");
const INFLIGHT: Flag = Flag::switch("--inflight", "What was sent and is not acknowledged yet.");
const DONE: Flag = Flag::switch("--done", "What a broker has.");
const ABORTED: Flag = Flag::switch("--aborted", "What a requeue replaced.");
const LIMIT: Flag = Flag::valued("--limit", "N", "At most so many, 1 to 1000; default 50.");
const NEW_ID: Flag = Flag::valued("--new-client-id", "CLIENT_ID", "Name the new message.");

const DEAD: Flag = Flag::switch("--failed", "What was given up, too.");
const BEFORE: Flag = Flag::valued("--before", "TIME", "Only what was accepted before this time (ISO 8601).");

/// Each filter's flag, in the order in which one wins over the next.
const FILTERS: [(&Flag, OutboxStatus); 5] = [
    (&FAILED, OutboxStatus::Dead),
    (&PENDING, OutboxStatus::Pending),
    (&INFLIGHT, OutboxStatus::Inflight),
    (&DONE, OutboxStatus::Done),
    (&ABORTED, OutboxStatus::Aborted),
];

pub(in crate::cli) const LIST: Verb = Verb {
    name: "daemon outbox list",
    aliases: &["daemon outbox", "outbox list", "outbox"],
    group: Group::Daemon,
    about: "Show what was sent and what became of it.",
    long: "",
    operands: &[],
    tail: None,
    flags: &[FAILED, PENDING, INFLIGHT, DONE, ABORTED, LIMIT],
    effect: Effect::Read,
    examples: &[Example { command: "claudemesh daemon outbox list --failed", about: "what could not be delivered, and why" }],
    run: list,
};

pub(in crate::cli) const REQUEUE: Verb = Verb {
    name: "daemon outbox requeue",
    aliases: &["outbox requeue"],
    group: Group::Daemon,
    about: "Send again what was given up.",
    long: "",
    operands: &[Operand::one("ID", "The row's id, or the message's.")],
    tail: None,
    flags: &[NEW_ID],
    effect: Effect::Write,
    examples: &[Example { command: "claudemesh daemon outbox requeue 6f1c9a52-5d0f-4c1c-9d55-0b8f4d1e2a3b", about: "by its id" }],
    run: requeue,
};

pub(in crate::cli) const SHOW: Verb = Verb {
    name: "daemon outbox show",
    aliases: &["outbox show"],
    group: Group::Daemon,
    about: "Show one message that was sent.",
    long: "Its text is kept until a broker has the message.",
    operands: &[Operand::one("ID", "The row's id, or the message's.")],
    tail: None,
    flags: &[],
    effect: Effect::Read,
    examples: &[Example { command: "claudemesh outbox show 6f1c9a52-5d0f-4c1c-9d55-0b8f4d1e2a3b", about: "by its id" }],
    run: show,
};

pub(in crate::cli) const ABORT: Verb = Verb {
    name: "daemon outbox abort",
    aliases: &["outbox abort"],
    group: Group::Daemon,
    about: "Give up a message that was not sent yet.",
    long: "A message that is on its way this moment may still arrive.",
    operands: &[Operand::one("ID", "The row's id, or the message's.")],
    tail: None,
    flags: &[],
    effect: Effect::Write,
    examples: &[Example { command: "claudemesh outbox abort 6f1c9a52-5d0f-4c1c-9d55-0b8f4d1e2a3b", about: "by its id" }],
    run: abort,
};

pub(in crate::cli) const PRUNE: Verb = Verb {
    name: "daemon outbox prune",
    aliases: &["outbox prune"],
    group: Group::Daemon,
    about: "Remove what is finished from the list.",
    long: "The daemon does this by itself after some days (settings.json, sentDays). A message that was pruned is no longer recognised \
           when its sender tries it again.",
    operands: &[],
    tail: None,
    flags: &[DEAD, BEFORE],
    effect: Effect::Write,
    examples: &[Example { command: "claudemesh outbox prune --failed", about: "everything that is done, aborted or given up" }],
    run: prune,
};

fn list(parsed: &Parsed, out: &mut Out) -> Result<Exit, CliError> {
    let status = FILTERS.iter().find(|(flag, _)| parsed.is_set(flag)).map(|(_, status)| *status);
    let client = cold(session_token()?)?;
    let page = client.outbox(status, parsed.number(&LIMIT, 1..=1000)?)?;
    if out.is_json() {
        out.json(&page)?;
    } else if page.items.is_empty() {
        out.bare("(empty)")?;
    } else {
        page.items.iter().try_for_each(|item| out.bare(&line(item)))?;
    }
    note_skew(&client, out)?;
    Ok(Exit::Success)
}

fn line(item: &OutboxItem) -> String {
    let mut line = format!("{:8} {}  cid={}  attempts={}", item.status, item.id, item.client_message_id, item.attempts);
    if let Some(id) = &item.broker_message_id {
        line.push_str(&format!(" → {id}"));
    }
    if let Some(why) = &item.last_error {
        line.push_str(&format!(" last_error=\"{}\"", why.chars().take(60).collect::<String>()));
    }
    line
}

/// The row of this id, or of the message of this id.
fn find(client: &Client, id: &str) -> Result<OutboxRow, CliError> {
    client.outbox_row(id).map_err(|err| match err {
        client::Error::Refused { status: 404, .. } => {
            CliError::refused(Exit::NotFound, format!("no outbox row with id \"{id}\"")).or_list("claudemesh outbox")
        }
        err => err.into(),
    })
}

fn requeue(parsed: &Parsed, out: &mut Out) -> Result<Exit, CliError> {
    let client = cold(session_token()?)?;
    let id = find(&client, parsed.first())?.item.id;
    let request = Requeue { id, new_client_message_id: parsed.value(&NEW_ID).map(str::to_owned), aborted_by: None };
    let done = client.requeue(&request)?;
    if out.is_json() {
        out.json(&done)?;
    } else {
        out.bare(&format!(
            "requeued: aborted {} → new {} (client_message_id={})",
            done.aborted_row_id, done.new_row_id, done.new_client_message_id
        ))?;
    }
    note_skew(&client, out)?;
    Ok(Exit::Success)
}

fn show(parsed: &Parsed, out: &mut Out) -> Result<Exit, CliError> {
    let row = find(&cold(session_token()?)?, parsed.first())?;
    if out.is_json() {
        out.json_pretty(&row)?;
        return Ok(Exit::Success);
    }
    let item = &row.item;
    out.bare(&line(item))?;
    let facts = [
        ("mesh", item.mesh.clone()),
        ("to", item.target.clone()),
        ("sent as", item.sender_session_pubkey.clone()),
        ("accepted", Some(item.enqueued_at.clone())),
        ("next attempt", Some(item.next_attempt_at.clone()).filter(|_| item.status == "pending")),
        ("broker has it since", item.delivered_at.clone()),
        ("reply to", row.reply_to_id.clone()),
        ("error", item.last_error.clone()),
        ("replaced by", item.superseded_by.clone()),
    ];
    for (name, value) in facts {
        if let Some(value) = value {
            out.bare(&format!("  {name}: {}", neutralise_line(&value)))?;
        }
    }
    if let Some(text) = &row.message {
        out.blank()?;
        out.body(text)?;
    }
    Ok(Exit::Success)
}

fn abort(parsed: &Parsed, out: &mut Out) -> Result<Exit, CliError> {
    let client = cold(session_token()?)?;
    let id = find(&client, parsed.first())?.item.id;
    let done = client.abort(&Abort { id, aborted_by: None })?;
    if out.is_json() {
        out.json(&done)?;
    } else {
        out.bare(&format!("aborted: {}", done.aborted_row_id))?;
    }
    Ok(Exit::Success)
}

fn prune(parsed: &Parsed, out: &mut Out) -> Result<Exit, CliError> {
    let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
    let statuses = parsed.is_set(&DEAD).then(|| words(&["done", "aborted", "dead"]));
    let done = cold(session_token()?)?.prune(&Prune { statuses, before: parsed.value(&BEFORE).map(str::to_owned) })?;
    if out.is_json() {
        out.json(&done)?;
    } else {
        out.bare(&format!("removed {} rows", done.removed))?;
    }
    Ok(Exit::Success)
}
