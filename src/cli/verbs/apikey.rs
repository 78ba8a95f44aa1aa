//! `apikey create`, `list` and `revoke`: keys with which scripts post and read over the broker's HTTP API.

use crate::base::exit::Exit;
use crate::base::time::{Millis, iso, now_millis, parse_iso};
use crate::cli::context::warm;
use crate::cli::error::CliError;
use crate::cli::parse::Parsed;
use crate::cli::render::{Line, Out, Style};
use crate::cli::spec::{Effect, Example, Flag, Group, MESH, Operand, Verb};
use crate::client;
use crate::wire::apikey::{ApiKey, CreateApiKey, KeyCapability, RevokeStatus};
use crate::wire::json::json;

use super::refusal::explain;
use super::{millis, words};

const CAP: Flag =
    Flag::valued("--cap", "A,B", "What it is for: send, read, state_write, admin; default send,read. admin is for admins.");
const TOPIC: Flag = Flag::valued("--topic", "A,B", "Only for these topics.");
const EXPIRES: Flag = Flag::valued("--expires", "TIME", "When it ends (ISO 8601), or how long from now, as in 30d.");

pub(in crate::cli) const CREATE: Verb = Verb {
    aliases: &["api-key create"],
    long: "A script sends the key with each request to the broker's HTTP API, which docs/http-api.md describes. It posts in \
           your name, in clear, marked with the key's label. The key is shown once: the broker keeps only a hash of it. It \
           ends with you: when you leave the mesh or are banned.",
    operands: &[Operand::one("LABEL", "What it is called; readers see it beside your name.")],
    flags: &[MESH, CAP, TOPIC, EXPIRES],
    examples: &[Example { command: "claudemesh apikey create ci --topic deploys --expires 90d", about: "for a build server" }],
    ..Verb::new(Group::Shared, Effect::Write, "apikey create", "Make a key for a script.", create)
};

pub(in crate::cli) const LIST: Verb = Verb {
    aliases: &["apikeys", "api-key list"],
    long: "Your own; for an admin, everybody's. A secret is never shown again.",
    flags: &[MESH],
    examples: &[Example { command: "claudemesh apikey list", about: "and when each was last used" }],
    ..Verb::new(Group::Shared, Effect::Read, "apikey list", "Show the keys of scripts.", list)
};

pub(in crate::cli) const REVOKE: Verb = Verb {
    aliases: &["api-key revoke"],
    operands: &[Operand::one("ID", "Its id, or 4 or more characters that it or the key begins with.")],
    flags: &[MESH],
    examples: &[Example { command: "claudemesh apikey revoke cm_CwsLCwsL", about: "from the next request on" }],
    ..Verb::new(Group::Shared, Effect::Write, "apikey revoke", "End a script's key.", revoke)
};

fn capabilities(parsed: &Parsed) -> Result<Vec<KeyCapability>, CliError> {
    let Some(text) = parsed.value(&CAP) else { return Ok(vec![KeyCapability::Send, KeyCapability::Read]) };
    let known = |word: String| {
        let unknown = || CliError::usage(format!("--cap: \"{word}\" is nothing that a key can be for")).with_hint(CAP.about);
        KeyCapability::parse(&word).ok_or_else(unknown)
    };
    words(Some(text)).into_iter().map(known).collect()
}

fn expires(text: &str) -> Result<String, CliError> {
    if parse_iso(text).is_some() {
        return Ok(text.to_owned());
    }
    let length = millis(&EXPIRES, text).map_err(|_| {
        CliError::usage(format!("--expires: \"{text}\" is no time")).with_hint("as in 2026-10-09T08:53:20Z or 30d")
    })?;
    Ok(iso(now_millis().saturating_add(Millis::try_from(length).unwrap_or(Millis::MAX))))
}

fn names(capabilities: &[KeyCapability]) -> String {
    capabilities.iter().map(|capability| capability.as_str()).collect::<Vec<_>>().join(" ")
}

