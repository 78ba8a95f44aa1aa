//! The daemon's unit for a service manager: its text, and putting it into place. Nothing here runs a command.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::base::atomic_file;
use crate::base::paths::Paths;
use crate::base::service::{LABEL, Manager};

/// Environment that moves the daemon's files: a service that is installed under it must run under it.
const MOVED_BY: [&str; 3] = ["CLAUDEMESH_HOME", "CLAUDEMESH_DAEMON_DIR", "CLAUDEMESH_SESSIONS_DIR"];

/// Where programs are, for whatever the daemon may come to start.
const PATH: [(Manager, &str); 2] = [
    (Manager::Systemd, "/usr/local/bin:/usr/bin:/bin"),
    (Manager::Launchd, "/usr/local/bin:/opt/homebrew/bin:/usr/bin:/bin:/usr/sbin:/sbin"),
];

/// What a unit says about the machine at hand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    manager: Manager,
    unit_file: PathBuf,
    executable: String,
    home: String,
    log: String,
    env: Vec<(&'static str, String)>,
}

/// Why there can be no unit.
#[derive(Debug)]
pub enum ServiceError {
    NoHome,
    /// What is to be run is not there.
    NoBinary(PathBuf),
    /// A path that a unit can not say: relative, not text, or of several lines.
    Path(PathBuf),
    Io(PathBuf, io::Error),
}

impl fmt::Display for ServiceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ServiceError::NoHome => f.write_str("HOME is not set"),
            ServiceError::NoBinary(path) => write!(f, "binary not found at {}", path.display()),
            ServiceError::Path(path) => write!(f, "a unit can not name {path:?}: it must be absolute, and plain text"),
            ServiceError::Io(path, err) => write!(f, "{}: {err}", path.display()),
        }
    }
}

impl std::error::Error for ServiceError {}

