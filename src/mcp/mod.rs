//! The MCP server that a session runs beside itself (`claudemesh mcp`): newline-delimited JSON-RPC 2.0 on standard input and
//! output. It shows the session its mail as `notifications/claude/channel`, the skills of its mesh as prompts and resources, and
//! has no tools: answers go through the command line.
//!
//! Six threads at most, each the owner of one wait: `stdin`, `stdout`, `events` (the daemon's stream), `receipts` (what was
//! shown is marked as seen), `skills` (what only the daemon can answer) and the main loop, which never waits for the daemon.
//! `events` and `receipts` start with the first mail subscription, after `notifications/initialized`; `skills`, and `events`
//! if nobody follows yet, with the first request for prompts or resources.
//!
//! SIGTERM keeps its default effect: nothing here needs an ending, since mail counts as seen only once it is written.

mod channel;
mod mail;
mod methods;
mod pending;
mod skill_text;
mod skills;
mod stdio;

#[cfg(test)]
mod skill_tests;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Select, Sender, TrySendError, bounded, select};

use crate::base::exit::Exit;
use crate::base::ids::Token;
use crate::base::paths::Paths;
use crate::wire::event::Event;
use crate::wire::json;
use crate::wire::rpc::{Failure, INTERNAL_ERROR, INVALID_REQUEST, Outgoing, PARSE_ERROR};

use self::mail::{Mail, Wants};
use self::methods::{Answer, Session};
use self::pending::{BatchId, Due, Pending};
use self::skills::{Job, News, Question, Skills, Source};
use self::stdio::{Line, Out, Told};

pub use self::mail::Start;
pub use self::stdio::{Connection, Far};

/// Lines that wait for the client to read them. When full, the main loop reads neither requests nor events: the client and
/// the daemon wait, and what the daemon holds is in the inbox.
const OUT_QUEUE: usize = 64;

/// After the end of input: for what is queued to be written and marked as seen.
const STOP_DEADLINE: Duration = Duration::from_millis(800);

/// Most requests in one batch.
const MAX_BATCH: usize = 1024;

/// What tells a client to list again.
const CHANGED: [&str; 2] = ["notifications/prompts/list_changed", "notifications/resources/list_changed"];

/// What the shim works for.
#[derive(Debug)]
pub struct Options {
    pub paths: Paths,
    /// The session's token. Without one no mail is shown: it would be taken from the sessions that it is meant for.
    pub token: Option<Token>,
    /// The file in which a session's token will stand that registers itself once its client runs: for its skills, while its
    /// mail is its hooks' to show.
    pub own: Option<PathBuf>,
    /// The mesh whose skills are shown where there is no session.
    pub mesh: Option<String>,
    /// What to do when no daemon answers at the start.
    pub start: Start,
    /// Whether the client shows channel notifications. It never says so, and drops them without a word where they are off:
    /// then mail is left to the hooks.
    pub channels: bool,
}

/// Serves one client until its input ends or its output breaks.
pub fn run(connection: Connection, options: Options) -> Exit {
    let (lines_in, lines) = bounded::<Line>(0);
    let Ok(ended) = stdio::read_lines(connection.input, lines_in) else { return Exit::Internal };
    let (out, queue) = bounded::<Out>(OUT_QUEUE);
    let (told, receipts) = bounded::<Told>(mail::RECEIPTS);
    let Ok(writer) = stdio::write_lines(connection.output, queue, told) else { return Exit::Internal };
    let by_hooks = options.token.is_none() && options.own.is_some();
    let session = Session::new(options.token.is_some(), options.channels && !by_hooks);
    let mut server =
        Server { session, options, out, ended, receipts, mail: None, skills: None, pending: Pending::default(), compare: false };
    server.serve(&lines, &writer.ended);
    let deadline = Instant::now() + STOP_DEADLINE;
    let Server { out, mail, skills, receipts, .. } = server;
    drop((out, receipts));
    // What comes too late is left to itself: the process ends, and the mail is still unread. What was claimed and not written
    // is given back by the threads of the mail.
    writer.running.join_by(deadline);
    if let Some(mail) = mail {
        mail.stop(deadline);
    }
    if let Some(skills) = skills {
        skills.stop(deadline);
    }
    Exit::Success
}

