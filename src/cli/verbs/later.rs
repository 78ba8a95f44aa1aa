//! `remind`: messages that are sent later; `task`: what is to be done.

use crate::base::cron::Cron;
use crate::base::exit::Exit;
use crate::base::time::{Millis, iso, now_millis, parse_iso};
use crate::cli::context::warm;
use crate::cli::error::CliError;
use crate::cli::parse::Parsed;
use crate::cli::render::{Line, Out, Style};
use crate::cli::spec::{Count, Effect, Example, Flag, Group, MESH, Operand, Verb};
use crate::client::Later;
use crate::wire::json::json;
use crate::wire::task::{CreateTask, OnTask, Task};

use super::refusal::explain;
use super::send::PLAINTEXT;
use super::{millis, words};

const IN: Flag = Flag::valued("--in", "TIME", "How long from now, as in 90s, 30m, 2h or 1d.");
const AT: Flag = Flag::valued("--at", "TIME", "When (ISO 8601; UTC unless it says otherwise).");
const CRON: Flag = Flag::valued("--cron", "FIELDS", "Again and again: minute hour day month weekday, in UTC.");
const TO: Flag = Flag::valued("--to", "TO", "Whom, as for send; by default yourself.");

pub(in crate::cli) const REMIND: Verb = Verb {
    aliases: &["schedule msg"],
    long: "The broker keeps it and sends it once (or each time, with --cron), whether or not you are connected then.",
    operands: &[Operand { name: "TEXT", about: "What to say.", count: Count::OneOrMore, choices: &[] }],
    flags: &[MESH, IN, AT, CRON, TO, PLAINTEXT],
    examples: &[
        Example { command: "claudemesh remind look at the build --in 30m", about: "yourself" },
        Example {
            command: "claudemesh remind \"stand-up\" --cron \"0 9 * * 1-5\" --to @eng",
            about: "a group, every working day",
        },
    ],
    ..Verb::new(Group::Messages, Effect::Write, "remind", "Have a message sent later.", remind)
};

pub(in crate::cli) const REMIND_LIST: Verb = Verb {
    aliases: &["schedule list"],
    flags: &[MESH],
    examples: &[Example { command: "claudemesh remind list", about: "what comes first first" }],
    ..Verb::new(Group::Messages, Effect::Read, "remind list", "Show what will be sent.", remind_list)
};

pub(in crate::cli) const REMIND_CANCEL: Verb = Verb {
    aliases: &["schedule cancel"],
    operands: &[Operand::one("ID", "As the list shows it.")],
    flags: &[MESH],
    examples: &[Example { command: "claudemesh remind cancel 7Qk2m0x9Yb3c5d1e7f0g2h4j6k8l0m2n", about: "by its id" }],
    ..Verb::new(Group::Messages, Effect::Write, "remind cancel", "Have something not sent after all.", cancel)
};

const TASK: Operand = Operand::one("ID", "Its id, or 6 or more characters of it.");
const ASSIGNEE: Flag = Flag::valued("--assignee", "NAME", "Whose it is to be.");
const PRIORITY: Flag = Flag::valued("--priority", "WORD", "How urgent it is; default normal.");
const TAGS: Flag = Flag::valued("--tags", "A,B", "Words, separated by commas.");
const STATE: Flag =
    Flag { choices: &["open", "claimed", "done"], ..Flag::valued("--status", "STATUS", "Only those that stand so.") };

pub(in crate::cli) const TASK_LIST: Verb = Verb {
    aliases: &["tasks"],
    flags: &[MESH, STATE, ASSIGNEE],
    examples: &[Example { command: "claudemesh task list --status open", about: "what is to be done" }],
    ..Verb::new(Group::Shared, Effect::Read, "task list", "Show the mesh's tasks.", task_list)
};

