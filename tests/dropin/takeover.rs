//! The swap itself, on the wire: an old home, our daemon on it, our broker, and a peer who must hear everything that was
//! promised and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use claudemesh::base::ids::PublicKey;
use claudemesh::base::time::now_millis;
use rusqlite::Connection;
use serde_json::{Value, json};

use super::scene::{self, Member};
use crate::support::home::{Home, command_in};
use crate::support::http::{self, Reply};
use crate::support::process::Process;
use crate::support::reference_files::{self as reference, In, InboxShape, Out, OutboxShape, SessionRow};
use crate::support::servers::{Broker, Daemon};
use crate::support::session::Session;
use crate::support::wait::until;

const LEGACY_TEXT: &str = "written before there were routes";

/// The machine that is taken over, and bob, to whom it writes.
struct Scene {
    bob: Session,
    bob_daemon: Daemon,
    broker: Broker,
    alice: Member,
    home: Home,
    /// The process of the sessions that still run.
    alive: Process,
    _homes: [Home; 2],
}

impl Scene {
    fn new() -> Scene {
        let homes = [Home::new(), Home::new()];
        let [alice, bob] = scene::mesh(homes[0].path());
        let broker = Broker::start(homes[0].path());
        bob.join(homes[1].path(), &broker.url());
        let bob_daemon = Daemon::start(homes[1].path());
        let bob = Session::open(&bob_daemon, "acme", "bob");
        let alive = Process::spawn(std::process::Command::new("cat"));
        Scene { bob, bob_daemon, broker, alice, home: Home::new(), alive, _homes: homes }
    }

    /// `config.json` with keys of other versions at both levels, an entry that was joined again, and some that are no use.
    fn config(&self) -> String {
        let mut stale = self.alice.entry("ws://127.0.0.1:1/ws");
        stale["meshId"] = "another-mesh".into();
        stale["name"] = "Acme as it was".into();
        let mut entry = self.alice.entry(&self.broker.url());
        entry["rootKey"] = "cm9vdA".into();
        entry["inviteVersion"] = 2.into();
        entry["fromTheFuture"] = json!({"kept": [1, 2.5, null]});
        let mut keyless = entry.clone();
        keyless["slug"] = "keyless".into();
        keyless["secretKey"] = "00".into();
        let config = json!({
            "version": 1, "displayName": "Alice", "role": "lead", "groups": [{"name": "eng", "role": "lead"}], "messageMode": "push",
            "accountId": "acc_1", "fromTheFuture": {"a": 1},
            "meshes": [stale, {"slug": "../../etc", "meshId": 7}, keyless, "nonsense", entry],
        });
        format!("{}\n", serde_json::to_string_pretty(&config).unwrap())
    }

    fn outbox(&self, session: &SessionRow) -> Vec<Out> {
        let bob = PublicKey::parse(&self.bob.key).unwrap();
        let text = |id: &str| format!("says {id}");
        let member = |id, status| Out::sealed(id, status, &bob, &text(id), &self.alice.keys.secret, false);
        let own = |id, status| Out::sealed(id, status, &bob, &text(id), &session.keys.secret, true);
        let legacy = |id, status| Out::plain(id, status, "bob", LEGACY_TEXT);
        vec![
            legacy("l-pending", "pending"),
            legacy("l-inflight", "inflight"),
            legacy("l-done", "done"),
            legacy("l-dead", "dead"),
            legacy("l-aborted", "aborted"),
            member("m-pending", "pending"),
            member("m-inflight", "inflight"),
            member("m-done", "done"),
            member("m-dead", "dead"),
            member("m-aborted", "aborted"),
            own("s-pending", "pending"),
            own("s-inflight", "inflight"),
            member("m-ancient", "inflight").accepted_at(now_millis() - 8 * 86_400_000),
        ]
    }

    fn inbox(&self, session: &SessionRow, path: &Path) -> Connection {
        let conn = reference::inbox(path, InboxShape::Recipients);
        let (member, own, other) = (self.alice.keys.public.to_hex(), session.key(), "0e".repeat(32));
        let carol = "ca".repeat(32);
        let row = |client_id, recipient| In {
            client_id,
            mesh: "acme",
            sender: &carol,
            body: Some("kept"),
            received_at: now_millis() - 1000,
            recipient,
            ..In::default()
        };
        let rows = [
            row("i-legacy", None),
            row("i-member", Some((member.as_str(), "member"))),
            row("i-session", Some((own.as_str(), "session"))),
            row("i-other", Some((other.as_str(), "session"))),
            In { seen_at: Some(now_millis()), ..row("i-seen", None) },
            In { body: None, ..row("i-unopened", None) },
            In { mesh: "left", ..row("i-elsewhere", None) },
            In { sender: &self.bob.key, ..row("twice-legacy", None) },
            In { sender: &self.bob.key, ..row("twice-member", Some((member.as_str(), "member"))) },
        ];
        rows.iter().for_each(|row| row.insert(&conn, InboxShape::Recipients));
        conn
    }