impl Service {
    /// The unit that runs `executable` as the daemon of `paths`.
    pub fn new(
        manager: Manager,
        executable: &Path,
        paths: &Paths,
        var: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Service, ServiceError> {
        if !executable.is_file() {
            return Err(ServiceError::NoBinary(executable.to_owned()));
        }
        let mut env = Vec::new();
        for name in MOVED_BY {
            if let Some(dir) = var(name).filter(|dir| !dir.is_empty()) {
                env.push((name, text(Path::new(&dir))?));
            }
        }
        let home = var("HOME").filter(|home| !home.is_empty()).map(PathBuf::from).ok_or(ServiceError::NoHome)?;
        Ok(Service {
            manager,
            unit_file: manager.unit_file(&var).ok_or(ServiceError::NoHome)?,
            executable: text(executable)?,
            home: text(&home)?,
            log: text(&paths.log_file())?,
            env,
        })
    }

    pub fn unit_file(&self) -> &Path {
        &self.unit_file
    }

    /// The unit's text.
    pub fn text(&self) -> String {
        match self.manager {
            Manager::Systemd => self.unit(),
            Manager::Launchd => self.plist(),
        }
    }

    /// Writes the unit's file, replacing what was there, and makes the directory of the log.
    pub fn install(&self) -> Result<(), ServiceError> {
        // The manager opens the log before the daemon can make its directory.
        for dir in [self.unit_file.parent(), Path::new(&self.log).parent()].into_iter().flatten() {
            atomic_file::private_dir(dir).map_err(|err| ServiceError::Io(dir.to_owned(), err))?;
        }
        atomic_file::write(&self.unit_file, self.text().as_bytes()).map_err(|err| ServiceError::Io(self.unit_file.clone(), err))
    }

    fn variables(&self) -> impl Iterator<Item = (&str, &str)> {
        let path = PATH.iter().find(|(manager, _)| *manager == self.manager).map(|(_, path)| ("PATH", *path));
        path.into_iter().chain(self.env.iter().map(|(name, value)| (*name, value.as_str())))
    }

    fn unit(&self) -> String {
        let environment: String =
            self.variables().map(|(name, value)| format!("Environment={}\n", quote(&format!("{name}={value}"), false))).collect();
        let log = self.log.replace('%', "%%");
        UNIT_TEMPLATE
            .replace("{EXECUTABLE}", &quote(&self.executable, true))
            .replace("{LOG}", &log)
            .replace("{ENVIRONMENT}", &environment)
    }

    fn plist(&self) -> String {
        let home = ("HOME", self.home.as_str());
        let environment: String = std::iter::once(home)
            .chain(self.variables())
            .map(|(name, value)| format!("    <key>{name}</key>\n    <string>{}</string>\n", escape(value)))
            .collect();
        PLIST_TEMPLATE
            .replace("{LABEL}", LABEL)
            .replace("{EXECUTABLE}", &escape(&self.executable))
            .replace("{HOME}", &escape(&self.home))
            .replace("{LOG}", &escape(&self.log))
            .replace("{ENVIRONMENT}", &environment)
    }
}

/// Removes a unit's file; whether there was one.
pub fn remove(unit_file: &Path) -> Result<bool, ServiceError> {
    match std::fs::remove_file(unit_file) {
        Ok(()) => Ok(true),
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(err) => Err(ServiceError::Io(unit_file.to_owned(), err)),
    }
}

fn text(path: &Path) -> Result<String, ServiceError> {
    let plain = path.to_str().filter(|text| path.is_absolute() && !text.chars().any(char::is_control));
    plain.map(str::to_owned).ok_or_else(|| ServiceError::Path(path.to_owned()))
}

/// A word as systemd.syntax(7) and systemd.service(5) read it. Only in commands does a dollar mean anything.
fn quote(word: &str, command: bool) -> String {
    let harmless = |c: char| c.is_ascii_alphanumeric() || "_@+=:,./-".contains(c);
    if word.chars().all(harmless) {
        return word.to_owned();
    }
    let escaped = word.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%");
    format!("\"{}\"", if command { escaped.replace('$', "$$") } else { escaped })
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

const UNIT_TEMPLATE: &str = "\
[Unit]
Description=claudemesh daemon (peer mesh runtime)
Documentation=man:claudemesh(1)

[Service]
Type=notify
ExecStart={EXECUTABLE} daemon up --foreground
ExecReload=/bin/kill -HUP $MAINPID
Restart=always
RestartSec=3
RestartPreventExitStatus=4
TimeoutStopSec=20
WatchdogSec=60
StandardOutput=append:{LOG}
StandardError=append:{LOG}
{ENVIRONMENT}
NoNewPrivileges=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM
UMask=0077

[Install]
WantedBy=default.target
";

const PLIST_TEMPLATE: &str = "\
<?xml version=\"1.0\" encoding=\"UTF-8\"?>
<!DOCTYPE plist PUBLIC \"-//Apple//DTD PLIST 1.0//EN\" \"http://www.apple.com/DTDs/PropertyList-1.0.dtd\">
<plist version=\"1.0\">
<dict>
  <key>Label</key>
  <string>{LABEL}</string>
  <key>ProgramArguments</key>
  <array>
    <string>{EXECUTABLE}</string>
    <string>daemon</string>
    <string>up</string>
    <string>--foreground</string>
  </array>
  <key>RunAtLoad</key>
  <true/>
  <key>KeepAlive</key>
  <true/>
  <key>WorkingDirectory</key>
  <string>{HOME}</string>
  <key>StandardOutPath</key>
  <string>{LOG}</string>
  <key>StandardErrorPath</key>
  <string>{LOG}</string>
  <key>EnvironmentVariables</key>
  <dict>
{ENVIRONMENT}  </dict>
</dict>
</plist>
";

#[cfg(test)]
mod tests {
    use tempfile::tempdir;

    use super::*;

    fn service(manager: Manager, root: &Path, moved: Option<&str>) -> Result<Service, ServiceError> {
        let exe = root.join("a b$c/claudemesh");
        std::fs::create_dir_all(exe.parent().unwrap()).unwrap();
        std::fs::write(&exe, "").unwrap();
        Service::new(manager, &exe, &Paths::under(&root.join("x&y 100%")), |name| match name {
            "HOME" => Some(root.as_os_str().to_owned()),
            "CLAUDEMESH_HOME" => moved.map(OsString::from),
            _ => None,
        })
    }

    #[test]
    fn paths_are_said_as_each_manager_reads_them() {
        let dir = tempdir().unwrap();
        let root = dir.path();
        let at = root.display();
        let unit = service(Manager::Systemd, root, Some("/m \"q\" 5%")).unwrap().text();
        for line in [
            format!("ExecStart=\"{at}/a b$$c/claudemesh\" daemon up --foreground"),
            format!("StandardError=append:{at}/x&y 100%%/daemon/daemon.log"),
            "Environment=PATH=/usr/local/bin:/usr/bin:/bin".to_owned(),
            r#"Environment="CLAUDEMESH_HOME=/m \"q\" 5%%""#.to_owned(),
            "Type=notify".to_owned(),
        ] {
            assert!(unit.lines().any(|found| found == line), "{line} in:\n{unit}");
        }
        let plist = service(Manager::Launchd, root, None).unwrap().text();
        for line in
            [format!("<string>{at}/x&amp;y 100%/daemon/daemon.log</string>"), format!("<string>{at}/a b$c/claudemesh</string>")]
        {
            assert!(plist.contains(&line), "{line} in:\n{plist}");
        }
        assert!(!unit.contains('{') && !plist.contains('{'), "nothing is left to be filled in");
        for bad in ["relative", "/two\nlines"] {
            assert!(matches!(service(Manager::Systemd, root, Some(bad)), Err(ServiceError::Path(_))), "{bad}");
        }
    }

    #[test]
    fn is_written_whole_and_removed() {
        let dir = tempdir().unwrap();
        let root = dir.path();
        let service = service(Manager::Systemd, root, None).unwrap();
        service.install().unwrap();
        service.install().unwrap();
        assert_eq!(std::fs::read_to_string(service.unit_file()).unwrap(), service.text());
        assert!(root.join("x&y 100%/daemon").is_dir());
        assert!(remove(service.unit_file()).unwrap() && !remove(service.unit_file()).unwrap());
        assert!(matches!(
            Service::new(Manager::Systemd, &root.join("missing"), &Paths::under(root), |_| None),
            Err(ServiceError::NoBinary(_))
        ));
    }

    /// What packages install differs only in what depends on the user.
    #[test]
    fn the_packaged_unit_is_the_same() {
        let packaged = include_str!("../../contrib/systemd/claudemesh-daemon.service");
        let settings = |unit: &str| -> Vec<String> {
            let varies =
                |line: &str| ["ExecStart=", "Standard", "Environment=", "{", "#"].iter().any(|start| line.starts_with(start));
            unit.lines().filter(|line| !line.is_empty() && !varies(line)).map(str::to_owned).collect()
        };
        assert_eq!(settings(packaged), settings(UNIT_TEMPLATE));
    }
}
