//! `local-token`: what a program presents that comes over TCP, where the system does not tell whose it is. The file is the
//! reference's: 32 random bytes as base64url without padding, and a newline. To change it, remove it and restart.

use std::fs;
use std::io;

use crate::base::atomic_file;
use crate::base::paths::Paths;
use crate::crypto::fingerprint::{equal, sha256};
use crate::crypto::{base64, random};

/// The secret of the TCP listener. Only its hash is kept.
#[derive(Clone)]
pub(super) struct LocalToken([u8; 32]);

impl std::fmt::Debug for LocalToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LocalToken(redacted)")
    }
}

/// Shortest text that is taken for a token: less could be guessed.
const SHORTEST: usize = 32;

impl LocalToken {
    /// Reads the token, or makes one where there is none that could be one.
    pub(super) fn load_or_make(paths: &Paths) -> io::Result<LocalToken> {
        let path = paths.local_token();
        let kept = match fs::read_to_string(&path) {
            Ok(text) => Some(text.trim().to_owned()).filter(|text| SHORTEST <= text.len()),
            Err(err) if err.kind() == io::ErrorKind::NotFound || err.kind() == io::ErrorKind::InvalidData => None,
            Err(err) => return Err(err),
        };
        let text = match kept {
            Some(text) => text,
            None => {
                let text = base64::encode_url(&random::bytes::<32>());
                atomic_file::write(&path, format!("{text}\n").as_bytes())?;
                text
            }
        };
        Ok(LocalToken(sha256(text.as_bytes())))
    }

    /// Compares hashes in constant time: how long it takes says nothing about how much was right.
    pub(super) fn is(&self, presented: &str) -> bool {
        equal(&self.0, &sha256(presented.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use tempfile::tempdir;

    use super::*;

    #[test]
    fn a_token_is_made_once_and_what_is_none_is_replaced() {
        let root = tempdir().unwrap();
        let paths = Paths::under(root.path());
        fs::create_dir_all(paths.daemon_dir()).unwrap();
        let made = LocalToken::load_or_make(&paths).unwrap();
        let text = fs::read_to_string(paths.local_token()).unwrap();
        assert_eq!((text.len(), text.ends_with('\n')), (44, true), "{text:?}");
        assert!(made.is(text.trim()) && !made.is("") && !made.is(&text));
        assert!(LocalToken::load_or_make(&paths).unwrap().is(text.trim()), "it stays");
        fs::write(paths.local_token(), "\n").unwrap();
        assert!(!LocalToken::load_or_make(&paths).unwrap().is(""), "nothing is no secret");
    }
}
