//! How much room a file system has.

use std::io;
use std::path::Path;

/// Bytes that this user can still write on the file system of `path`.
pub fn free_bytes(path: &Path) -> io::Result<u64> {
    let found = rustix::fs::statvfs(path)?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_some_here_and_none_nowhere() {
        assert!(0 < free_bytes(&std::env::temp_dir()).unwrap());
        assert!(free_bytes(Path::new("/no/such/place")).is_err());
    }
}
