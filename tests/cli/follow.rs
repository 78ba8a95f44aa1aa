//! `inbox --follow` as the program of a session: what is unread, once, oldest first; marked only when it was written.

use std::collections::BTreeSet;

use claudemesh::base::ids::{ClientId, SessionId, SessionKey, Slug};
use claudemesh::base::paths::Paths;
use claudemesh::base::time::now_millis;
use claudemesh::crypto::keys::KeyPair;
use claudemesh::store::RowId;
use claudemesh::store::inbox::{Body, Inbox, NewInbound, Recipient};
use claudemesh::store::session_keys;
use claudemesh::wire::priority::Priority;
use claudemesh::wire::session_key::SessionKeyFile;
use serde_json::{Value, json};

use super::Quiet;
use crate::support::home::Home;
use crate::support::process::Process;

const ID: &str = "01234567-89ab-cdef-0123-456789abcdef";

/// A home whose session `ID` has these messages in its inbox, with a daemon running.
fn home_with_mail(texts: &[&str]) -> Home {
    let home = Home::new();
    let paths = Paths::under(home.path());
    let member = KeyPair::generate();
    let mesh = json!({"meshId": "m", "memberId": "i", "slug": "acme", "name": "Acme", "pubkey": member.public.to_hex(),
        "secretKey": member.secret.to_secret_text().reveal(), "brokerUrl": "ws://127.0.0.1:1/ws", "joinedAt": ""});
    std::fs::write(paths.config_file(), json!({"version": 1, "meshes": [mesh]}).to_string()).unwrap();
    let session = KeyPair::generate();
    let key = SessionKeyFile {
        version: 1,
        mesh_slug: "acme".into(),
        session_id: ID.into(),
        public_key: session.public.to_hex(),
        secret_key: session.secret.to_secret_text().reveal().into(),
        created_at: String::new(),
        display_name: None,
    };
    assert!(session_keys::save(&paths, &Slug::new("acme"), &SessionId::new(ID), &key).unwrap());
    std::fs::create_dir_all(paths.daemon_dir()).unwrap();
    let (inbox, thread) = Inbox::open(&paths.inbox_db()).unwrap();
    let row = |(at, text): (usize, &&str)| NewInbound {
        id: RowId::new(format!("row-{at}")),
        mesh: Slug::new("acme"),
        recipient: Recipient::Session(SessionKey(session.public)),
        sender_pubkey: member.public.to_hex(),
        sender_member: None,
        sender_name: "alice".into(),
        client_id: ClientId::new(format!("m-{at}")),
        broker_id: None,
        body: Body::Opened((*text).to_owned()),
        seal: None,
        mentions: Vec::new(),
        mentioned: false,
        topic: None,
        sent_to: None,
        reply_to: None,
        priority: Priority::Next,
        subtype: None,
        created_at: None,
        received_at: now_millis(),
        receipts: false,
    };
    inbox.insert(texts.iter().enumerate().map(row).collect()).unwrap();
    drop(inbox);
    thread.join_by(std::time::Instant::now() + crate::support::wait::PATIENCE);
    let up = Process::run(home.command(&["up"]));
    assert!(up.status.success(), "{}", up.err);
    home
}

fn in_session(home: &Home, args: &[&str]) -> std::process::Command {
    let launch = ["launch", "--quiet", "--name", "bob", "--resume", ID, "--", crate::support::home::CLAUDEMESH];
    home.command(&[&launch, args].concat())
}

#[track_caller]
fn unread(home: &Home) -> usize {
    let listed = Process::run(in_session(home, &["inbox", "--unread", "--json"]));
    assert!(listed.status.success(), "{listed:?}");
    serde_json::from_str::<Vec<Value>>(&listed.out).unwrap().len()
}

/// What stands under `key` in each of the next messages that are shown.
fn shown<'a>(follower: &'a Process, count: usize, key: &'a str) -> impl Iterator<Item = String> + 'a {
    (0..count).map(move |_| {
        let line: Value = serde_json::from_str(&follower.line().expect("a message")).unwrap();
        line[key].as_str().unwrap().to_owned()
    })
}

#[test]
fn shows_what_is_unread_once_and_ends_well_when_told_to() {
    let home = home_with_mail(&["first", "second\n\u{1b}[2J"]);
    let _quiet = Quiet(&home);
    let follower = Process::spawn(in_session(&home, &["inbox", "--follow", "--json"]));
    let bodies: Vec<String> = shown(&follower, 2, "body").collect();
    assert_eq!(bodies, ["first", "second\n\u{1b}[2J"]);
    follower.signal(rustix::process::Signal::TERM);
    let ended = follower.finish();
    assert_eq!((ended.status.code(), ended.out.as_str()), (Some(0), ""), "{}", ended.err);
    assert_eq!(unread(&home), 0);
}

#[test]
fn ends_with_its_terminal() {
    let home = home_with_mail(&["one"]);
    let _quiet = Quiet(&home);
    let follower = Process::spawn(in_session(&home, &["inbox", "--follow", "--json"]));
    assert_eq!(shown(&follower, 1, "body").count(), 1);
    follower.signal(rustix::process::Signal::HUP);
    let ended = follower.finish();
    assert!(ended.status.success(), "{ended:?}");
}

#[test]
fn what_does_not_fit_into_one_page_is_shown_all_the_same() {
    let large = "x".repeat(200 * 1024);
    let home = home_with_mail(&[large.as_str(); 30]);
    let _quiet = Quiet(&home);
    let follower = Process::spawn(in_session(&home, &["inbox", "--follow", "--json"]));
    let ids: BTreeSet<String> = shown(&follower, 30, "id").collect();
    assert_eq!(ids.len(), 30);
    follower.signal(rustix::process::Signal::TERM);
    assert_eq!(follower.finish().out, "");
}

#[test]
fn what_nobody_could_read_is_still_unread() {
    let home = home_with_mail(&["lost?"]);
    let _quiet = Quiet(&home);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let status = in_session(&home, &["inbox", "--follow"]).stdout(writer).status().unwrap();
    assert_eq!(status.code(), Some(0), "a closed pipe is no failure");
    assert_eq!(unread(&home), 1);
}

#[test]
fn peer_text_can_not_play_with_the_terminal() {
    let home = home_with_mail(&["a\u{1b}]0;title\u{7}\u{202e}b"]);
    let _quiet = Quiet(&home);
    let listed = Process::run(in_session(&home, &["inbox"]));
    assert!(listed.out.contains("  a\u{fffd}]0;title\u{fffd}\u{fffd}b\n"), "{:?}", listed.out);
}

#[test]
fn looking_from_outside_marks_nothing() {
    let home = home_with_mail(&["for bob"]);
    let _quiet = Quiet(&home);
    let listed = Process::run(home.command(&["inbox"]));
    assert!(listed.out.contains("for bob"), "{:?}", listed.out);
    assert_eq!(unread(&home), 1);
    assert_eq!(unread(&home), 0, "the session itself has seen it now");
}
