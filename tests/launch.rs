//! `launch` from outside: what peers see of the session, what it may do, what it is given, and how it ends.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::home::{CLAUDEMESH, Home};
use crate::support::mesh::{Mesh, World, configure};
use crate::support::process::Process;
use crate::support::servers::{Broker, Daemon};
use crate::support::session::Session;
use crate::support::wait::until;

/// A shell as the session of this home.
fn launch(home: &Home, flags: &[&str], script: &str) -> Process {
    let mut args = vec!["launch", "--quiet"];
    args.extend(flags);
    args.extend(["--", "sh", "-c", script]);
    let mut command = home.command(&args);
    command.env("ME", CLAUDEMESH);
    // What an outer session has must not reach this one.
    for name in ["CLAUDEMESH_IPC_TOKEN", "CLAUDEMESH_SESSION_ID", "CLAUDEMESH_DISPLAY_NAME", "CLAUDEMESH_ROLE", "CLAUDEMESH_CAPS"]
    {
        command.env(name, "outer");
    }
    command.env("CLAUDEMESH_CONFIG_DIR", "/outer").env("CLAUDE_CODE_SESSION_ID", "outer").env("CLAUDE_PID", "1");
    Process::spawn(command)
}

#[track_caller]
fn sessions(daemon: &Daemon) -> Vec<Value> {
    daemon.get("/v1/sessions").json()["sessions"].as_array().unwrap().clone()
}

#[test]
fn peers_see_every_flag_and_the_broker_holds_the_session_to_its_rights() {
    let world = World::pair();
    let _bob = Session::open(&world.bob, "acme", "bob");
    let script = "env; echo; read go; $ME state get k >/dev/null; echo get=$?; $ME state set k v 2>&1; echo set=$?; \
                  $ME send bob hi 2>&1; echo sent=$?; read end; exit 7";
    let flags = ["--name", "al", "--role", "reviewer", "--groups", "eng:lead,ops", "--mesh", "acme", "--caps", "state-read"];
    let mut session = launch(&world.homes[0], &flags, script);
    let child: Vec<String> = std::iter::from_fn(|| session.line()).take_while(|line| !line.is_empty()).collect();
    let row = until("bob to see the session", || {
        let peers = world.bob.get("/v1/peers").json();
        peers["peers"].as_array()?.iter().find(|peer| peer["displayName"] == "al").cloned()
    });
    assert_eq!((&row["role"], &row["mesh"], &row["allowedCaps"]), (&json!("reviewer"), &json!("acme"), &json!(["state-read"])));
    assert_eq!(row["groups"], json!([{"name": "eng", "role": "lead"}, {"name": "ops"}]));

    let own: BTreeSet<&str> =
        child.iter().filter(|line| line.starts_with("CLAUDE")).filter_map(|line| line.split('=').next()).collect();
    let given = ["CAPS", "DISPLAY_NAME", "HOME", "IPC_TOKEN_FILE", "ROLE", "SESSION_ID", "SESSION_PID"];
    assert_eq!(
        own,
        given.iter().map(|name| format!("CLAUDEMESH_{name}")).collect::<BTreeSet<_>>().iter().map(String::as_str).collect()
    );
    assert!(!child.iter().any(|line| line.contains("outer")), "{child:?}");
    assert!(child.contains(&"CLAUDEMESH_CAPS=state-read".to_owned()), "{child:?}");

    session.say("go");
    assert_eq!(session.line().as_deref(), Some("get=5"), "it may look, and there is nothing");
    let said: Vec<String> = std::iter::from_fn(|| session.line()).take_while(|line| !line.starts_with("set=")).collect();
    assert!(said.iter().any(|line| line.contains("forbidden")), "{said:?}");
    assert_eq!(world.alice.get("/v1/state?key=k").json()["state"], Value::Null);
    let said: Vec<String> = std::iter::from_fn(|| session.line()).take_while(|line| !line.starts_with("sent=")).collect();
    assert!(said.iter().any(|line| line.contains("without the right to dm")), "{said:?}");

    let listed = world.homes[1].command(&["peer", "list"]);
    let listed = Process::run(listed).out;
    assert!(listed.contains("al · reviewer [@eng:lead, @ops]") && listed.contains("may only state-read"), "{listed}");
    session.say("end");
    assert_eq!(session.finish().status.code(), Some(7), "its status is launch's");
    until("the session to be gone", || sessions(&world.alice).is_empty().then_some(()));
}

#[test]
fn rights_are_read_strictly_and_outlive_the_daemon() {
    let mut world = World::pair();
    let refused = launch(&world.homes[0], &["--caps", "dm,sudo"], "exit 0").finish();
    assert_eq!(refused.status.code(), Some(3), "{refused:?}");
    assert!(refused.err.contains("\"sudo\" is nothing a session can be allowed"), "{refused:?}");
    let mut session = launch(&world.homes[0], &["--caps", "none"], "echo up; read end");
    assert_eq!(session.line().as_deref(), Some("up"));
    let caps = |world: &World| sessions(&world.alice).first().map(|session| session["caps"].clone());
    assert_eq!(caps(&world), Some(json!([])));
    world.alice.kill();
    world.alice.restart();
    assert_eq!(caps(&world), Some(json!([])), "a restart gives it no more");
    session.say("end");
    session.finish();
}

