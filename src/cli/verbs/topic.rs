//! `topic`: rooms of a mesh with members and a history. What is said in one is sent with `send "#name"`.

use crate::base::exit::Exit;
use crate::base::ids::{MemberKey, PublicKey};
use crate::base::names::neutralise_line;
use crate::cli::context::warm;
use crate::cli::error::CliError;
use crate::cli::parse::Parsed;
use crate::cli::render::{Line, Out, Style};
use crate::cli::spec::{Count, Effect, Example, Flag, Group, MESH, Operand, Verb};
use crate::wire::ipc::PeerOnMesh;
use crate::wire::json::{self, json};
use crate::wire::topic::{
    OfTopic, TopicCreate, TopicHistory, TopicJoin, TopicLeave, TopicMember, TopicMessage, TopicRole, Visibility,
};

use super::refusal::explain;

pub(super) const TOPIC: Operand = Operand::one("TOPIC", "Its name, with or without #, or its id.");
const DESCRIPTION: Flag = Flag::valued("--description", "TEXT", "What it is about.");
const VISIBILITY: Flag = Flag {
    choices: &["public", "private", "dm"],
    ..Flag::valued("--visibility", "WHO", "public (the default) is for every member; the others for those whom a lead lets in.")
};
const ROLE: Flag = Flag {
    choices: &["lead", "member", "observer"],
    ..Flag::valued("--role", "ROLE", "What one is in it; an observer reads and does not write.")
};
const MEMBER: Flag = Flag::valued("--member", "KEY", "Let this member in, by the member's whole key.");
const LIMIT: Flag = Flag::valued("--limit", "N", "At most so many, 1 to 200; default 50.");
const BEFORE: Flag = Flag::valued("--before", "ID", "What was said before this message.");

pub(in crate::cli) const LIST: Verb = Verb {
    aliases: &["topics"],
    flags: &[MESH],
    examples: &[Example { command: "claudemesh topic list", about: "those you may enter" }],
    ..Verb::new(Group::Shared, Effect::Read, "topic list", "Show the mesh's topics.", list)
};

pub(in crate::cli) const CREATE: Verb = Verb {
    long: "If there is one of this name already, it is joined.",
    operands: &[TOPIC],
    flags: &[MESH, DESCRIPTION, VISIBILITY],
    examples: &[Example {
        command: "claudemesh topic create deploys --description \"What goes out\"",
        about: "for every member",
    }],
    ..Verb::new(Group::Shared, Effect::Write, "topic create", "Make a topic.", create)
};

pub(in crate::cli) const JOIN: Verb = Verb {
    operands: &[TOPIC],
    flags: &[MESH, ROLE, MEMBER],
    examples: &[Example { command: "claudemesh topic join deploys", about: "what is said there reaches your sessions" }],
    ..Verb::new(Group::Shared, Effect::Write, "topic join", "Enter a topic.", join)
};

pub(in crate::cli) const LEAVE: Verb = Verb {
    operands: &[TOPIC],
    flags: &[MESH],
    examples: &[Example { command: "claudemesh topic leave deploys", about: "what is said there reaches you no more" }],
    ..Verb::new(Group::Shared, Effect::Write, "topic leave", "Leave a topic.", leave)
};

pub(in crate::cli) const REMOVE: Verb = Verb {
    long: "For a lead of the topic and an admin of the mesh. What is said there from then on is sealed with a key that the \
           member does not get. It may enter a public topic again; claudemesh ban keeps it out of the mesh.",
    operands: &[
        TOPIC,
        Operand::one("MEMBER", "Who goes: the name of a member or its session, a key, or 8 or more characters of one."),
    ],
    flags: &[MESH],
    examples: &[Example { command: "claudemesh topic remove deploys bob", about: "what is said there reaches bob no more" }],
    ..Verb::new(Group::Shared, Effect::Write, "topic remove", "Take a member out of a topic.", remove)
};

