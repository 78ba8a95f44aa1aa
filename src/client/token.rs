//! The session's token, as a launched session's environment carries it.

use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;

use crate::base::ids::Token;

/// The token itself. Wins over the file.
pub const TOKEN: &str = "CLAUDEMESH_IPC_TOKEN";

/// A file that holds the token.
pub const TOKEN_FILE: &str = "CLAUDEMESH_IPC_TOKEN_FILE";

/// A token is 64 characters; a file much longer holds something else.
const MAX_FILE: u64 = 256;

/// The environment names a token that cannot be used. Acting without one would act as somebody else.
#[derive(Debug)]
pub enum TokenError {
    /// The file cannot be read; a session's file goes when the session ends.
    Unreadable(PathBuf, io::Error),
    /// What the variable holds, or its file, is not 64 hex characters.
    Malformed(&'static str),
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TokenError::Unreadable(path, err) => {
                write!(f, "this shell belongs to a session whose token is gone ({}: {err})", path.display())
            }
            TokenError::Malformed(name) => write!(f, "{name} does not lead to a token of 64 hex characters"),
        }
    }
}

impl std::error::Error for TokenError {}

impl TokenError {
    /// What to do about it.
    pub fn hint(&self) -> String {
        format!("the session has ended; to act outside of it: unset {TOKEN} {TOKEN_FILE}")
    }
}

/// The token of the session this process runs in; `None` outside of any.
pub fn from_env() -> Result<Option<Token>, TokenError> {
    from(|name| std::env::var_os(name))
}

/// As [`from_env`], with the environment given.
pub fn from(var: impl Fn(&str) -> Option<OsString>) -> Result<Option<Token>, TokenError> {
    let set = |name: &str| var(name).filter(|value| !value.is_empty());
    if let Some(literal) = set(TOKEN) {
        return parse(literal.to_str(), TOKEN).map(Some);
    }
    let Some(path) = set(TOKEN_FILE).map(PathBuf::from) else { return Ok(None) };
    let mut text = String::new();
    let read = File::open(&path).and_then(|file| file.take(MAX_FILE).read_to_string(&mut text));
    read.map_err(|err| TokenError::Unreadable(path, err))?;
    parse(Some(&text), TOKEN_FILE).map(Some)
}

fn parse(text: Option<&str>, from: &'static str) -> Result<Token, TokenError> {
    text.and_then(|text| Token::parse(text.trim())).ok_or(TokenError::Malformed(from))
}

#[cfg(test)]
mod tests {
    use tempfile::tempdir;

    use super::*;

    #[test]
    fn the_literal_wins_and_nothing_unusable_passes_for_no_token() {
        let dir = tempdir().unwrap();
        let file = dir.path().join("token");
        std::fs::write(&file, "AB".repeat(32) + "\n").unwrap();
        let path = file.to_str().unwrap();
        let read = |token: Option<&str>, file: Option<&str>| {
            let (token, file) = (token.map(OsString::from), file.map(OsString::from));
            from(move |name| if name == TOKEN { token.clone() } else { file.clone() })
        };
        assert!(read(None, None).unwrap().is_none());
        assert!(read(Some(""), Some("")).unwrap().is_none());
        assert_eq!(read(None, Some(path)).unwrap().unwrap().reveal(), "ab".repeat(32));
        assert_eq!(read(Some(&"cd".repeat(32)), Some(path)).unwrap().unwrap().reveal(), "cd".repeat(32));
        assert!(matches!(read(Some("x"), Some(path)), Err(TokenError::Malformed(TOKEN))));
        assert!(matches!(read(None, Some("/no/such")), Err(TokenError::Unreadable(..))));
        assert!(matches!(read(None, Some("/dev/null")), Err(TokenError::Malformed(TOKEN_FILE))));
    }
}
