//! `message status`, and the waiting of `send --wait`: where a message stands, and nothing more than somebody has said.

use std::time::{Duration, Instant};

use crate::base::exit::Exit;
use crate::cli::context::warm;
use crate::cli::error::CliError;
use crate::cli::parse::Parsed;
use crate::cli::render::{Line, Out, Style};
use crate::cli::spec::{Effect, Example, Flag, Group, MESH, Operand, Verb};
use crate::client::Client;
use crate::wire::ipc::{AtRecipient, Standing, Waited};
use crate::wire::standing::State;
use crate::wire::target::Target;

use super::refusal::explain;

/// How long a message is waited for, unless it is said.
const PATIENCE: Duration = Duration::from_secs(60);

/// Longest time that can be asked for, in seconds: a day.
const LONGEST: u32 = 86_400;

pub(super) const WAIT: Flag = Flag {
    bare: Some("offered"),
    choices: &["relayed", "arrived", "offered"],
    ..Flag::valued("--wait", "STATE", "Wait until it got there: relayed, arrived or (without STATE) offered.")
};
pub(super) const TIMEOUT: Flag = Flag::valued("--timeout", "SECONDS", "How long --wait waits; default 60.");

pub(in crate::cli) const STATUS: Verb = Verb {
    aliases: &["msg-status"],
    long: "A message is queued (on this machine's disk), relayed (on the broker's), arrived (on the recipient's) and offered (put \
           before the recipient's model; by which path is said). The recipient signs for the last two. It is held while the \
           recipient keeps it from its model (repeat: the same was said before; budget: its sender woke it too often; dnd: it \
           wants no interruptions), or the broker keeps it from one who is busy; expired when nobody fetched it in time; dead when \
           it was given up here. Brokers of the TypeScript claudemesh pass nothing on of what recipients say: there, all that \
           comes after relayed is not known.",
    operands: &[Operand::one("ID", "The name it was sent under, the broker's id, or 6 or more characters of either.")],
    flags: &[MESH, WAIT, TIMEOUT],
    examples: &[
        Example { command: "claudemesh message status 6f1c9a52", about: "where it stands" },
        Example { command: "claudemesh message status 6f1c9a52 --wait --timeout 600", about: "until a model has it" },
    ],
    ..Verb::new(Group::Messages, Effect::Read, "message status", "Show where a message that you sent stands.", status)
};

fn status(parsed: &Parsed, out: &mut Out) -> Result<Exit, CliError> {
    let id = parsed.first();
    let wish = wish(parsed)?;
    let client = warm(out)?;
    let mesh = parsed.value(&MESH);
    let standing = match wish {
        Some(wish) => wait(&client, id, mesh, &wish),
        None => client.message_status(id, mesh),
    };
    let standing = standing.map_err(|err| explain(err, &format!("message \"{id}\"")).or_list("claudemesh outbox"))?;
    if out.is_json() {
        out.json(&standing)?;
    } else {
        show(&standing, out)?;
    }
    Ok(exit(&standing))
}

/// What is waited for.
pub(super) struct Wish {
    state: State,
    patience: Duration,
}

/// What `--wait` and `--timeout` say.
pub(super) fn wish(parsed: &Parsed) -> Result<Option<Wish>, CliError> {
    let patience = parsed.number(&TIMEOUT, 0..=LONGEST)?.map(|seconds| Duration::from_secs(seconds.into()));
    match (parsed.value(&WAIT).and_then(State::parse), patience) {
        (None, Some(_)) => Err(CliError::usage("--timeout says how long --wait waits").with_hint("add --wait")),
        (state, patience) => Ok(state.map(|state| Wish { state, patience: patience.unwrap_or(PATIENCE) })),
    }
}

/// Waits until the message got there, the time is over, or it is clear that nothing more will be heard.
pub(super) fn wait(client: &Client, id: &str, mesh: Option<&str>, wish: &Wish) -> Result<Standing, crate::client::Error> {
    let until = Instant::now() + wish.patience;
    loop {
        // The daemon waits for a while at a time; a wait that it ended early begins anew.
        let left = until.saturating_duration_since(Instant::now());
        let standing = client.await_message(id, mesh, wish.state, left)?;
        if standing.waited != Some(Waited::Timeout) || until <= Instant::now() {
            return Ok(standing);
        }
    }
}