pub(in crate::cli) const MEMBERS: Verb = Verb {
    operands: &[TOPIC],
    flags: &[MESH],
    examples: &[Example { command: "claudemesh topic members deploys", about: "who is in it, and how far each has read" }],
    ..Verb::new(Group::Shared, Effect::Read, "topic members", "Show who is in a topic.", members)
};

pub(in crate::cli) const HISTORY: Verb = Verb {
    operands: &[TOPIC],
    flags: &[MESH, LIMIT, BEFORE],
    examples: &[Example { command: "claudemesh topic history deploys --limit 5", about: "the latest, oldest first" }],
    ..Verb::new(Group::Shared, Effect::Read, "topic history", "Show what was said in a topic.", history)
};

pub(in crate::cli) const READ: Verb = Verb {
    operands: &[TOPIC],
    flags: &[MESH],
    examples: &[Example { command: "claudemesh topic read deploys", about: "up to now" }],
    ..Verb::new(Group::Shared, Effect::Write, "topic read", "Mark a topic as read.", read)
};

pub(in crate::cli) const POST: Verb = Verb {
    long: "The same as: claudemesh send \"#TOPIC\" TEXT",
    operands: &[
        TOPIC,
        Operand { name: "TEXT", about: "What to say; - reads standard input.", count: Count::OneOrMore, choices: &[] },
    ],
    flags: &[MESH, super::send::REPLY_TO, super::send::PLAINTEXT],
    examples: &[Example { command: "claudemesh topic post deploys \"@bob it is out\"", about: "to everybody in it" }],
    ..Verb::new(Group::Shared, Effect::Write, "topic post", "Say something in a topic.", super::send::post)
};

/// Characters of a key that may stand for all of it.
const MIN_PREFIX: usize = 8;

/// The topic as it is called.
pub(super) fn name(parsed: &Parsed) -> &str {
    parsed.first().trim_start_matches('#')
}

pub(super) fn about(parsed: &Parsed) -> String {
    format!("topic \"#{}\"", name(parsed))
}

fn list(parsed: &Parsed, out: &mut Out) -> Result<Exit, CliError> {
    let page = warm(out)?.topics(parsed.value(&MESH)).map_err(|err| explain(err, "the mesh's topics"))?;
    let topics = &page.row.topics;
    if out.is_json() {
        out.json_pretty(topics)?;
    } else if topics.is_empty() {
        out.info(&format!("No topics on {}.", page.mesh))?;
    } else {
        out.section(&format!("topics on {} ({})", page.mesh, topics.len()))?;
        topics.iter().try_for_each(|topic| {
            let count = topic.member_count.unwrap_or(0);
            let role = topic.role.map_or("not in it", TopicRole::as_str);
            let line = Line::new().and(Style::Bold, format!("#{}", topic.name));
            let line = line.and(Style::Dim, format!(" · {} · {count} in it · {role}", topic.visibility.as_str()));
            out.line(&line.maybe(Style::Plain, topic.description.as_ref().map(|text| format!("  {text}"))))
        })?;
    }
    Ok(Exit::Success)
}

fn create(parsed: &Parsed, out: &mut Out) -> Result<Exit, CliError> {
    let ask = TopicCreate {
        name: name(parsed).to_owned(),
        description: parsed.value(&DESCRIPTION).map(str::to_owned),
        visibility: parsed.value(&VISIBILITY).and_then(Visibility::parse).unwrap_or_default(),
        req_id: None,
    };
    let made = warm(out)?
        .create_topic(&ask, parsed.value(&MESH))
        .map_err(|err| explain(err, &about(parsed)).or_list("claudemesh topic list"))?
        .row;
    if out.is_json() {
        out.json(&json!({"id": made.topic.id, "name": made.topic.name, "created": made.created}))?;
    } else if made.created {
        out.ok(&format!("created #{}", made.topic.name), Some(&made.topic.id))?;
    } else {
        out.ok(&format!("already there, and joined: #{}", made.topic.name), Some(&made.topic.id))?;
    }
    Ok(Exit::Success)
}