/// Whether this process was started with the signal ignored, as a script does with what it puts in the background: no shell
/// below can trap it then.
fn is_ignored(signal: rustix::process::Signal) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).expect("proc_pid_status(5) names it");
    let mask = u64::from_str_radix(mask.trim(), 16).unwrap();
    mask & (1 << (signal.as_raw() - 1)) != 0
}

#[test]
fn signals_reach_the_command_and_its_end_is_the_sessions() {
    let world = World::pair();
    for (signal, status) in [(rustix::process::Signal::TERM, 42), (rustix::process::Signal::INT, 43)] {
        if is_ignored(signal) {
            eprintln!("{signal:?} is ignored here, and so by every child");
            continue;
        }
        let script = "trap 'kill $!; exit 42' TERM; trap 'kill $!; exit 43' INT; sleep 600 & echo up; wait $!";
        let session = launch(&world.homes[0], &[], script);
        assert_eq!(session.line().as_deref(), Some("up"));
        assert_eq!(sessions(&world.alice).len(), 1);
        session.signal(signal);
        assert_eq!(session.finish().status.code(), Some(status));
        until("the session to be gone", || sessions(&world.alice).is_empty().then_some(()));
    }
}

#[test]
fn resume_and_continue_keep_the_address_and_the_name() {
    let world = World::pair();
    let run = |flags: &[&str]| {
        let mut session = launch(&world.homes[0], flags, "echo \"$CLAUDEMESH_SESSION_ID\"; read end");
        let id = session.line().unwrap();
        let row = sessions(&world.alice).into_iter().find(|row| row["sessionId"] == id.as_str()).expect("it is registered");
        session.say("end");
        assert!(session.finish().status.success());
        (id, row["presence"]["sessionPubkey"].as_str().unwrap().to_owned(), row["displayName"].as_str().unwrap().to_owned())
    };
    let first = run(&["--name", "al"]);
    assert_eq!(first.2, "al");
    assert_eq!(run(&["--resume", &first.0]), first);
    let renamed = run(&["--resume", &first.0, "--name", "ada"]);
    assert_eq!((&renamed.1, renamed.2.as_str()), (&first.1, "ada"));
    assert_eq!(run(&["--resume", &first.0]), renamed);
    let first = renamed;
    let home = world.homes[0].path();
    let here = home.to_str().unwrap().replace(|c: char| !c.is_ascii_alphanumeric(), "-");
    let transcripts = home.join(".claude/projects").join(here);
    std::fs::create_dir_all(&transcripts).unwrap();
    std::fs::write(transcripts.join(format!("{}.jsonl", first.0)), "").unwrap();
    assert_eq!(run(&["--continue"]), first);
    assert_ne!(run(&[]), first);
}

#[test]
fn a_session_that_runs_is_not_taken_over_unless_that_is_meant() {
    let world = World::pair();
    let mut first = launch(&world.homes[0], &["--name", "al"], "echo \"$CLAUDEMESH_SESSION_ID\"; read end");
    let id = first.line().unwrap();
    let row = || sessions(&world.alice).into_iter().find(|row| row["sessionId"] == id.as_str()).expect("it is registered");
    let before = row();
    let refused = launch(&world.homes[0], &["--resume", &id], "echo up").finish();
    assert_eq!((refused.status.code(), refused.out.as_str()), (Some(6), ""), "{refused:?}");
    let said = format!("the session runs already: al@acme, pid {}", before["pid"]);
    assert!(refused.err.contains(&said) && refused.err.contains("--take-over"), "{refused:?}");
    assert_eq!(row()["token_prefix"], before["token_prefix"], "and it has lost nothing");

    let mut second = launch(&world.homes[0], &["--resume", &id, "--take-over"], "echo up; read end");
    assert_eq!(second.line().as_deref(), Some("up"));
    assert_ne!(row()["pid"], before["pid"]);
    first.say("end");
    first.finish();
    second.say("end");
    second.finish();
}

#[test]
fn where_nobody_can_be_asked_the_missing_flag_is_named() {
    let (home, data) = (Home::new(), Home::new());
    let meshes = ["acme", "beta"].map(|slug| Mesh::create(data.path(), slug));
    let broker = Broker::start(data.path());
    configure(home.path(), &meshes.map(|mesh| mesh.entry(0, &broker.url())));
    let daemon = Daemon::start(home.path());
    let ended = launch(&home, &[], "exit 0").finish();
    assert_eq!(ended.status.code(), Some(3), "{ended:?}");
    assert!(ended.err.contains("name one with --mesh") && ended.err.contains("joined: acme, beta"), "{ended:?}");
    assert!(sessions(&daemon).is_empty());
}
