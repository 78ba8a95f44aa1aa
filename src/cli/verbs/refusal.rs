//! What a broker refuses, in the words of whoever typed the command.

use std::collections::BTreeMap;

use crate::base::exit::Exit;
use crate::base::ids::Slug;
use crate::cli::error::CliError;
use crate::cli::render::Out;
use crate::client;
use crate::wire::ipc::{Problem, Silence};
use crate::wire::json::{self, Value};

use super::send;

/// A refusal about `what` was asked for.
pub(super) fn explain(err: client::Error, what: &str) -> CliError {
    let client::Error::Refused { status, problem } = &err else { return err.into() };
    let Some(code) = problem.rest.get("code").and_then(Value::as_str).filter(|_| problem.error != "route_failed") else {
        return match status {
            404 if problem.error.ends_with("_not_found") => missing(what, problem),
            _ => send::explain(err),
        };
    };
    let why = problem.detail.as_deref().unwrap_or(&problem.error);
    let refused = |exit| CliError::refused(exit, why);
    match (code, *status) {
        ("recipient_cannot_open", _) => send::explain(err),
        (_, 404) if why.starts_with("the broker of ") => CliError::refused(Exit::NotFound, format!("{what} not found")),
        (_, 404) => refused(Exit::NotFound),
        (_, 403) => refused(Exit::Denied),
        ("ambiguous_prefix", _) => refused(Exit::Usage).with_hint("type more of it"),
        ("invalid" | "invalid_argument" | "invalid_args" | "invalid_cron", _) => refused(Exit::Usage),
        (_, 501) => CliError::refused(Exit::Failure, "the broker of this mesh does not know of that"),
        (_, 502..=504) => refused(Exit::Network).with_hint("see what is wrong with: claudemesh status"),
        _ => refused(Exit::Failure),
    }
}

/// What no mesh has that answered. One that did not may have it.
fn missing(what: &str, problem: &Problem) -> CliError {
    let silent: BTreeMap<String, String> =
        problem.rest.get("unanswered").and_then(|silent| json::from_value(silent.clone()).ok()).unwrap_or_default();
    match silent.is_empty() {
        true => CliError::refused(Exit::NotFound, format!("{what} not found")),
        false => CliError::refused(Exit::Network, format!("{what} was not found, but {}", who_is_silent(&silent, silent.keys())))
            .with_hint("see what is wrong with: claudemesh status\nor ask one mesh alone with --mesh"),
    }
}

/// That an answer is of one mesh while others said nothing. It is an error where one of those comes first: what that has would
/// be the answer. `again` is the command that asks the mesh of the answer alone.
pub(super) fn doubted(silence: &Silence, found: &str, again: &str, out: &mut Out) -> Result<(), CliError> {
    if silence.unanswered_before.is_empty() {
        return silent(&silence.unanswered, true, out).map(drop);
    }
    let first = who_is_silent(&silence.unanswered, silence.unanswered_before.iter().map(Slug::as_str));
    Err(CliError::refused(Exit::Network, format!("{first}; {found}"))
        .with_hint(format!("to ask that mesh alone: {again}\nsee what is wrong with: claudemesh status")))
}

fn who_is_silent(unanswered: &BTreeMap<String, String>, which: impl IntoIterator<Item = impl AsRef<str>>) -> String {
    let each = which.into_iter().map(|mesh| {
        let why = unanswered.get(mesh.as_ref()).map(String::as_str).unwrap_or_default();
        format!("the broker of {} did not answer ({why})", mesh.as_ref())
    });
    each.collect::<Vec<_>>().join(", ")
}

/// As [`explain`], about somebody who was named.
pub(super) fn about_peer(err: client::Error, what: &str) -> CliError {
    let code = match &err {
        client::Error::Refused { problem, .. } => problem.rest.get("code").and_then(Value::as_str),
        _ => None,
    };
    let is_ambiguous = code == Some("ambiguous_prefix");
    let refused = explain(err, what);
    if is_ambiguous { refused.with_hint("type the beginning of the key of the one that is meant") } else { refused }
}

/// What to say where a list is empty: nothing of what there is, if somebody who was asked said nothing.
pub(super) fn nothing<'a>(unanswered: &BTreeMap<String, String>, text: &'a str) -> &'a str {
    if unanswered.is_empty() { text } else { "Nothing from those that answered." }
}

/// Says which meshes did not answer; the status to end with.
pub(super) fn silent(unanswered: &BTreeMap<String, String>, any: bool, out: &mut Out) -> Result<Exit, CliError> {
    for (mesh, why) in unanswered {
        out.remark(&format!("warn the broker of {mesh} did not answer: {why}"))?;
    }
    Ok(if unanswered.is_empty() || any { Exit::Success } else { Exit::Network })
}
