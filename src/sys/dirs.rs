//! Directories that nobody else may look into.

use std::fmt;
use std::fs::{DirBuilder, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Why a directory, or a file in it, cannot be trusted with secrets.
#[derive(Debug)]
pub enum DirError {
    Symlink(PathBuf),
    NotADirectory(PathBuf),
    /// It belongs to another user.
    Foreign {
        path: PathBuf,
        owner: u32,
    },
    Io {
        path: PathBuf,
        err: io::Error,
    },
}

impl fmt::Display for DirError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DirError::Symlink(path) => write!(f, "{} is a symbolic link, not a directory", path.display()),
            DirError::NotADirectory(path) => write!(f, "{} is not a directory", path.display()),
            DirError::Foreign { path, owner } => write!(f, "{} belongs to another user (uid {owner})", path.display()),
            DirError::Io { path, err } => write!(f, "{}: {err}", path.display()),
        }
    }
}

impl std::error::Error for DirError {}

/// Makes sure that `path` is a directory of ours with mode 0700: creates it with its parents, or checks what is there
/// and takes away what others may do. Links above the last component are followed.
pub fn private_dir_checked(path: &Path) -> Result<(), DirError> {
    let io = |err| DirError::Io { path: path.to_owned(), err };
    let found = match own_dir(path)? {
        Some(found) => found,
        None => {
            DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(io)?;
            let Some(made) = own_dir(path)? else { return Err(io(io::ErrorKind::NotFound.into())) };
            made
        }
    };
    if found.mode() & 0o777 != 0o700 {
        std::fs::set_permissions(path, Permissions::from_mode(0o700)).map_err(io)?;
    }
    Ok(())
}

/// Looks at what should be a directory of ours and no link to one. `None`: there is nothing.
pub fn own_dir(path: &Path) -> Result<Option<Metadata>, DirError> {
    let found = match std::fs::symlink_metadata(path) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(None),
        found => found.map_err(|err| DirError::Io { path: path.to_owned(), err })?,
    };
    if found.file_type().is_symlink() {
        return Err(DirError::Symlink(path.to_owned()));
    }
    if !found.is_dir() {
        return Err(DirError::NotADirectory(path.to_owned()));
    }
    ours(path, &found)?;
    Ok(Some(found))
}

/// Looks at what should be ours, and whatever link leads there as well. `None`: there is nothing.
pub fn own_through_links(path: &Path) -> Result<Option<Metadata>, DirError> {
    let look = |found: io::Result<Metadata>| match found {
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(err) => Err(DirError::Io { path: path.to_owned(), err }),
        Ok(found) => ours(path, &found).map(|()| Some(found)),
    };
    look(std::fs::symlink_metadata(path))?;
    look(std::fs::metadata(path))
}

fn ours(path: &Path, found: &Metadata) -> Result<(), DirError> {
    match found.uid() {
        owner if owner == super::peer::effective_uid() => Ok(()),
        owner => Err(DirError::Foreign { path: path.to_owned(), owner }),
    }
}

/// Takes these rights away from what is at `path`, or at the end of a link of ours, if it is ours. Whether anybody had them.
pub fn take_away(path: &Path, rights: u32) -> Result<bool, DirError> {
    let Some(found) = own_through_links(path)?.filter(|found| found.mode() & rights != 0) else { return Ok(false) };
    let kept = Permissions::from_mode(found.mode() & 0o7777 & !rights);
    std::fs::set_permissions(path, kept).map_err(|err| DirError::Io { path: path.to_owned(), err })?;
    Ok(true)
}

/// Takes away what others may do with the file at `path`, if it is a regular file of ours. Whether they could do anything.
pub fn make_private(path: &Path) -> io::Result<bool> {
    let found = std::fs::symlink_metadata(path)?;
    let loose = found.is_file() && found.mode() & 0o077 != 0 && found.uid() == super::peer::effective_uid();
    if loose {
        std::fs::set_permissions(path, Permissions::from_mode(0o600))?;
    }
    Ok(loose)
}

/// From here on nothing this process creates can be read by anyone else (umask 077). The mask belongs to the whole
/// process: call it once, at the start, before there are threads.
pub fn umask_private() {
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use tempfile::tempdir;

    use super::*;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().mode() & 0o777
    }

    #[test]
    fn files_are_closed_to_others_and_links_are_left_alone() {
        let dir = tempdir().unwrap();
        let root = &dir.path().join("root");
        private_dir_checked(root).unwrap();
        let (file, link) = (root.join("file"), root.join("link"));
        std::fs::write(&file, "x").unwrap();
        std::fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
        symlink(&file, &link).unwrap();
        assert!(!make_private(&link).unwrap() && mode(&file) == 0o644);
        assert!(make_private(&file).unwrap() && mode(&file) == 0o600);
        assert!(!make_private(&file).unwrap() && !make_private(root).unwrap() && mode(root) == 0o700);
        assert!(make_private(&root.join("missing")).is_err());
    }

    #[test]
    fn rights_are_taken_away_through_links_from_what_is_ours() {
        let dir = tempdir().unwrap();
        let (file, link) = (dir.path().join("file"), dir.path().join("link"));
        symlink(&file, &link).unwrap();
        assert!(!take_away(&link, 0o077).unwrap(), "it leads nowhere");
        std::fs::write(&file, "x").unwrap();
        std::fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
        assert!(take_away(&link, 0o077).unwrap() && mode(&file) == 0o600 && !take_away(&link, 0o077).unwrap());
        std::fs::set_permissions(dir.path(), Permissions::from_mode(0o2775)).unwrap();
        assert!(take_away(dir.path(), 0o022).unwrap());
        assert_eq!(std::fs::metadata(dir.path()).unwrap().mode() & 0o7777, 0o2755, "and nothing else");
        if super::super::peer::effective_uid() != 0 {
            assert!(matches!(take_away(Path::new("/"), 0o022), Err(DirError::Foreign { owner: 0, .. })));
        }
    }

    #[test]
    fn makes_tightens_and_refuses() {
        let dir = tempdir().unwrap();
        let root = &dir.path().join("root");
        let deep = root.join("a/b");
        private_dir_checked(&deep).unwrap();
        assert_eq!((mode(&deep), mode(root)), (0o700, 0o700));

        std::fs::set_permissions(&deep, Permissions::from_mode(0o755)).unwrap();
        private_dir_checked(&deep).unwrap();
        assert_eq!(mode(&deep), 0o700);

        let link = root.join("link");
        symlink(&deep, &link).unwrap();
        assert!(matches!(private_dir_checked(&link), Err(DirError::Symlink(_))));
        let file = root.join("file");
        std::fs::write(&file, "").unwrap();
        assert!(matches!(private_dir_checked(&file), Err(DirError::NotADirectory(_))));
        assert!(matches!(private_dir_checked(&file.join("x")), Err(DirError::Io { .. })));
        if super::super::peer::effective_uid() != 0 {
            assert!(matches!(private_dir_checked(Path::new("/")), Err(DirError::Foreign { owner: 0, .. })));
        }
    }
}
