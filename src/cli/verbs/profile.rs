//! `profile`, `status set`, `summary`, `visible` and the groups: what a session shows of itself.

use crate::base::exit::Exit;
use crate::base::ids::{PublicKey, Slug};
use crate::base::names::is_group_name;
use crate::cli::context::warm;
use crate::cli::error::CliError;
use crate::cli::parse::Parsed;
use crate::cli::render::Out;
use crate::cli::spec::{Count, Effect, Example, Flag, Group, MESH, Operand, Verb};
use crate::client::Client;
use crate::wire::ipc::{PeerOnMesh, ProfileSet};
use crate::wire::json::{self, Map, Value, json};
use crate::wire::profile::Profile;

use super::refusal::explain;
use super::words;

const TITLE: Flag = Flag::valued("--title", "TEXT", "What you are.");
const BIO: Flag = Flag::valued("--bio", "TEXT", "What you do.");
const AVATAR: Flag = Flag::valued("--avatar", "TEXT", "A picture's address, or a character.");
const CAPABILITIES: Flag = Flag::valued("--capabilities", "A,B", "What you can be asked for, separated by commas.");
const ROLE: Flag = Flag::valued("--role", "ROLE", "What you are in the group.");
const NAME: Operand = Operand::one("GROUP", "Its name, with or without @.");

/// As every verb of this file: whom it is about.
const WHOSE: &str = "Inside a session: the session's own. Outside: the member's, on the named mesh or on every one.";

pub(in crate::cli) const VERB: Verb = Verb {
    long: WHOSE,
    flags: &[MESH],
    examples: &[Example { command: "claudemesh profile", about: "what others see" }],
    ..Verb::new(Group::Sessions, Effect::Read, "profile", "Show how you present yourself.", view)
};

pub(in crate::cli) const SET: Verb = Verb {
    long: WHOSE,
    flags: &[MESH, TITLE, BIO, AVATAR, CAPABILITIES],
    examples: &[Example {
        command: "claudemesh profile set --title Reviewer --capabilities rust,sql",
        about: "changes these parts",
    }],
    ..Verb::new(Group::Sessions, Effect::Write, "profile set", "Change how you present yourself.", set)
};

pub(in crate::cli) const STATUS: Verb = Verb {
    aliases: &["profile status set"],
    long: WHOSE,
    operands: &[Operand {
        name: "STATUS",
        about: "What you are doing.",
        count: Count::One,
        choices: &["idle", "working", "dnd"],
    }],
    flags: &[MESH],
    examples: &[Example { command: "claudemesh status set dnd", about: "only what is urgent comes through" }],
    ..Verb::new(Group::Sessions, Effect::Write, "status set", "Say whether you can be disturbed.", status)
};

pub(in crate::cli) const SUMMARY: Verb = Verb {
    aliases: &["profile summary"],
    long: WHOSE,
    operands: &[Operand { name: "TEXT", about: "What you are working on.", count: Count::OneOrMore, choices: &[] }],
    flags: &[MESH],
    examples: &[Example { command: "claudemesh summary fixing the parser", about: "peers see it in their lists" }],
    ..Verb::new(Group::Sessions, Effect::Write, "summary", "Say what you are working on.", summary)
};

/// The reference's spellings among them.
const ON: &[&str] = &["on", "true", "yes", "y", "1"];
const OFF: &[&str] = &["off", "false", "no", "n", "0"];

pub(in crate::cli) const VISIBLE: Verb = Verb {
    aliases: &["profile visible"],
    long: WHOSE,
    operands: &[Operand::one("ON|OFF", "Whether other members see you in their lists.")],
    flags: &[MESH],
    examples: &[Example { command: "claudemesh visible off", about: "direct messages still reach you" }],
    ..Verb::new(Group::Sessions, Effect::Write, "visible", "Hide from other members, or show yourself again.", visible)
};

pub(in crate::cli) const GROUP_LIST: Verb = Verb {
    aliases: &["groups"],
    flags: &[MESH],
    examples: &[Example { command: "claudemesh group list", about: "the groups you are in" }],
    ..Verb::new(Group::Sessions, Effect::Read, "group list", "Show the groups that you are in.", group_list)
};

pub(in crate::cli) const GROUP_JOIN: Verb = Verb {
    long: WHOSE,
    operands: &[NAME],
    flags: &[MESH, ROLE],
    examples: &[Example { command: "claudemesh group join @eng --role lead", about: "messages to @eng reach you" }],
    ..Verb::new(Group::Sessions, Effect::Write, "group join", "Enter a group.", group_join)
};

