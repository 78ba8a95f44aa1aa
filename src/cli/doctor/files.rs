//! This program's own files: whether they make sense, and who can read them.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::{Finding, Scene};
use crate::base::config::{self, Config};
use crate::base::settings::{self, Settings};
use crate::client::host;

/// Rights of others, group and all.
const OTHERS: u32 = 0o077;

pub(super) fn socket(scene: &Scene) -> Vec<Finding> {
    let path = scene.paths.socket();
    match (&scene.health, fs::symlink_metadata(&path)) {
        // That nobody listens has been said.
        (Err(_), _) => Vec::new(),
        (Ok(_), Ok(found)) if found.mode() & OTHERS != 0 => {
            vec![Finding::failed(format!("{} is open to others", path.display()), format!("chmod go-rwx {}", quoted(&path)))]
        }
        (Ok(_), Ok(_)) => vec![Finding::ok(path.display().to_string())],
        (Ok(_), Err(err)) => vec![Finding::failed(format!("{}: {err}", path.display()), "claudemesh daemon restart")],
    }
}

pub(super) fn config(scene: &Scene) -> Vec<Finding> {
    let path = scene.paths.config_file();
    vec![match Config::load(&path) {
        Ok(config) => Finding::ok(match config.meshes.len() {
            1 => "1 mesh is joined".to_owned(),
            count => format!("{count} meshes are joined"),
        }),
        Err(err) => {
            let cause =
                matches!(&err, config::Error::Read(_, why) if is_denied(why)).then(|| unreadable(&path, host::uid())).flatten();
            Finding::failed(err.to_string(), cause.unwrap_or_else(|| aside(&path)))
        }
    }]
}

pub(super) fn settings(scene: &Scene) -> Vec<Finding> {
    let path = scene.paths.settings_file();
    match Settings::load(&path) {
        Err(err) => {
            let cause =
                matches!(&err, settings::Error::Read(_, why) if is_denied(why)).then(|| unreadable(&path, host::uid())).flatten();
            vec![Finding::failed(err.to_string(), cause.unwrap_or_else(|| aside(&path)))]
        }
        Ok(_) if path.exists() => vec![Finding::ok(path.display().to_string())],
        // Nothing was wanted otherwise.
        Ok(_) => Vec::new(),
    }
}

pub(super) fn permissions(scene: &Scene) -> Vec<Finding> {
    let paths = &scene.paths;
    let directories = [paths.daemon_dir().to_owned(), paths.sessions_dir().to_owned()];
    let mut found: Vec<Finding> = directories.iter().filter_map(|path| elsewhere(path)).collect();
    let ours = [
        paths.config_dir().to_owned(),
        paths.config_file(),
        paths.local_token(),
        paths.outbox_db(),
        paths.inbox_db(),
        paths.settings_file(),
    ];
    let seen = ours.into_iter().chain(directories).filter_map(|path| Some((fs::metadata(&path).ok()?, path)));
    // What another user owns is that user's to open and to close.
    let (own, foreign): (Vec<_>, Vec<_>) = seen.partition(|(found, _)| found.uid() == host::uid());
    found.extend(named(foreign.iter().map(|(_, path)| path)).map(|(shown, named)| {
        let advice =
            "see whether they should be yours: if not, name other directories with CLAUDEMESH_HOME or CLAUDEMESH_DAEMON_DIR";
        Finding::failed(format!("another user owns {shown}"), format!("sudo chown {} {named}", host::uid())).after(advice)
    }));
    let open = own.iter().filter(|(found, _)| found.mode() & OTHERS != 0);
    found.extend(
        named(open.map(|(_, path)| path))
            .map(|(shown, named)| Finding::failed(format!("others can reach {shown}"), format!("chmod go-rwx {named}"))),
    );
    if found.is_empty() {
        found.push(Finding::ok("the files are yours alone"));
    }
    found
}

/// These paths, if there are any: as they are read, and as a shell reads them.
fn named<'a>(paths: impl Iterator<Item = &'a PathBuf>) -> Option<(String, String)> {
    let (shown, named): (Vec<_>, Vec<_>) = paths.map(|path| (path.display().to_string(), quoted(path))).unzip();
    (!shown.is_empty()).then(|| (shown.join(", "), named.join(" ")))
}

/// What is said of a directory that is a link: the daemon takes none, whoever made it.
fn elsewhere(path: &Path) -> Option<Finding> {
    let to = fs::read_link(path).ok()?;
    let to = path.parent().map_or(to.clone(), |parent| parent.join(&to));
    let text = format!("{} is a link to {}", path.display(), to.display());
    let advice = "the daemon keeps its files in no place that a link leads to, which could be led elsewhere: put the directory \
                  itself there";
    let away = format!("rm {}", quoted(path));
    let fix = if to.exists() { format!("{away} && mv {} {}", quoted(&to), quoted(path)) } else { away };
    Some(Finding::failed(text, fix).after(advice))
}

fn is_denied(err: &io::Error) -> bool {
    err.kind() == io::ErrorKind::PermissionDenied
}

/// The command that lets this user read a file, or what stands above it, where rights are what keeps it from that.
fn unreadable(path: &Path, user: u32) -> Option<String> {
    // The first on the way down that can not be entered or read hides all below it.
    let way: Vec<&Path> = path.ancestors().collect();
    way.into_iter().rev().find_map(|part| {
        let found = fs::metadata(part).ok()?;
        let needed = if found.is_dir() { 0o500 } else { 0o400 };
        match (found.uid() == user, found.mode() & needed == needed) {
            (true, true) => None,
            (true, false) => Some(format!("chmod u+{} {}", if found.is_dir() { "rwx" } else { "r" }, quoted(part))),
            (false, _) if found.mode() & (needed >> 6) == needed >> 6 => None,
            (false, _) => Some(format!("sudo chown {user} {}", quoted(part))),
        }
    })
}

/// Moves a file out of the way, and keeps it.
fn aside(path: &Path) -> String {
    let path = quoted(path);
    format!("mv {path} {path}.broken")
}

/// A path as a shell reads it.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = text.chars().all(|c| c.is_alphanumeric() || "/._-".contains(c));
    if is_plain { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_names_its_file_as_a_shell_reads_it() {
        assert_eq!(aside(Path::new("/h/config.json")), "mv /h/config.json /h/config.json.broken");
        assert_eq!(quoted(Path::new("/a b/it's")), r"'/a b/it'\''s'");
    }

    #[test]
    fn what_keeps_a_user_from_a_file_is_found_on_the_way_to_it() {
        use std::os::unix::fs::PermissionsExt;

        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("dir");
        let file = dir.join("file");
        fs::create_dir(&dir).unwrap();
        fs::write(&file, "").unwrap();
        let me = fs::metadata(&file).unwrap().uid();
        let mode = |path: &Path, mode: u32| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        mode(root.path(), 0o755);
        mode(&dir, 0o755);
        mode(&file, 0o644);
        assert_eq!((unreadable(&file, me), unreadable(&file, me + 1)), (None, None));
        mode(&file, 0o200);
        assert_eq!(unreadable(&file, me), Some(format!("chmod u+r {}", quoted(&file))));
        assert_eq!(unreadable(&file, me + 1), Some(format!("sudo chown {} {}", me + 1, quoted(&file))));
        mode(&dir, 0o600);
        assert_eq!(unreadable(&file, me), Some(format!("chmod u+rwx {}", quoted(&dir))));
        assert_eq!(unreadable(&file, me + 1), Some(format!("sudo chown {} {}", me + 1, quoted(&dir))));
        mode(&dir, 0o700);
    }
}
