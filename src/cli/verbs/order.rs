//! `grant` and its family, and keeping somebody out: `kick`, `disconnect`, `ban`, `unban`, `bans`; and `mesh reconnect`.

use crate::base::exit::Exit;
use crate::cli::context::{cold, session_token, warm};
use crate::cli::error::CliError;
use crate::cli::parse::Parsed;
use crate::cli::render::{Line, Out, Style};
use crate::cli::spec::{Count, Effect, Example, Flag, Group, MESH, Operand, Verb};
use crate::client::GrantChange;
use crate::wire::admin::{Ban, Expel, Expelled};
use crate::wire::grant::Capability;
use crate::wire::json::json;

use super::refusal::{about_peer, explain};
use super::{millis, words};

const PEER: Operand = Operand::one("PEER", "Whom: a name, name@mesh, a key or its beginning.");
const WHAT: Operand = Operand {
    name: "CAPABILITY",
    about: "One or more of read, dm, broadcast, state-read, state-write, file-read; or all.",
    count: Count::OneOrMore,
    choices: &[],
};

/// What grants are, for every verb about them.
const GRANTS: &str = "A grant is a member's word about another member, whichever sessions both have. By default everything is allowed \
                      but file-read. dm is for direct messages and topics, broadcast for * and groups; state-read and state-write are \
                      about the values that you have set.";

pub(in crate::cli) const GRANT_LIST: Verb = Verb {
    aliases: &["grant list"],
    long: GRANTS,
    flags: &[MESH],
    examples: &[Example { command: "claudemesh grants", about: "what you have said of others" }],
    ..Verb::new(Group::Sessions, Effect::Read, "grants", "Show what you allow others.", grant_list)
};

pub(in crate::cli) const GRANT: Verb = Verb {
    long: GRANTS,
    operands: &[PEER, WHAT],
    flags: &[MESH],
    examples: &[Example { command: "claudemesh grant bob dm state-write", about: "on top of what bob may do already" }],
    ..Verb::new(Group::Sessions, Effect::Write, "grant", "Allow a peer something.", grant)
};

pub(in crate::cli) const REVOKE: Verb = Verb {
    long: GRANTS,
    operands: &[PEER, WHAT],
    flags: &[MESH],
    examples: &[Example { command: "claudemesh revoke bob broadcast", about: "what bob says to everyone does not reach you" }],
    ..Verb::new(Group::Sessions, Effect::Write, "revoke", "Allow a peer something no longer.", revoke)
};

pub(in crate::cli) const BLOCK: Verb = Verb {
    long: GRANTS,
    operands: &[PEER],
    flags: &[MESH],
    examples: &[Example { command: "claudemesh block bob", about: "nothing of bob's reaches you" }],
    ..Verb::new(Group::Sessions, Effect::Write, "block", "Allow a peer nothing.", block)
};

pub(in crate::cli) const UNBLOCK: Verb = Verb {
    long: GRANTS,
    operands: &[PEER],
    flags: &[MESH],
    examples: &[Example { command: "claudemesh unblock bob", about: "as if nothing had been said of bob" }],
    ..Verb::new(Group::Sessions, Effect::Write, "unblock", "Allow a peer what is allowed by default.", unblock)
};

const ALL: Flag = Flag::switch("--all", "Every session but this one and the owner's.");
const STALE: Flag = Flag::valued("--stale", "TIME", "Those whose connection has been gone for this long, as in 30m.");
const FOR: Flag = Flag::valued("--for", "TIME", "How long it lasts, as in 2h; default 15m.");
const REASON: Flag = Flag::valued("--reason", "TEXT", "Why.");
const WHOM: Operand =
    Operand { name: "PEER", about: "A name, a key, or 8 or more characters of one.", count: Count::Optional, choices: &[] };

pub(in crate::cli) const KICK: Verb = Verb {
    aliases: &["peer kick"],
    long: "For the mesh's owner and its admins. The owner can not be kicked by others. A member's own key means all of its \
           connections. Whoever is kicked can not come back until the time is over.",
    operands: &[WHOM],
    flags: &[MESH, ALL, STALE, FOR],
    examples: &[Example { command: "claudemesh kick bob --for 1h", about: "one session" }],
    ..Verb::new(Group::Sessions, Effect::Write, "kick", "Keep a peer out for a while.", kick)
};

pub(in crate::cli) const DISCONNECT: Verb = Verb {
    aliases: &["peer disconnect"],
    long: "For the mesh's owner and its admins. It may come back at once.",
    operands: &[WHOM],
    flags: &[MESH, ALL, STALE],
    examples: &[Example { command: "claudemesh disconnect bob", about: "its daemon connects it again" }],
    ..Verb::new(Group::Sessions, Effect::Write, "disconnect", "Close a peer's connection.", disconnect)
};

