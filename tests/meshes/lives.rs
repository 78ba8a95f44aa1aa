//! Meshes over their lives: joined twice, under other names, left, renamed, deleted; and invitations that let nobody in.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};

use super::{Server, await_mesh, config, fails, ok, run};
use crate::families::Typist;
use crate::support::home::Home;
use crate::support::mesh::configure;
use crate::support::servers::Daemon;
use crate::support::session::Session;
use crate::support::wait::until;

#[test]
fn twice_the_same_mesh_and_two_of_one_name() {
    let (alice, bob) = (Home::new(), Home::new());
    let (one, two) = (Server::start(&[]), Server::start(&[]));
    ok(&alice, &["mesh", "create", "dev", "--broker", &one.url()]);
    assert!(fails(&alice, &["mesh", "create", "dev", "--broker", &two.url()], 6).contains("--as dev-2"));
    let made = ok(&alice, &["create", "dev", "--broker", &two.url(), "--as", "dev-2"]);
    assert_eq!(made["slug"], "dev-2");
    assert!(fails(&alice, &["mesh", "rename", "dev-2", "dev"], 6).contains("try: claudemesh mesh rename dev-2 dev-3"));
    let links =
        ["dev", "dev-2"].map(|mesh| ok(&alice, &["invite", "--mesh", mesh, "--uses", "2"])["url"].as_str().unwrap().to_owned());
    ok(&bob, &["join", &links[0]]);
    let before = config(bob.path());
    assert_eq!(ok(&bob, &["join", &links[0]])["already_member"], true);
    assert_eq!(ok(&bob, &["join", "dev"])["already_member"], true);
    assert!(fails(&bob, &["join", &links[1]], 6).contains("--as dev-2"));
    assert_eq!(config(bob.path()), before, "nothing is written over");
    let used = |mesh: &str| ok(&alice, &["invite", "list", "--mesh", mesh])["invites"][0]["used"].clone();
    assert_eq!((used("dev"), used("dev-2")), (1.into(), 0.into()), "to come again uses nothing up");
    assert_eq!(ok(&bob, &["join", &links[1], "--as", "other"])["slug"], "other");
    let after = config(bob.path());
    let meshes = after["meshes"].as_array().unwrap();
    assert_eq!((meshes.len(), &meshes[0], &meshes[1]["name"]), (2, &before["meshes"][0], &"dev".into()));
    assert_ne!(meshes[0]["pubkey"], meshes[1]["pubkey"], "a key for each mesh");
    let listed = ok(&bob, &["mesh", "list"]);
    assert_eq!((&listed["meshes"][1]["slug"], &listed["meshes"][1]["status"]), (&"other".into(), &serde_json::Value::Null));
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(bob.join("config.json")).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn invitations_that_let_nobody_in() {
    let (alice, server) = (Home::new(), Server::start(&[]));
    ok(&alice, &["mesh", "create", "team", "--broker", &server.url()]);
    let invite = || ok(&alice, &["invite"]);
    let text = |invite: &serde_json::Value, key: &str| invite[key].as_str().unwrap().to_owned();
    let used = invite();
    assert_ne!(invite()["token"], used["token"], "two within one second are two");
    ok(&Home::new(), &["join", &text(&used, "url")]);
    let late = Home::new();
    assert!(fails(&late, &["join", &text(&used, "url")], 1).contains("used up"));
    let revoked = invite();
    ok(&alice, &["invite", "revoke", &text(&revoked, "id")]);
    assert!(fails(&late, &["join", &text(&revoked, "url")], 1).contains("taken back"));
    assert!(fails(&late, &["join", &text(&revoked, "token")], 1).contains("taken back"));
    let token = text(&invite(), "token");
    assert!(fails(&late, &["join", &token[..token.len() - 8]], 1).contains("can not be read"));
    let middle = token.len() / 2;
    let other = if &token[middle..=middle] == "A" { "B" } else { "A" };
    let bent = format!("{}{other}{}", &token[..middle], &token[middle + 1..]);
    let said = fails(&late, &["join", &bent], 1);
    assert!(said.contains("can not be read") || said.contains("changed on the way"), "{said}");
    assert!(fails(&late, &["join", &format!("{}/i/ABCDEFGHJKLM", server.url())], 5).contains("does not know this invitation"));
    assert!(fails(&late, &["join", "ABCDEFGHJKLM"], 3).contains("--broker URL"));
    assert!(fails(&late, &["join", "not a link"], 3).contains("no invitation"));
    for bad in [["--expires", "0d"], ["--uses", "0"], ["--role", "king"]] {
        fails(&alice, &["invite", bad[0], bad[1]], 3);
    }
    assert!(!late.join("config.json").exists());
    // Each of the forms lets in, the code with its broker among them.
    ok(&Home::new(), &["join", &format!("ic://join/{token}")]);
    ok(&Home::new(), &["join", &text(&invite(), "code"), "--broker", &server.url()]);
    let path = format!("https://claudemesh.example/de/join/{}/", text(&invite(), "token"));
    ok(&late, &["join", &path]);
    let states: Vec<String> =
        ok(&alice, &["invite", "list"])["invites"].as_array().unwrap().iter().map(|row| text(row, "state")).collect();
    assert_eq!(states.iter().filter(|state| *state == "used_up").count(), 4, "{states:?}");
    assert_eq!(states.iter().filter(|state| *state == "revoked").count(), 1, "{states:?}");
}

#[test]
fn only_admins_invite_and_only_the_owner_deletes() {
    let (alice, bob, carol, server) = (Home::new(), Home::new(), Home::new(), Server::start(&[]));
    ok(&alice, &["mesh", "create", "team", "--broker", &server.url()]);
    let link = |home: &Home, flags: &[&str]| ok(home, &[&["invite"], flags].concat())["url"].as_str().unwrap().to_owned();
    ok(&bob, &["join", &link(&alice, &[])]);
    assert!(fails(&bob, &["invite"], 7).contains("only admins"));
    assert!(fails(&bob, &["invite", "list"], 7).contains("only admins"));
    ok(&carol, &["join", &link(&alice, &["--role", "admin"])]);
    let dave = Home::new();
    let by_carol = link(&carol, &[]);
    ok(&dave, &["join", &by_carol]);
    assert!(fails(&carol, &["mesh", "delete", "team", "--yes"], 7).contains("only the owner"));
    assert!(fails(&bob, &["mesh", "rename", "team", "x"], 7).contains("only admins"));
    assert!(fails(&alice, &["leave", "team"], 7).contains("you are the owner"));
    // What an admin has signed is worth nothing when the admin has gone.
    let leftover = link(&carol, &["--uses", "5"]);
    ok(&carol, &["leave", "team"]);
    assert!(fails(&Home::new(), &["join", &leftover], 1).contains("may not invite"));
    assert_eq!(run(&alice, &["invite", "--approval-mode", "plan"]).status.code(), Some(7));
}

#[test]
fn left_renamed_and_deleted() {
    let (alice, bob, server) = (Home::new(), Home::new(), Server::start(&[]));
    ok(&alice, &["mesh", "create", "team", "--broker", &server.url()]);
    let link = ok(&alice, &["invite", "--uses", "5"])["url"].as_str().unwrap().to_owned();
    ok(&bob, &["join", &link]);
    let daemon = Daemon::start(bob.path());
    await_mesh(&bob, "team");
    let entry = config(bob.path())["meshes"][0].clone();
    assert_eq!(ok(&bob, &["leave", "team"])["remaining"], 0);
    until("the daemon to let go of the mesh", || daemon.get("/v1/health").json()["brokers"].get("team").is_none().then_some(()));
    assert!(fails(&bob, &["leave", "team"], 2).contains("no mesh is joined"));
    // Nor does the key come in again, were it kept.
    let body = serde_json::json!({
        "invite_token": ok(&alice, &["invite", "list"])["invites"][0]["id"], "invite_payload": {}, "peer_pubkey": entry["pubkey"],
        "display_name": "bob",
    });
    assert_eq!(server.post("/join", &body).status, 400);
    ok(&bob, &["join", &link]);
    await_mesh(&bob, "team");
    assert_ne!(config(bob.path())["meshes"][0]["pubkey"], entry["pubkey"], "whoever comes back is somebody new");

    assert_eq!(ok(&alice, &["mesh", "rename", "team", "field"])["slug"], "field");
    assert_eq!(config(alice.path())["meshes"][0]["slug"], "field");
    let carol = Home::new();
    let renamed = ok(&alice, &["invite"])["url"].as_str().unwrap().to_owned();
    assert_eq!(ok(&carol, &["join", &renamed])["slug"], "field");
    assert!(fails(&alice, &["mesh", "rename", "field", "A B"], 3).contains("no slug"));

    assert!(fails(&alice, &["mesh", "delete", "field"], 1).contains("nothing was deleted"));
    ok(&alice, &["mesh", "delete", "field", "--yes"]);
    until("bob's daemon to hear why it is sent away", || {
        let team = &daemon.get("/v1/health").json()["meshes"]["team"];
        (team["status"] == "closed" && team["last_error"] == "the mesh was deleted" && team["fault"] == "deleted").then_some(())
    });
    assert!(fails(&Home::new(), &["join", &link], 5).contains("does not know this invitation"));
    ok(&carol, &["leave", "field"]);
    assert_eq!(config(carol.path())["meshes"], serde_json::json!([]));
    drop(server);
    assert!(fails(&bob, &["leave", "team"], 4).contains("--local"));
    ok(&bob, &["leave", "team", "--local"]);
}

#[test]
fn sessions_and_mail_follow_a_mesh_that_gets_another_name() {
    let (alice, server) = (Home::new(), Server::start(&[]));
    ok(&alice, &["mesh", "create", "team", "--broker", &server.url()]);
    let daemon = Daemon::start(alice.path());
    await_mesh(&alice, "team");
    let (ann, ben) = (Session::open(&daemon, "team", "ann"), Session::open(&daemon, "team", "ben"));
    let typist = Typist { home: &alice, session: Some(&ann) };
    typist.says(&["send", "ben", "before"]);
    until("it to arrive", || ben.unread().iter().any(|row| row["body"] == "before").then_some(()));
    typist.says(&["state", "set", "colour", "red"]);
    let mesh_of = |session: &Session, mesh: &str| {
        until("the session to be on the mesh", || {
            let me = session.call("GET", "/v1/sessions/me", None).ok()?.json();
            (me["session"]["mesh"] == mesh && me["session"]["link"] == "open").then_some(())
        });
    };
    ok(&alice, &["mesh", "rename", "team", "field"]);
    mesh_of(&ann, "field");
    mesh_of(&ben, "field");
    typist.says(&["send", "ben", "after"]);
    until("it to arrive, and the old to be there", || {
        let inbox = ben.call("GET", "/v1/inbox", None).ok()?.json().to_string();
        (inbox.contains("after") && inbox.contains("before") && !inbox.contains("\"team\"")).then_some(())
    });
    assert!(typist.says(&["state", "list"]).contains("colour"));
    assert!(alice.join("sessions/field").is_dir());

    // The name changes while nobody looks.
    drop(daemon);
    ok(&alice, &["mesh", "rename", "field", "yard"]);
    let daemon = Daemon::start(alice.path());
    mesh_of(&ann, "yard");
    typist.says(&["state", "list"]);

    // What waits when it is left waits for it to be joined again, and questions are not answered with nothing.
    drop(server);
    typist.says(&["send", &ben.key, "never"]);
    ok(&alice, &["leave", "yard", "--local", "--yes"]);
    until("the mesh to be left", || daemon.get("/v1/health").json()["meshes"]["yard"].is_null().then_some(()));
    assert!(ok(&alice, &["outbox"])["items"].to_string().contains(&ben.key));
    for verb in [&["peers"][..], &["state", "list"], &["send", "ben", "x"], &["recall", "x"], &["skill", "list"]] {
        typist.fails(verb, 5, "mesh \"yard\" not found");
    }
}

/// A way to a broker on which the first answer is lost; where it begins.
fn forgetful(broker: &str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, broker) = (listener.local_addr().unwrap().to_string(), broker.to_owned());
    std::thread::spawn(move || {
        for (n, client) in listener.incoming().take(2).enumerate() {
            let (mut client, mut server) = (client.unwrap(), TcpStream::connect(&broker).unwrap());
            let (mut asks, mut takes) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            let asking = std::thread::spawn(move || std::io::copy(&mut asks, &mut takes));
            let mut answer = Vec::new();
            server.read_to_end(&mut answer).unwrap();
            if n == 0 {
                assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
            } else {
                client.write_all(&answer).unwrap();
            }
            client.shutdown(Shutdown::Both).unwrap();
            // A connection that was shut down has nothing more to copy, with an error or without.
            drop(asking.join());
        }
    });
    address
}