    /// A daemon's directory as it was killed: the rows are in the logs of the databases, which a careless umask made.
    fn lay_out(&self, config: &str, session: &SessionRow) {
        let home = self.home.path();
        reference::daemon_dir(home);
        reference::write(&home.join("config.json"), config);
        let before = Home::new();
        let outbox = reference::outbox(&before.join("outbox.db"), OutboxShape::Attributed);
        self.outbox(session).iter().for_each(|row| row.insert(&outbox));
        let inbox = self.inbox(session, &before.join("inbox.db"));
        for database in ["outbox.db", "inbox.db"] {
            for suffix in ["", "-wal", "-shm"] {
                let name = format!("{database}{suffix}");
                reference::copy(&before.join(&name), &home.join("daemon").join(&name));
            }
        }
        assert_ne!(fs::metadata(home.join("daemon/outbox.db-wal")).unwrap().len(), 0);
        // Only now: closing a database takes its log away.
        drop((outbox, inbox));
    }

    /// What was waiting for bob comes, what was given up comes when it is asked for again, and nothing else ever does.
    fn bob_hears(&self, daemon: &Daemon, promised: &[(&str, &str)]) {
        let heard = self.bob.follow(Some(0));
        let arrives = |id: &str, body: &str, sender: &str| {
            let event = heard.message(id);
            assert_eq!((&event.data["body"], &event.data["sender_pubkey"]), (&body.into(), &sender.into()), "{event:?}");
        };
        for (id, sender) in promised {
            arrives(id, &format!("says {id}"), sender);
        }
        let member = self.alice.keys.public.to_hex();
        let requeue = |row: &str| post(daemon, "/v1/outbox/requeue", &json!({"id": row, "new_client_message_id": "m-again"}));
        let again = requeue("row-m-dead");
        assert_eq!((again.status, &again.json()["aborted_row_id"]), (200, &"row-m-dead".into()), "{again:?}");
        arrives("m-again", "says m-dead", &member);
        for row in ["row-l-pending", "row-l-dead", "row-m-done", "row-m-aborted", "nothing"] {
            let refused = requeue(row);
            assert_eq!(refused.status, 409, "{row}: {refused:?}");
            assert_eq!(refused.json()["error"], "row not found, already aborted, or already done");
        }
        let last = post(daemon, "/v1/send", &json!({"to": self.bob.key, "message": "says last", "client_message_id": "last"}));
        assert_eq!(last.status, 202, "{last:?}");
        arrives("last", "says last", &member);

        let page = self.bob_daemon.get("/v1/inbox?limit=1000");
        let expected: BTreeSet<&str> = promised.iter().map(|(id, _)| *id).chain(["m-again", "last"]).collect();
        let came = page.json();
        let came: Vec<&str> = items(&came).iter().map(|row| row["client_message_id"].as_str().unwrap()).collect();
        assert_eq!(came.len(), expected.len(), "{came:?}");
        assert_eq!(came.into_iter().collect::<BTreeSet<&str>>(), expected);
        assert!(!page.text().contains(LEGACY_TEXT));
    }

    /// What bob sends is added to the old inbox, and what that has already is not there twice.
    fn bob_is_heard(&self, daemon: &Daemon) {
        let member = self.alice.keys.public.to_hex();
        for id in ["twice-legacy", "twice-member", "fresh"] {
            self.bob.send(&member, "again", id);
        }
        let rows = until("bob's message", || {
            let page = daemon.get("/v1/inbox?mark_seen=false&limit=1000").json();
            let rows = items(&page).to_vec();
            rows.iter().any(|row| row["client_message_id"] == "fresh").then_some(rows)
        });
        for (id, body) in [("twice-legacy", "kept"), ("twice-member", "kept"), ("fresh", "again")] {
            let bodies: Vec<&Value> = rows.iter().filter(|row| row["client_message_id"] == id).map(|row| &row["body"]).collect();
            assert_eq!(bodies, [body], "{id}");
        }
    }
}

fn post(daemon: &Daemon, path: &str, body: &Value) -> Reply {
    http::request(&daemon.socket(), "POST", path, &[], Some(body.to_string().as_bytes())).unwrap()
}

fn items(page: &Value) -> &[Value] {
    page["items"].as_array().expect("items")
}

