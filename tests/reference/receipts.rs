//! What a sender is told where the broker tells nothing: that it is not known.

use serde_json::json;

use super::{World, outbox_until};
use crate::support::process::Process;
use crate::support::reference_broker::Rules;
use crate::support::session::Session;

/// Exit status of a wait for what nobody will say.
const NOT_KNOWN: i32 = 13;

#[test]
fn through_the_reference_s_broker_nothing_after_relayed_is_ever_claimed() {
    let world = World::start(Rules { per_second: 20.0, ..Rules::default() });
    let ann = Session::open(&world.alice, "acme", "ann");
    let ben = Session::open(&world.bob, "acme", "ben");
    let heard = ben.follow(Some(0));
    ann.send("ben", "hello", "m-1");
    heard.message("m-1");
    let claimed = ben.call("POST", "/v1/inbox/claim", Some(&json!({ "path": "prompt" }))).unwrap().json();
    let ids = json!([claimed["items"][0]["id"]]);
    let offered = ben.call("POST", "/v1/inbox/offered", Some(&json!({ "ids": ids, "path": "prompt" }))).unwrap();
    assert_eq!(offered.json()["changed"], 1, "{offered:?}");
    outbox_until(&world.alice, "m-1", "the broker to have it", |row| row["status"] == "done");
    let standing = ann.call("GET", "/v1/messages/m-1", None).unwrap().json();
    assert_eq!((&standing["state"], &standing["receipts"]), (&json!("relayed"), &json!(false)), "{standing}");
    let at = standing["recipients"].as_array().unwrap();
    assert_eq!((at.len(), &at[0]["pubkey"], &at[0]["state"]), (1, &json!(ben.key), &json!("relayed")), "{standing}");
    let run = |args: &[&str]| {
        let mut command = crate::support::home::command_in(world.homes[0].path(), args);
        command.env("CLAUDEMESH_IPC_TOKEN", &ann.token).env("CLAUDEMESH_INTERNAL_NO_AUTOSPAWN", "1");
        Process::run(command)
    };
    for wanted in ["--wait=arrived", "--wait"] {
        let ended = run(&["message", "status", "m-1", wanted]);
        assert_eq!(ended.status.code(), Some(NOT_KNOWN), "{ended:?}");
        assert!(ended.out.contains("relayed") && ended.out.contains("what follows is not known"), "{ended:?}");
        assert!(ended.out.contains("the recipient has not signed for it"), "{ended:?}");
    }
    assert_eq!(run(&["message", "status", "m-1", "--wait=relayed"]).status.code(), Some(0));
    let sent = run(&["send", "ben", "again", "--wait=arrived", "--timeout", "60"]);
    assert_eq!(sent.status.code(), Some(NOT_KNOWN), "{sent:?}");
    assert!(sent.out.contains("queued for ben@acme") && sent.out.contains("not known"), "{sent:?}");
    world.assert_civil();
}