pub(in crate::cli) const GROUP_LEAVE: Verb = Verb {
    long: WHOSE,
    operands: &[NAME],
    flags: &[MESH],
    examples: &[Example { command: "claudemesh group leave @eng", about: "messages to @eng reach you no more" }],
    ..Verb::new(Group::Sessions, Effect::Write, "group leave", "Leave a group.", group_leave)
};

/// Shows something else from now on, and says so.
fn change(parsed: &Parsed, out: &mut Out, key: &str, value: Value, said: (&str, Value)) -> Result<Exit, CliError> {
    let client = warm(out)?;
    show(&client, parsed, &Map::from_iter([(key.to_owned(), value)]), out)?;
    let (text, answer) = said;
    if out.is_json() {
        out.json(&answer)?
    } else {
        out.ok(text, None)?
    }
    Ok(Exit::Success)
}

fn show(client: &Client, parsed: &Parsed, changes: &Map<String, Value>, out: &mut Out) -> Result<(), CliError> {
    let done = client.show(changes, parsed.value(&MESH)).map_err(|err| explain(err, "the mesh"))?;
    if client.token().is_none() && done.meshes.is_empty() {
        return Err(match done.unanswered.iter().next() {
            Some((mesh, why)) => unanswered(mesh, why),
            None => CliError::refused(Exit::Unavailable, "no mesh is joined"),
        });
    }
    if client.token().is_none() && !done.unanswered.is_empty() {
        return Err(told_in_part(&done));
    }
    // A session's is kept here, and shown as soon as its broker is back.
    done.unanswered.iter().try_for_each(|(mesh, why)| out.remark(&format!("warn the broker of {mesh} was not told yet: {why}")))
}

/// Nothing is kept of what a member shows: who was not told is told when somebody says it again.
fn told_in_part(done: &ProfileSet) -> CliError {
    let silent: Vec<String> = done.unanswered.iter().map(|(mesh, why)| format!("{mesh} ({why})")).collect();
    let told: Vec<&str> = done.meshes.iter().map(Slug::as_str).collect();
    let again: Vec<String> = done.unanswered.keys().map(|mesh| format!("--mesh {mesh}")).collect();
    CliError::refused(Exit::Network, format!("set on {}, and not told to the broker of {}", told.join(", "), silent.join(", ")))
        .with_hint(format!(
            "nothing is kept for it: say it again with {} once it answers, as claudemesh status tells",
            again.join(" and with ")
        ))
}

fn unanswered(mesh: &str, why: &str) -> CliError {
    CliError::refused(Exit::Network, format!("the broker of {mesh} did not answer: {why}"))
        .with_hint("see what is wrong with: claudemesh doctor")
}

fn status(parsed: &Parsed, out: &mut Out) -> Result<Exit, CliError> {
    let status = parsed.first();
    change(parsed, out, "status", status.into(), (&format!("status set to {status}"), json!({"status": status})))
}

fn summary(parsed: &Parsed, out: &mut Out) -> Result<Exit, CliError> {
    let text = parsed.operands.join(" ");
    change(parsed, out, "summary", text.as_str().into(), (&format!("summary set ({text})"), json!({"summary": text})))
}

fn visible(parsed: &Parsed, out: &mut Out) -> Result<Exit, CliError> {
    let word = parsed.first().to_ascii_lowercase();
    let on = ON.contains(&word.as_str());
    if !on && !OFF.contains(&word.as_str()) {
        return Err(CliError::usage(format!("\"{word}\" is neither on nor off")));
    }
    let said = if on { "you are now visible to peers" } else { "you are now hidden (direct messages still reach you)" };
    change(parsed, out, "visible", on.into(), (said, json!({"visible": on})))
}

/// A group's name as it was typed. A / makes a group within another: no part of such a name is empty.
fn group_name(typed: &str) -> Result<&str, CliError> {
    let name = typed.strip_prefix('@').unwrap_or(typed);
    if is_group_name(name) && name.split('/').all(|part| !part.is_empty()) {
        return Ok(name);
    }
    let hint = match name.split_once(':') {
        Some((group, role)) if is_group_name(group) => {
            format!("a role is said with --role: claudemesh group join @{group} --role {role}")
        }
        _ => "letters, digits, . _ - and / between them, as in eng or eng/api".to_owned(),
    };
    Err(CliError::usage(format!("no group can be named \"{name}\"")).with_hint(hint))
}

fn group_join(parsed: &Parsed, out: &mut Out) -> Result<Exit, CliError> {
    let name = group_name(parsed.first())?;
    let role = parsed.value(&ROLE);
    let group = role.map_or_else(|| name.to_owned(), |role| format!("{name}:{role}"));
    let said = role.map_or_else(|| format!("joined @{name}"), |role| format!("joined @{name} as {role}"));
    change(parsed, out, "join_groups", json!([group]), (&said, json!({"group": name, "role": role})))
}

