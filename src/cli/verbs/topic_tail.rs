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
use crate::wire::ipc::LinkStatus;
use crate::wire::topic::{TopicHistory, TopicMessage};

use super::inbox_follow::{is_passing, say_lost};
use super::refusal::explain;
use super::topic::{TOPIC, about, line, name, row};

/// What was said last that is shown first, if nothing else is said.
const FIRST: u32 = 20;

/// Messages of one page of the history.
const PAGE: u32 = 100;

/// Pages that one look goes back: what was said before them since the last look is left out, which is said.
const MOST_PAGES: usize = 20;

/// Messages of which it is remembered that they were shown, beside those of one look.
const MOST_SEEN: usize = 2_000;

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
    let page = client.topic_history(&ask(name(parsed), None), mesh).map_err(refused)?;
    let mut tail = Tail { client: &client, topic: name(parsed), mesh: page.mesh, seen: BTreeSet::new(), lost: false };
    tail.seen = ids(&page.row.messages);
    tail.show(page.row.messages.iter().take(usize::try_from(first).unwrap_or(0)), out)?;
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

fn ask(topic: &str, before: Option<String>) -> TopicHistory {
    TopicHistory { topic: topic.to_owned(), limit: Some(PAGE), before_id: before, req_id: None }
}

fn ids(page: &[TopicMessage]) -> BTreeSet<String> {
    page.iter().map(|message| message.id.clone()).collect()
}

struct Tail<'a> {
    client: &'a Client,
    topic: &'a str,
    mesh: Slug,
    /// What looks at the history found, the latest page at least.
    seen: BTreeSet<String>,
    /// The daemon is away, and that was said.
    lost: bool,
}

/// What was said since the last look, the latest first.
#[derive(Default)]
struct Fresh {
    messages: Vec<TopicMessage>,
    /// All that this look found.
    seen: BTreeSet<String>,
    /// There was more before it.
    is_cut: bool,
}

impl Tail<'_> {
    fn follow(&mut self, out: &mut Out) -> Result<(), CliError> {
        let (events, stop) = events::subscribe(self.client, None);
        let _watch = host::on_end(move || stop.stop()).map_err(|err| CliError::io("signals can not be watched", err))?;
        for item in events {
            match item {
                Item::Connected => self.look(out)?,
                Item::Event { event, .. } if self.is_news(&event) => self.look(out)?,
                Item::Event { .. } => {}
                Item::Lost(Lost::Failed(err @ client::Error::Refused { status: 401, .. })) => return Err(err.into()),
                Item::Lost(lost) if !std::mem::replace(&mut self.lost, true) => say_lost(&lost, out)?,
                Item::Lost(_) => {}
            }
        }
        Ok(())
    }

    /// Whether something may have been said that was not shown. What came in together was shown with the first of it; while the
    /// broker was away nothing could be asked.
    fn is_news(&self, event: &Event) -> bool {
        match event {
            Event::Message(message) => {
                let is_seen = message.broker_message_id.as_ref().is_some_and(|id| self.seen.contains(id.as_str()));
                message.topic.is_some() && message.mesh == self.mesh && !is_seen
            }
            Event::BrokerStatus(now) => now.mesh == self.mesh && now.status == LinkStatus::Open,
            _ => false,
        }
    }

    /// Shows what was said since the last look.
    fn look(&mut self, out: &mut Out) -> Result<(), CliError> {
        let fresh = match self.fresh() {
            Ok(fresh) => fresh,
            // The stream notices as well, and there is a next time.
            Err(err) if is_passing(&err) => return Ok(()),
            Err(err) => return Err(explain(err, &format!("topic \"#{}\"", self.topic))),
        };
        self.lost = false;
        if MOST_SEEN < self.seen.len() {
            self.seen.clear();
        }
        self.seen.extend(fresh.seen);
        if fresh.is_cut {
            out.remark(&format!("info there was more before this: claudemesh topic history {}", self.topic))?;
        }
        self.show(fresh.messages.iter(), out)
    }

    /// Goes back to what the last look found.
    fn fresh(&self) -> Result<Fresh, client::Error> {
        let mut fresh = Fresh::default();
        for _ in 0..MOST_PAGES {
            let before = fresh.messages.last().map(|message| message.id.clone());
            let page = self.client.topic_history(&ask(self.topic, before), Some(self.mesh.as_str()))?.row;
            let whole = page.messages.len() < PAGE as usize && !page.truncated;
            // What stands behind something that was shown is older.
            let known = page.messages.iter().rposition(|message| self.seen.contains(&message.id));
            fresh.seen.extend(ids(&page.messages));
            let is_end = page.messages.is_empty() || known.is_some() || whole;
            let news = page.messages.into_iter().take(known.unwrap_or(usize::MAX));
            fresh.messages.extend(news.filter(|message| !self.seen.contains(&message.id)));
            if is_end {
                return Ok(fresh);
            }
        }
        fresh.is_cut = true;
        Ok(fresh)
    }

    /// Shows messages that are given the latest first.
    fn show<'m>(&self, latest_first: impl DoubleEndedIterator<Item = &'m TopicMessage>, out: &mut Out) -> Result<(), CliError> {
        for message in latest_first.rev() {
            if out.is_json() { out.json(&row(message))? } else { line(message, out)? }
        }
        out.flush()
    }
}
