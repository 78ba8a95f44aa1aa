//! `install` and `uninstall` on the client's own files.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;

use crate::support::home::Home;
use crate::support::model::claude;
use crate::support::process::{Ended, Process};

const STATE: &str =
    "{\n  \"zeta\": 1,\n  \"mcpServers\": {\n    \"other\": {\n      \"command\": \"x\"\n    }\n  },\n  \"alpha\": {}\n}\n";

fn run(home: &Home, args: &[&str]) -> Ended {
    Process::run(home.command(args))
}

fn read(home: &Home, name: &str) -> String {
    fs::read_to_string(home.join(name)).unwrap_or_default()
}

#[test]
fn what_install_adds_uninstall_takes_away_and_nothing_else_changes() {
    let home = Home::new();
    fs::write(home.join(".claude.json"), STATE).unwrap();
    fs::create_dir(home.join(".claude")).unwrap();
    // Kept elsewhere, as people do who have their settings under version control.
    fs::write(home.join("dotfiles.json"), "{\"model\": \"opus\"}").unwrap();
    symlink(home.join("dotfiles.json"), home.join(".claude/settings.json")).unwrap();

    let dry = run(&home, &["install", "--dry-run"]);
    assert!(dry.status.success() && dry.out.contains("+     \"claudemesh\": {"), "{dry:?}");
    assert_eq!(read(&home, ".claude.json"), STATE, "nothing is changed yet");

    let installed = run(&home, &["install"]);
    assert!(installed.status.success(), "{installed:?}");
    let after = [read(&home, ".claude.json"), read(&home, "dotfiles.json"), read(&home, ".claude/skills/claudemesh/SKILL.md")];
    assert!(after[0].find("zeta") < after[0].find("mcpServers") && after[0].find("\"claudemesh\"") < after[0].find("alpha"));
    assert!(after[1].contains("\"model\": \"opus\"") && after[1].contains("UserPromptSubmit"));
    assert!(after[2].starts_with("---\nname: claudemesh\n"));
    assert_eq!(read(&home, ".claude.json.before-claudemesh"), STATE);
    assert!(home.join(".claude/settings.json").is_symlink());
    assert_eq!(fs::metadata(home.join(".claude.json")).unwrap().permissions().mode() & 0o777, 0o600);

    let again = run(&home, &["install", "--json"]);
    assert!(again.out.contains(r#""changed":[]"#), "{again:?}");
    assert_eq!(read(&home, ".claude.json"), after[0]);

    let removed = run(&home, &["uninstall"]);
    assert!(removed.status.success(), "{removed:?}");
    assert_eq!(read(&home, ".claude.json"), STATE);
    assert_eq!(read(&home, "dotfiles.json"), "{\n  \"model\": \"opus\"\n}\n");
    assert!(!home.join(".claude/skills/claudemesh").exists());
    assert!(run(&home, &["uninstall"]).out.contains("nothing to change"));
}

#[test]
fn a_file_that_makes_no_sense_is_named_and_nothing_is_written() {
    let home = Home::new();
    fs::create_dir(home.join(".claude")).unwrap();
    fs::write(home.join(".claude/settings.json"), "{\"hooks\": [").unwrap();
    let refused = run(&home, &["install"]);
    assert!(!refused.status.success() && refused.err.contains("settings.json"), "{refused:?}");
    assert!(!home.join(".claude.json").exists());
}

#[test]
fn the_real_client_accepts_the_plugin_and_connects_to_the_server() {
    let Some(claude) = claude() else { return };
    let home = Home::new();
    let client = |args: &[&str]| {
        let mut command = Command::new(&claude);
        command.args(args).env("HOME", home.path()).env("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1").current_dir(home.path());
        command.env("CLAUDEMESH_HOME", home.path()).env_remove("CLAUDEMESH_IPC_TOKEN");
        Process::run(command)
    };
    let plugin = concat!(env!("CARGO_MANIFEST_DIR"), "/contrib/plugin");
    let valid = client(&["plugin", "validate", "--strict", plugin]);
    assert!(valid.status.success(), "{valid:?}");
    assert!(run(&home, &["install"]).status.success());
    let listed = client(&["mcp", "list"]);
    assert!(listed.out.lines().any(|line| line.starts_with("claudemesh:") && line.contains("Connected")), "{listed:?}");
}
