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
    fs::set_permissions(home.join(".claude.json"), fs::Permissions::from_mode(0o644)).unwrap();
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
    let mode = |name: &str| fs::metadata(home.join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(".claude.json"), mode(".claude.json.before-claudemesh")), (0o644, 0o600), "each as private as it was");

    let now = |name: &str| fs::metadata(home.join(name)).unwrap().modified().unwrap();
    let record = now("installed.json");
    let again = run(&home, &["install", "--json"]);
    assert!(again.out.contains(r#""changed":[]"#), "{again:?}");
    assert_eq!((read(&home, ".claude.json"), now("installed.json")), (after[0].clone(), record));

    let removed = run(&home, &["uninstall"]);
    assert!(removed.status.success(), "{removed:?}");
    assert_eq!(read(&home, ".claude.json"), STATE);
    assert_eq!(read(&home, "dotfiles.json"), "{\"model\": \"opus\"}", "as it was, to the byte");
    assert!(!home.join(".claude.json.before-claudemesh").exists() && !home.join("installed.json").exists());
    assert_eq!(mode(".claude.json"), 0o644);
    assert!(!home.join(".claude/skills").exists() && home.join(".claude").exists(), "what was made goes, and no more");
    assert!(run(&home, &["uninstall"]).out.contains("nothing to change"));
}

/// Everything of the client's and this program's in a home, by name.
fn files(home: &Home) -> Vec<(String, String)> {
    let mut all = Vec::new();
    let mut dirs = vec![home.path().to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.is_dir() {
                dirs.push(entry);
            } else {
                all.push((entry.display().to_string(), fs::read_to_string(&entry).unwrap()));
            }
        }
    }
    all.sort();
    all
}

#[test]
fn what_stood_in_the_place_of_something_comes_back() {
    let home = Home::new();
    fs::create_dir_all(home.join(".claude/skills/claudemesh")).unwrap();
    for (name, text) in [
        (".claude.json", r#"{"mcpServers": {"claudemesh": {"command": "node", "args": ["cli.js", "mcp"], "env": {"A": "b"}}}}"#),
        (
            ".claude/settings.json",
            r#"{"hooks": {"PreToolUse": [], "Stop": [{"hooks": [{"type": "command", "command": "claudemesh hook idle"}]}]},
                "permissions": {"allow": ["Bash(claudemesh whoami:*)"]}, "statusLine": {"type": "command", "command": "mine"}}"#,
        ),
        (".claude/skills/claudemesh/SKILL.md", "another's\n"),
    ] {
        fs::write(home.join(name), text).unwrap();
    }
    let before = files(&home);
    assert!(run(&home, &["install", "--status-line"]).status.success());
    let settings = read(&home, ".claude/settings.json");
    assert!(settings.contains("\"mine\"") && !settings.contains("hook idle") && settings.contains("asyncRewake"));
    // The user goes on; what was kept first is not replaced by a later change.
    let changed = settings.replacen('{', "{\n  \"model\": \"opus\",", 1);
    fs::write(home.join(".claude/settings.json"), changed.replace("Bash(claudemesh help:*)", "Bash(claudemesh helpless)"))
        .unwrap();
    assert!(run(&home, &["install"]).status.success());
    assert_eq!(read(&home, ".claude/settings.json.before-claudemesh"), before[1].1);

    assert!(run(&home, &["uninstall"]).status.success());
    let after = files(&home);
    assert_eq!((&after[0], after.last()), (&before[0], before.last()), "to the byte");
    let settings: serde_json::Value = serde_json::from_str(&read(&home, ".claude/settings.json")).unwrap();
    let mut expected: serde_json::Value = serde_json::from_str(&before[1].1).unwrap();
    expected["model"] = "opus".into();
    expected["permissions"]["allow"].as_array_mut().unwrap().push("Bash(claudemesh helpless)".into());
    assert_eq!(settings, expected);
    assert!(!home.join("installed.json").exists());
}