fn join(parsed: &Parsed, out: &mut Out) -> Result<Exit, CliError> {
    let member = parsed.value(&MEMBER).map(|text| {
        PublicKey::parse_any_case(text).map(MemberKey).ok_or_else(|| CliError::usage("--member: a key has 64 hex characters"))
    });
    let ask = TopicJoin {
        topic: name(parsed).to_owned(),
        role: parsed.value(&ROLE).and_then(TopicRole::parse),
        member: member.transpose()?,
        req_id: None,
    };
    warm(out)?
        .join_topic(&ask, parsed.value(&MESH))
        .map_err(|err| explain(err, &about(parsed)).or_list("claudemesh topic list"))?;
    done(parsed, "joined", out)
}

fn done(parsed: &Parsed, word: &str, out: &mut Out) -> Result<Exit, CliError> {
    let name = name(parsed);
    if out.is_json() {
        out.json(&json!({word: name}))?
    } else {
        out.ok(&format!("{word} #{name}"), None)?
    }
    Ok(Exit::Success)
}

fn leave(parsed: &Parsed, out: &mut Out) -> Result<Exit, CliError> {
    let ask = TopicLeave { topic: name(parsed).to_owned(), member: None, req_id: None };
    warm(out)?
        .leave_topic(&ask, parsed.value(&MESH))
        .map_err(|err| explain(err, &about(parsed)).or_list("claudemesh topic list"))?;
    done(parsed, "left", out)
}

/// The member of a topic that is meant: by its name, by what its sessions are called, by its key or how that begins.
fn meant<'m>(members: &'m [TopicMember], text: &str, peers: &[PeerOnMesh]) -> Vec<&'m TopicMember> {
    let named: Vec<&TopicMember> = members.iter().filter(|one| one.display_name == text).collect();
    if !named.is_empty() {
        return named;
    }
    let start = text.to_ascii_lowercase();
    let is_start = |key: String| MIN_PREFIX <= start.len() && key.starts_with(&start);
    let has = |one: &TopicMember, row: &PeerOnMesh| {
        row.peer.member_pubkey == one.pubkey && (row.peer.display_name == text || is_start(row.peer.pubkey.to_string()))
    };
    members.iter().filter(|one| is_start(one.pubkey.to_string()) || peers.iter().any(|row| has(one, row))).collect()
}

/// Why nobody is meant, or too many are.
fn not_one(meant: &[&TopicMember], text: &str, topic: &str) -> CliError {
    if meant.is_empty() {
        let hint = format!("who is in it: claudemesh topic members {topic}");
        return CliError::refused(Exit::NotFound, format!("\"{text}\" is not in #{topic}")).with_hint(hint);
    }
    let keys: Vec<String> = meant.iter().map(|one| format!("{} ({:.16}…)", one.display_name, one.pubkey.to_string())).collect();
    CliError::usage(format!("\"{text}\" is ambiguous: {}", keys.join(", ")))
        .with_hint("type the beginning of the key of the one that is meant")
}

fn remove(parsed: &Parsed, out: &mut Out) -> Result<Exit, CliError> {
    let (topic, text) = (name(parsed), parsed.operands.get(1).map_or("", String::as_str));
    let client = warm(out)?;
    let page = client
        .topic_members(topic, parsed.value(&MESH))
        .map_err(|err| explain(err, &about(parsed)).or_list("claudemesh topic list"))?;
    // Without the peers a member is known by its own name still.
    let peers = client.peers(Some(page.mesh.as_str())).map(|answer| answer.peers).unwrap_or_default();
    let meant = meant(&page.row.members, text, &peers);
    let [member] = meant.as_slice() else { return Err(not_one(&meant, text, topic)) };
    let ask = TopicLeave { topic: topic.to_owned(), member: Some(member.pubkey), req_id: None };
    client.leave_topic(&ask, parsed.value(&MESH)).map_err(|err| explain(err, &about(parsed)).or_list("claudemesh topic list"))?;
    if out.is_json() {
        out.json(&json!({"removed": member.display_name, "pubkey": member.pubkey, "topic": topic}))?;
    } else {
        out.ok(&format!("took {} out of #{topic}", member.display_name), None)?;
    }
    Ok(Exit::Success)
}

