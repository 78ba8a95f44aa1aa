//! The MCP server that a session runs beside itself (`claudemesh mcp`): newline-delimited JSON-RPC 2.0 on standard input and
//! output. It shows the session its mail as `notifications/claude/channel` and has no tools: answers go through the command
//! line.
//!
//! Five threads at most, each the owner of one wait: `stdin`, `stdout`, `events` (the daemon's stream), `receipts` (what was
//! shown is marked as seen) and the main loop, which never waits for the daemon. The last two start with the first mail
//! subscription, after `notifications/initialized`.
//!
//! SIGTERM keeps its default effect: nothing here needs an ending, since mail counts as seen only once it is written.

mod channel;
mod mail;
mod methods;
mod stdio;

#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Select, Sender, TrySendError, bounded, select};

use crate::base::exit::Exit;
use crate::base::ids::Token;
use crate::base::paths::Paths;
use crate::wire::event::Event;
use crate::wire::json;
use crate::wire::rpc::{INVALID_REQUEST, Outgoing, PARSE_ERROR};

use self::mail::Mail;
use self::methods::{Answer, Session};
use self::stdio::{Line, Out};

pub use self::mail::Start;
pub use self::stdio::{Connection, Far};

/// Lines that wait for the client to read them. When full, the main loop reads neither requests nor events: the client and
/// the daemon wait, and what the daemon holds is in the inbox.
const OUT_QUEUE: usize = 64;

/// After the end of input: for what is queued to be written and marked as seen.
const STOP_DEADLINE: Duration = Duration::from_millis(800);

/// Most requests in one batch.
const MAX_BATCH: usize = 1024;

/// What the shim works for.
#[derive(Debug)]
pub struct Options {
    pub paths: Paths,
    /// The session's token. Without one no mail is shown: it would be taken from the sessions that it is meant for.
    pub token: Option<Token>,
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
    let (written, receipts) = bounded::<String>(mail::RECEIPTS);
    let Ok(writer) = stdio::write_lines(connection.output, queue, written) else { return Exit::Internal };
    let mut server =
        Server { session: Session::new(options.token.is_some(), options.channels), options, out, ended, receipts, mail: None };
    server.serve(&lines, &writer.ended);
    let deadline = Instant::now() + STOP_DEADLINE;
    let Server { out, mail, receipts, .. } = server;
    drop((out, receipts));
    // What comes too late is left to itself: the process ends, and the mail is still unread.
    writer.running.join_by(deadline);
    if let Some(mail) = mail {
        mail.stop(deadline);
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
    receipts: Receiver<String>,
    mail: Option<Mail>,
}

/// The client is gone.
struct Gone;

impl Server {
    /// Until the input ends or the output breaks: either way the client is gone, and that is no failure.
    fn serve(&mut self, lines: &Receiver<Line>, broken: &Receiver<()>) {
        let never = crossbeam_channel::never();
        loop {
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
            Ok(message) => match self.on_message(message) {
                Some(reply) => self.write(&reply),
                None => Ok(()),
            },
            Err(err) => self.write(&Outgoing::failure(json::Value::Null, PARSE_ERROR, err.to_string())),
        }
    }

    /// Batches are part of the revisions before 2025-06-18.
    fn on_batch(&mut self, batch: Vec<json::Value>) -> Result<(), Gone> {
        if batch.is_empty() || MAX_BATCH < batch.len() {
            return self.write(&Outgoing::failure(json::Value::Null, INVALID_REQUEST, "an empty or very long batch"));
        }
        let replies: Vec<Outgoing> = batch.into_iter().filter_map(|message| self.on_message(message)).collect();
        if replies.is_empty() { Ok(()) } else { self.write(&replies) }
    }

    fn on_message(&mut self, message: json::Value) -> Option<Outgoing> {
        match self.session.answer(message) {
            Answer::Reply(reply) => Some(reply),
            Answer::Nothing => None,
            Answer::Ready => {
                self.start_mail();
                None
            }
        }
    }

    fn start_mail(&mut self) {
        let Some(token) = self.options.token.clone() else { return };
        if self.mail.is_some() || !self.options.channels {
            return;
        }
        let paths = self.options.paths.clone();
        match Mail::start(paths, token, self.options.start.clone(), self.receipts.clone()) {
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