/// The status to end with: success is what was waited for, and nothing less.
pub(super) fn exit(standing: &Standing) -> Exit {
    match standing.waited {
        None | Some(Waited::Reached) => Exit::Success,
        Some(Waited::Timeout) => Exit::Timeout,
        Some(Waited::Over) => Exit::Undelivered,
        Some(Waited::NotKnown) => Exit::NotKnown,
    }
}

/// Says what became of a wait, under what was said when the message was accepted.
pub(super) fn say(standing: &Standing, out: &mut Out) -> Result<(), CliError> {
    let text = headline(standing);
    match standing.waited {
        None | Some(Waited::Reached) => out.ok(&text, None),
        Some(Waited::Timeout) => {
            let id = standing.client_message_id.as_ref().map_or(standing.message_id.as_str(), |id| id.as_str());
            out.warn(&text, Some(&format!("it may still get there; see: claudemesh message status {id}")))
        }
        Some(Waited::Over | Waited::NotKnown) => out.warn(&text, None),
    }
}

/// Where it stands, in one line.
fn headline(standing: &Standing) -> String {
    let state = standing.state.unwrap_or(State::Relayed);
    let detail = standing.detail.as_deref();
    let mut text = match (state, detail) {
        (State::Offered, Some(path)) => format!("offered by {path}"),
        (State::Held | State::Dead | State::Queued, Some(why)) => format!("{}: {why}", state.as_str()),
        (State::Expired, _) => "expired: nobody fetched it in time".to_owned(),
        (State::Relayed, Some(why)) => format!("relayed: {why}"),
        _ => state.as_str().to_owned(),
    };
    if standing.recipients.len() == 1 && is_direct(standing) {
        text = format!("{text} · {}", standing.recipients[0].name);
    } else if !is_direct(standing) && standing.recipient_count != 0 {
        let has = |one: &&AtRecipient| one.state == Some(State::Offered);
        let offered = standing.recipients.iter().filter(has).count();
        text = format!("{text} · offered to {offered} of {}", standing.recipient_count);
    }
    if state == State::Relayed && !standing.receipts {
        text.push_str(" · what follows is not known");
    }
    text
}

fn is_direct(standing: &Standing) -> bool {
    Target::parse(&standing.target_spec).is_some_and(|target| target.is_direct())
}

fn show(standing: &Standing, out: &mut Out) -> Result<(), CliError> {
    out.line(&Line::new().and(Style::Bold, headline(standing)))?;
    let arrived = standing.recipients.iter().find_map(|one| one.arrived_at.clone()).filter(|_| is_direct(standing));
    let last = standing.state.filter(|state| matches!(state, State::Offered | State::Held | State::Expired | State::Dead));
    let times = [
        ("queued", standing.queued_at.clone()),
        ("relayed", standing.relayed_at.clone()),
        ("arrived", arrived),
        (
            last.map_or("", State::as_str),
            last.and(standing.at.clone()).filter(|_| is_direct(standing) || standing.relayed_at.is_none()),
        ),
    ];
    let pairs: Vec<(&str, String)> = times.into_iter().filter_map(|(name, at)| Some((name, at?))).collect();
    out.pairs(&pairs)?;
    if is_direct(standing) {
        return note(standing, out);
    }
    standing.recipients.iter().try_for_each(|one| {
        let state = one.state.map_or("", State::as_str);
        let detail = one.detail.as_ref().map(|detail| format!(" ({detail})"));
        let line = Line::new().and(Style::Bold, &one.name).and(Style::Plain, format!(" {state}")).maybe(Style::Plain, detail);
        out.line(&line.and(Style::Dim, format!(" · {:.16}…", one.pubkey)))
    })
}

/// What a broker says that nobody has signed for.
fn note(standing: &Standing, out: &mut Out) -> Result<(), CliError> {
    match (standing.state, standing.delivered) {
        (Some(State::Relayed), true) => {
            out.hint("its broker says that the recipient's daemon has it; the recipient has not signed for it")
        }
        _ => Ok(()),
    }
}