fn read(parsed: &Parsed, out: &mut Out) -> Result<Exit, CliError> {
    let ask = OfTopic { topic: name(parsed).to_owned(), req_id: None };
    warm(out)?
        .read_topic(&ask, parsed.value(&MESH))
        .map_err(|err| explain(err, &about(parsed)).or_list("claudemesh topic list"))?;
    done(parsed, "read", out)
}

fn members(parsed: &Parsed, out: &mut Out) -> Result<Exit, CliError> {
    let page = warm(out)?
        .topic_members(name(parsed), parsed.value(&MESH))
        .map_err(|err| explain(err, &about(parsed)).or_list("claudemesh topic list"))?;
    let members = &page.row.members;
    if out.is_json() {
        out.json_pretty(members)?;
        return Ok(Exit::Success);
    }
    out.section(&format!("in #{} ({})", name(parsed), members.len()))?;
    members.iter().try_for_each(|member| {
        let read = member.last_read_at.as_ref().map_or("not read".to_owned(), |at| format!("read {at}"));
        let line = Line::new().and(Style::Bold, &member.display_name).and(Style::Plain, format!(" {}", member.role.as_str()));
        out.line(&line.and(Style::Dim, format!(" · {:.16}… · {read}", member.pubkey.to_string())))
    })?;
    Ok(Exit::Success)
}

/// What stands in the place of what was said and can not be read.
fn unread(message: &TopicMessage) -> String {
    let why = message.unreadable.clone().unwrap_or_else(|| format!("{} bytes", message.ciphertext.len()));
    format!("(sealed: {})", neutralise_line(&why))
}

/// One message as a program reads it.
pub(super) fn row(message: &TopicMessage) -> json::Value {
    let mut row = json::value(message);
    row["text"] = message.body.clone().into();
    row
}

/// One message for a person: when, who, what.
pub(super) fn line(message: &TopicMessage, out: &mut Out) -> Result<(), CliError> {
    let line = Line::new().and(Style::Dim, format!("{} ", message.created_at)).and(Style::Bold, &message.sender_name);
    let clear = message.seal.is_none().then(|| " sent in clear".to_owned());
    let reply = message.reply_to_id.as_ref().map(|id| format!(" ↳ {:.8}", id));
    let line = line.maybe(Style::Cyan, reply).and(Style::Dim, format!(" · {}", message.id));
    out.line(&line.maybe(Style::Yellow, clear))?;
    out.body(&message.body.clone().unwrap_or_else(|| unread(message)))
}

fn history(parsed: &Parsed, out: &mut Out) -> Result<Exit, CliError> {
    let ask = TopicHistory {
        topic: name(parsed).to_owned(),
        limit: parsed.number(&LIMIT, 1..=200)?,
        before_id: parsed.value(&BEFORE).map(str::to_owned),
        req_id: None,
    };
    let page = warm(out)?
        .topic_history(&ask, parsed.value(&MESH))
        .map_err(|err| explain(err, &about(parsed)).or_list("claudemesh topic list"))?;
    let messages = &page.row.messages;
    if out.is_json() {
        out.json_pretty(&messages.iter().map(row).collect::<Vec<_>>())?;
    } else if messages.is_empty() {
        out.info("Nothing was said yet.")?;
    } else {
        messages.iter().rev().try_for_each(|message| line(message, out))?;
    }
    Ok(Exit::Success)
}
