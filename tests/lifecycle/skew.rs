//! A daemon of another version: who hears of it, and what can be done about it at once.

use super::terminal::run_at_terminal;
use super::*;
use crate::support::home::CLAUDEMESH;
use crate::support::servers::Daemon;

const OURS: &str = env!("CARGO_PKG_VERSION");

/// A version as long as ours, and another.
fn theirs() -> String {
    OURS.chars().map(|c| if c.is_ascii_digit() { '9' } else { c }).collect()
}

/// Starts a daemon that says it is of another version: this very program, but for the text of its version.
fn up_another(home: &Home) -> u32 {
    let (copy, pattern) = (home.join("another"), OURS.replace('.', "\\."));
    let edit = format!("LC_ALL=C sed 's/{pattern}/{}/g' '{CLAUDEMESH}' >\"$1\" && chmod 700 \"$1\"", theirs());
    assert!(Command::new("sh").args(["-c", &edit, "sh"]).arg(&copy).status().unwrap().success());
    let mut command = Command::new(&copy);
    let like = home.command(&["up", "--json"]);
    command.args(like.get_args());
    for (name, value) in like.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let ended = Process::run(command);
    assert!(ended.status.success(), "{ended:?}");
    let answer: Value = serde_json::from_str(&ended.out).unwrap();
    u32::try_from(answer["pid"].as_u64().unwrap()).unwrap()
}

#[test]
fn another_version_is_seen_and_can_be_replaced() {
    let home = Home::new();
    let _quiet = Quiet(&home);
    let another = up_another(&home);
    let differ = format!("the daemon is {}, this command is {OURS}", theirs());

    // Programs that read the output are not bothered; whoever asks is told.
    let quiet = run(&home, &["inbox"]);
    assert!(quiet.status.success() && quiet.err.is_empty(), "{quiet:?}");
    for args in [&["status"][..], &["daemon", "status"], &["up"]] {
        let told = run(&home, args);
        assert!(told.err.contains(&differ) && told.err.contains("claudemesh daemon restart"), "{args:?}: {told:?}");
        assert!(told.err.lines().count() == 1, "{args:?}: {told:?}");
    }
    for args in [&["status", "--json"][..], &["daemon", "status", "--json"]] {
        let answer: Value = serde_json::from_str(&run(&home, args).out).unwrap();
        assert_eq!((answer["version"].as_str(), answer["daemon_version"].as_str()), (Some(OURS), Some(theirs().as_str())));
    }
    let answer: Value = serde_json::from_str(&run(&home, &["up", "--json"]).out).unwrap();
    assert_eq!(answer["daemon_version"].as_str(), Some(theirs().as_str()));

    let report: Value = serde_json::from_str(&run(&home, &["doctor", "--json"]).out).unwrap();
    let line = report["checks"].as_array().unwrap().iter().find(|line| line["check"] == "version").unwrap();
    assert_eq!((line["text"].as_str(), line["fix"].as_str()), (Some(differ.as_str()), Some("claudemesh daemon restart")));

    // People are told in one line, and asked once where it is the time for it.
    let (status, seen) = run_at_terminal(home.command(&["inbox"]), "");
    assert!(status.success() && seen.matches(&differ).count() == 1, "{seen}");
    let (status, seen) = run_at_terminal(home.command(&["up"]), "n\n");
    assert!(status.success() && seen.matches("[y/N]").count() == 1 && seen.contains("already running"), "{seen}");
    assert!(claudemesh::sys::process::alive(another));
    let (status, seen) = run_at_terminal(home.command(&["launch", "--", "true"]), "y\n");
    assert!(status.success() && seen.matches("[y/N]").count() == 1, "{seen}");
    assert!(!claudemesh::sys::process::alive(another));
    let version = run(&home, &["daemon", "version"]);
    assert!(version.out.contains(OURS), "{version:?}");
    let (status, seen) = run_at_terminal(home.command(&["up"]), "");
    assert!(status.success() && !seen.contains("[y/N]") && !seen.contains(&differ), "{seen}");
}

#[test]
fn every_answer_names_the_version() {
    let home = Home::new();
    let daemon = Daemon::start(home.path());
    for path in ["/v1/version", "/v1/inbox", "/v1/nowhere"] {
        let reply = daemon.get(path);
        assert!(reply.head.to_ascii_lowercase().contains(&format!("x-claudemesh-version: {OURS}")), "{path}: {reply:?}");
    }
}
