//! `inbox`: what came. A session's message counts as seen once it has been written out, not when it was asked for.

use crate::base::config::Config;
use crate::base::exit::Exit;
use crate::base::names::neutralise_line;
use crate::base::time::parse_iso;
use crate::cli::context::{note_skew, one_mesh, paths, warm};
use crate::cli::error::CliError;
use crate::cli::parse::Parsed;
use crate::cli::render::{Line, Out, Style};
use crate::cli::spec::{Effect, Example, Flag, Group, MESH, Verb};
use crate::client::InboxQuery;
use crate::wire::ipc::{InboxItem, REPEAT};
use crate::wire::priority::Priority;

pub(super) const FOLLOW: Flag = Flag {
    short: Some("-f"),
    ..Flag::switch("--follow", "First what is unread, then what comes, until ended; with --json one object a line.")
};
const UNREAD: Flag = Flag::switch("--unread", "Only what nobody has seen.");
const FROM: Flag = Flag::valued("--from", "SENDER", "Only from this peer: a name, a key, or the beginning of one.");
const TOPIC: Flag = Flag::valued("--topic", "NAME", "Only of this topic.");
const SINCE: Flag =
    Flag::valued("--since", "TIME", "Only what came at this time or later (ISO 8601; UTC unless it says otherwise).");
const UNTIL: Flag = Flag::valued("--until", "TIME", "Only what came at this time or earlier.");
const SEARCH: Flag = Flag::valued("--search", "TEXT", "Only messages with this in their text.");
const LIMIT: Flag = Flag::valued("--limit", "N", "At most so many, 1 to 1000; default 100.");

pub(in crate::cli) const VERB: Verb = Verb {
    name: "inbox",
    aliases: &["message inbox"],
    group: Group::Messages,
    about: "Read the messages that came, newest first.",
    long: "Inside a session: that session's messages. Outside: everything that came to this machine's member.\n\n\
           Inside a session, messages count as seen once they have been written out; outside, nothing is marked. With --follow the \
           oldest comes first and each message is shown once; the command ends with status 0 when it is told to end or when nobody \
           reads its output any more.",
    operands: &[],
    tail: None,
    flags: &[FOLLOW, UNREAD, FROM, TOPIC, SINCE, UNTIL, SEARCH, LIMIT, MESH],
    effect: Effect::Read,
    examples: &[
        Example { command: "claudemesh inbox --unread", about: "what is new" },
        Example { command: "claudemesh inbox --from alice --search deploy", about: "what alice wrote about it" },
        Example { command: "claudemesh inbox --follow --json", about: "every message as it comes, one JSON object a line" },
        Example { command: "claudemesh inbox --follow --topic deploys", about: "what is said in one topic as it comes" },
    ],
    run,
};

fn run(parsed: &Parsed, out: &mut Out) -> Result<Exit, CliError> {
    let mesh = parsed.value(&MESH).map(str::to_owned);
    let limit = parsed.number(&LIMIT, 1..=1000)?;
    let client = warm(out)?;
    let unread_only = parsed.is_set(&UNREAD);
    let query = InboxQuery {
        mesh: mesh.clone(),
        since: time(parsed, &SINCE)?,
        until: time(parsed, &UNTIL)?,
        topic: parsed.value(&TOPIC).map(|topic| topic.trim_start_matches('#').to_owned()),
        from: parsed.value(&FROM).map(str::to_owned),
        text: parsed.value(&SEARCH).map(str::to_owned),
        limit: limit.or(Some(100)),
        unread_only,
        mark_seen: false,
    };
    if parsed.is_set(&FOLLOW) {
        known(mesh.as_deref())?;
        return super::inbox_follow::run(&client, query, out);
    }
    let page = client.inbox(&query)?;
    let items = page.items;
    if items.is_empty() {
        // What came from a mesh that was left since is shown.
        known(mesh.as_deref())?;
    }
    // Looking at everything from outside does not mean that each session has seen its mail.
    let is_new = |item: &&InboxItem| item.seen_at.is_none() && client.token().is_some();
    let new: Vec<String> = items.iter().filter(is_new).map(|item| item.id.clone()).collect();
    let claimed = if new.is_empty() { Vec::new() } else { client.claim_for_tool(new.clone(), out.is_watched())? };
    if out.is_json() {
        out.json_pretty(&items)?;
    } else {
        match items.is_empty() {
            true => out.info(&none(parsed, client.token().is_some()))?,
            false => list(&items, mesh.as_deref(), unread_only, out)?,
        }
    }
    if page.more {
        out.remark("older messages are left out, because these are large; narrow it with --since, --from or --search")?;
    }
    if let Some(back_to) = &page.searched_back_to {
        out.remark(&format!("nothing older than {back_to} was searched; go on with --until {back_to}"))?;
    }
    out.flush()?;
    client.read_by_tool(&new, &claimed)?;
    note_skew(&client, out)?;
    Ok(Exit::Success)
}

