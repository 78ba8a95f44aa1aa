//! What a broker does for each kind of frame. No function here sees JSON or a socket.

mod admin;
mod apikey;
pub(super) mod caps;
pub(super) mod events;
pub(super) mod families;
mod fanout;
mod grant;
pub(super) mod keys;
pub(super) mod mailbox;
mod memory;
pub(super) mod presence;
pub(super) mod receipts;
pub(super) mod schedule;
pub(super) mod send;
mod skill;
mod state;
mod status;
mod task;
pub(super) mod topic;

use serde::Serialize;

use crate::broker::Shared;
use crate::broker::conn::error;
use crate::broker::limits::MAX_LISTING;
use crate::net::ws::Outbox;
use crate::store;
use crate::store::hub::Outcome;
use crate::wire::code::Code;
use crate::wire::json;

/// Takes what the database answered, or tells the peer why there is nothing.
fn found<T>(shared: &Shared, result: Result<T, store::Error>, req_id: Option<&String>, out: &mut Outbox) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(err) => {
            log::error!("hub: {err}");
            shared.store_failed(&err);
            error(out, Code::Unavailable, "the broker can not use its database now", None, req_id.cloned());
            None
        }
    }
}

/// Whether a change was made; if not, the peer is told why.
fn made(outcome: Outcome, what: &str, req_id: Option<&String>, out: &mut Outbox) -> bool {
    let (code, text) = match outcome {
        Outcome::Done => return true,
        Outcome::NotFound => (Code::NotFound, format!("there is no such {what}")),
        Outcome::Forbidden => (Code::Forbidden, format!("this {what} is another member's")),
        Outcome::Full => (Code::Capacity, format!("this mesh can not keep another {what}")),
    };
    error(out, code, &text, None, req_id.cloned());
    false
}

/// As many of these, from the first on, as one answer can carry, and whether there were more. What counts is how long they
/// are when they are written out: a character may become six.
pub(in crate::broker) fn fitting<T: Serialize>(all: impl IntoIterator<Item = T>) -> (Vec<T>, bool) {
    let mut room = MAX_LISTING;
    let mut truncated = false;
    let fits = |one: &T| {
        let bytes = json::encode(one).len() + 1;
        truncated = room < bytes;
        room = room.saturating_sub(bytes);
        !truncated
    };
    let fitting = all.into_iter().take_while(fits).collect();
    (fitting, truncated)
}

/// A text of a peer that is within its bounds; if not, the peer is told.
fn fits(what: &str, text: &str, most: usize, req_id: Option<&String>, out: &mut Outbox) -> bool {
    let fits = !text.is_empty() && text.len() <= most;
    if !fits {
        error(out, Code::Invalid, &format!("{what} must have 1 to {most} bytes"), None, req_id.cloned());
    }
    fits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_carries_what_fits_as_it_is_written_out() {
        assert_eq!(fitting(["a", "b"]), (vec!["a", "b"], false));
        assert_eq!(fitting(Vec::<String>::new()), (vec![], false));
        // Each of these is six characters when it is written out.
        let loud = "\u{1}".repeat(100_000);
        let (some, truncated) = fitting(vec![&loud; 10]);
        assert_eq!((some.len(), truncated), (5, true));
        assert!(json::encode(&some).len() <= MAX_LISTING);
        assert_eq!(fitting(["x".repeat(MAX_LISTING)]), (vec![], true));
    }
}