/// Waits until the outbox has come to rest as `expected`, which maps client ids to statuses.
fn statuses(daemon: &Daemon, expected: &[(&str, &str)]) {
    let expected: BTreeMap<String, String> = expected.iter().map(|(id, status)| (id.to_string(), status.to_string())).collect();
    let mut last = BTreeMap::new();
    until("the outbox to come to rest", || {
        let page = daemon.get("/v1/outbox?limit=500").json();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        last = items(&page).iter().map(|row| (text(&row["client_message_id"]), text(&row["status"]))).collect();
        // What is on its way still will be something else in a moment.
        (!last.values().any(|status| status == "inflight") && last.get("last").is_some_and(|status| status == "done"))
            .then_some(())
    });
    assert_eq!(last, expected);
    let dead = daemon.get("/v1/outbox?status=dead").json();
    for (id, why) in [
        ("l-pending", "no_route: written before routing was stored"),
        ("l-inflight", "no_route: written before routing was stored"),
        ("m-ancient", "expired: not delivered within 7 days"),
    ] {
        let row = items(&dead).iter().find(|row| row["client_message_id"] == id).unwrap();
        assert_eq!(row["last_error"], why);
    }
}

/// Every file of the daemon is its owner's alone.
fn assert_private(home: &Path) {
    let mut open = vec![home.join("daemon"), home.join("config.json")];
    let mut seen = 0;
    while let Some(path) = open.pop() {
        let found = fs::symlink_metadata(&path).unwrap();
        let expected = if found.is_dir() { 0o700 } else { 0o600 };
        assert_eq!(found.mode() & 0o777, expected, "{}", path.display());
        if found.is_dir() {
            open.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        seen += 1;
    }
    assert!(10 < seen, "{seen} files were looked at");
}

const DONE: &[(&str, &str)] = &[
    ("l-pending", "dead"),
    ("l-inflight", "dead"),
    ("l-done", "done"),
    ("l-dead", "dead"),
    ("l-aborted", "aborted"),
    ("m-pending", "done"),
    ("m-inflight", "done"),
    ("m-done", "done"),
    ("m-dead", "aborted"),
    ("m-aborted", "aborted"),
    ("m-ancient", "dead"),
    ("m-again", "done"),
    ("last", "done"),
];

#[test]
fn from_the_first_version() {
    let scene = Scene::new();
    let home = scene.home.path();
    // That version forgets its sessions when it ends; what they had queued waits for a session of the same key.
    let session = SessionRow::new("ann", scene.alive.pid());
    let config = scene.config();
    scene.lay_out(&config, &session);
    reference::host_fingerprint(home, 1, &reference::host_id());

    let mut daemon = Daemon::start(home);
    assert_eq!(daemon.ready["meshes"], json!(["acme"]));
    let member = scene.alice.keys.public.to_hex();
    scene.bob_hears(&daemon, &[("m-pending", &member), ("m-inflight", &member)]);
    statuses(&daemon, &[DONE, &[("s-pending", "pending"), ("s-inflight", "pending")]].concat());
    scene.bob_is_heard(&daemon);
    assert_private(home);

    let back = scene::session(&daemon, &session);
    back.register(scene.alive.pid());
    let heard = scene.bob.follow(Some(0));
    for id in ["s-pending", "s-inflight"] {
        assert_eq!(heard.message(id).data["sender_pubkey"], session.key());
    }

    let ended = daemon.terminate();
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    assert_eq!(fs::read_to_string(home.join("config.json")).unwrap(), config);
    assert!(reference::reference_accepts_host(home, 1) && reference::reference_accepts_host(home, 2));
    assert!(!home.join("daemon/daemon.pid").exists() && !home.join("daemon/daemon.sock").exists());
}

#[test]
fn from_the_last_version() {
    let scene = Scene::new();
    let home = scene.home.path();
    let live = SessionRow::new("ann", scene.alive.pid());
    let unkept = SessionRow::new("ben", scene.alive.pid());
    let ended = Process::spawn(std::process::Command::new("cat"));
    let dead = SessionRow::new("dan", ended.pid());
    ended.kill();
    let reused = SessionRow { registered_at: now_millis() - 7_200_000, ..SessionRow::new("eve", scene.alive.pid()) };
    let config = scene.config();
    scene.lay_out(&config, &live);
    for row in [&live, &dead, &reused] {
        row.keep_key(home);
    }
    let mut nonsense = live.json();
    nonsense["pid"] = "many".into();
    let rows = [nonsense, live.json(), unkept.json(), dead.json(), reused.json(), Value::Null];
    reference::write(&home.join("daemon/sessions.json"), &json!({"version": 1, "sessions": rows}).to_string());
    reference::host_fingerprint(home, 2, &reference::host_id());

    let mut daemon = Daemon::start(home);
    let keys = addresses(&daemon);
    assert_eq!(keys.keys().collect::<Vec<_>>(), ["ann", "ben"]);
    assert_eq!(keys["ann"], live.key());

    let session = scene::session(&daemon, &live);
    session.await_link();
    let me = session.call("GET", "/v1/sessions/me", None).unwrap().json();
    assert_eq!(
        (&me["session"]["sessionId"], &me["session"]["cwd"], &me["session"]["role"], &me["session"]["groups"]),
        (&live.id.as_str().into(), &"/work".into(), &"dev".into(), &json!(["@eng:lead"]))
    );
    for gone in [&dead, &reused] {
        let gone = scene::session(&daemon, gone);
        assert_eq!(gone.call("GET", "/v1/sessions/me", None).unwrap().status, 401);
    }

    let (member, own) = (scene.alice.keys.public.to_hex(), live.key());
    let promised = [("m-pending", &member), ("m-inflight", &member), ("s-pending", &own), ("s-inflight", &own)];
    scene.bob_hears(&daemon, &promised.map(|(id, sender)| (id, sender.as_str())));
    statuses(&daemon, &[DONE, &[("s-pending", "done"), ("s-inflight", "done")]].concat());
    scene.bob_is_heard(&daemon);
    scene.bob.send("ann", "still the same?", "to-ann");
    assert_eq!(session.follow(Some(0)).message("to-ann").data["recipient_pubkey"], own);
    sees_its_own_mail(&session);
    its_commands_speak_for_it(home, &live);
    assert_private(home);
    let mode = |path: &str| fs::metadata(home.join(path)).unwrap().mode() & 0o777;
    assert_eq!((mode("sessions"), mode(&format!("sessions/acme/{}.json", live.id))), (0o700, 0o600));

    let secrets = [&live, &unkept, &dead, &reused].map(|row| row.token.clone());
    let kept = fs::read_to_string(home.join("daemon/sessions.json")).unwrap();
    assert!(kept.contains(&live.id) && !secrets.iter().any(|token| kept.contains(token)), "{kept}");
    daemon.terminate();
    daemon.restart();
    assert_eq!(addresses(&daemon), keys, "the same addresses after every restart");
    assert_eq!(session.call("GET", "/v1/sessions/me", None).unwrap().status, 200);

    daemon.terminate();
    assert_eq!(fs::read_to_string(home.join("config.json")).unwrap(), config);
    assert!(reference::reference_accepts_host(home, 2));
    let file: Value = serde_json::from_slice(&fs::read(home.join(format!("sessions/acme/{}.json", live.id))).unwrap()).unwrap();
    assert_eq!((&file["version"], &file["publicKey"]), (&1.into(), &own.as_str().into()));
}

/// The public keys of the registered sessions, by name.
fn addresses(daemon: &Daemon) -> BTreeMap<String, String> {
    let sessions = daemon.get("/v1/sessions").json();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let rows = sessions["sessions"].as_array().unwrap().iter();
    rows.map(|row| (text(&row["displayName"]), text(&row["presence"]["sessionPubkey"]))).collect()
}

/// What runs inside a session that the old command line launched finds the same token where that left it.
fn its_commands_speak_for_it(home: &Path, session: &SessionRow) {
    let overlay = Home::new();
    reference::write(&overlay.join("session-token"), &session.token);
    reference::copy(&home.join("config.json"), &overlay.join("config.json"));
    let mut whoami = command_in(home, &["whoami", "--json"]);
    whoami.env("CLAUDEMESH_CONFIG_DIR", overlay.path()).env("CLAUDEMESH_IPC_TOKEN_FILE", overlay.join("session-token"));
    let told = Process::run(whoami);
    assert!(told.status.success() && told.out.contains(&session.key()), "{told:?}");
}

/// A session sees what is for it, for its member, and what is for nobody in particular on its mesh.
fn sees_its_own_mail(session: &Session) {
    let page = session.call("GET", "/v1/inbox?mark_seen=false&limit=1000", None).unwrap().json();
    let seen: BTreeSet<&str> = items(&page).iter().map(|row| row["client_message_id"].as_str().unwrap()).collect();
    let expected =
        ["fresh", "i-legacy", "i-member", "i-seen", "i-session", "i-unopened", "to-ann", "twice-legacy", "twice-member"];
    assert_eq!(seen, expected.into_iter().collect());
    let legacy = items(&page).iter().find(|row| row["client_message_id"] == "i-legacy").unwrap();
    assert_eq!((&legacy["recipient_pubkey"], &legacy["recipient_kind"]), (&Value::Null, &Value::Null));
}