/// The mesh that was named is joined: an empty list of another would look like one of a mesh on which nobody wrote.
fn known(mesh: Option<&str>) -> Result<(), CliError> {
    let Some(slug) = mesh else { return Ok(()) };
    one_mesh(&Config::load(&paths()?.config_file())?, Some(slug)).map(drop)
}

fn time(parsed: &Parsed, flag: &Flag) -> Result<Option<String>, CliError> {
    let text = parsed.value(flag);
    if let Some(text) = text.filter(|text| parse_iso(text).is_none()) {
        let wrong = CliError::usage(format!("{}: \"{text}\" is no time", flag.long));
        return Err(wrong.with_hint("as in 2025-10-09 or 2025-10-09T08:53:20Z"));
    }
    Ok(text.map(str::to_owned))
}

/// By these flags a listing is narrowed.
const FILTERS: [Flag; 5] = [FROM, TOPIC, SINCE, UNTIL, SEARCH];

/// What the messages are to be like, as it was typed.
fn filters(parsed: &Parsed) -> String {
    let typed = |flag: &Flag| Some(format!("{} {}", flag.long, parsed.value(flag)?));
    FILTERS.iter().filter_map(typed).collect::<Vec<_>>().join(" ")
}

/// That there is nothing, and of what. A session is shown its own messages, and nobody else's.
fn none(parsed: &Parsed, in_session: bool) -> String {
    let word = if parsed.is_set(&UNREAD) { "unread " } else { "" };
    let place = match parsed.value(&MESH) {
        Some(mesh) => format!("on mesh \"{mesh}\""),
        None if in_session => "for this session".to_owned(),
        None => "on any mesh".to_owned(),
    };
    match filters(parsed).as_str() {
        "" => format!("No {word}messages {place}."),
        filters => format!("No {word}message {place} matches {filters}."),
    }
}

fn list(items: &[InboxItem], mesh: Option<&str>, unread: bool, out: &mut Out) -> Result<(), CliError> {
    let word = if unread { "unread " } else { "" };
    let plural = if items.len() == 1 { "" } else { "s" };
    let place = mesh.map(|mesh| format!("{mesh} ")).unwrap_or_default();
    out.section(&format!("inbox {}{place}({} {word}message{plural})", if mesh.is_some() { "— " } else { "" }, items.len()))?;
    items.iter().try_for_each(|item| show(item, mesh.is_none(), out))
}

/// By which way it came before the model, or why it was kept from it.
fn offered(item: &InboxItem) -> Option<String> {
    let path = neutralise_line(item.offered_by.as_deref()?);
    if path == REPEAT {
        return Some("  held: it repeats an earlier one".to_owned());
    }
    let time = item.offered_at.as_deref().and_then(|at| at.get(11..19)).unwrap_or_default();
    Some(format!("  offered by {path} {time}Z"))
}

/// One message for a person: who, where, when, what.
pub(super) fn show(item: &InboxItem, with_mesh: bool, out: &mut Out) -> Result<(), CliError> {
    let key: String = item.sender_pubkey.chars().take(8).collect();
    let (name, key) =
        if item.sender_name.is_empty() { (key, None) } else { (item.sender_name.clone(), Some(format!(" ({key})"))) };
    let time = item.received_at.get(..19).unwrap_or(&item.received_at).replace('T', " ");
    let mut line = Line::new().and(Style::Bold, name).maybe(Style::Dim, key);
    if with_mesh {
        line = line.and(Style::Dim, format!("  [{}]", item.mesh));
    }
    line = line.maybe(Style::Cyan, item.topic.as_ref().map(|topic| format!(" (#{topic})")));
    line = line.maybe(
        Style::Cyan,
        item.sent_to.as_ref().map(|many| if many == "*" { " to everyone".to_owned() } else { format!(" to {many}") }),
    );
    if item.mentioned {
        line = line.and(Style::Yellow, " calls out to you");
    }
    if item.priority == Priority::Now {
        line = line.and(Style::Yellow, " now");
    }
    line = line.and(Style::Dim, format!(" {time}Z"));
    line = line.maybe(Style::Dim, offered(item));
    if item.plain {
        line = line.and(Style::Yellow, " sent in clear: nobody vouches for the sender");
    }
    out.line(&line)?;
    match (&item.body, &item.unreadable) {
        (Some(body), _) => out.body(body)?,
        (None, Some(why)) => out.info(&format!("[can not be opened: {}]", neutralise_line(why)))?,
        (None, None) => out.info("[encrypted]")?,
    }
    out.blank()
}
