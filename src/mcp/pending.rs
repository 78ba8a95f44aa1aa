//! Requests that wait for the daemon, and the batches they came in. A pure state.

use std::collections::HashMap;

use crate::wire::json::Value;
use crate::wire::rpc::{Failure, Outgoing};

/// Names a request among those that wait. The client's own ids may come twice.
pub(super) type Ticket = u64;

/// Names a batch among those that are not answered yet.
pub(super) type BatchId = u64;

/// What is to be written now.
#[derive(Debug)]
pub(super) enum Due {
    Nothing,
    One(Outgoing),
    Batch(Vec<Outgoing>),
}

#[derive(Debug, Default)]
pub(super) struct Pending {
    waiting: HashMap<Ticket, Waiting>,
    batches: HashMap<BatchId, Batch>,
    next: u64,
}

#[derive(Debug)]
struct Waiting {
    id: Value,
    batch: Option<BatchId>,
}

#[derive(Debug, Default)]
struct Batch {
    /// Its requests that have no answer yet.
    open: usize,
    /// All of its requests were looked at.
    whole: bool,
    replies: Vec<Outgoing>,
}

impl Pending {
    /// Begins to gather the answers to one batch.
    pub(super) fn batch(&mut self) -> BatchId {
        let id = self.name();
        self.batches.insert(id, Batch::default());
        id
    }

    /// A request that will be answered later.
    pub(super) fn wait(&mut self, id: Value, batch: Option<BatchId>) -> Ticket {
        let ticket = self.name();
        if let Some(batch) = batch.and_then(|batch| self.batches.get_mut(&batch)) {
            batch.open += 1;
        }
        self.waiting.insert(ticket, Waiting { id, batch });
        ticket
    }

    /// An answer that is there at once, to a request of this batch.
    pub(super) fn gather(&mut self, batch: BatchId, reply: Outgoing) {
        if let Some(batch) = self.batches.get_mut(&batch) {
            batch.replies.push(reply);
        }
    }

    /// Every request of the batch was looked at.
    pub(super) fn close(&mut self, batch: BatchId) -> Due {
        if let Some(gathering) = self.batches.get_mut(&batch) {
            gathering.whole = true;
        }
        self.due(Some(batch))
    }

    pub(super) fn answered(&mut self, ticket: Ticket, result: Result<Value, Failure>) -> Due {
        // One that was cancelled is not answered.
        let Some(Waiting { id, batch }) = self.waiting.remove(&ticket) else { return Due::Nothing };
        let reply = match result {
            Ok(result) => Outgoing::reply(id, result),
            Err(failure) => Outgoing::failed(id, failure),
        };
        match batch.and_then(|id| self.batches.get_mut(&id)) {
            Some(gathering) => {
                gathering.open -= 1;
                gathering.replies.push(reply);
                self.due(batch)
            }
            None => Due::One(reply),
        }
    }

    /// The client wants no answer to this request any more.
    pub(super) fn cancel(&mut self, id: &Value) -> Due {
        let Some(ticket) = self.waiting.iter().find(|(_, waiting)| waiting.id == *id).map(|(ticket, _)| *ticket) else {
            return Due::Nothing;
        };
        let batch = self.waiting.remove(&ticket).and_then(|waiting| waiting.batch);
        if let Some(gathering) = batch.and_then(|id| self.batches.get_mut(&id)) {
            gathering.open -= 1;
        }
        self.due(batch)
    }

    fn due(&mut self, batch: Option<BatchId>) -> Due {
        let is_due = |id: &BatchId| self.batches.get(id).is_some_and(|batch| batch.whole && batch.open == 0);
        let Some(id) = batch.filter(is_due) else { return Due::Nothing };
        match self.batches.remove(&id) {
            // Notifications alone have no answer.
            Some(batch) if !batch.replies.is_empty() => Due::Batch(batch.replies),
            _ => Due::Nothing,
        }
    }

    fn name(&mut self) -> u64 {
        self.next += 1;
        self.next
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::json::{encode, json};

    fn written(due: Due) -> String {
        match due {
            Due::Nothing => String::new(),
            Due::One(reply) => encode(&reply),
            Due::Batch(replies) => encode(&replies),
        }
    }

    #[test]
    fn one_is_answered_once_and_not_when_it_was_cancelled() {
        let mut pending = Pending::default();
        let (first, second) = (pending.wait(json!(1), None), pending.wait(json!("b"), None));
        assert_eq!(written(pending.answered(second, Ok(json!({})))), r#"{"jsonrpc":"2.0","id":"b","result":{}}"#);
        assert_eq!(written(pending.answered(second, Ok(json!({})))), "");
        assert_eq!(written(pending.cancel(&json!(1))), "");
        assert_eq!(written(pending.cancel(&json!(7))), "");
        assert_eq!(written(pending.answered(first, Ok(json!({})))), "");
        assert!(pending.waiting.is_empty());
    }

    #[test]
    fn a_batch_is_answered_as_one_when_its_last_answer_is_there() {
        let mut pending = Pending::default();
        let batch = pending.batch();
        let (first, second) = (pending.wait(json!(1), Some(batch)), pending.wait(json!(2), Some(batch)));
        pending.gather(batch, Outgoing::reply(json!(3), json!({})));
        assert_eq!(written(pending.close(batch)), "");
        assert_eq!(written(pending.cancel(&json!(1))), "");
        let whole = written(pending.answered(second, Err(Failure::new(-1, "no"))));
        assert!(
            whole.starts_with(r#"[{"jsonrpc":"2.0","id":3,"#) && whole.ends_with(r#""error":{"code":-1,"message":"no"}}]"#),
            "{whole}"
        );
        assert_eq!(written(pending.answered(first, Ok(json!({})))), "");
        let empty = pending.batch();
        assert_eq!(written(pending.close(empty)), "");
        assert!(pending.batches.is_empty());
    }
}