struct Server {
    session: Session,
    options: Options,
    out: Sender<Out>,
    /// Disconnected once the input has ended.
    ended: Receiver<()>,
    /// Kept for the thread that takes them, which starts with the mail.
    receipts: Receiver<Told>,
    mail: Option<Mail>,
    skills: Option<Skills>,
    pending: Pending,
    /// The skills are to be looked at once there is room for another question.
    compare: bool,
}

/// The client is gone.
struct Gone;

impl Server {
    /// Until the input ends or the output breaks: either way the client is gone, and that is no failure.
    fn serve(&mut self, lines: &Receiver<Line>, broken: &Receiver<()>) {
        let never = crossbeam_channel::never();
        let no_news = crossbeam_channel::never();
        loop {
            let news = self.skills.as_ref().map_or(&no_news, Skills::news);
            let events = self.mail.as_ref().map_or(&never, Mail::events);
            let done = select! {
                recv(lines) -> line => match line {
                    Ok(line) => self.on_line(line),
                    Err(_) => Err(Gone),
                },
                recv(broken) -> _ => Err(Gone),
                recv(events) -> event => match event {
                    Ok(offer) => self.on_offer(&offer),
                    // A session that the daemon no longer knows gets no more mail; its requests are still answered.
                    Err(_) => {
                        self.mail = None;
                        Ok(())
                    }
                },
                recv(news) -> news => match news {
                    Ok(news) => self.on_news(news),
                    Err(_) => {
                        self.skills = None;
                        Ok(())
                    }
                },
            };
            if done.is_err() {
                return;
            }
        }
    }

