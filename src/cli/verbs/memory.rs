//! `remember`, `recall` and `forget`: texts that a mesh keeps for its members.

use crate::base::exit::Exit;
use crate::cli::context::warm;
use crate::cli::error::CliError;
use crate::cli::parse::Parsed;
use crate::cli::render::{Line, Out, Style};
use crate::cli::spec::{Count, Effect, Example, Flag, Group, MESH, Operand, Verb};
use crate::wire::ipc::RememberRequest;
use crate::wire::json::{Value, json};

use super::refusal::{explain, nothing, silent};
use super::words;

const TAGS: Flag = Flag::valued("--tags", "A,B", "Words under which it is found, separated by commas.");

pub(in crate::cli) const REMEMBER: Verb = Verb {
    aliases: &["memory remember"],
    operands: &[Operand { name: "TEXT", about: "What to keep.", count: Count::OneOrMore, choices: &[] }],
    flags: &[MESH, TAGS],
    examples: &[Example { command: "claudemesh remember \"deploys run on Fridays\" --tags ops", about: "for all members" }],
    ..Verb::new(Group::Shared, Effect::Write, "remember", "Keep a text for every member of the mesh.", remember)
};

pub(in crate::cli) const RECALL: Verb = Verb {
    aliases: &["memory recall"],
    long: "Words are found in their other forms, too. Without any, the latest texts are shown.",
    operands: &[Operand { name: "WORDS", about: "What the text has in it.", count: Count::Any, choices: &[] }],
    flags: &[MESH],
    examples: &[Example { command: "claudemesh recall deploy", about: "what is known about it" }],
    ..Verb::new(Group::Shared, Effect::Read, "recall", "Search what the mesh remembers.", recall)
};

pub(in crate::cli) const FORGET: Verb = Verb {
    aliases: &["memory forget"],
    operands: &[Operand::one("ID", "As recall shows it.")],
    flags: &[MESH],
    examples: &[Example { command: "claudemesh forget 7Qk2m0x9Yb3c5d1e7f0g2h4j6k8l0m2n", about: "by its id" }],
    ..Verb::new(Group::Shared, Effect::Write, "forget", "Remove a text that you had the mesh remember.", forget)
};

fn remember(parsed: &Parsed, out: &mut Out) -> Result<Exit, CliError> {
    let content = parsed.operands.join(" ");
    let tags = words(parsed.value(&TAGS));
    let request = RememberRequest {
        content: Some(content.clone()),
        tags: tags.iter().map(|tag| Value::from(tag.as_str())).collect(),
        mesh: parsed.value(&MESH).map(str::to_owned),
    };
    let kept = warm(out)?.remember(&request).map_err(|err| explain(err, "the text"))?;
    if out.is_json() {
        out.json(&json!({"id": kept.id, "content": content, "tags": tags, "mesh": kept.mesh}))?;
    } else {
        out.ok("remembered", Some(&kept.id))?;
    }
    Ok(Exit::Success)
}

fn recall(parsed: &Parsed, out: &mut Out) -> Result<Exit, CliError> {
    let page =
        warm(out)?.recall(&parsed.operands.join(" "), parsed.value(&MESH)).map_err(|err| explain(err, "the mesh's memory"))?;
    if out.is_json() {
        out.json_pretty(&page.matches)?;
    } else if page.matches.is_empty() {
        out.info(nothing(&page.unanswered, "no memories found."))?;
    } else {
        out.section(&format!("memories ({})", page.matches.len()))?;
        page.matches.iter().try_for_each(|found| {
            let memory = &found.row;
            let tags = (!memory.tags.is_empty()).then(|| format!(" [{}]", memory.tags.join(", ")));
            out.line(&Line::new().and(Style::Bold, &memory.id).maybe(Style::Cyan, tags))?;
            out.body(&memory.content)?;
            out.line(
                &Line::new().and(Style::Dim, format!("{} · {} · {}", memory.remembered_by, memory.remembered_at, found.mesh)),
            )
        })?;
    }
    silent(&page.unanswered, !page.matches.is_empty(), out)
}

fn forget(parsed: &Parsed, out: &mut Out) -> Result<Exit, CliError> {
    let id = parsed.first();
    warm(out)?
        .forget(id, parsed.value(&MESH))
        .map_err(|err| explain(err, &format!("memory \"{id}\"")).or_list("claudemesh recall"))?;
    if out.is_json() {
        out.json(&json!({"id": id, "forgotten": true}))?;
    } else {
        out.ok(&format!("forgot {}", id.chars().take(8).collect::<String>()), None)?;
    }
    Ok(Exit::Success)
}
