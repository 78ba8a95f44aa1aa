//! `topic tail`: what was said in a topic last, then what is said. Events only say that something came; what is shown is the
//! topic's history, so that it is in the broker's order, and one's own words are there, too.

use std::collections::BTreeSet;

use crate::base::exit::Exit;
use crate::base::ids::Slug;
use crate::cli::context::warm;
use crate::cli::error::CliError;
use crate::cli::parse::Parsed;
use crate::cli::render::Out;
use crate::cli::spec::{Effect, Example, Flag, Group, MESH, Verb};
use crate::client::events::{self, Item, Lost};
use crate::client::{self, Client, host};
use crate::wire::event::Event;
use crate::wire::topic::{TopicHistory, TopicMessage};

use super::inbox_follow::{is_passing, say_lost};
use super::refusal::explain;
use super::topic::{TOPIC, about, line, name, row};

/// What was said last that is shown first, if nothing else is said.
const FIRST: u32 = 20;

/// Messages of one look at the history: more of them between two looks are left out, which is said.
const PAGE: u32 = 100;

const LIMIT: Flag = Flag::valued("--limit", "N", "First so many of what was said last, 0 to 100; default 20.");

pub(in crate::cli) const TAIL: Verb = Verb {
    long: "It only looks: what comes stays unread in the inbox. What the session that runs it says itself is shown with what comes \
           next. With --json each message is one object on a line. It ends with status 0 when it is told to end or when nobody reads \
           its output any more.",
    operands: &[TOPIC],
    flags: &[MESH, LIMIT],
    examples: &[Example { command: "claudemesh topic tail deploys", about: "until ended" }],
    ..Verb::new(Group::Shared, Effect::Read, "topic tail", "Show what is said in a topic as it comes.", tail)
};

fn tail(parsed: &Parsed, out: &mut Out) -> Result<Exit, CliError> {
    let client = warm(out)?;
    let refused = |err| explain(err, &about(parsed)).or_list("claudemesh topic list");
    let first = parsed.number(&LIMIT, 0..=PAGE)?.unwrap_or(FIRST);
    let mesh = parsed.value(&MESH);
    let page = client.topic_history(&ask(name(parsed)), mesh).map_err(refused)?;
    let mut tail = Tail { client: &client, topic: name(parsed), mesh: page.mesh, seen: BTreeSet::new(), lost: false };
    tail.show(&page.row.messages, usize::try_from(first).unwrap_or(0), out)?;
    let topics = client.topics(Some(tail.mesh.as_str())).map_err(refused)?.row.topics;
    if topics.iter().any(|topic| topic.name == tail.topic && topic.role.is_none() && topics.iter().any(|any| any.role.is_some()))
    {
        let topic = tail.topic;
        out.remark(&format!(
            "info you are not in #{topic}: it is shown when something else comes; claudemesh topic join {topic}"
        ))?;
    }
    tail.follow(out)?;
    Ok(Exit::Success)
}

fn ask(topic: &str) -> TopicHistory {
    TopicHistory { topic: topic.to_owned(), limit: Some(PAGE), before_id: None, req_id: None }
}

struct Tail<'a> {
    client: &'a Client,
    topic: &'a str,
    mesh: Slug,
    /// What the last look at the history found.
    seen: BTreeSet<String>,
    /// The daemon is away, and that was said.
    lost: bool,
}

impl Tail<'_> {
    fn follow(&mut self, out: &mut Out) -> Result<(), CliError> {
        let (events, stop) = events::subscribe(self.client, None);
        let _watch = host::on_end(move || stop.stop()).map_err(|err| CliError::io("signals can not be watched", err))?;
        for item in events {
            match item {
                Item::Connected => self.look(out)?,
                Item::Event { event, .. } => {
                    if let Event::Message(message) = *event
                        && message.topic.is_some()
                    {
                        self.look(out)?;
                    }
                }
                Item::Lost(Lost::Failed(err @ client::Error::Refused { status: 401, .. })) => return Err(err.into()),
                Item::Lost(lost) if !std::mem::replace(&mut self.lost, true) => say_lost(&lost, out)?,
                Item::Lost(_) => {}
            }
        }
        Ok(())
    }

    /// Shows what was said since the last look.
    fn look(&mut self, out: &mut Out) -> Result<(), CliError> {
        match self.client.topic_history(&ask(self.topic), Some(self.mesh.as_str())) {
            Ok(page) => {
                self.lost = false;
                self.show(&page.row.messages, usize::MAX, out)
            }
            // The stream notices as well, and there is a next time.
            Err(err) if is_passing(&err) => Ok(()),
            Err(err) => Err(explain(err, &format!("topic \"#{}\"", self.topic))),
        }
    }

    /// Shows those of a page, the latest first in it, that were not there before; of those the last `most`.
    fn show(&mut self, page: &[TopicMessage], most: usize, out: &mut Out) -> Result<(), CliError> {
        let fresh: Vec<&TopicMessage> = page.iter().filter(|message| !self.seen.contains(&message.id)).take(most).collect();
        if !self.seen.is_empty() && PAGE as usize <= fresh.len() {
            out.remark(&format!("info there was more before this: claudemesh topic history {}", self.topic))?;
        }
        for message in fresh.iter().rev() {
            if out.is_json() { out.json(&row(message))? } else { line(message, out)? }
        }
        self.seen = page.iter().map(|message| message.id.clone()).collect();
        out.flush()
    }
}