#[test]
fn a_lost_answer_costs_no_second_use() {
    let (alice, bob, server) = (Home::new(), Home::new(), Server::start(&[]));
    ok(&alice, &["mesh", "create", "team", "--broker", &server.url()]);
    let by = format!("http://{}", forgetful(server.address()));
    let token = ok(&alice, &["invite", "--broker", &by])["token"].as_str().unwrap().to_owned();
    let said = fails(&bob, &["join", &token], 4);
    assert!(said.contains("can not be reached"), "{said}");
    assert!(!bob.join("config.json").exists());
    let kept: Vec<_> = std::fs::read_dir(bob.join("pending")).unwrap().map(|entry| entry.unwrap().path()).collect();
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&kept[0]).unwrap().permissions());
    assert_eq!((kept.len(), mode & 0o777), (1, 0o600));
    ok(&bob, &["join", &token]);
    let secret = config(bob.path())["meshes"][0]["secretKey"].as_str().unwrap().to_owned();
    assert_eq!((secret.len(), kept[0].exists()), (128, false));
    let row = &ok(&alice, &["invite", "list"])["invites"][0];
    assert_eq!((&row["used"], &row["state"]), (&1.into(), &"used_up".into()));
}

#[test]
fn to_leave_without_an_answer_is_not_said_to_have_failed() {
    let (alice, bob, server) = (Home::new(), Home::new(), Server::start(&[]));
    ok(&alice, &["mesh", "create", "team", "--broker", &server.url()]);
    ok(&bob, &["join", ok(&alice, &["invite"])["url"].as_str().unwrap()]);
    let mut entry = config(bob.path())["meshes"][0].clone();
    entry["brokerUrl"] = format!("ws://{}/ws", forgetful(server.address())).into();
    configure(bob.path(), &[entry]);
    let said = fails(&bob, &["leave", "team"], 4);
    assert!(said.contains("may have been carried out") && said.contains("run it again: claudemesh leave team"), "{said}");
    assert_eq!(ok(&bob, &["leave", "team"])["remaining"], 0);
}

