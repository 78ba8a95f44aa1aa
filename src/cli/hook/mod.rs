//! The hooks of the client: by these a peer's message reaches a running model. Whatever goes wrong, a hook ends well and says
//! nothing: a session must not suffer from a daemon that is away.

pub(super) mod settings;

mod frame;
mod session;
mod start;
mod turn;
mod wait;

use std::io::{self, IsTerminal, Write};
use std::os::unix::process::parent_id;
use std::time::{Duration, Instant};

use crate::base::ids::Token;
use crate::base::paths::Paths;
use crate::client::Client;
use crate::wire::hook::HookInput;
use crate::wire::ipc::{Claim, Claimed, InboxItem, Path};
use crate::wire::json::{self, Value};
use crate::wire::peer::Status;

/// By this variable a user of a slow machine gives the hooks of a turn more milliseconds.
const PATIENCE: &str = "CLAUDEMESH_HOOK_MS";

/// More than this a turn never waits.
const MAX_PATIENCE: Duration = Duration::from_secs(10);

/// What a turn waits for a hook at most, unless the user says otherwise.
/// Ten less than 50: the process itself takes time, and clocks of the kernel tick as slowly.
const TURN: Duration = Duration::from_millis(40);

/// What of it a claim leaves for confirming what came.
const CONFIRM: Duration = Duration::from_millis(10);

/// What the start of a session waits at most: nobody has asked anything yet. Its end, too.
const START: Duration = Duration::from_millis(400);

/// An event of the client, by its own name; `Wait` is what waits for mail beside an idle session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    SessionStart,
    UserPromptSubmit,
    PostToolUse,
    PostToolBatch,
    Stop,
    StopFailure,
    Notification,
    SessionEnd,
    Wait,
    /// What the reference's hooks say.
    Status(Status),
}

impl Event {
    pub(super) fn parse(word: &str) -> Option<Event> {
        Some(match word {
            "SessionStart" => Event::SessionStart,
            "UserPromptSubmit" => Event::UserPromptSubmit,
            "PostToolUse" => Event::PostToolUse,
            "PostToolBatch" => Event::PostToolBatch,
            "Stop" => Event::Stop,
            "StopFailure" => Event::StopFailure,
            "Notification" => Event::Notification,
            "SessionEnd" => Event::SessionEnd,
            "Wait" => Event::Wait,
            "idle" => Event::Status(Status::Idle),
            "working" => Event::Status(Status::Working),
            "dnd" => Event::Status(Status::Dnd),
            _ => return None,
        })
    }

    /// How long the client may be kept waiting.
    fn within(self) -> Duration {
        match self {
            Event::SessionStart | Event::SessionEnd => START.max(turn()),
            _ => turn(),
        }
    }
}

/// What a turn waits for a hook.
fn turn() -> Duration {
    let said = std::env::var(PATIENCE).ok().and_then(|said| said.parse().ok()).map(Duration::from_millis);
    said.unwrap_or(TURN).min(MAX_PATIENCE)
}

/// Runs one hook: its exit status.
pub(super) fn run(event: Event, paths: &Paths) -> u8 {
    let end = Instant::now() + event.within();
    // Asked at once: a client that ends meanwhile leaves its hooks to another parent.
    let parent = parent_id();
    let input = session::read(io::stdin().lock());
    // A helper that the model started has no mail: it is the session's, and waits for its own turn.
    if input.is_helpers {
        return 0;
    }
    let hook = Hook { paths, input, end, parent };
    // Nothing to say is the usual case, and every trouble ends as nothing to say.
    match event {
        Event::SessionStart => hook.session_start().unwrap_or(()),
        Event::UserPromptSubmit => hook.prompt().unwrap_or(()),
        Event::PostToolUse => hook.tool("PostToolUse").unwrap_or(()),
        Event::PostToolBatch => hook.tool("PostToolBatch").unwrap_or(()),
        Event::Stop => hook.stop().unwrap_or(()),
        // The turn ended with an error, or the client has been idle for a while.
        Event::StopFailure | Event::Notification => hook.note(Status::Idle).unwrap_or(()),
        Event::SessionEnd => hook.session_end().unwrap_or(()),
        Event::Status(status) => hook.note(status).unwrap_or(()),
        Event::Wait => return hook.wait(),
    }
    0
}

/// The token of the session that the client speaks of on standard input.
pub(super) fn session_token(paths: &Paths) -> Option<Token> {
    let stdin = io::stdin();
    // At a terminal somebody looks, and nothing is said.
    let input = if stdin.is_terminal() { session::read(io::empty()) } else { session::read(stdin.lock()) };
    session::token(paths, &input)
}

struct Hook<'a> {
    paths: &'a Paths,
    input: HookInput,
    /// When the client has waited long enough.
    end: Instant,
    /// The process that started the hook.
    parent: u32,
}

impl Hook<'_> {
    /// The session this hook speaks for; `None` outside of any.
    fn token(&self) -> Option<Token> {
        session::token(self.paths, &self.input)
    }

    /// A client for that session, done when the hook must be.
    fn client(&self, token: Token) -> Client {
        Client::new(self.paths).with_token(Some(token)).with_end(self.end)
    }

    fn note(&self, status: Status) -> Option<()> {
        self.set_status(self.token()?, status);
        Some(())
    }

    fn set_status(&self, token: Token, status: Status) {
        // A daemon that is away has nobody to tell.
        let _ = self.client(token).set_status(status);
    }

    /// What waits for this path. A daemon that is away, or slower than a turn may wait, has nothing.
    fn claim(&self, token: Token, claim: &Claim) -> Claimed {
        self.client(token).with_end(self.end.checked_sub(CONFIRM).unwrap_or(self.end)).claim(claim).unwrap_or_default()
    }

    /// Says it to the client, and tells the daemon which of the messages were said.
    fn show(&self, token: Token, path: Path, items: &[InboxItem], shown: usize, answer: &Value) {
        let mut out = io::stdout().lock();
        let written = writeln!(out, "{}", json::encode(answer)).and_then(|()| out.flush()).is_ok();
        settle(&self.client(token), path, items, if written { shown } else { 0 });
    }
}

/// The first `shown` stand before the model, the others are given back. What the daemon can not be told now falls back with
/// its lease, and comes once more.
fn settle(client: &Client, path: Path, items: &[InboxItem], shown: usize) {
    let ids: Vec<String> = items.iter().map(|item| item.id.clone()).collect();
    let (shown, left) = ids.split_at(shown.min(ids.len()));
    if !shown.is_empty() {
        let _ = client.offered(path, shown);
    }
    if !left.is_empty() {
        let _ = client.unclaim(path, left);
    }
}
