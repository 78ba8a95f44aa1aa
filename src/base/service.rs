//! The daemon as a service of its user: what its unit is called, where the unit's file lies, which commands speak about it.
//! Names and places are the reference's, so that each program finds what the other installed.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::paths::Paths;

/// systemd's name for it.
pub const UNIT: &str = "claudemesh-daemon.service";

/// launchd's name for it.
pub const LABEL: &str = "com.claudemesh.daemon";

/// Largest unit file that is looked into.
const MAX_UNIT: u64 = 64 * 1024;

/// Who keeps a user's services.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manager {
    Systemd,
    Launchd,
}

impl Manager {
    /// The one that systems of this kind have; whether it runs is another question.
    pub fn of_this_system() -> Option<Manager> {
        match std::env::consts::OS {
            "linux" => Some(Manager::Systemd),
            "macos" => Some(Manager::Launchd),
            _ => None,
        }
    }

    /// As the reference names the platform.
    pub fn platform(self) -> &'static str {
        match self {
            Manager::Systemd => "linux",
            Manager::Launchd => "darwin",
        }
    }

    /// Where a user's own unit lies. `None` without a home.
    pub fn unit_file(self, var: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
        // A relative XDG_CONFIG_HOME is to be ignored, says the XDG base directory specification.
        let dir = |name: &str| var(name).map(PathBuf::from).filter(|dir| dir.is_absolute());
        Some(match self {
            Manager::Systemd => {
                dir("XDG_CONFIG_HOME").or_else(|| Some(dir("HOME")?.join(".config")))?.join("systemd/user").join(UNIT)
            }
            Manager::Launchd => dir("HOME")?.join("Library/LaunchAgents").join(format!("{LABEL}.plist")),
        })
    }

    /// Commands that bring up a unit whose file was just written.
    pub fn boot(self, unit_file: &Path, uid: u32) -> Vec<Vec<String>> {
        match self {
            Manager::Systemd => {
                vec![words("systemctl --user daemon-reload"), words(&format!("systemctl --user enable --now {UNIT}"))]
            }
            Manager::Launchd => {
                let mut command = words(&format!("launchctl bootstrap gui/{uid}"));
                command.push(unit_file.display().to_string());
                vec![command]
            }
        }
    }

    /// Starts the service, and does not wait for it. `anew`: ends a process of it first that waits to fail.
    pub fn start(self, uid: u32, anew: bool) -> Vec<String> {
        words(&match (self, anew) {
            (Manager::Systemd, false) => format!("systemctl --user --no-block start {UNIT}"),
            (Manager::Systemd, true) => format!("systemctl --user --no-block restart {UNIT}"),
            (Manager::Launchd, false) => format!("launchctl kickstart gui/{uid}/{LABEL}"),
            (Manager::Launchd, true) => format!("launchctl kickstart -k gui/{uid}/{LABEL}"),
        })
    }

    /// Stops the service for good.
    pub fn disable(self, uid: u32) -> Vec<String> {
        match self {
            Manager::Systemd => words(&format!("systemctl --user disable --now {UNIT}")),
            Manager::Launchd => words(&format!("launchctl bootout gui/{uid}/{LABEL}")),
        }
    }

    /// What a person types to stop the service until it is started again.
    pub fn stop_text(self) -> String {
        match self {
            Manager::Systemd => format!("systemctl --user stop {UNIT}"),
            Manager::Launchd => format!("launchctl bootout gui/$(id -u)/{LABEL}"),
        }
    }

    /// What a person types to see how the service is.
    pub fn status_text(self) -> String {
        match self {
            Manager::Systemd => format!("systemctl --user status {UNIT}"),
            Manager::Launchd => format!("launchctl print gui/$(id -u)/{LABEL}"),
        }
    }

    /// What a person types once the unit's file is gone, if anything.
    pub fn forget_text(self) -> Option<&'static str> {
        match self {
            Manager::Systemd => Some("systemctl --user daemon-reload"),
            Manager::Launchd => None,
        }
    }
}

fn words(command: &str) -> Vec<String> {
    command.split(' ').map(str::to_owned).collect()
}

/// Whether a service manager started this very process, as it says in the environment. What it leaves there is handed down
/// to everything that a service starts.
pub fn is_service(var: impl Fn(&str) -> Option<OsString>, pid: u32) -> bool {
    let own = var("SYSTEMD_EXEC_PID").is_none_or(|text| text.to_str().is_some_and(|text| text.parse() == Ok(pid)));
    (var("INVOCATION_ID").is_some() && own) || var("XPC_SERVICE_NAME").is_some_and(|name| name == LABEL)
}