#[test]
fn who_was_shut_out_is_told_so_by_an_invitation_and_leaves_first() {
    let (alice, bob, server) = (Home::new(), Home::new(), Server::start(&[]));
    ok(&alice, &["mesh", "create", "team", "--broker", &server.url()]);
    ok(&bob, &["join", ok(&alice, &["invite"])["url"].as_str().unwrap()]);
    let daemons = [Daemon::start(alice.path()), Daemon::start(bob.path())];
    await_mesh(&alice, "team");
    await_mesh(&bob, "team");
    let key = config(bob.path())["meshes"][0]["pubkey"].as_str().unwrap().to_owned();
    Typist { home: &alice, session: None }.says(&["ban", &key]);
    until("bob's daemon to hear of it", || {
        let team = daemons[1].get("/v1/health").json()["meshes"]["team"].clone();
        (team["status"] == "closed" && team["fault"] == "banned").then_some(())
    });
    let link = ok(&alice, &["invite"])["url"].as_str().unwrap().to_owned();
    let said = fails(&bob, &["join", &link], 7);
    assert!(said.contains("banned from this mesh") && said.contains("claudemesh leave team"), "{said}");
    fails(&bob, &["join", "team"], 7);
    ok(&bob, &["leave", "team"]);
    assert_eq!(ok(&bob, &["join", &link])["already_member"], false);
    await_mesh(&bob, "team");
}

#[test]
fn many_commands_at_once_lose_no_entry() {
    let (home, server) = (Home::new(), Server::start(&[]));
    let url = server.url();
    let names: Vec<String> = (0..8).map(|n| format!("mesh{n}")).collect();
    let running: Vec<_> = names
        .iter()
        .map(|name| crate::support::process::Process::spawn(home.command(&["mesh", "create", name, "--broker", &url])))
        .collect();
    for process in running {
        let ended = process.finish();
        assert!(ended.status.success(), "{ended:?}");
    }
    let mut slugs: Vec<String> =
        config(home.path())["meshes"].as_array().unwrap().iter().map(|mesh| mesh["slug"].as_str().unwrap().to_owned()).collect();
    slugs.sort();
    assert_eq!(slugs, names);
}
