//! `send`: a message to a peer, a group, a topic or everyone.

use std::io::Read;

use serde::Serialize;

use crate::base::exit::Exit;
use crate::base::ids::PublicKey;
use crate::cli::context::{note_skew, warm};
use crate::cli::error::CliError;
use crate::cli::parse::Parsed;
use crate::cli::render::Out;
use crate::cli::spec::{Count, Effect, Example, Flag, Group, MESH, Operand, Verb};
use crate::client::{self, Client};
use crate::wire::ipc::{Problem, SendReceipt, SendRequest, SendStatus, Standing};
use crate::wire::json::Value;
use crate::wire::limits::MAX_SEND_BODY;
use crate::wire::priority::Priority;

use super::message::{self, TIMEOUT, WAIT, Wish};
use super::refusal;

const PRIORITY: Flag = Flag {
    choices: &["now", "next", "low"],
    ..Flag::valued(
        "--priority",
        "LEVEL",
        "now may interrupt, next (the default) waits for a turn's end, low for the next prompt.",
    )
};
pub(super) const REPLY_TO: Flag = Flag::valued("--reply-to", "ID", "The message that this one answers.");
const ID: Flag = Flag::valued("--id", "CLIENT_ID", "Name the message: sending it again under this name is the same message.");
pub(super) const PLAINTEXT: Flag = Flag::switch(
    "--plaintext",
    "To many: send it in clear, so that clients without shared keys can read it, and the broker too.",
);
const TO_SELF: Flag = Flag::switch("--self", "Accepted and not needed: a message to yourself is a message.");

pub(in crate::cli) const VERB: Verb = Verb {
    name: "send",
    aliases: &["message send"],
    group: Group::Messages,
    about: "Send a message to another session.",
    long: "TO is a name (alice), a name on a mesh (alice@home), a key or the first 8 or more characters of one, @group, #topic, or * \
           for everyone. Names that fit several peers are refused, and the candidates listed.\n\n\
           The words of TEXT are joined by spaces. A single - reads the text from standard input. Text that begins with a hyphen \
           stands behind a bare --.\n\n\
           \"Queued\" means on this machine's disk: from here on the message survives a crash, and it waits for a recipient that is \
           away. With --wait it is said how far it got; anything but success means that it did not get there (see: claudemesh help \
           exit-codes).",
    operands: &[
        Operand::one("TO", "Whom: a name, name@mesh, key, @group, #topic or *."),
        Operand { name: "TEXT", about: "What to say; - reads standard input.", count: Count::OneOrMore, choices: &[] },
    ],
    tail: None,
    flags: &[MESH, PRIORITY, REPLY_TO, ID, PLAINTEXT, TO_SELF, WAIT, TIMEOUT],
    effect: Effect::Write,
    examples: &[
        Example { command: "claudemesh send bob \"the build is green\"", about: "to the session called bob" },
        Example { command: "claudemesh send @reviewers please look at #42 --priority low", about: "to a group" },
        Example { command: "git diff | claudemesh send alice@home -", about: "what a command prints" },
        Example { command: "claudemesh send bob \"stop: main is red\" --priority now --wait", about: "until bob's model has it" },
        Example { command: "claudemesh send bob -- \"-v is the flag\"", about: "text that begins with a hyphen" },
    ],
    run,
};

/// Characters of a message's id that are shown: its beginning is the time, to the millisecond.
const SHOWN_ID: usize = 13;

/// The reference's answer, and what it leaves out.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Sent<'a> {
    ok: bool,
    message_id: &'a str,
    target: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<SendStatus>,
    recipient_online: Option<bool>,
    via: &'static str,
    duplicate: bool,
    client_message_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    mesh: Option<&'a str>,
    /// What `--wait` came to.
    #[serde(skip_serializing_if = "Option::is_none")]
    standing: Option<&'a Standing>,
}

fn run(parsed: &Parsed, out: &mut Out) -> Result<Exit, CliError> {
    send(parsed, parsed.first().to_owned(), out)
}

/// As `send`, to the topic that is named.
pub(super) fn post(parsed: &Parsed, out: &mut Out) -> Result<Exit, CliError> {
    send(parsed, format!("#{}", parsed.first().trim_start_matches('#')), out)
}

fn send(parsed: &Parsed, to: String, out: &mut Out) -> Result<Exit, CliError> {
    let request = SendRequest {
        to,
        message: text(&parsed.operands[1..])?,
        priority: parsed.value(&PRIORITY).and_then(Priority::parse),
        meta: None,
        reply_to_id: parsed.value(&REPLY_TO).map(str::to_owned),
        client_message_id: parsed.value(&ID).map(str::to_owned),
        mesh: parsed.value(&MESH).map(str::to_owned),
        plaintext: parsed.is_set(&PLAINTEXT),
    };
    let wish = message::wish(parsed)?;
    let client = warm(out)?;
    let receipt = client.send(&request).map_err(explain)?;
    let standing = wish.map(|wish| wait(&client, &request, &receipt, &wish, out)).transpose()?;
    if out.is_json() {
        let recipient = receipt.recipient.as_ref();
        out.json(&Sent {
            ok: true,
            message_id: receipt.broker_message_id.as_ref().map_or(receipt.client_message_id.as_str(), |id| id.as_str()),
            target: &request.to,
            status: receipt.status,
            recipient_online: recipient.and_then(|recipient| recipient.online),
            via: "daemon",
            duplicate: receipt.duplicate,
            client_message_id: receipt.client_message_id.as_str(),
            mesh: recipient.map(|recipient| recipient.mesh.as_str()),
            standing: standing.as_ref(),
        })?;
    } else if standing.is_none() {
        say(&request, &receipt, out)?;
    }
    note_skew(&client, out)?;
    Ok(standing.as_ref().map_or(Exit::Success, message::exit))
}