/// The manager that has a unit for the daemon of these files, if one has.
pub fn manager_of(paths: &Paths, var: impl Fn(&str) -> Option<OsString>) -> Option<Manager> {
    let manager = Manager::of_this_system()?;
    is_managed(manager, paths, var).then_some(manager)
}

fn is_managed(manager: Manager, paths: &Paths, var: impl Fn(&str) -> Option<OsString>) -> bool {
    let Some(own) = manager.unit_file(&var) else { return false };
    // A unit that a package brought has no file of the user's, only a link that enables it.
    let enabled = own.with_file_name("default.target.wants").join(UNIT);
    let usual = || Paths::from_env(super::paths::View::Daemon, |name| var(name).filter(|_| name == "HOME"));
    [own, enabled].iter().filter_map(|file| read(file)).any(|unit| {
        match unit.contains("append:") || unit.contains("StandardOutPath") {
            true => unit.contains(&paths.log_file().display().to_string()),
            false => usual().is_some_and(|usual| usual.daemon_dir() == paths.daemon_dir()),
        }
    })
}

fn read(file: &Path) -> Option<String> {
    let mut text = String::new();
    File::open(file).ok()?.take(MAX_UNIT).read_to_string(&mut text).ok()?;
    Some(text)
}

#[cfg(test)]
mod tests {
    use tempfile::tempdir;

    use super::*;

    #[test]
    fn units_lie_where_the_managers_look() {
        let file = |manager: Manager, pairs: &[(&str, &str)]| {
            manager.unit_file(|name| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| OsString::from(value)))
        };
        for (manager, pairs, expected) in [
            (Manager::Systemd, &[("HOME", "/h")][..], Some("/h/.config/systemd/user/claudemesh-daemon.service")),
            (Manager::Systemd, &[("HOME", "/h"), ("XDG_CONFIG_HOME", "/x")], Some("/x/systemd/user/claudemesh-daemon.service")),
            (
                Manager::Systemd,
                &[("HOME", "/h"), ("XDG_CONFIG_HOME", "x")],
                Some("/h/.config/systemd/user/claudemesh-daemon.service"),
            ),
            (Manager::Launchd, &[("HOME", "/h")], Some("/h/Library/LaunchAgents/com.claudemesh.daemon.plist")),
            (Manager::Systemd, &[], None),
        ] {
            assert_eq!(file(manager, pairs), expected.map(PathBuf::from));
        }
    }

    #[test]
    fn what_a_service_starts_is_no_service() {
        for (pairs, expected) in [
            (&[][..], false),
            (&[("INVOCATION_ID", "ab")], true),
            (&[("INVOCATION_ID", "ab"), ("SYSTEMD_EXEC_PID", "7")], true),
            (&[("INVOCATION_ID", "ab"), ("SYSTEMD_EXEC_PID", "8")], false),
            (&[("SYSTEMD_EXEC_PID", "7")], false),
            (&[("XPC_SERVICE_NAME", LABEL)], true),
            (&[("XPC_SERVICE_NAME", "0")], false),
        ] {
            let var = |name: &str| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| OsString::from(value));
            assert_eq!(is_service(var, 7), expected, "{pairs:?}");
        }
    }

    #[test]
    fn a_unit_manages_only_the_files_it_is_for() {
        let dir = tempdir().unwrap();
        let root = dir.path();
        let var = |name: &str| (name == "HOME").then(|| root.as_os_str().to_owned());
        let (usual, other) = (Paths::under(&root.join(".claudemesh")), Paths::under(&root.join("other")));
        let managed = |paths| is_managed(Manager::Systemd, paths, var);
        assert!(!managed(&usual));
        let own = Manager::Systemd.unit_file(var).unwrap();
        let enabled = own.with_file_name("default.target.wants").join(UNIT);
        std::fs::create_dir_all(enabled.parent().unwrap()).unwrap();
        std::fs::write(&own, format!("[Service]\nStandardOutput=append:{}\n", other.log_file().display())).unwrap();
        assert!(managed(&other) && !managed(&usual));
        // One that a package brought says nothing of a log, and is for the usual place.
        std::fs::write(&enabled, "[Service]\nType=notify\n").unwrap();
        assert!(managed(&other) && managed(&usual));
        assert!(!managed(&Paths::under(&root.join("third"))));
    }
}
