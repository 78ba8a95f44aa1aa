//! The standard streams as files: what they are, and putting another file in their place.

use std::fs::{File, Metadata};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Size of the regular file that standard error goes to, if `path` is its name.
pub fn errors_in(path: &Path) -> io::Result<Option<u64>> {
    let open = metadata(&io::stderr())?;
    match std::fs::symlink_metadata(path) {
        Ok(named) if open.is_file() && same(&named, &open) => Ok(Some(open.len())),
        Ok(_) => Ok(None),
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(err) => Err(err),
    }
}

/// From here on standard error goes to `file`, and standard output with it if both went to one file.
pub fn move_errors(file: &File) -> io::Result<()> {
    let together = same(&metadata(&io::stdout())?, &metadata(&io::stderr())?);
    rustix::stdio::dup2_stderr(file)?;
    if together {
        rustix::stdio::dup2_stdout(file)?;
    }
    Ok(())
}

fn metadata(stream: &impl AsFd) -> io::Result<Metadata> {
    File::from(stream.as_fd().try_clone_to_owned()?).metadata()
}

fn same(one: &Metadata, other: &Metadata) -> bool {
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

#[cfg(test)]
mod tests {
    use tempfile::tempdir;

    use super::*;

    #[test]
    fn a_file_that_standard_error_does_not_go_to_is_not_its() {
        let dir = tempdir().unwrap();
        let path = dir.path().join("errors");
        assert_eq!(errors_in(&path).unwrap(), None);
        std::fs::write(&path, "x").unwrap();
        assert_eq!(errors_in(&path).unwrap(), None);
        std::fs::remove_file(&path).unwrap();
        let open = File::open(std::env::temp_dir()).unwrap();
        assert!(same(&metadata(&open).unwrap(), &std::fs::metadata(std::env::temp_dir()).unwrap()));
    }
}
