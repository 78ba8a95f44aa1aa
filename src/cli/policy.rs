//! Which effects are allowed: a session can be told to look and not to touch.

use std::ffi::OsString;

use super::error::CliError;
use super::parse::Parsed;
use super::spec::{APPROVAL_MODE, Effect};
use crate::base::exit::Exit;

/// Spellings of `--approval-mode`; the reference's.
pub(super) const MODES: &[&str] = &["plan", "read-only", "write", "yolo"];

/// Names the mode for everything that runs inside a session.
const VARIABLE: &str = "CLAUDEMESH_APPROVAL_MODE";

/// Lets the command pass, or refuses it. The flag wins over the environment. A mode that is set and means nothing refuses
/// every write: whoever set it meant to limit something.
pub(super) fn gate(parsed: &Parsed, variable: impl Fn(&str) -> Option<OsString>) -> Result<(), CliError> {
    if parsed.verb.effect != Effect::Write {
        return Ok(());
    }
    let from_env = || variable(VARIABLE).filter(|mode| !mode.is_empty()).map(|mode| mode.to_string_lossy().into_owned());
    let mode = parsed.value(&APPROVAL_MODE).map(str::to_owned).or_else(from_env);
    match mode.as_deref() {
        None | Some("write" | "yolo") => Ok(()),
        Some(mode @ ("plan" | "read-only")) => Err(CliError::refused(
            Exit::Denied,
            format!("\"{}\" changes something, and the approval mode is {mode}", parsed.verb.name),
        )
        .with_hint("allow it with --approval-mode write")),
        Some(mode) => Err(CliError::refused(Exit::Denied, format!("{VARIABLE} is \"{mode}\", which is no approval mode"))
            .with_hint(format!("use one of {}", MODES.join(", ")))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::parse::{Words, find, parse};

    fn check(line: &str, env: Option<&str>) -> Option<Exit> {
        let mut words = Words::split(line.split(' ').map(OsString::from).collect()).unwrap();
        let (verb, count) = find(&words.head).unwrap();
        words.head.drain(..count);
        let parsed = parse(verb, words).unwrap();
        gate(&parsed, |_| env.map(OsString::from)).err().map(|err| err.exit())
    }

    #[test]
    fn writes_need_a_mode_that_allows_them() {
        for (line, env, expected) in [
            ("send bob hi", None, None),
            ("send bob hi", Some(""), None),
            ("send bob hi", Some("read-only"), Some(Exit::Denied)),
            ("send bob hi", Some("plan"), Some(Exit::Denied)),
            ("send bob hi", Some("readonly"), Some(Exit::Denied)),
            ("send bob hi --approval-mode write", Some("plan"), None),
            ("send bob hi --approval-mode plan", Some("yolo"), Some(Exit::Denied)),
            ("inbox", Some("plan"), None),
            ("inbox flush --all", Some("plan"), Some(Exit::Denied)),
            ("up", Some("read-only"), None),
        ] {
            assert_eq!(check(line, env), expected, "{line} {env:?}");
        }
    }
}
