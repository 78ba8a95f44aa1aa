//! `doctor`: each thing broken in its turn, what is said of it, and that the command it names puts it right. And the status line.

mod obstacles;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::support::home::{CLAUDEMESH, Home};
use crate::support::mesh::{Mesh, World, configure};
use crate::support::process::{Ended, Process};
use crate::support::servers::{Broker, Daemon};
use crate::support::session::Session;
use crate::support::wait::until;

/// A patient and the shell it types in: a `claude` that says its version, and this program, are on its PATH.
struct Patient<'a>(&'a Home);

impl Patient<'_> {
    fn new(home: &Home) -> Patient<'_> {
        fs::create_dir(home.join("bin")).unwrap();
        mode(home, "", 0o700);
        script(home, "claude", "echo '2.1.330 (Claude Code)'");
        Patient(home)
    }

    /// Runs a line as somebody would type it.
    fn shell(&self, line: &str) -> Ended {
        let like = self.0.command(&[]);
        let own = std::path::Path::new(CLAUDEMESH).parent().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", line]).current_dir(self.0.path());
        for (name, value) in like.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        let path = format!("{}:{}:/usr/bin:/bin", self.0.join("bin").display(), own.display());
        command.env("PATH", path).env("XDG_CONFIG_HOME", self.0.join("xdg")).env_remove("CI");
        Process::run(command)
    }

    fn report(&self) -> Vec<Value> {
        let ended = self.shell("claudemesh doctor --json");
        let report: Value = serde_json::from_str(&ended.out).unwrap_or_else(|err| panic!("{err}: {ended:?}"));
        let checks = report["checks"].as_array().unwrap().clone();
        let ok = !checks.iter().any(|check| check["verdict"] == "failed");
        assert_eq!((report["ok"].as_bool(), ended.status.code()), (Some(ok), Some(i32::from(!ok))), "{ended:?}");
        checks
    }

    /// The command that is named against the failure of a check whose line has this part.
    #[track_caller]
    fn fix(&self, check: &str, part: &str) -> String {
        let report = self.report();
        let is_it = |line: &&Value| line["check"] == check && line["text"].as_str().unwrap().contains(part);
        let line = report.iter().find(is_it).unwrap_or_else(|| panic!("{check} {part}: {report:#?}"));
        assert_eq!(line["verdict"], "failed", "{line}");
        line["fix"].as_str().unwrap().to_owned()
    }

    /// A failure of this check is seen, and the command that it names ends it.
    #[track_caller]
    fn is_cured(&self, check: &str, part: &str, fix: &str) {
        let named = self.fix(check, part);
        assert_eq!(named, fix);
        let ended = self.shell(&named);
        assert!(ended.status.success(), "{named}: {ended:?}");
        until(&format!("{check} to be well"), || self.is_well(check).then_some(()));
    }

    fn is_well(&self, check: &str) -> bool {
        let report = self.report();
        let mut lines = report.iter().filter(|line| line["check"] == check).peekable();
        lines.peek().is_some() && lines.all(|line| line["verdict"] == "ok")
    }
}

/// Written by another process: a fork of this one can then never hold it open, which would make it busy.
fn script(home: &Home, name: &str, text: &str) {
    let mut child = Command::new("sh")
        .args(["-c", "cat >\"$1\" && chmod 700 \"$1\"", "sh"])
        .arg(home.join("bin").join(name))
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(format!("#!/bin/sh\n{text}\n").as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
}

/// Ends the daemon that a cure started.
struct Quiet<'a>(&'a Home);

impl Drop for Quiet<'_> {
    fn drop(&mut self) {
        let _ = self.0.command(&["down"]).output();
    }
}