fn group_leave(parsed: &Parsed, out: &mut Out) -> Result<Exit, CliError> {
    let name = parsed.first().strip_prefix('@').unwrap_or(parsed.first());
    if !is_group_name(name) {
        group_name(parsed.first())?;
    }
    change(parsed, out, "leave_groups", json!([name]), (&format!("left @{name}"), json!({"group": name, "left": true})))
}

/// The caller's own rows of the rosters: the session's, or the member's daemons'.
fn own(client: &Client, parsed: &Parsed) -> Result<Vec<PeerOnMesh>, CliError> {
    let me = client.token().map(|_| client.me()).transpose()?.map(|me| me.session);
    let config = crate::base::config::Config::load(&crate::cli::context::paths()?.config_file())?;
    let session: Option<PublicKey> = me.and_then(|me| me.presence).map(|presence| presence.session_pubkey.0);
    let page = client.peers(parsed.value(&MESH)).map_err(|err| explain(err, "the mesh"))?;
    if let (true, Some((mesh, why))) = (page.peers.is_empty(), page.unanswered.iter().next()) {
        return Err(unanswered(mesh, why));
    }
    let peers = page.peers;
    let mine = |row: &PeerOnMesh| match session {
        Some(key) => row.peer.pubkey == key,
        None => config.mesh(&row.mesh).is_some_and(|mesh| mesh.pubkey.0 == row.peer.pubkey),
    };
    Ok(peers.into_iter().filter(mine).collect())
}

fn group_list(parsed: &Parsed, out: &mut Out) -> Result<Exit, CliError> {
    let rows = own(&warm(out)?, parsed)?;
    let groups: Vec<_> = rows.iter().flat_map(|row| row.peer.groups.iter().map(|group| (group, &row.mesh))).collect();
    if out.is_json() {
        let all: Vec<_> =
            groups.iter().map(|(group, mesh)| json!({"group": group.name, "role": group.role, "mesh": mesh})).collect();
        out.json_pretty(&all)?;
    } else if groups.is_empty() {
        out.info("You are in no group.")?;
    } else {
        groups.iter().try_for_each(|(group, mesh)| {
            let role = group.role.as_ref().map(|role| format!(" as {role}")).unwrap_or_default();
            out.info(&format!("@{}{role} on {mesh}", group.name))
        })?;
    }
    Ok(Exit::Success)
}

fn set(parsed: &Parsed, out: &mut Out) -> Result<Exit, CliError> {
    let text = |flag: &Flag| parsed.value(flag).map(str::to_owned);
    let capabilities = parsed.value(&CAPABILITIES).map(|all| words(Some(all)));
    let changes = Profile { avatar: text(&AVATAR), title: text(&TITLE), bio: text(&BIO), capabilities };
    if changes.is_empty() {
        return Err(CliError::usage("what should change?").with_hint("see: claudemesh help profile set"));
    }
    let Value::Object(fields) = json::value(&changes) else { return Ok(Exit::Internal) };
    show(&warm(out)?, parsed, &fields, out)?;
    if out.is_json() {
        out.json(&changes)?
    } else {
        out.ok("profile updated", None)?
    }
    Ok(Exit::Success)
}

fn view(parsed: &Parsed, out: &mut Out) -> Result<Exit, CliError> {
    let rows = own(&warm(out)?, parsed)?;
    if out.is_json() {
        out.json_pretty(&rows)?;
        return Ok(Exit::Success);
    }
    for row in &rows {
        let peer = &row.peer;
        let profile = peer.profile.clone().unwrap_or_default();
        let groups: Vec<String> = peer.groups.iter().map(|group| format!("@{}", group.name)).collect();
        out.section(&format!("{} on {}", peer.display_name, row.mesh))?;
        let status = json::value(&peer.status);
        let visible = if peer.visible == Some(false) { "no" } else { "yes" };
        let mut pairs = vec![("status", status.as_str().unwrap_or_default().to_owned()), ("visible", visible.to_owned())];
        pairs.extend(peer.summary.clone().map(|text| ("summary", text)));
        pairs.extend(
            [("title", profile.title), ("bio", profile.bio), ("avatar", profile.avatar)]
                .into_iter()
                .filter_map(|(name, value)| Some((name, value?))),
        );
        pairs.extend(profile.capabilities.map(|all| ("capabilities", all.join(", "))));
        pairs.extend((!groups.is_empty()).then(|| ("groups", groups.join(", "))));
        out.pairs(&pairs)?;
    }
    if rows.is_empty() {
        out.info("Not connected to any mesh now; see: claudemesh status")?;
    }
    Ok(Exit::Success)
}