    fn on_line(&mut self, line: Line) -> Result<(), Gone> {
        let bytes = match line {
            Line::Whole(bytes) => bytes,
            Line::TooLong => {
                return self.write(&Outgoing::failure(json::Value::Null, INVALID_REQUEST, "the line is too long"));
            }
        };
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Ok(());
        }
        match json::decode::<json::Value>(&bytes) {
            Ok(json::Value::Array(batch)) => self.on_batch(batch),
            Ok(message) => self.on_message(message, None),
            Err(err) => self.write(&Outgoing::failure(json::Value::Null, PARSE_ERROR, err.to_string())),
        }
    }

    /// One line with several messages. They are answered in one line, too, once all answers are there.
    fn on_batch(&mut self, batch: Vec<json::Value>) -> Result<(), Gone> {
        let refused = if !self.session.takes_batches() {
            Some("the revision agreed on has no batches")
        } else if batch.is_empty() || MAX_BATCH < batch.len() {
            Some("an empty or very long batch")
        } else {
            None
        };
        if let Some(why) = refused {
            return self.write(&Outgoing::failure(json::Value::Null, INVALID_REQUEST, why));
        }
        let id = self.pending.batch();
        for message in batch {
            self.on_message(message, Some(id))?;
        }
        let due = self.pending.close(id);
        self.write_due(due)
    }

    fn on_message(&mut self, message: json::Value, batch: Option<BatchId>) -> Result<(), Gone> {
        match (self.session.answer(message), batch) {
            (Answer::Reply(reply), None) => self.write(&reply),
            (Answer::Reply(reply), Some(batch)) => {
                self.pending.gather(batch, reply);
                Ok(())
            }
            (Answer::Ask(id, question), batch) => self.ask(id, question, batch),
            (Answer::Cancel(id), _) => {
                let due = self.pending.cancel(&id);
                self.write_due(due)
            }
            (Answer::Ready, _) => {
                self.start_mail();
                Ok(())
            }
            (Answer::Nothing, _) => Ok(()),
        }
    }

    /// Leaves a question to the thread that waits for the daemon.
    fn ask(&mut self, id: json::Value, question: Question, batch: Option<BatchId>) -> Result<(), Gone> {
        self.follow_skills();
        let ticket = self.pending.wait(id, batch);
        let job = Job::Answer { ticket, question, asked: Instant::now() };
        if self.skills.as_ref().is_some_and(|skills| skills.tell(job)) {
            return Ok(());
        }
        let due = self.pending.answered(ticket, Err(Failure::new(INTERNAL_ERROR, "too many requests at once")));
        self.write_due(due)
    }

    fn source(&self) -> Source {
        let Options { paths, token, own, mesh, .. } = &self.options;
        Source { paths: paths.clone(), token: token.clone(), own: own.clone(), mesh: mesh.clone() }
    }

    /// Whoever has asked for skills is told when they change.
    fn follow_skills(&mut self) {
        if self.skills.is_none() {
            match Skills::start(self.source()) {
                Ok(skills) => self.skills = Some(skills),
                Err(err) => log::error!("skills cannot be fetched: {err}"),
            }
        }
        let brings_mail = self.options.channels && self.options.token.is_some();
        if self.mail.is_some() || brings_mail {
            // The stream that brings mail tells of them as well.
            return;
        }
        let Some(token) = self.source().session() else { return };
        match Mail::start(self.options.paths.clone(), token, Start::Wait, Wants::Changes) {
            Ok(mail) => self.mail = Some(mail),
            Err(err) => log::error!("changes cannot be followed: {err}"),
        }
    }

    fn on_news(&mut self, news: News) -> Result<(), Gone> {
        match news {
            News::Answer(ticket, result) => {
                let due = self.pending.answered(ticket, result);
                self.write_due(due)?;
            }
            News::Changed if self.session.is_ready() => {
                for method in CHANGED {
                    self.write(&Outgoing::notification(method, json::json!({})))?;
                }
            }
            News::Changed => {}
            News::Registered => self.follow_skills(),
        }
        if self.compare {
            self.compare_skills();
        }
        Ok(())
    }

    fn compare_skills(&mut self) {
        self.compare = self.skills.as_ref().is_some_and(|skills| !skills.tell(Job::Compare));
    }

    fn write_due(&self, due: Due) -> Result<(), Gone> {
        match due {
            Due::Nothing => Ok(()),
            Due::One(reply) => self.write(&reply),
            Due::Batch(replies) => self.write(&replies),
        }
    }

    fn start_mail(&mut self) {
        let Some(token) = self.options.token.clone() else { return };
        if self.mail.is_some() || !self.options.channels {
            return;
        }
        let paths = self.options.paths.clone();
        match Mail::start(paths, token, self.options.start.clone(), Wants::Mail(self.receipts.clone())) {
            Ok(mail) => self.mail = Some(mail),
            Err(err) => log::error!("mail cannot be followed: {err}"),
        }
    }

    fn on_offer(&mut self, offer: &mail::Offer) -> Result<(), Gone> {
        let (event, row) = match offer {
            mail::Offer::Event(event) => {
                let row = if let Event::Message(message) = &**event { Some(message.id.clone()) } else { None };
                (event, row)
            }
            mail::Offer::Skills => {
                self.compare_skills();
                return Ok(());
            }
            // It was written before, and the daemon does not know yet.
            mail::Offer::Again(row) => return self.send(Out { line: None, row: Some(row.clone()) }),
        };
        match channel::render(event) {
            Some(params) => {
                let notification = Outgoing::notification(channel::METHOD, params);
                self.send(Out { line: Some(json::encode(&notification)), row })
            }
            None => Ok(()),
        }
    }

    fn write<T: serde::Serialize + ?Sized>(&self, message: &T) -> Result<(), Gone> {
        self.send(Out { line: Some(json::encode(message)), row: None })
    }

    fn send(&self, out: Out) -> Result<(), Gone> {
        let out = match self.out.try_send(out) {
            Ok(()) => return Ok(()),
            Err(TrySendError::Disconnected(_)) => return Err(Gone),
            Err(TrySendError::Full(out)) => out,
        };
        // A client that reads nothing may wait, but not one that has left.
        let mut select = Select::new();
        let room = select.send(&self.out);
        select.recv(&self.ended);
        let ready = select.select();
        if ready.index() == room {
            return ready.send(&self.out, out).map_err(|_| Gone);
        }
        // It can only be disconnected: nothing is sent on it.
        let _ = ready.recv(&self.ended);
        self.out.send_timeout(out, STOP_DEADLINE).map_err(|_| Gone)
    }
}