/// A refusal; what to do about a topic that there is not.
fn refused(err: client::Error, ask: &CreateApiKey) -> CliError {
    let detail = if let client::Error::Refused { problem, .. } = &err { problem.detail.clone() } else { None };
    let is_named =
        |topic: &&String| detail.as_ref().is_some_and(|why| why.starts_with(&format!("there is no topic \"{topic}\"")));
    let missing = ask.topic_scopes.iter().flatten().find(is_named);
    let hint = missing.map(|topic| format!("make it with: claudemesh topic create {topic}"));
    let refused = explain(err, "the key");
    match hint {
        Some(hint) => refused.with_hint(hint),
        None => refused,
    }
}

fn create(parsed: &Parsed, out: &mut Out) -> Result<Exit, CliError> {
    let ask = CreateApiKey {
        label: parsed.first().to_owned(),
        capabilities: capabilities(parsed)?,
        topic_scopes: parsed.value(&TOPIC).map(|text| words(Some(text))),
        expires_at: parsed.value(&EXPIRES).map(expires).transpose()?,
        req_id: None,
    };
    let made = warm(out)?.create_api_key(&ask, parsed.value(&MESH)).map_err(|err| refused(err, &ask))?;
    let key = &made.row;
    if out.is_json() {
        out.json_pretty(&made)?;
        return Ok(Exit::Success);
    }
    out.ok(&format!("made the key {} on {}", key.label, made.mesh), Some(&key.id))?;
    let mut rows = vec![("key", key.secret.reveal().to_owned()), ("for", names(&key.capabilities))];
    rows.extend(key.topic_scopes.as_ref().map(|topics| ("topics", topics.join(" "))));
    rows.extend(key.expires_at.as_ref().map(|at| ("until", at.clone())));
    out.pairs(&rows)?;
    out.hint("it is not shown again: put it where your script keeps its secrets, not into its source")?;
    Ok(Exit::Success)
}

fn list(parsed: &Parsed, out: &mut Out) -> Result<Exit, CliError> {
    let page = warm(out)?.api_keys(parsed.value(&MESH)).map_err(|err| explain(err, "the mesh"))?;
    if out.is_json() {
        out.json_pretty(&page.row.keys)?;
    } else if page.row.keys.is_empty() {
        out.info("No keys.")?;
    } else {
        page.row.keys.iter().try_for_each(|key| show(key, out))?;
    }
    Ok(Exit::Success)
}

fn show(key: &ApiKey, out: &mut Out) -> Result<(), CliError> {
    let ended = key.revoked_at.as_ref().map(|at| format!(" · revoked {at}"));
    let until = key.expires_at.as_ref().map(|at| format!(" · until {at}"));
    let topics = key.topic_scopes.as_ref().map(|topics| format!(" · #{}", topics.join(" #")));
    let line = Line::new().and(Style::Dim, format!("{}… ", key.prefix)).and(Style::Bold, &key.label);
    let line = line.and(Style::Plain, format!(" · {}", names(&key.capabilities))).maybe(Style::Cyan, topics);
    out.line(&line.maybe(Style::Plain, ended.or(until)))?;
    let used = key.last_used_at.as_ref().map_or_else(|| "never used".to_owned(), |at| format!("used {at}"));
    let by = key.issued_by.as_ref().map(|name| format!("{name} · ")).unwrap_or_default();
    out.line(&Line::new().and(Style::Dim, format!("  {by}{used} · {}", key.id)))
}

fn revoke(parsed: &Parsed, out: &mut Out) -> Result<Exit, CliError> {
    let id = parsed.first();
    let done = warm(out)?
        .revoke_api_key(id, parsed.value(&MESH))
        .map_err(|err| explain(err, "the key").or_list("claudemesh apikey list"))?
        .row;
    match done.status {
        RevokeStatus::Revoked => {}
        RevokeStatus::NotFound => {
            return Err(CliError::refused(Exit::NotFound, format!("no key of yours has or begins with \"{id}\"")));
        }
        RevokeStatus::NotUnique => {
            let count = done.matches.unwrap_or_default();
            return Err(CliError::usage(format!("{count} keys begin with \"{id}\"")).with_hint("say more of the id"));
        }
    }
    let id = done.id.as_deref().unwrap_or(id);
    if out.is_json() {
        out.json(&json!({"revoked": id}))?;
    } else {
        out.ok(&format!("revoked {id}"), None)?;
    }
    Ok(Exit::Success)
}
