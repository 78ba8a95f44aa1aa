//! `demo` and `launch` as whole pieces: everything is a real process.

use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use super::Quiet;
use crate::support::home::Home;
use crate::support::process::Process;

#[test]
fn the_demo_keeps_its_word_and_leaves_nothing_behind() {
    let home = Home::new();
    let mut command = home.command(&["demo", "--json"]);
    command.env("TMPDIR", home.path()).env("USER", "alice");
    let ended = Process::run(command);
    let report: Value = serde_json::from_str(&ended.out).unwrap_or_else(|err| panic!("{err}: {} {}", ended.out, ended.err));
    assert_eq!((ended.status.code(), &report["ok"]), (Some(0), &true.into()), "{report:#}");
    let messages = report["messages"].as_array().unwrap();
    assert_eq!(messages.len(), 3);
    for message in messages {
        assert_eq!(message["times_read"], 1, "{report:#}");
        let times: Vec<&str> =
            ["queued_at", "arrived_at", "offered_at"].iter().map(|state| message[state].as_str().unwrap()).collect();
        assert!(times.is_sorted(), "{report:#}");
    }
    assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 0, "its directory is gone, and this home was not used");
}

#[test]
fn claude_gets_its_session_and_its_server() {
    let home = Home::new();
    let _quiet = Quiet(&home);
    let claude = home.join("claude");
    std::fs::write(&claude, "#!/bin/sh\nfor word; do echo \"$word\"; done\necho \"$CLAUDEMESH_SESSION_ID\"\n").unwrap();
    std::fs::set_permissions(&claude, std::fs::Permissions::from_mode(0o755)).unwrap();
    let launch = |args: &[&str]| {
        let mut command = home.command(&[&["launch", "--quiet", "--name", "bob"], args].concat());
        command.env("PATH", format!("{}:/usr/bin:/bin", home.path().display()));
        let ended = Process::run(command);
        assert!(ended.status.success(), "{}", ended.err);
        ended.out.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let config =
        format!(r#"{{"mcpServers":{{"claudemesh":{{"args":["mcp"],"command":"{}"}}}}}}"#, crate::support::home::CLAUDEMESH);
    let fresh = launch(&["--", "--model", "opus"]);
    assert_eq!(fresh[0], "--session-id");
    assert_eq!(fresh[2..5], ["--mcp-config", &config, "--settings"].map(str::to_owned));
    assert!(fresh[5].contains(r#""args":["hook","UserPromptSubmit"]"#), "{}", fresh[5]);
    assert_eq!(fresh[6..8], ["--model", "opus"].map(str::to_owned));
    assert_eq!(fresh[8], fresh[1], "one id for claude and for the mesh");
    assert!(!home.join(".claude").exists() && !home.join(".claude.json").exists(), "for this run alone");
    let own = launch(&["--", "--settings", r#"{"model":"opus"}"#, "--verbose"]);
    assert_eq!(own[4], "--settings");
    assert!(own[5].contains(r#""model":"opus""#) && own[5].contains("UserPromptSubmit"), "both: {}", own[5]);
    assert_eq!(own[6], "--verbose", "once");
    let named = launch(&["--", "--resume", &fresh[1]]);
    assert_eq!(named.iter().filter(|word| **word == fresh[1]).count(), 2, "the id that was named is the session's: {named:?}");
    assert!(!named.contains(&"--session-id".to_owned()), "{named:?}");
    // Once they are in the user's own settings, hooks of the run would be second ones.
    assert!(Process::run(home.command(&["install"])).status.success());
    assert!(!launch(&[]).contains(&"--settings".to_owned()));
    assert!(launch(&["--", "--setting-sources", "project"]).contains(&"--settings".to_owned()));
    assert!(Process::run(home.command(&["uninstall"])).status.success());
    let resumed = launch(&["--resume", &fresh[1]]);
    assert_eq!(resumed[..2], ["--resume".to_owned(), fresh[1].clone()]);
    assert_eq!(resumed.last(), fresh.get(1));
    assert_eq!(launch(&["--continue"])[0], "--continue");
}
