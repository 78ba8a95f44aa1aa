//! Asking the service manager, by its own command.

use std::io;
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::base::names::neutralise_line;
use crate::base::thread::{self, Joined};

/// Reads what a short command says.
const STACK: usize = 128 * 1024;

/// Why the manager did not do as it was told.
#[derive(Debug)]
pub enum Refused {
    /// Its command is not installed, or could not be run.
    Absent(io::Error),
    /// The command failed: the manager does not run, or does not want to.
    Failed(String),
    Late,
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Refused::Absent(err) => write!(f, "the service manager's command can not be run: {err}"),
            Refused::Failed(why) => f.write_str(why),
            Refused::Late => f.write_str("the service manager does not answer"),
        }
    }
}

impl std::error::Error for Refused {}

/// Runs a command of the manager's to its end.
pub fn tell(command: &[String], deadline: Instant) -> Result<(), Refused> {
    let Some((program, args)) = command.split_first() else { return Ok(()) };
    let child = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(Refused::Absent)?;
    let running = thread::spawn("manager", STACK, move || child.wait_with_output()).map_err(Refused::Absent)?;
    match running.join_by(deadline) {
        Joined::Ended(Ok(output)) if output.status.success() => Ok(()),
        Joined::Ended(Ok(output)) => {
            let said = String::from_utf8_lossy(&output.stderr);
            let first = said.lines().find(|line| !line.trim().is_empty()).unwrap_or("it gave no reason");
            Err(Refused::Failed(format!("{program}: {}", neutralise_line(first).chars().take(300).collect::<String>())))
        }
        Joined::Ended(Err(err)) => Err(Refused::Absent(err)),
        Joined::Panicked | Joined::Late => Err(Refused::Late),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn tell_sh(script: &str, patience: Duration) -> Result<(), Refused> {
        tell(&["sh", "-c", script].map(str::to_owned), Instant::now() + patience)
    }

    #[test]
    fn its_refusals_are_told_apart() {
        let long = Duration::from_secs(20);
        tell_sh("exit 0", long).unwrap();
        assert_eq!(tell_sh("echo no bus >&2; exit 1", long).unwrap_err().to_string(), "sh: no bus");
        assert!(matches!(tell(&["/no/such/command".to_owned()], Instant::now() + long), Err(Refused::Absent(_))));
        assert!(matches!(tell_sh("sleep 5", Duration::ZERO), Err(Refused::Late)));
    }
}
