//! What happens at the same moment: registrations, ends of processes, names that come to mean something else, files that go.

use std::process::{Child, Command, Stdio};
use std::thread;

use serde_json::{Value, json};

use crate::support::home::Home;
use crate::support::http;
use crate::support::mesh::{Mesh, World, configure};
use crate::support::servers::{Broker, Daemon};
use crate::support::session::Session;
use crate::support::wait::until;

/// A process that lives until it is dropped.
struct Holder(Child);

impl Holder {
    fn new() -> Holder {
        Holder(Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        // Gone already is as good.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn sessions(daemon: &Daemon) -> Vec<Value> {
    daemon.get("/v1/sessions").json()["sessions"].as_array().unwrap().clone()
}

#[test]
fn a_session_that_registers_anew_as_its_old_process_ends_stays() {
    let home = Home::new();
    let daemon = Daemon::start(home.path());
    for _ in 0..60 {
        let session = Session::prepare(&daemon, "home", "alice");
        let (first, second) = (Holder::new(), Holder::new());
        session.register(first.0.id());
        let ending = thread::spawn(move || drop(first));
        session.register(second.0.id());
        ending.join().unwrap();
        // The end of the first has been heard of once a later end has.
        let marker = Session::prepare(&daemon, "home", "marker");
        let third = Holder::new();
        marker.register(third.0.id());
        drop(third);
        until("the marker to go", || sessions(&daemon).iter().all(|session| session["displayName"] != "marker").then_some(()));
        let me = session.call("GET", "/v1/sessions/me", None).unwrap();
        assert_eq!((me.status, &me.json()["session"]["pid"]), (200, &json!(second.0.id())));
        session.call("DELETE", &format!("/v1/sessions/{}", session.token), None).unwrap();
    }
}

#[test]
fn of_many_registrations_of_one_session_one_is_left_and_no_link_of_another() {
    let home = Home::new();
    let daemon = Daemon::start(home.path());
    let watcher = Session::open(&daemon, "home", "watcher");
    for _ in 0..20 {
        let holder = Holder::new();
        let (pid, id) = (holder.0.id(), claudemesh::crypto::random::uuid_v4());
        let all: Vec<Session> = (0..6)
            .map(|_| {
                let mut session = Session::prepare(&daemon, "home", "many");
                session.id.clone_from(&id);
                session
            })
            .collect();
        thread::scope(|scope| all.iter().for_each(|session| drop(scope.spawn(move || session.register(pid)))));
        assert_eq!(sessions(&daemon).iter().filter(|session| session["displayName"] == "many").count(), 1);
        drop(holder);
    }
    until("all links to end with their sessions", || {
        let health = daemon.get("/v1/health").json();
        let peers = watcher.call("GET", "/v1/peers", None).ok()?.json();
        let ghosts = peers["peers"].as_array()?.iter().filter(|peer| peer["displayName"] == "many" && peer["online"] == true);
        (health["meshes"]["home"]["sessions_open"] == 1 && ghosts.count() == 0).then_some(())
    });
}

#[test]
fn what_waits_for_one_mesh_never_goes_to_another_of_the_same_name() {
    let homes = [(); 3].map(|()| Home::new());
    let first = Mesh::create(homes[1].path(), "acme");
    let mut broker = Broker::start(homes[1].path());
    configure(homes[0].path(), &[first.entry(0, &broker.url())]);
    let daemon = Daemon::start(homes[0].path());
    let alice = Session::open(&daemon, "acme", "alice");
    broker.kill();
    alice.send("*", "for the old mesh alone", "m-1");
    // Another mesh comes by this name.
    let second = Mesh::create(homes[2].path(), "acme");
    let other = Broker::start(homes[2].path());
    configure(homes[0].path(), &[second.entry(0, &other.url())]);
    let dead = until("the message to be given up", || {
        let page = alice.call("GET", "/v1/outbox?status=dead", None).ok()?.json();
        page["items"].as_array()?.first().cloned()
    });
    assert!(dead["last_error"].as_str().unwrap().starts_with("mesh_changed"), "{dead}");
    alice.send("*", "for the new one", "m-2");
    until("the new message to go", || {
        let page = alice.call("GET", "/v1/outbox?status=done", None).ok()?.json();
        page["items"].as_array()?.iter().any(|row| row["client_message_id"] == "m-2").then_some(())
    });
}

#[test]
fn the_same_id_and_text_from_another_session_is_another_message() {
    let world = World::pair();
    let alice = Session::open(&world.alice, "acme", "alice");
    let other = Session::open(&world.alice, "acme", "other");
    let bob = Session::open(&world.bob, "acme", "bob");
    let heard = bob.follow(None);
    alice.send(&bob.key, "same", "job-1");
    heard.message("job-1");
    let again = other.try_send(&bob.key, "same", "job-1").unwrap();
    assert_eq!((again.status, again.json()["error"].clone()), (409, json!("idempotency_key_reused")), "{again:?}");
    let own = alice.try_send(&bob.key, "same", "job-1").unwrap();
    assert_eq!((own.status, own.json()["duplicate"].clone()), (200, json!(true)));
}

#[test]
fn a_daemon_keeps_its_name_and_ends_when_its_files_are_taken() {
    let home = Home::new();
    let mut daemon = Daemon::start(home.path());
    let pid = home.join("daemon/daemon.pid");
    std::fs::remove_file(&pid).unwrap();
    until("the pid file to be back", || (std::fs::read_to_string(&pid).ok()? == daemon.pid().to_string()).then_some(()));
    daemon.assert_healthy();
    std::fs::remove_dir_all(home.join("daemon")).unwrap();
    let ended = daemon.ended();
    assert_ne!(ended.status.code(), Some(0), "{ended:?}");
    assert!(ended.err.contains("were taken away or replaced"), "{ended:?}");
    assert!(http::request(&home.socket(), "GET", "/v1/health", &[], None).is_err());
}
