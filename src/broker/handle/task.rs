//! Tasks: `create_task`, `claim_task`, `complete_task`, `list_tasks`.

use crate::base::names::neutralise_line;
use crate::base::time::now_millis;
use crate::broker::Shared;
use crate::broker::conn::{Seat, error};
use crate::crypto::random;
use crate::net::ws::Outbox;
use crate::store;
use crate::store::hub::TaskChanged;
use crate::wire::code::Code;
use crate::wire::server::{ErrorFrame, ServerFrame};
use crate::wire::task::{CreateTask, ListTasks, OnTask, Task, TaskCreated, TaskList};

use super::{fits, fitting, found};

/// Longest title, result and shorter text, in bytes.
const MAX_TITLE: usize = 512;
const MAX_RESULT: usize = 8 * 1024;
const MAX_WORD: usize = 64;

/// Tags of one task.
const MAX_TAGS: usize = 32;

/// Characters of an id that may stand for all of it.
const MIN_PREFIX: usize = 6;

pub(in crate::broker) fn create(shared: &Shared, seat: &Seat, ask: CreateTask, out: &mut Outbox) {
    let req_id = ask.req_id.as_ref();
    let title = neutralise_line(ask.title.trim());
    if !fits("title", &title, MAX_TITLE, req_id, out) {
        return;
    }
    let words = ask.tags.iter().chain(&ask.assignee).chain(&ask.priority);
    if MAX_TAGS < ask.tags.len() || words.into_iter().any(|word| MAX_WORD < word.len() || word.contains(char::is_control)) {
        return error(
            out,
            Code::Invalid,
            "tags, assignee and priority have at most 64 bytes; tags are at most 32",
            None,
            ask.req_id,
        );
    }
    let id = random::id32();
    let priority = ask.priority.filter(|word| !word.is_empty()).unwrap_or_else(|| "normal".to_owned());
    let task = Task { id: id.clone(), title, assignee: ask.assignee, priority, tags: ask.tags, ..Task::default() };
    match found(shared, shared.hub.create_task(seat.mesh.clone(), task, seat.author(), now_millis()), req_id, out) {
        None => {}
        Some(true) => out.text(ServerFrame::TaskCreated(TaskCreated { id, req_id: ask.req_id }).encode()),
        Some(false) => error(out, Code::Capacity, "this mesh can not keep another task", None, ask.req_id),
    }
}

pub(in crate::broker) fn claim(shared: &Shared, seat: &Seat, ask: OnTask, out: &mut Outbox) {
    if is_id(&ask, out) {
        let changed = shared.hub.claim_task(seat.mesh.clone(), ask.task_id.clone(), seat.author());
        answer(shared, changed, ask.req_id, out);
    }
}

pub(in crate::broker) fn complete(shared: &Shared, seat: &Seat, ask: OnTask, out: &mut Outbox) {
    if ask.result.as_ref().is_some_and(|result| MAX_RESULT < result.len()) {
        return error(out, Code::Invalid, "a result has at most 8192 bytes", None, ask.req_id);
    }
    if is_id(&ask, out) {
        let changed = shared.hub.complete_task(seat.mesh.clone(), ask.task_id.clone(), ask.result.clone(), seat.author());
        answer(shared, changed, ask.req_id, out);
    }
}

/// What can be no task's id is the id of no task.
fn is_id(ask: &OnTask, out: &mut Outbox) -> bool {
    let is = (MIN_PREFIX..=32).contains(&ask.task_id.len()) && ask.task_id.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if !is {
        let text = "there is no such task: a task's id has 32 letters and digits; 6 may stand for all";
        error(out, Code::TaskNotFound, text, None, ask.req_id.clone());
    }
    is
}

fn answer(shared: &Shared, changed: Result<TaskChanged, store::Error>, req_id: Option<String>, out: &mut Outbox) {
    let Some(changed) = found(shared, changed, req_id.as_ref(), out) else { return };
    let (code, text) = match changed {
        TaskChanged::Done(task) => {
            return out.text(ServerFrame::TaskList(TaskList { tasks: vec![*task], truncated: false, req_id }).encode());
        }
        TaskChanged::NotFound => (Code::TaskNotFound, "there is no such task"),
        TaskChanged::Ambiguous => (Code::AmbiguousPrefix, "more than one task's id begins so"),
        TaskChanged::NotClaimable => (Code::TaskNotClaimable, "somebody has this task, or it is done"),
        TaskChanged::Forbidden => (Code::Forbidden, "this task is another member's"),
    };
    let frame = ErrorFrame { code, message: text.to_owned(), id: req_id.clone(), req_id, retry_after_ms: None };
    out.text(ServerFrame::Error(frame).encode());
}

pub(in crate::broker) fn list(shared: &Shared, seat: &Seat, ask: ListTasks, out: &mut Outbox) {
    let tasks = shared.hub.tasks(seat.mesh.clone(), ask.status, ask.assignee);
    let Some(tasks) = found(shared, tasks, ask.req_id.as_ref(), out) else { return };
    let (tasks, truncated) = fitting(tasks);
    out.text(ServerFrame::TaskList(TaskList { tasks, truncated, req_id: ask.req_id }).encode());
}