pub(in crate::cli) const TASK_CREATE: Verb = Verb {
    operands: &[Operand { name: "TITLE", about: "What is to be done.", count: Count::OneOrMore, choices: &[] }],
    flags: &[MESH, ASSIGNEE, PRIORITY, TAGS],
    examples: &[Example { command: "claudemesh task create fix the parser --tags bug", about: "for whoever takes it" }],
    ..Verb::new(Group::Shared, Effect::Write, "task create", "Add a task.", task_create)
};

pub(in crate::cli) const TASK_CLAIM: Verb = Verb {
    operands: &[TASK],
    flags: &[MESH],
    examples: &[Example { command: "claudemesh task claim 7Qk2m0", about: "nobody else can then" }],
    ..Verb::new(Group::Shared, Effect::Write, "task claim", "Take a task.", task_claim)
};

pub(in crate::cli) const TASK_COMPLETE: Verb = Verb {
    operands: &[TASK, Operand { name: "RESULT", about: "What came of it.", count: Count::Any, choices: &[] }],
    flags: &[MESH],
    examples: &[Example { command: "claudemesh task complete 7Qk2m0 merged", about: "one that you have claimed or made" }],
    ..Verb::new(Group::Shared, Effect::Write, "task complete", "Say that a task is done.", task_complete)
};

/// When; with `--cron` the broker decides.
fn when(parsed: &Parsed) -> Result<Millis, CliError> {
    match (parsed.value(&IN), parsed.value(&AT), parsed.value(&CRON)) {
        (Some(text), None, None) => Ok(now_millis().saturating_add(Millis::try_from(millis(&IN, text)?).unwrap_or(Millis::MAX))),
        (None, Some(text), None) => at(text, now_millis()),
        (None, None, Some(text)) if Cron::parse(text).is_some() => Ok(0),
        (None, None, Some(text)) => Err(CliError::usage(format!("--cron: \"{text}\" are no five fields of cron"))),
        _ => Err(CliError::usage("when?").with_hint("say one of --in 30m, --at TIME and --cron FIELDS")),
    }
}

/// The time that a text names; one that is over would mean at once, which nobody who says when means.
fn at(text: &str, now: Millis) -> Result<Millis, CliError> {
    match parse_iso(text) {
        Some(at) if now <= at => Ok(at),
        Some(at) => Err(CliError::usage(format!("--at: {} is over", iso(at)))
            .with_hint(format!("it is {} now; or say how long from now: --in 30m", iso(now)))),
        None => Err(CliError::usage(format!("--at: \"{text}\" is no time")).with_hint("as in 2025-10-09T08:53:20Z")),
    }
}

fn remind(parsed: &Parsed, out: &mut Out) -> Result<Exit, CliError> {
    let later = Later {
        to: parsed.value(&TO).map(str::to_owned),
        message: parsed.operands.join(" "),
        deliver_at: when(parsed)?,
        cron: parsed.value(&CRON).map(str::to_owned),
        plaintext: parsed.is_set(&PLAINTEXT),
    };
    let done = warm(out)?.schedule(&later, parsed.value(&MESH)).map_err(|err| explain(err, "the message"))?;
    if out.is_json() {
        out.json(&done)?;
    } else {
        out.ok(&format!("will be sent at {}", iso(done.row.deliver_at)), Some(&done.row.scheduled_id))?;
    }
    Ok(Exit::Success)
}

fn remind_list(parsed: &Parsed, out: &mut Out) -> Result<Exit, CliError> {
    let page = warm(out)?.scheduled(parsed.value(&MESH)).map_err(|err| explain(err, "the mesh"))?;
    if out.is_json() {
        out.json_pretty(&page.row.messages)?;
    } else if page.row.messages.is_empty() {
        out.info("Nothing waits.")?;
    } else {
        page.row.messages.iter().try_for_each(|one| {
            let cron = one.cron.as_ref().map(|cron| format!(" (cron {cron})"));
            let failed = one.error.as_ref().map(|why| format!(" · could not be sent: {why}"));
            let line = Line::new().and(Style::Bold, iso(one.deliver_at)).maybe(Style::Cyan, cron);
            out.line(&line.and(Style::Dim, format!(" · {:.16} · {}", one.to, one.id)).maybe(Style::Yellow, failed))?;
            out.body(&one.message)
        })?;
    }
    Ok(Exit::Success)
}

