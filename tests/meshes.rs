//! From nothing to two members, and everything that should keep a third out.

mod lives;
mod requests;

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::support::home::Home;
use crate::support::http::{self, Reply};
use crate::support::process::{Ended, Process};
use crate::support::servers::Daemon;
use crate::support::session::Session;
use crate::support::wait::until;

/// A broker that was started with flags of the test's own.
#[derive(Debug)]
struct Server {
    process: Process,
    /// The line it says when it is ready.
    ready: Value,
    home: Home,
}

impl Server {
    #[track_caller]
    fn start(flags: &[&str]) -> Server {
        Server::start_in(Home::new(), flags)
    }

    #[track_caller]
    fn start_in(home: Home, flags: &[&str]) -> Server {
        let mut args = vec!["broker", "--listen", "127.0.0.1:0", "--data", "data"];
        args.extend(flags);
        let process = Process::spawn(home.command(&args));
        let line = process.line().unwrap_or_else(|| panic!("it ended: {}", process.errors()));
        Server { ready: serde_json::from_str(&line).unwrap(), process, home }
    }

    fn address(&self) -> &str {
        self.ready["listen"].as_str().unwrap()
    }

    fn url(&self) -> String {
        format!("http://{}", self.address())
    }

    fn data(&self) -> PathBuf {
        self.home.join("data")
    }

    #[track_caller]
    fn post(&self, path: &str, body: &Value) -> Reply {
        http::request_tcp(self.address(), "POST", path, &[], Some(body.to_string().as_bytes())).unwrap()
    }

    #[track_caller]
    fn stop(self) -> Home {
        self.process.signal(rustix::process::Signal::TERM);
        assert!(self.process.finish().status.success());
        self.home
    }
}

/// Runs a command in a home.
fn run(home: &Home, args: &[&str]) -> Ended {
    Process::run(home.command(args))
}

/// Runs one that succeeds; what it printed as JSON.
#[track_caller]
fn ok(home: &Home, args: &[&str]) -> Value {
    let ended = run(home, &[args, &["--json"]].concat());
    assert!(ended.status.success(), "{args:?}: {ended:?}");
    serde_json::from_str(&ended.out).unwrap_or_else(|err| panic!("{err} in {ended:?}"))
}

/// Runs one that fails with this status; what it says.
#[track_caller]
fn fails(home: &Home, args: &[&str], status: i32) -> String {
    let ended = run(home, args);
    assert_eq!(ended.status.code(), Some(status), "{args:?}: {ended:?}");
    ended.err
}

fn config(home: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(home.join("config.json")).unwrap()).unwrap()
}

/// Waits until the daemon of a home is on a mesh, as `list` tells it.
#[track_caller]
fn await_mesh(home: &Home, slug: &str) {
    until("the daemon to attach the mesh", || {
        let listed = ok(home, &["list"]);
        let mesh = listed["meshes"].as_array().unwrap().iter().find(|mesh| mesh["slug"] == slug)?.clone();
        (mesh["status"] == "open").then_some(())
    });
}

#[test]
fn from_nothing_to_a_message_in_four_commands() {
    let (alice, bob) = (Home::new(), Home::new());
    // Bob's daemon runs already, on nothing but its own mesh.
    let bobs = Daemon::start(bob.path());
    let server = Server::start(&[]);
    let made = ok(&alice, &["mesh", "create", "team", "--broker", &server.url(), "--name", "alice"]);
    assert_eq!((made["slug"].as_str(), made["id"].as_str().map(str::len)), (Some("team"), Some(32)), "{made}");
    let ended = run(&alice, &["invite"]);
    assert!(ended.status.success() && ended.out.contains('█'), "{ended:?}");
    let link = ended.out.split_whitespace().find(|word| word.contains("/i/")).expect("a link").to_owned();
    assert!(link.starts_with(&format!("{}/i/", server.url())), "{link}");
    let joined = ok(&bob, &["join", &link, "--name", "bob"]);
    assert_eq!((&joined["slug"], &joined["already_member"]), (&"team".into(), &false.into()));
    await_mesh(&bob, "team");

    let alices = Daemon::start(alice.path());
    await_mesh(&alice, "team");
    let there = Session::open(&bobs, "team", "bob");
    let here = Session::open(&alices, "team", "alice");
    let heard = there.follow(None);
    until("alice's roster to show bob", || here.try_send("bob", "hello", "m-1").ok().filter(|reply| reply.status == 202));
    let event = heard.message("m-1");
    assert_eq!((&event.data["body"], &event.data["sender_pubkey"]), (&"hello".into(), &here.key.as_str().into()));

    // The owner's secret is in one file on one machine.
    let secret = config(alice.path())["meshes"][0]["secretKey"].as_str().unwrap().to_owned();
    assert_eq!(secret.len(), 128);
    for entry in std::fs::read_dir(server.data()).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        assert!(!bytes.windows(64).any(|window| window == &secret.as_bytes()[..64]), "the broker has the owner's seed");
    }
    assert!(!server.process.errors().contains(&secret[..64]));
    assert_eq!(std::fs::read_dir(bob.join("pending")).unwrap().count(), 0, "the key is in the configuration alone");
}