#[test]
fn parts_are_left_out_as_asked_and_a_file_made_for_nothing_else_goes_again() {
    let home = Home::new();
    let none = ["install", "--no-hooks", "--no-mcp", "--no-permissions", "--no-skill", "--no-service", "--json"];
    let nothing = run(&home, &none);
    assert!(nothing.status.success() && nothing.out.contains(r#""changed":[]"#), "{nothing:?}");
    assert_eq!(files(&home), [], "nothing is changed, and nothing kept");
    for (flags, file, part) in [
        (&["--no-mcp", "--no-hooks", "--no-permissions"][..], ".claude/skills/claudemesh/SKILL.md", "claudemesh"),
        (&["--no-mcp", "--no-hooks", "--no-permissions", "--no-skill", "--status-line"], ".claude/settings.json", "status-line"),
        (&["--no-mcp", "--no-hooks", "--no-skill", "--skip-service"], ".claude/settings.json", "Bash(claudemesh whoami:*)"),
        (&["--no-mcp", "--no-permissions", "--no-skill"], ".claude/settings.json", "asyncRewake"),
        (&["--no-hooks", "--no-permissions", "--no-skill"], ".claude.json", "mcpServers"),
    ] {
        let args: Vec<&str> = ["install"].into_iter().chain(flags.iter().copied()).collect();
        assert!(run(&home, &args).status.success(), "{flags:?}");
        let all = files(&home);
        assert_eq!(all.len(), 2, "the one file and the record: {all:?}");
        assert!(read(&home, file).contains(part), "{flags:?}: {all:?}");
        assert!(run(&home, &["uninstall"]).status.success());
        assert_eq!(files(&home), [], "{flags:?}");
    }
    let both = run(&home, &["install", "--service", "--skip-service"]);
    assert_eq!(both.status.code(), Some(3), "{both:?}");
}

#[test]
fn all_is_changed_or_nothing() {
    let home = Home::new();
    fs::write(home.join(".claude.json"), STATE).unwrap();
    fs::create_dir(home.join(".claude")).unwrap();
    fs::write(home.join(".claude/settings.json"), "{}").unwrap();
    // No skill can be put here.
    fs::write(home.join(".claude/skills"), "").unwrap();
    let before = files(&home);
    let failed = run(&home, &["install"]);
    assert!(!failed.status.success() && failed.err.contains("SKILL.md"), "{failed:?}");
    assert_eq!(files(&home), before);
    fs::remove_file(home.join(".claude/skills")).unwrap();
    assert!(run(&home, &["install"]).status.success());

    // And nothing is taken away unless all can be.
    let skill = home.join(".claude/skills/claudemesh/SKILL.md");
    fs::remove_file(&skill).unwrap();
    fs::create_dir(&skill).unwrap();
    let installed = files(&home);
    let failed = run(&home, &["uninstall"]);
    assert!(!failed.status.success() && failed.err.contains("SKILL.md"), "{failed:?}");
    assert_eq!(files(&home), installed);
}

#[test]
fn what_would_change_is_shown_line_by_line() {
    let home = Home::new();
    let many: String = (0..40).map(|n| format!("  \"key{n}\": {n},\n")).collect();
    fs::write(home.join(".claude.json"), format!("{{\n{many}  \"mcpServers\": {{\n    \"x\": {{}}\n  }},\n  \"last\": 1\n}}\n"))
        .unwrap();
    let dry = run(&home, &["install", "--dry-run", "--no-hooks", "--no-permissions", "--no-skill"]);
    let lines: Vec<&str> = dry.out.lines().map(str::trim_end).take_while(|line| !line.ends_with("installed.json")).collect();
    let shown = |mark: &str| lines.iter().filter(|line| line.trim_start().starts_with(mark)).count();
    assert_eq!((shown("-"), shown("+")), (1, 10), "{dry:?}");
    assert!(lines.iter().any(|line| line.trim() == "…") && lines.len() < 20, "{dry:?}");
    assert_eq!(files(&home).len(), 1);
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
