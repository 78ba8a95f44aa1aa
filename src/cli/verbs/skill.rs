//! `skill list`, `get`, `publish` and `remove`: instructions that a mesh's members share.

use std::io::Read;

use crate::base::exit::Exit;
use crate::cli::context::warm;
use crate::cli::error::CliError;
use crate::cli::parse::Parsed;
use crate::cli::render::{Line, Out, Style};
use crate::cli::spec::{Count, Effect, Example, Flag, Group, MESH, Operand, Verb};
use crate::wire::limits::MAX_SEND_BODY;
use crate::wire::skill::{ShareSkill, SkillAction};

use super::refusal::{doubted, explain, nothing, silent};
use super::words;

const QUERY: Flag = Flag::valued("--query", "TEXT", "Only those with this in name, description or tags.");
const DESCRIPTION: Flag = Flag::valued("--description", "TEXT", "What it is for, in a sentence.");
const TAGS: Flag = Flag::valued("--tags", "A,B", "Words under which it is found, separated by commas.");
const NAME: Operand = Operand::one("NAME", "The skill's name.");

pub(in crate::cli) const LIST: Verb = Verb {
    aliases: &["skills"],
    flags: &[MESH, QUERY],
    examples: &[Example { command: "claudemesh skill list", about: "what there is" }],
    ..Verb::new(Group::Shared, Effect::Read, "skill list", "Show the skills that the mesh shares.", list)
};

pub(in crate::cli) const GET: Verb = Verb {
    operands: &[NAME],
    flags: &[MESH],
    examples: &[Example { command: "claudemesh skill get review", about: "its instructions" }],
    ..Verb::new(Group::Shared, Effect::Read, "skill get", "Show one skill whole.", get)
};

pub(in crate::cli) const PUBLISH: Verb = Verb {
    aliases: &["skill share"],
    long: "A skill that you published before is replaced; another member's is not.",
    operands: &[
        NAME,
        Operand { name: "FILE", about: "Its instructions; - reads standard input.", count: Count::One, choices: &[] },
    ],
    flags: &[MESH, DESCRIPTION, TAGS],
    examples: &[Example {
        command: "claudemesh skill publish review review.md --description \"How we review\"",
        about: "a file",
    }],
    ..Verb::new(Group::Shared, Effect::Write, "skill publish", "Share a skill with the mesh.", publish)
};

pub(in crate::cli) const REMOVE: Verb = Verb {
    operands: &[NAME],
    flags: &[MESH],
    examples: &[Example { command: "claudemesh skill remove review", about: "one that you published" }],
    ..Verb::new(Group::Shared, Effect::Write, "skill remove", "Take a skill away from the mesh.", remove)
};

fn list(parsed: &Parsed, out: &mut Out) -> Result<Exit, CliError> {
    let page = warm(out)?.skills(parsed.value(&QUERY), parsed.value(&MESH)).map_err(|err| explain(err, "the mesh's skills"))?;
    if out.is_json() {
        out.json_pretty(&page.skills)?;
    } else if page.skills.is_empty() {
        out.info(nothing(&page.unanswered, "No skills."))?;
    } else {
        out.section(&format!("skills ({})", page.skills.len()))?;
        page.skills.iter().try_for_each(|skill| {
            let tags = (!skill.row.tags.is_empty()).then(|| format!(" [{}]", skill.row.tags.join(", ")));
            let line = Line::new().and(Style::Bold, &skill.row.name).maybe(Style::Cyan, tags);
            out.line(&line.and(Style::Plain, format!("  {}", skill.row.description)))?;
            out.line(&Line::new().and(Style::Dim, format!("  {} · {}", skill.row.author, skill.mesh)))
        })?;
    }
    silent(&page.unanswered, !page.skills.is_empty(), out)
}

fn get(parsed: &Parsed, out: &mut Out) -> Result<Exit, CliError> {
    let name = parsed.first();
    let found = warm(out)?
        .skill(name, parsed.value(&MESH))
        .map_err(|err| explain(err, &format!("skill \"{name}\"")).or_list("claudemesh skill list"))?;
    let skill = found.skill;
    doubted(
        &found.silence,
        &format!("skill \"{name}\" is on {}", skill.mesh),
        &format!("claudemesh skill get {name} --mesh {}", skill.mesh),
        out,
    )?;
    if out.is_json() {
        out.json_pretty(&skill)?;
    } else {
        out.section(&format!("{} — {}", skill.row.name, skill.row.description))?;
        out.body(skill.row.instructions.as_deref().unwrap_or_default())?;
    }
    Ok(Exit::Success)
}

fn publish(parsed: &Parsed, out: &mut Out) -> Result<Exit, CliError> {
    let name = parsed.first();
    let ask = ShareSkill {
        name: name.to_owned(),
        description: parsed.value(&DESCRIPTION).unwrap_or_default().to_owned(),
        instructions: read(&parsed.operands[1])?,
        tags: words(parsed.value(&TAGS)),
        manifest: None,
        req_id: None,
    };
    let done = warm(out)?.publish_skill(&ask, parsed.value(&MESH)).map_err(|err| explain(err, name))?;
    if out.is_json() {
        out.json(&done)?;
    } else {
        out.ok(&format!("published {name} on {}", done.mesh), None)?;
    }
    Ok(Exit::Success)
}

fn read(path: &str) -> Result<String, CliError> {
    if path == "-" {
        return super::send::from_stdin();
    }
    let file = std::fs::File::open(path).map_err(|err| CliError::io(path, err))?;
    let mut text = String::new();
    let most = u64::try_from(MAX_SEND_BODY).unwrap_or(u64::MAX);
    file.take(most).read_to_string(&mut text).map_err(|err| CliError::io(path, err))?;
    Ok(text)
}

fn remove(parsed: &Parsed, out: &mut Out) -> Result<Exit, CliError> {
    let name = parsed.first();
    let done = warm(out)?.remove_skill(name, parsed.value(&MESH)).map_err(|err| explain(err, name))?;
    if done.row.action == SkillAction::NotFound {
        return Err(CliError::refused(Exit::NotFound, format!("skill \"{name}\" not found")).or_list("claudemesh skill list"));
    }
    if out.is_json() {
        out.json(&done)?;
    } else {
        out.ok(&format!("removed {name} from {}", done.mesh), None)?;
    }
    Ok(Exit::Success)
}