#[test]
fn through_tls_with_an_authority_of_ones_own() {
    let testdata = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/net/testdata");
    let (cert, key) = (testdata.join("cert.pem"), testdata.join("key.pem"));
    let server = Server::start(&["--tls-cert", cert.to_str().unwrap(), "--tls-key", key.to_str().unwrap()]);
    let url = format!("https://{}", server.address());
    assert_eq!(server.ready["url"], format!("wss://{}/ws", server.address()));
    let (alice, bob) = (Home::new(), Home::new());
    let trusting = |home: &Home, args: &[&str]| {
        let mut command = home.command(args);
        command.env("SSL_CERT_FILE", &cert);
        Process::spawn(command)
    };
    let said = fails(&alice, &["mesh", "create", "team", "--broker", &url], 4);
    assert!(said.contains("certificate") || said.contains("trust"), "{said}");
    let plain = fails(&alice, &["mesh", "create", "team", "--broker", &server.url()], 4);
    assert!(plain.contains("can not be reached"), "{plain}");
    let made = trusting(&alice, &["mesh", "create", "team", "--broker", &url]).finish();
    assert!(made.status.success(), "{made:?}");
    let invited = trusting(&alice, &["invite", "--json"]).finish();
    let invited: Value = serde_json::from_str(&invited.out).unwrap_or_else(|err| panic!("{err}: {invited:?}"));
    assert!(invited["url"].as_str().unwrap().starts_with(&format!("{url}/i/")), "{invited}");
    let joined = trusting(&bob, &["join", invited["url"].as_str().unwrap()]).finish();
    assert!(joined.status.success() && !joined.out.contains("not encrypted"), "{joined:?}");
    assert_eq!(config(bob.path())["meshes"][0]["brokerUrl"], server.ready["url"]);
    let daemon = trusting(&bob, &["daemon", "up", "--foreground"]);
    assert!(daemon.line().is_some(), "{}", daemon.errors());
    await_mesh(&bob, "team");
}

#[test]
fn a_certificate_that_cannot_be_used_changes_nothing() {
    let testdata = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/net/testdata");
    let home = Home::new();
    for name in ["cert.pem", "key.pem"] {
        std::fs::copy(testdata.join(name), home.join(name)).unwrap();
    }
    let server = Server::start_in(home, &["--tls-cert", "cert.pem", "--tls-key", "key.pem"]);
    let (cert, url) = (server.home.join("cert.pem"), format!("https://{}", server.address()));
    let create = |name: &str| {
        let home = Home::new();
        let mut command = home.command(&["mesh", "create", name, "--broker", &url]);
        command.env("SSL_CERT_FILE", testdata.join("cert.pem"));
        let ended = Process::run(command);
        assert!(ended.status.success(), "{ended:?}");
    };
    std::fs::write(&cert, "not a certificate").unwrap();
    server.process.signal(rustix::process::Signal::HUP);
    until("the broker to say so", || server.process.errors().contains("the certificate stays as it is").then_some(()));
    create("one");
    std::fs::copy(testdata.join("cert.pem"), &cert).unwrap();
    server.process.signal(rustix::process::Signal::HUP);
    create("two");
    drop(server);
    let broken = Home::new();
    let args = ["broker", "--listen", "127.0.0.1:0", "--data", "data", "--tls-cert", "no.pem", "--tls-key", "no.pem"];
    assert!(fails(&broken, &args, 1).contains("no.pem"));
}

