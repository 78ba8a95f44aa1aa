//! What happens within a turn: its prompt, its tools, its end.

use crate::base::time::now_millis;
use crate::wire::ipc::{Claim, Path, TurnEnd};
use crate::wire::json::json;
use crate::wire::peer::Status;

use super::Hook;
use super::frame::{self, ROOM, frame};

/// By this variable a user changes how often in a row the client lets its hooks hold up the end of a turn.
const MOST: &str = "CLAUDE_CODE_STOP_HOOK_BLOCK_CAP";

/// How often it does so without it.
const USUAL_MOST: u32 = 8;

impl Hook<'_> {
    pub(super) fn prompt(&self) -> Option<()> {
        let token = self.token()?;
        // Where it was mail that woke the session, no person is there.
        if self.input.is_prompted {
            let claimed = self.claim(token.clone(), &Claim::of(Path::Prompt));
            if !claimed.items.is_empty() {
                let framed = frame(&claimed, now_millis(), ROOM);
                let answer = frame::context("UserPromptSubmit", &framed.text);
                self.show(token.clone(), Path::Prompt, &claimed.items, framed.shown, &answer);
            }
        }
        self.set_status(token, Status::Working);
        Some(())
    }

    pub(super) fn tool(&self, event: &str) -> Option<()> {
        let token = self.token()?;
        let claimed = self.claim(token.clone(), &Claim::of(Path::ToolUse));
        if !claimed.items.is_empty() {
            let framed = frame(&claimed, now_millis(), ROOM);
            self.show(token, Path::ToolUse, &claimed.items, framed.shown, &frame::context(event, &framed.text));
        }
        Some(())
    }

    /// Urgent mail makes the turn go on; everything else waits beside the idle session.
    pub(super) fn stop(&self) -> Option<()> {
        let token = self.token()?;
        let turn = TurnEnd { held: self.input.is_held, most: most(std::env::var(MOST).ok().as_deref()) };
        let claimed = self.claim(token.clone(), &Claim { turn: Some(turn), ..Claim::of(Path::Stop) });
        if !claimed.items.is_empty() {
            let framed = frame(&claimed, now_millis(), ROOM);
            let answer = json!({ "decision": "block", "reason": framed.text });
            self.show(token.clone(), Path::Stop, &claimed.items, framed.shown, &answer);
        }
        self.set_status(token, if claimed.items.is_empty() { Status::Idle } else { Status::Working });
        Some(())
    }
}

/// How often in a row the end of a turn may be held up; `None` for ever. As the client reads it: what is no number says nothing.
fn most(said: Option<&str>) -> Option<u32> {
    match said.and_then(|said| said.trim().parse::<i64>().ok()) {
        None => Some(USUAL_MOST),
        Some(most) => u32::try_from(most).ok().filter(|most| *most != 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clients_limit() {
        for (said, expected) in
            [(None, Some(8)), (Some("x"), Some(8)), (Some("3"), Some(3)), (Some("0"), None), (Some("-1"), None)]
        {
            assert_eq!(most(said), expected, "{said:?}");
        }
    }
}