fn cancel(parsed: &Parsed, out: &mut Out) -> Result<Exit, CliError> {
    let id = parsed.first();
    let done =
        warm(out)?.cancel_scheduled(id, parsed.value(&MESH)).map_err(|err| explain(err, id).or_list("claudemesh remind list"))?;
    if !done.row.ok {
        return Err(
            CliError::refused(Exit::NotFound, format!("nothing with id \"{id}\" waits")).or_list("claudemesh remind list")
        );
    }
    if out.is_json() {
        out.json(&done)?
    } else {
        out.ok(&format!("cancelled {id}"), None)?
    }
    Ok(Exit::Success)
}

fn task_list(parsed: &Parsed, out: &mut Out) -> Result<Exit, CliError> {
    let page = warm(out)?.tasks(parsed.value(&STATE), parsed.value(&ASSIGNEE), parsed.value(&MESH));
    let tasks = page.map_err(|err| explain(err, "the mesh's tasks"))?.row.tasks;
    if out.is_json() {
        out.json_pretty(&tasks)?;
    } else if tasks.is_empty() {
        out.info("No tasks.")?;
    } else {
        tasks.iter().try_for_each(|task| show(task, out))?;
    }
    Ok(Exit::Success)
}

fn show(task: &Task, out: &mut Out) -> Result<(), CliError> {
    let whose = task.claimed_by.as_ref().or(task.assignee.as_ref()).map(|name| format!(" · {name}"));
    let line = Line::new().and(Style::Dim, format!("{:.8} ", task.id)).and(Style::Bold, &task.title);
    out.line(&line.and(Style::Plain, format!(" · {} · {}", task.status, task.priority)).maybe(Style::Cyan, whose))
}

fn task_create(parsed: &Parsed, out: &mut Out) -> Result<Exit, CliError> {
    let ask = CreateTask {
        title: parsed.operands.join(" "),
        assignee: parsed.value(&ASSIGNEE).map(str::to_owned),
        priority: parsed.value(&PRIORITY).map(str::to_owned),
        tags: words(parsed.value(&TAGS)),
        req_id: None,
    };
    let made = warm(out)?
        .create_task(&ask, parsed.value(&MESH))
        .map_err(|err| explain(err, "the task").or_list("claudemesh task list"))?
        .row;
    if out.is_json() {
        out.json(&json!({"id": made.id, "title": ask.title}))?
    } else {
        out.ok("created", Some(&made.id))?
    }
    Ok(Exit::Success)
}

fn task_claim(parsed: &Parsed, out: &mut Out) -> Result<Exit, CliError> {
    let ask = OnTask { task_id: parsed.first().to_owned(), ..OnTask::default() };
    let page = warm(out)?
        .claim_task(&ask, parsed.value(&MESH))
        .map_err(|err| explain(err, "the task").or_list("claudemesh task list"))?;
    if out.is_json() {
        out.json(&page.row.tasks)?
    } else {
        page.row.tasks.iter().try_for_each(|task| show(task, out))?
    }
    Ok(Exit::Success)
}

fn task_complete(parsed: &Parsed, out: &mut Out) -> Result<Exit, CliError> {
    let result = Some(parsed.operands[1..].join(" ")).filter(|text| !text.is_empty());
    let ask = OnTask { task_id: parsed.first().to_owned(), result, req_id: None };
    let page = warm(out)?
        .complete_task(&ask, parsed.value(&MESH))
        .map_err(|err| explain(err, "the task").or_list("claudemesh task list"))?;
    if out.is_json() {
        out.json(&page.row.tasks)?
    } else {
        page.row.tasks.iter().try_for_each(|task| show(task, out))?
    }
    Ok(Exit::Success)
}