#[test]
fn who_may_make_a_mesh() {
    let home = Home::new();
    let create = |server: &Server| vec!["mesh".to_owned(), "create".into(), "team".into(), "--broker".into(), server.url()];
    let server = Server::start(&["--mesh-policy", "token"]);
    let token = server.ready["admin_token"].as_str().expect("shown at the first start").to_owned();
    let file = server.data().join("admin-token");
    assert_eq!(std::fs::read_to_string(&file).unwrap().trim(), token);
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&file).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    let args = create(&server);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    assert!(fails(&home, &args, 7).contains("takes its admin token"));
    let wrong = home.join("wrong");
    std::fs::write(&wrong, "ab".repeat(32)).unwrap();
    let wrong_file = [args.as_slice(), &["--token-file", wrong.to_str().unwrap()]].concat();
    assert!(fails(&home, &wrong_file, 7).contains("another admin token"));
    assert!(!home.join("config.json").exists(), "a refusal changes nothing");
    let mut command = home.command(&args);
    command.env("CLAUDEMESH_ADMIN_TOKEN", &token);
    let ended = Process::run(command);
    assert!(ended.status.success(), "{ended:?}");
    // The token is shown once, and is the same after a restart.
    let server = Server::start_in(server.stop(), &["--trusted-proxy", "127.0.0.1"]);
    assert_eq!(server.ready["admin_token"], Value::Null);
    let other = Home::new();
    let args = create(&server);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    assert!(fails(&other, &args, 7).contains("takes its admin token"), "what a proxy passes on is not local");
    let token_file = [args.as_slice(), &["--token-file", file.to_str().unwrap()]].concat();
    ok(&other, &token_file);

    let closed = Server::start(&["--mesh-policy", "closed"]);
    let token_file = closed.data().join("admin-token");
    let url = closed.url();
    let args = ["mesh", "create", "x", "--broker", &url, "--token-file", token_file.to_str().unwrap()];
    assert!(fails(&home, &args, 7).contains("no meshes can be made"));

    // By default this machine's own requests count as local, those that a proxy has passed on do not.
    let local = Server::start(&[]);
    let refused = |headers: &[(&str, &str)]| {
        let reply = http::request_tcp(local.address(), "POST", "/mesh", headers, Some(b"{}")).unwrap();
        (reply.status, reply.json()["error"].as_str().unwrap().to_owned())
    };
    assert_eq!(refused(&[]), (401, "unauthorized".into()));
    assert_eq!(refused(&[("X-Forwarded-For", "192.0.2.1")]), (401, "admin_token_required".into()));
    assert_eq!(refused(&[("Origin", "http://127.0.0.1:7900")]), (401, "admin_token_required".into()), "a web page's");
    assert_eq!(refused(&[("Authorization", "Bearer 00")]), (401, "admin_token_wrong".into()));
}

#[test]
fn a_page_for_a_person_and_a_token_for_a_program() {
    let (alice, server) = (Home::new(), Server::start(&[]));
    ok(&alice, &["mesh", "create", "Q & A", "--broker", &server.url()]);
    let invited = ok(&alice, &["invite", "--uses", "3"]);
    let (code, token) = (invited["code"].as_str().unwrap(), invited["token"].as_str().unwrap());
    let path = format!("/i/{code}");
    let page = http::request_tcp(server.address(), "GET", &path, &[("Accept", "text/html")], None).unwrap();
    let link = format!("{}/i/{code}", server.url());
    assert!(page.status == 200 && page.head.contains("text/html") && page.head.contains("default-src 'none'"), "{page:?}");
    assert!(
        page.text().contains(&format!("claudemesh join {link}")) && page.text().contains("Join “Q &amp; A”"),
        "{}",
        page.text()
    );
    assert!(!page.text().contains("<script"));
    let lower = format!("/i/{}", code.to_lowercase());
    let json = http::request_tcp(server.address(), "GET", &lower, &[("Accept", "application/json")], None).unwrap();
    assert_eq!((json.status, json.json()["token"].as_str()), (200, Some(token)));
    let nothing = http::request_tcp(server.address(), "GET", "/i/AAAAAAAAAAAA", &[], None).unwrap();
    assert!(nothing.status == 404 && nothing.text().contains("no invitation"), "{nothing:?}");
    assert_eq!(ok(&alice, &["invite", "list"])["invites"][0]["used"], 0, "looking uses nothing up");
    ok(&alice, &["invite", "revoke", &link]);
    let gone = http::request_tcp(server.address(), "GET", &path, &[], None).unwrap();
    assert!(gone.status == 410 && gone.text().contains("taken back"), "{gone:?}");
    let claim = server.post(&format!("/invites/{code}/claim"), &json!({}));
    assert_eq!((claim.status, claim.json()["error"].as_str()), (501, Some("invite_v2_disabled")));
}