pub(in crate::cli) const BAN: Verb = Verb {
    aliases: &["peer ban"],
    long: "For the mesh's owner and its admins. A member is shut out with all its sessions until it is unbanned.",
    operands: &[Operand::one("MEMBER", "The member's name, or its key.")],
    flags: &[MESH, REASON],
    examples: &[Example { command: "claudemesh ban mallory", about: "for good" }],
    ..Verb::new(Group::Sessions, Effect::Write, "ban", "Shut a member out.", ban)
};

pub(in crate::cli) const UNBAN: Verb = Verb {
    aliases: &["peer unban"],
    operands: &[Operand::one("MEMBER", "The member's name, or its key.")],
    flags: &[MESH],
    examples: &[Example { command: "claudemesh unban mallory", about: "it may come back" }],
    ..Verb::new(Group::Sessions, Effect::Write, "unban", "Let a member in again.", unban)
};

pub(in crate::cli) const BANS: Verb = Verb {
    aliases: &["peer bans"],
    flags: &[MESH],
    examples: &[Example { command: "claudemesh bans", about: "and since when" }],
    ..Verb::new(Group::Sessions, Effect::Read, "bans", "Show who is shut out.", bans)
};

pub(in crate::cli) const RECONNECT: Verb = Verb {
    long: "A daemon that was kicked or banned does not try again by itself. This tells it to.",
    operands: &[Operand { name: "SLUG", about: "The mesh, if several are joined.", count: Count::Optional, choices: &[] }],
    examples: &[Example { command: "claudemesh mesh reconnect home", about: "all its connections" }],
    ..Verb::new(Group::Daemon, Effect::Local, "mesh reconnect", "Connect to a mesh's broker now.", reconnect)
};

fn capabilities(parsed: &Parsed) -> Result<Vec<Capability>, CliError> {
    let mut all = Vec::new();
    for word in parsed.operands.iter().skip(1).flat_map(|word| words(Some(word))) {
        match Capability::parse(&word) {
            Some(capability) => all.push(capability),
            None if word == "all" => all.extend(Capability::ALL),
            None => return Err(CliError::usage(format!("\"{word}\" is nothing that can be granted")).with_hint(WHAT.about)),
        }
    }
    Ok(all)
}

fn change(parsed: &Parsed, out: &mut Out, said: &str, change: &GrantChange) -> Result<Exit, CliError> {
    let peer = parsed.first();
    let done = warm(out)?.set_grants(change, parsed.value(&MESH)).map_err(|err| about_peer(err, &format!("peer \"{peer}\"")))?;
    let now: Vec<&str> = done.row.capabilities.iter().map(|capability| capability.as_str()).collect();
    if out.is_json() {
        out.json(&json!({"mesh": done.mesh, "peer": done.row.peer, "capabilities": now}))?;
    } else {
        out.ok(&format!("{said} {peer} on {}", done.mesh), None)?;
        out.pairs(&[("now", if now.is_empty() { "nothing".to_owned() } else { now.join(" ") })])?;
    }
    Ok(Exit::Success)
}

fn grant(parsed: &Parsed, out: &mut Out) -> Result<Exit, CliError> {
    let what = GrantChange { peer: parsed.first().to_owned(), grant: capabilities(parsed)?, ..GrantChange::default() };
    change(parsed, out, "granted to", &what)
}

fn revoke(parsed: &Parsed, out: &mut Out) -> Result<Exit, CliError> {
    let what = GrantChange { peer: parsed.first().to_owned(), revoke: capabilities(parsed)?, ..GrantChange::default() };
    change(parsed, out, "revoked from", &what)
}

fn block(parsed: &Parsed, out: &mut Out) -> Result<Exit, CliError> {
    let what = GrantChange { peer: parsed.first().to_owned(), revoke: Capability::ALL.to_vec(), ..GrantChange::default() };
    change(parsed, out, "blocked", &what)
}

fn unblock(parsed: &Parsed, out: &mut Out) -> Result<Exit, CliError> {
    let what = GrantChange { peer: parsed.first().to_owned(), reset: true, ..GrantChange::default() };
    change(parsed, out, "unblocked", &what)
}

fn grant_list(parsed: &Parsed, out: &mut Out) -> Result<Exit, CliError> {
    let page = warm(out)?.grants(parsed.value(&MESH)).map_err(|err| explain(err, "the mesh"))?;
    if out.is_json() {
        out.json_pretty(
            &json!({"schema_version": "1.0", "mesh": page.mesh, "grants": page.row.grants, "names": page.row.names}),
        )?;
    } else if page.row.grants.is_empty() {
        out.info(&format!("Nothing was said of anybody on {}: the default holds.", page.mesh))?;
    } else {
        page.row.grants.iter().try_for_each(|(peer, allowed)| {
            let allowed: Vec<&str> = allowed.iter().map(|capability| capability.as_str()).collect();
            let allowed = if allowed.is_empty() { "nothing".to_owned() } else { allowed.join(" ") };
            let key = format!("{peer:.16}…");
            let line = match page.row.names.get(peer) {
                Some(name) => Line::new().and(Style::Bold, name).and(Style::Dim, format!(" · {key}")),
                None => Line::new().and(Style::Bold, key),
            };
            out.line(&line.and(Style::Plain, format!("  {allowed}")))
        })?;
    }
    Ok(Exit::Success)
}

