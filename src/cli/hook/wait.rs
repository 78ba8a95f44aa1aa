//! The hook that waits beside an idle session, and ends when there is mail for it: then the client wakes the session.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::process::parent_id;
use std::path::Path;
use std::time::Duration;

use crate::base::backoff::Backoff;
use crate::base::time::now_millis;
use crate::client::{Client, Error, spawn};
use crate::crypto::random;
use crate::wire::ipc::{Claim, Path as DeliveryPath};
use crate::wire::json::{self, Value};
use crate::wire::peer::Status;

use super::frame::{ROOM, frame};
use super::session::{self, Unregistered};
use super::{Hook, TURN, settle};

/// What a waiting hook ends with so that the client wakes its session with what stands on standard error.
pub(super) const WAKE: u8 = 2;

/// One wait for mail; the next follows. A waiter whose client was killed is left over no longer than this.
const WAIT: Duration = Duration::from_secs(20);

/// The same beside a session that works: when a person interrupts a turn, its client tells no hook.
const LOOK: Duration = Duration::from_secs(4);

/// How much of the end of a transcript is looked at: more than the line that says so has.
const TAIL: u64 = 8 * 1024;

/// What the client writes down as said by its user when a turn was interrupted.
const INTERRUPTED: &str = "[Request interrupted by user";

/// Names under which a client runs.
const CLIENTS: [&str; 3] = ["claude", "node", "bun"];

/// Between attempts to reach a daemon that is away.
const RETRY_FROM: Duration = Duration::from_millis(100);
const RETRY_TO: Duration = Duration::from_secs(3);

/// By then the hook that runs beside this one at the end of a turn has taken what is urgent, and said how the turn ended.
const SETTLED: Duration = TURN.saturating_mul(2);

/// What one wait came to.
enum Waited {
    /// The hook is done, with this status.
    Done(u8),
    /// Nothing came.
    Nothing { working: bool },
    /// There is no daemon to wait with, or it does not know the session yet.
    Away,
}

impl Hook<'_> {
    pub(super) fn wait(&self) -> u8 {
        if !session::stays() {
            return 0;
        }
        // A session that starts may start a daemon. Later it is only waited for: somebody may have stopped it on purpose.
        match self.input.event.as_deref() {
            Some("Stop" | "UserPromptSubmit") => pause(SETTLED),
            Some("SessionStart") => drop(spawn::ensure(self.paths)),
            _ => {}
        }
        let mut backoff = Backoff::new(RETRY_FROM, RETRY_TO);
        let mut round = LOOK;
        // Whoever is taken over by another process has lost its client.
        while parent_id() == self.parent && !is_orphan(self.parent) {
            match self.wait_once(round) {
                Waited::Done(code) => return code,
                Waited::Nothing { working } => {
                    backoff.reset();
                    round = if working { LOOK } else { WAIT };
                    if working && self.input.transcript.as_deref().is_some_and(was_interrupted) {
                        self.is_idle();
                    }
                }
                Waited::Away => pause(backoff.next(random::unit_f64())),
            }
        }
        0
    }

    fn is_idle(&self) {
        let client = Client::new(self.paths).with_token(self.token()).with_deadline(LOOK);
        // A daemon that is away hears it after the next look.
        let _ = client.set_status(Status::Idle);
    }

    fn wait_once(&self, round: Duration) -> Waited {
        let client = Client::new(self.paths);
        let known = session::known(self.paths, &self.input);
        let token = match known.map_or_else(|| session::register(&client, self.paths, &self.input), Ok) {
            Ok(token) => token,
            Err(Unregistered::Failed) => return Waited::Away,
            Err(Unregistered::No | Unregistered::Several(_)) => return Waited::Done(0),
        };
        let client = client.with_token(Some(token));
        let claim = Claim { wait_ms: u64::try_from(round.as_millis()).ok(), ..Claim::of(DeliveryPath::Wake) };
        let claimed = match client.claim(&claim) {
            Ok(claimed) if claimed.displaced => return Waited::Done(0),
            Ok(claimed) if claimed.items.is_empty() => return Waited::Nothing { working: claimed.working },
            Ok(claimed) => claimed,
            // A daemon that lost its sessions; one that `launch` began is not this hook's to begin anew.
            Err(Error::Refused { status: 401, .. }) if !session::is_launched(&self.input) => {
                return match session::register(&client, self.paths, &self.input) {
                    Ok(_) | Err(Unregistered::Failed) => Waited::Away,
                    Err(Unregistered::No | Unregistered::Several(_)) => Waited::Done(0),
                };
            }
            // 429 is a daemon with too many guests.
            Err(Error::Refused { status, .. }) if status < 500 && status != 429 => return Waited::Done(0),
            Err(_) => return Waited::Away,
        };
        let framed = frame(&claimed, now_millis(), ROOM);
        let mut err = io::stderr().lock();
        let written = err.write_all(framed.text.as_bytes()).and_then(|()| err.flush()).is_ok();
        settle(&client, DeliveryPath::Wake, &claimed.items, if written { framed.shown } else { 0 });
        Waited::Done(if written { WAKE } else { 0 })
    }
}

/// Whether the client ended before its hook came to look: the first process takes over whoever is left alone. In a container it
/// may be the client itself.
fn is_orphan(parent: u32) -> bool {
    let is_client = || std::fs::read_to_string("/proc/1/comm").is_ok_and(|name| CLIENTS.contains(&name.trim()));
    parent == 1 && !is_client()
}

/// Whether the last that was said in a transcript is that the turn was interrupted.
fn was_interrupted(transcript: &Path) -> bool {
    let tail = || {
        let mut file = File::open(transcript)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
        let mut bytes = Vec::new();
        file.take(TAIL).read_to_end(&mut bytes)?;
        io::Result::Ok(bytes)
    };
    let bytes = tail().unwrap_or_default();
    let last = bytes.split(|byte| *byte == b'\n').rfind(|line| !line.is_empty()).unwrap_or_default();
    let Ok(said) = json::decode::<Value>(last) else { return false };
    let text = said["message"]["content"][0]["text"].as_str().or_else(|| said["message"]["content"].as_str());
    said["type"] == "user" && text.is_some_and(|text| text.starts_with(INTERRUPTED))
}

fn pause(time: Duration) {
    // It can not be disconnected: it fires once.
    let _ = crossbeam_channel::after(time).recv();
}

#[cfg(test)]
mod tests {
    use tempfile::tempdir;

    use super::*;

    #[test]
    fn a_transcript_says_that_a_turn_was_interrupted() {
        let dir = tempdir().unwrap();
        let path = dir.path().join("transcript");
        let user = |text: &str| json::json!({ "type": "user", "message": { "content": [{ "type": "text", "text": text }] } });
        let interrupted = user("[Request interrupted by user for tool use]").to_string();
        let long = user(&"x".repeat(20_000)).to_string();
        for (text, expected) in [
            (interrupted.clone(), true),
            (format!("{long}\n{interrupted}\n\n"), true),
            (format!("{interrupted}\n{long}\n"), false),
            (user("he wrote [Request interrupted by user]").to_string(), false),
            (interrupted.replace("\"user\"", "\"assistant\""), false),
            (String::new(), false),
            ("{".to_owned(), false),
        ] {
            std::fs::write(&path, &text).unwrap();
            assert_eq!(was_interrupted(&path), expected, "{:.60}", text);
        }
        std::fs::remove_file(&path).unwrap();
        assert!(!was_interrupted(&path));
    }
}
