//! `state list`, `state get` and `state set`: values that a mesh's members share.

use crate::base::exit::Exit;
use crate::cli::context::warm;
use crate::cli::error::CliError;
use crate::cli::parse::Parsed;
use crate::cli::render::{Line, Out, Style};
use crate::cli::spec::{Count, Effect, Example, Group, MESH, Operand, Verb};
use crate::wire::ipc::{OnMesh, StateWrite};
use crate::wire::json::{self, Value};
use crate::wire::state::StateEntry;

use super::refusal::{doubted, explain, nothing, silent};

/// As much of a value as is shown within a sentence, in characters.
const SHOWN: usize = 200;

const KEY: Operand = Operand::one("KEY", "The value's name.");

pub(in crate::cli) const LIST: Verb = Verb {
    flags: &[MESH],
    examples: &[Example { command: "claudemesh state list", about: "every value, by key" }],
    ..Verb::new(Group::Shared, Effect::Read, "state list", "Show the values that the mesh shares.", list)
};

pub(in crate::cli) const GET: Verb = Verb {
    operands: &[KEY],
    flags: &[MESH],
    examples: &[Example { command: "claudemesh state get build", about: "one value" }],
    ..Verb::new(Group::Shared, Effect::Read, "state get", "Show one value that the mesh shares.", get)
};

pub(in crate::cli) const SET: Verb = Verb {
    long: "VALUE is read as JSON, and taken as text if it is none, or a number that would change on the way (1.10).",
    operands: &[KEY, Operand { name: "VALUE", about: "JSON, or text.", count: Count::OneOrMore, choices: &[] }],
    flags: &[MESH],
    examples: &[
        Example { command: "claudemesh state set build green", about: "a text" },
        Example { command: "claudemesh state set limit 7 --mesh home", about: "a number" },
    ],
    ..Verb::new(Group::Shared, Effect::Write, "state set", "Set a value that the mesh shares.", set)
};

fn list(parsed: &Parsed, out: &mut Out) -> Result<Exit, CliError> {
    let page = warm(out)?.states(parsed.value(&MESH)).map_err(|err| explain(err, "the mesh's values"))?;
    if out.is_json() {
        out.json_pretty(&page.entries)?;
    } else if page.entries.is_empty() {
        out.info(nothing(&page.unanswered, "No values."))?;
    } else {
        out.section(&format!("state ({})", page.entries.len()))?;
        page.entries.iter().try_for_each(|entry| {
            out.line(&Line::new().and(Style::Bold, &entry.row.key).and(Style::Plain, format!(": {}", text(&entry.row.value))))?;
            by(entry, out)
        })?;
    }
    silent(&page.unanswered, !page.entries.is_empty(), out)
}

fn by(entry: &OnMesh<StateEntry>, out: &mut Out) -> Result<(), CliError> {
    let StateEntry { updated_by, updated_at, .. } = &entry.row;
    out.line(&Line::new().and(Style::Dim, format!("  set by {updated_by} at {updated_at} on {}", entry.mesh)))
}

/// A text as it is, anything else as JSON.
fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| json::encode(value), str::to_owned)
}

fn get(parsed: &Parsed, out: &mut Out) -> Result<Exit, CliError> {
    let key = parsed.first();
    let found = warm(out)?
        .state(key, parsed.value(&MESH))
        .map_err(|err| explain(err, &format!("\"{key}\"")).or_list("claudemesh state list"))?;
    let mesh = &found.state.mesh;
    let value: String = json::encode(&found.state.row.value).chars().take(SHOWN).collect();
    doubted(
        &found.silence,
        &format!("on {mesh} \"{key}\" is {value}"),
        &format!("claudemesh state get {key} --mesh {mesh}"),
        out,
    )?;
    if out.is_json() {
        out.json(&found.state)?;
    } else {
        out.body(&text(&found.state.row.value))?;
        by(&found.state, out)?;
    }
    Ok(Exit::Success)
}

/// What was typed as JSON, or as text: a number that would not be read back as it was typed, a version or an id, is text.
fn read(typed: String) -> Value {
    match json::decode::<Value>(typed.as_bytes()) {
        Ok(value) if !value.is_number() || json::encode(&value) == typed.trim() => value,
        Ok(_) | Err(_) => Value::String(typed),
    }
}

fn set(parsed: &Parsed, out: &mut Out) -> Result<Exit, CliError> {
    let key = parsed.first();
    let typed = parsed.operands[1..].join(" ");
    let value = read(typed);
    if value.is_null() {
        return Err(CliError::usage("a value can not be null"));
    }
    let write =
        StateWrite { key: Some(key.to_owned()), value: Some(value.clone()), mesh: parsed.value(&MESH).map(str::to_owned) };
    let done = warm(out)?.set_state(&write).map_err(|err| explain(err, key))?;
    if out.is_json() {
        out.json(&json::json!({"key": key, "value": value, "mesh": done.mesh, "confirmed": done.confirmed}))?;
    } else {
        out.ok(&format!("{key} = {}", json::encode(&value)), None)?;
    }
    Ok(Exit::Success)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_would_change_are_text() {
        for text in ["1.10", "12345678901234567890123", "1e3", "007", "v1", "-0"] {
            assert_eq!(read(text.to_owned()), Value::String(text.to_owned()));
        }
        for (text, value) in [
            ("7", json::json!(7)),
            ("1.1", json::json!(1.1)),
            (" -3 ", json::json!(-3)),
            ("18446744073709551615", json::json!(u64::MAX)),
            ("{\"a\": [1]}", json::json!({"a": [1]})),
            ("\"1.10\"", json::json!("1.10")),
            ("true", json::json!(true)),
        ] {
            assert_eq!(read(text.to_owned()), value, "{text}");
        }
    }
}