fn mode(home: &Home, name: &str, mode: u32) {
    fs::set_permissions(home.join(name), fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn what_is_wrong_is_named_with_the_command_that_puts_it_right() {
    let home = Home::new();
    let _quiet = Quiet(&home);
    let patient = Patient::new(&home);
    let path = |name: &str| home.join(name).display().to_string();
    patient.is_cured("daemon", "does not run", "claudemesh up");
    let report = patient.report();
    for (check, part) in [("hooks", "have none"), ("MCP server", "launch` only")] {
        let line = report.iter().find(|line| line["check"] == check).unwrap();
        assert_eq!((&line["verdict"], &line["fix"]), (&json!("note"), &json!("claudemesh install")), "`launch` needs neither");
        assert!(line["text"].as_str().unwrap().contains(part), "{line}");
    }
    assert!(patient.shell("claudemesh install").status.success());
    assert!(patient.is_well("hooks"));
    assert!(patient.is_well("MCP server") && patient.is_well("hooks allowed"));
    until("the mesh to be there", || patient.is_well("broker").then_some(()));
    let all = patient.shell("claudemesh doctor");
    assert!(all.status.success() && all.out.contains("all is well"), "{all:?}");

    let settings: Value = serde_json::from_str(&fs::read_to_string(home.join(".claude/settings.json")).unwrap()).unwrap();
    fs::write(home.join(".claude/settings.json"), "{}").unwrap();
    patient.is_cured("hooks", "have none", "claudemesh install");
    let mut changed = settings.clone();
    changed["disableAllHooks"] = json!(true);
    changed["hooks"].as_object_mut().unwrap().remove("Stop");
    fs::write(home.join(".claude/settings.json"), changed.to_string()).unwrap();
    patient.is_cured("hooks", "none at Stop", "claudemesh install");
    patient.is_cured("hooks allowed", "disableAllHooks", "claudemesh install --enable-hooks");
    let hook = |program: &str| settings.to_string().replace("\"command\":\"claudemesh\"", &format!("\"command\":\"{program}\""));
    fs::write(home.join(".claude/settings.json"), hook("/gone/claudemesh")).unwrap();
    patient.is_cured("hooks", "/gone/claudemesh, which is not there", "claudemesh install");

    let lost = json!({ "mcpServers": { "claudemesh": { "command": "/gone/claudemesh", "args": ["mcp"] } } });
    for (state, part) in [(json!({}), "does not know it any more"), (lost, "not there")] {
        fs::write(home.join(".claude.json"), state.to_string()).unwrap();
        patient.is_cured("MCP server", part, "claudemesh install");
    }

    mode(&home, "config.json", 0o644);
    mode(&home, "daemon/inbox.db", 0o640);
    patient.is_cured("permissions", "config.json", &format!("chmod go-rwx {} {}", path("config.json"), path("daemon/inbox.db")));
    mode(&home, "daemon/daemon.sock", 0o666);
    patient.is_cured("socket", "open to others", &format!("chmod go-rwx {}", path("daemon/daemon.sock")));

    let own = path("daemon/settings.json");
    fs::write(&own, "{\"inboxDays\": 0}").unwrap();
    assert_eq!(patient.fix("settings", "inboxDays"), format!("mv {own} {own}.broken"));
    assert!(patient.shell(&format!("mv {own} {own}.broken")).status.success());
    assert!(patient.report().iter().all(|line| line["verdict"] != "failed"), "{:#?}", patient.report());

    script(&home, "claude", "exit 3");
    assert_eq!(patient.fix("claude", "does not run"), "npm install -g @anthropic-ai/claude-code");
    script(&home, "claude", "echo '2.0.9 (Claude Code)'");
    let report = patient.report();
    let old = report.iter().find(|line| line["check"] == "claude").unwrap();
    assert_eq!((&old["verdict"], &old["fix"]), (&json!("unknown"), &json!("claude update")));
    fs::remove_file(home.join("bin/claude")).unwrap();
    patient.fix("claude", "not installed");
}

#[test]
fn a_broker_that_is_away_is_named_and_asked_again() {
    let mut world = World::pair();
    let patient = Patient::new(&world.homes[0]);
    until("the link", || patient.is_well("broker").then_some(()));
    world.broker.kill();
    until("the link to break", || (!patient.is_well("broker")).then_some(()));
    let fix = patient.fix("broker", "acme: not connected");
    assert_eq!(fix, "claudemesh mesh reconnect acme");
    world.broker.restart();
    patient.shell(&fix);
    until("the link", || patient.is_well("broker").then_some(()));
}

/// The address of a server that is asked too often.
fn crowded() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}/ws", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let head = BufReader::new(&stream).lines().map_while(Result::ok).find(String::is_empty);
            if head.is_some() {
                let _ = stream.write_all(b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\n\r\n");
            }
        }
    });
    url
}

