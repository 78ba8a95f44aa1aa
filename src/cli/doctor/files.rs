//! This program's own files: whether they make sense, and who can read them.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::{Finding, Scene};
use crate::base::config::Config;
use crate::base::settings::Settings;

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
        Err(err) => Finding::failed(err.to_string(), aside(&path)),
    }]
}

pub(super) fn settings(scene: &Scene) -> Vec<Finding> {
    let path = scene.paths.settings_file();
    match Settings::load(&path) {
        Err(err) => vec![Finding::failed(err.to_string(), aside(&path))],
        Ok(_) if path.exists() => vec![Finding::ok(path.display().to_string())],
        // Nothing was wanted otherwise.
        Ok(_) => Vec::new(),
    }
}

pub(super) fn permissions(scene: &Scene) -> Vec<Finding> {
    let paths = &scene.paths;
    let ours = [
        paths.config_dir().to_owned(),
        paths.config_file(),
        paths.daemon_dir().to_owned(),
        paths.sessions_dir().to_owned(),
        paths.local_token(),
        paths.outbox_db(),
        paths.inbox_db(),
        paths.settings_file(),
    ];
    let open: Vec<PathBuf> =
        ours.into_iter().filter(|path| fs::metadata(path).is_ok_and(|found| found.mode() & OTHERS != 0)).collect();
    if open.is_empty() {
        return vec![Finding::ok("the files are yours alone")];
    }
    let (shown, named): (Vec<_>, Vec<_>) = open.iter().map(|path| (path.display().to_string(), quoted(path))).unzip();
    vec![Finding::failed(format!("others can reach {}", shown.join(", ")), format!("chmod go-rwx {}", named.join(" ")))]
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
}