/// Waits until the message got where it was to get, and says how far it came.
fn wait(client: &Client, request: &SendRequest, receipt: &SendReceipt, wish: &Wish, out: &mut Out) -> Result<Standing, CliError> {
    let id = receipt.client_message_id.as_str();
    if !out.is_json() {
        say(request, receipt, out)?;
        out.flush()?;
    }
    let standing = message::wait(client, id, None, wish).map_err(|err| refusal::explain(err, &format!("message \"{id}\"")))?;
    if !out.is_json() {
        message::say(&standing, out)?;
    }
    Ok(standing)
}

fn say(request: &SendRequest, receipt: &SendReceipt, out: &mut Out) -> Result<(), CliError> {
    let to = match &receipt.recipient {
        Some(recipient) => match &recipient.name {
            Some(topic) if topic.starts_with('#') => format!("{topic} on {}", recipient.mesh),
            Some(name) => format!("{name}@{}", recipient.mesh),
            None => format!("{} on {}", brief(&recipient.target), recipient.mesh),
        },
        None => brief(&request.to),
    };
    let id: String = receipt.client_message_id.as_str().chars().take(SHOWN_ID).collect();
    let what = match (receipt.duplicate, receipt.status) {
        (true, _) => format!("already sent to {to}"),
        (false, Some(SendStatus::Inflight)) => format!("on its way to {to}"),
        (false, Some(SendStatus::Queued) | None) => format!("queued for {to}"),
    };
    out.ok(&what, Some(&format!("id {id}")))?;
    match &receipt.recipient {
        Some(recipient) if recipient.online == Some(false) => out.hint("away: it gets the message when it returns"),
        _ => Ok(()),
    }
}

/// An address for people: a key by its beginning, everyone by a word.
fn brief(target: &str) -> String {
    match target {
        "*" => "everyone".to_owned(),
        key if PublicKey::parse_any_case(key).is_some() => format!("{}…", key.chars().take(16).collect::<String>()),
        name => name.to_owned(),
    }
}

/// The message: its words, or standard input.
fn text(words: &[String]) -> Result<String, CliError> {
    let text = match words {
        [only] if only == "-" => from_stdin()?,
        words => words.join(" "),
    };
    if text.trim().is_empty() { Err(CliError::usage("the message is empty")) } else { Ok(text) }
}

pub(super) fn from_stdin() -> Result<String, CliError> {
    let mut bytes = Vec::new();
    let most = u64::try_from(MAX_SEND_BODY).unwrap_or(u64::MAX);
    std::io::stdin().take(most + 1).read_to_end(&mut bytes).map_err(|err| CliError::io("standard input can not be read", err))?;
    if MAX_SEND_BODY < bytes.len() {
        return Err(CliError::refused(Exit::Failure, format!("the message is larger than {MAX_SEND_BODY} bytes"))
            .with_hint("send it in parts, or send where to find it"));
    }
    let mut text = String::from_utf8(bytes).map_err(|_| CliError::usage("the message is not UTF-8"))?;
    if text.ends_with('\n') {
        text.pop();
    }
    Ok(text)
}

/// The daemon's refusals of a send, in the words of whoever typed the command.
pub(super) fn explain(err: client::Error) -> CliError {
    let client::Error::Refused { problem, .. } = &err else { return err.into() };
    let Problem { error, detail, hint, .. } = &**problem;
    let detail = detail.as_deref().map(|detail| detail.strip_prefix("Error: ").unwrap_or(detail).to_owned());
    let names = |key: &str| {
        let list = problem.rest.get(key).and_then(Value::as_array);
        list.map(|list| list.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", ")).unwrap_or_default()
    };
    match error.as_str() {
        "route_failed" => {
            let asked = problem.rest.get("code").and_then(Value::as_str) == Some("roster_unavailable");
            let (exit, advice) = match asked {
                true => (Exit::Network, "see what is wrong with: claudemesh status"),
                false => (Exit::NotFound, "see who is there with: claudemesh peers"),
            };
            CliError::refused(exit, detail.unwrap_or_else(|| error.clone()))
                .with_hint(hint.clone().unwrap_or_else(|| advice.to_owned()))
        }
        "mesh_required" if names("attached").is_empty() => CliError::refused(Exit::Unavailable, "no mesh is joined"),
        "mesh_required" => {
            CliError::usage("several meshes are joined; name one with --mesh").with_hint(format!("joined: {}", names("attached")))
        }
        "idempotency_key_reused" => CliError::refused(Exit::AlreadyExists, "another message was sent under this id")
            .with_hint("leave --id out, or choose another"),
        "recipient_cannot_open" => CliError::refused(Exit::Failure, detail.unwrap_or_else(|| error.clone()))
            .with_hint("--plaintext sends it in clear: they can read it then, and the broker, too"),
        "invalid 'to'" => CliError::usage(detail.unwrap_or_else(|| error.clone())),
        "missing 'to'" => {
            CliError::usage("to whom? The first word is empty").with_hint("a name, name@mesh, a key, @group, #topic or *")
        }
        _ => err.into(),
    }
}