#[test]
fn what_keeps_a_link_from_opening_is_told_apart() {
    let home = Home::new();
    let data = Home::new();
    let mesh = Mesh::create(data.path(), "acme");
    let broker = Broker::start(data.path());
    let url = broker.url();
    let daemon_of = |url: &str| {
        configure(home.path(), &[mesh.entry(0, url)]);
        url.to_owned()
    };
    daemon_of("not an address");
    let _daemon = Daemon::start(home.path());
    let patient = Patient::new(&home);
    let advice = |part: &str| {
        until(part, || {
            let report = patient.report();
            let line = report.iter().find(|line| line["check"] == "broker")?.clone();
            line["advice"].as_str().is_some_and(|advice| advice.contains(part)).then_some(line)
        })
    };
    let named = format!("\"brokerUrl\" of \"acme\" in {}", home.join("config.json").display());
    assert!(advice("as in wss://")["advice"].as_str().unwrap().contains(&named));
    daemon_of("ws://127.0.0.1:1/ws");
    advice("start the broker where it belongs");
    daemon_of(&url.replace("/ws", "/health"));
    assert_eq!(advice("something else answers there")["fix"], "claudemesh mesh reconnect acme");
    daemon_of(&crowded());
    advice("start the broker where it belongs");
    let stranger = Mesh::create(Home::new().path(), "acme");
    configure(home.path(), &[stranger.entry(0, &url)]);
    advice("the mesh does not know this member, or is no more");
    daemon_of(&url);
    until("the link", || patient.is_well("broker").then_some(()));
}

#[test]
fn who_was_shut_out_is_told_by_whom_it_is_let_in() {
    let world = World::pair();
    let patient = Patient::new(&world.homes[1]);
    until("the link", || patient.is_well("broker").then_some(()));
    let broker = |part: &str| {
        until(part, || {
            let report = patient.report();
            let line = report.iter().find(|line| line["check"] == "broker")?.clone();
            line["advice"].as_str().is_some_and(|advice| advice.contains(part)).then_some(line)
        })
    };
    let alice = |args: &[&str]| {
        let ended = Process::run(world.homes[0].command(args));
        assert!(ended.status.success(), "{ended:?}");
    };
    alice(&["ban", "bob"]);
    let line = broker("an admin of acme lets you in again: claudemesh unban ");
    let cure = line["advice"].as_str().unwrap().rsplit_once("claudemesh ").unwrap().1;
    alice(&cure.split(' ').collect::<Vec<_>>());
    patient.is_cured("broker", "not connected", "claudemesh mesh reconnect acme");
}

#[test]
fn a_test_goes_down_each_way_and_is_nobodys_mail() {
    let home = Home::new();
    let daemon = Daemon::start(home.path());
    let patient = Patient::new(&home);
    let nobody = patient.shell("claudemesh doctor --live --json");
    assert!(nobody.out.contains("nothing to try"), "{nobody:?}");

    let bob = Session::open(&daemon, "home", "bob");
    let mut wait = home.command(&["hook", "Wait"]);
    wait.env("CLAUDEMESH_IPC_TOKEN", &bob.token).env("CLAUDEMESH_SESSION_ID", &bob.id);
    let mut waiter = Process::spawn(wait);
    waiter.say("{}");
    waiter.close_input();
    until("the waiter", || (daemon.get("/v1/sessions").json()["sessions"][0]["delivery"]["waiting"] == true).then_some(()));
    let flown = patient.shell("claudemesh doctor --live --json --wait 1s");
    let report: Value = serde_json::from_str(&flown.out).unwrap();
    let of = |path: &str| {
        let lines = report["checks"].as_array().unwrap().iter().filter(|line| line["check"] == "live");
        let mut texts = lines.map(|line| (line["verdict"].as_str().unwrap(), line["text"].as_str().unwrap()));
        texts.find(|(_, text)| text.starts_with(&format!("bob@home, {path}:"))).unwrap()
    };
    assert_eq!(of("wake"), ("ok", "bob@home, wake: arrived"), "{report:#?}");
    assert_eq!(of("tool-use"), ("unknown", "bob@home, tool-use: not exercised: no tool was used"));
    let woken = waiter.finish();
    assert_eq!(woken.status.code(), Some(2));
    assert!(woken.err.starts_with("[claudemesh] A test by the user") && !woken.err.contains("| "), "{woken:?}");
    assert_eq!(daemon.get("/v1/inbox").json()["items"], json!([]));

    // The other paths take theirs while somebody waits for it.
    let claims = |path: &str| {
        until("the test to begin", || {
            let reply = bob.call("POST", "/v1/inbox/claim", Some(&json!({ "path": path }))).unwrap().json();
            reply["items"][0]["id"].as_str().map(str::to_owned)
        })
    };
    let test = std::thread::scope(|scope| {
        let test = scope.spawn(|| patient.shell("claudemesh doctor --live --wait 3s"));
        let taken = claims("tool-use");
        let offered = bob.call("POST", "/v1/inbox/offered", Some(&json!({ "ids": [taken], "path": "tool-use" }))).unwrap();
        assert_eq!(offered.json()["changed"], 1);
        claims("prompt");
        let busy = bob.call("POST", "/v1/canary", Some(&json!({}))).unwrap();
        assert_eq!(busy.status, 409, "{busy:?}");
        test.join().unwrap()
    });
    for part in ["tool-use: arrived", "prompt: it was taken, and did not get to the model", "wake: not exercised"] {
        assert!(test.out.contains(part), "{part}: {test:?}");
    }
    assert_eq!(test.status.code(), Some(1));
}