fn expel(parsed: &Parsed) -> Result<Expel, CliError> {
    let time = |flag: &Flag| parsed.value(flag).map(|text| millis(flag, text)).transpose();
    let ask = Expel {
        target: parsed.operands.first().cloned(),
        stale: time(&STALE)?,
        all: parsed.is_set(&ALL).then_some(true),
        for_ms: time(&FOR)?,
        req_id: None,
    };
    match usize::from(ask.target.is_some()) + usize::from(ask.stale.is_some()) + usize::from(ask.all.is_some()) {
        1 => Ok(ask),
        0 => Err(CliError::usage("whom?").with_hint("name a peer, or say --all or --stale 30m")),
        _ => Err(CliError::usage("a peer, --all and --stale exclude each other")),
    }
}

fn kick(parsed: &Parsed, out: &mut Out) -> Result<Exit, CliError> {
    let done = warm(out)?.kick(&expel(parsed)?, parsed.value(&MESH)).map_err(|err| about_peer(err, "the peer"))?;
    expelled(parsed, &done.row, "Kicked", out)
}

fn disconnect(parsed: &Parsed, out: &mut Out) -> Result<Exit, CliError> {
    let done = warm(out)?.disconnect(&expel(parsed)?, parsed.value(&MESH)).map_err(|err| about_peer(err, "the peer"))?;
    expelled(parsed, &done.row, "Disconnected", out)
}

fn expelled(parsed: &Parsed, done: &Expelled, word: &str, out: &mut Out) -> Result<Exit, CliError> {
    if out.is_json() {
        out.json(done)?;
    } else if done.affected.is_empty() {
        out.info("No peers matched.")?;
        out.hint("see who is there with: claudemesh peers")?;
    } else {
        out.ok(&format!("{word} {} peer(s): {}", done.affected.len(), done.affected.join(", ")), None)?;
        done.until.iter().try_for_each(|until| out.hint(&format!("kept out until {until}")))?;
    }
    let named = !parsed.operands.is_empty();
    Ok(if named && done.affected.is_empty() { Exit::NotFound } else { Exit::Success })
}

fn ban(parsed: &Parsed, out: &mut Out) -> Result<Exit, CliError> {
    let ask = Ban { target: parsed.first().to_owned(), reason: parsed.value(&REASON).map(str::to_owned), req_id: None };
    let done = warm(out)?.ban(&ask, parsed.value(&MESH)).map_err(|err| about_peer(err, "the member"))?;
    let name = &done.row.banned;
    if out.is_json() {
        out.json(&json!({"banned": name, "mesh": done.mesh}))?;
    } else {
        out.ok(&format!("Banned {name} from {}. They cannot reconnect until unbanned.", done.mesh), None)?;
        out.hint(&format!("undo: claudemesh unban {name} --mesh {}", done.mesh))?;
    }
    Ok(Exit::Success)
}

fn unban(parsed: &Parsed, out: &mut Out) -> Result<Exit, CliError> {
    let ask = Ban { target: parsed.first().to_owned(), reason: None, req_id: None };
    let done = warm(out)?.unban(&ask, parsed.value(&MESH)).map_err(|err| about_peer(err, "the member"))?;
    if out.is_json() {
        out.json(&json!({"unbanned": done.row.unbanned, "mesh": done.mesh}))?;
    } else {
        out.ok(&format!("Unbanned {} from {}.", done.row.unbanned, done.mesh), None)?;
    }
    Ok(Exit::Success)
}

fn bans(parsed: &Parsed, out: &mut Out) -> Result<Exit, CliError> {
    let page = warm(out)?.bans(parsed.value(&MESH)).map_err(|err| explain(err, "the mesh"))?;
    if out.is_json() {
        out.json_pretty(&page.row.bans)?;
    } else if page.row.bans.is_empty() {
        out.info("No banned members.")?;
    } else {
        page.row.bans.iter().try_for_each(|ban| {
            let line = Line::new().and(Style::Bold, &ban.name);
            out.line(&line.and(Style::Dim, format!(" · {:.16}… · since {}", ban.pubkey.to_string(), ban.revoked_at)))
        })?;
    }
    Ok(Exit::Success)
}

fn reconnect(parsed: &Parsed, out: &mut Out) -> Result<Exit, CliError> {
    let slug = parsed.operands.first().map(String::as_str);
    let done = cold(session_token()?)?.reconnect(slug).map_err(|err| explain(err, "the mesh"))?;
    if out.is_json() {
        out.json(&done)?
    } else {
        out.ok(&format!("connecting to {}", done.mesh), None)?
    }
    Ok(Exit::Success)
}