#[test]
fn the_status_line_shows_the_session_that_the_client_names() {
    let world = World::pair();
    let home = &world.homes[0];
    let alice = Session::open(&world.alice, "acme", "alice");
    let bob = Session::open(&world.bob, "acme", "bob");
    let line = |home: &Home, session: Option<&Session>| {
        let mut command = home.command(&["status-line"]);
        if let Some(session) = session {
            command.env("CLAUDEMESH_IPC_TOKEN", &session.token);
        }
        let mut process = Process::spawn(command);
        process.say(r#"{"model":{"display_name":"x"},"workspace":{}}"#);
        let ended = process.finish();
        assert!(ended.status.success() && ended.err.is_empty(), "{ended:?}");
        ended.out.trim_end().to_owned()
    };
    // A line that is not there in 50 ms is left out; this machine may be busy.
    let shows = |session: Option<&Session>, expected: &str| {
        until(expected, || (line(home, session) == expected).then_some(()));
    };
    shows(Some(&alice), "◇ acme · 1 online");
    bob.send("alice", "hello", "one");
    shows(Some(&alice), "◇ acme · 1 online · 1 unread");
    shows(None, "◇ acme · 2 online · 1 unread");

    // By the session's own file, as the client of an installation has it.
    let run = home.join("daemon/run");
    fs::create_dir_all(&run).unwrap();
    fs::write(run.join(format!("{}.token", alice.id)), &alice.token).unwrap();
    let by_id = || {
        let mut process = Process::spawn(home.command(&["status-line"]));
        process.say(&json!({ "session_id": alice.id }).to_string());
        process.finish().out
    };
    until("the session's own line", || by_id().contains("1 online · 1 unread").then_some(()));

    let away = Home::new();
    assert_eq!(line(&away, None), "");
    assert!(!away.socket().exists(), "and starts nothing");
}

#[test]
fn a_person_hears_of_mail_that_wakes_nobody_and_not_of_what_it_says() {
    let home = Home::new();
    fs::create_dir(home.join("daemon")).unwrap();
    let heard = home.join("heard");
    let command = ["sh", "-c", "printf '%s\\n' \"$@\" >>\"$0\"", heard.to_str().unwrap()];
    fs::write(home.join("daemon/settings.json"), json!({ "notifyCommand": command }).to_string()).unwrap();
    let daemon = Daemon::start(home.path());
    let [alice, bob, carol] = ["alice", "bob", "carol"].map(|name| Session::open(&daemon, "home", name));
    let mut wait = home.command(&["hook", "Wait"]);
    wait.env("CLAUDEMESH_IPC_TOKEN", &carol.token).env("CLAUDEMESH_SESSION_ID", &carol.id);
    let mut waiter = Process::spawn(wait);
    waiter.say("{}");
    waiter.close_input();
    until("the waiter", || {
        let sessions = daemon.get("/v1/sessions").json();
        sessions["sessions"].as_array()?.iter().any(|session| session["delivery"]["waiting"] == true).then_some(())
    });
    alice.send("carol", "she is woken", "one");
    assert_eq!(waiter.finish().status.code(), Some(2));
    let low = json!({ "to": "bob", "message": "no hurry", "priority": "low", "client_message_id": "two" });
    assert_eq!(alice.call("POST", "/v1/send", Some(&low)).unwrap().status, 202);
    until("it to arrive", || {
        (!bob.call("GET", "/v1/inbox?mark_seen=false", None).ok()?.json()["items"].as_array()?.is_empty()).then_some(())
    });
    assert!(!heard.exists(), "who is woken, and what can wait");
    alice.send("bob", "secret", "three");
    alice.send("bob", "another", "four");
    let text = until("the command to run", || fs::read_to_string(&heard).ok().filter(|text| text.lines().count() == 2));
    assert_eq!(text, "alice\nhome\n");
    until("both to arrive", || {
        let page = bob.call("GET", "/v1/inbox?mark_seen=false", None).ok()?.json();
        (page["items"].as_array()?.len() == 3).then_some(())
    });
    assert_eq!(fs::read_to_string(&heard).unwrap(), text, "not one after the other");
}
