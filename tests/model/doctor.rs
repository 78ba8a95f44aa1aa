//! `doctor --live` on the real client.

use serde_json::{Value, json};

use super::scene;
use crate::support::model::{Model, Turn, claude};
use crate::support::process::Process;
use crate::support::wait::until;

#[test]
fn a_test_wakes_the_real_client_and_comes_again_at_the_end_of_that_turn() {
    let Some(claude) = claude() else { return };
    let (home, daemon, _alice) = scene();
    let model = Model::start(|_| Turn::Say);
    let args = ["launch", "--name", "bob", "--quiet", "--", "-p", "--verbose", "--input-format", "stream-json"];
    let mut command = model.command(&home, &claude, &args);
    command.args(["--output-format", "stream-json"]).env("CLAUDEMESH_WAKE", "always");
    let mut bob = Process::spawn(command);
    bob.say(&json!({ "type": "user", "message": { "role": "user", "content": "hello" } }).to_string());
    let is_waited_for = || {
        let sessions = daemon.get("/v1/sessions").json();
        let of_bob = sessions["sessions"].as_array()?.iter().find(|session| session["displayName"] == "bob")?.clone();
        let seen = of_bob["delivery"]["seen"].as_array()?.iter().any(|sighting| sighting["path"] == "prompt");
        (seen && of_bob["status"] == "idle" && of_bob["delivery"]["waiting"] == true).then_some(())
    };
    until("the session to be idle and waited for", is_waited_for);
    let test = || {
        let ended = Process::run(model.command(&home, &claude, &["doctor", "--live", "--json", "--wait", "20s"]));
        serde_json::from_str::<Value>(&ended.out).unwrap_or_else(|err| panic!("{err}: {ended:?}"))
    };
    let has = |report: &Value, check: &str, text: &str| {
        let lines = report["checks"].as_array().unwrap();
        lines.iter().any(|line| line["check"] == check && line["text"].as_str().unwrap().contains(text))
    };
    // A hook that a busy machine delays for more than its 50 ms says nothing: then it is tried again.
    let came = |report: &Value| ["wake", "stop"].iter().all(|path| has(report, "live", &format!("bob@home, {path}: arrived")));
    let report = (0..3).map(|_| test()).find(came).expect("both ways are taken");
    let says = |check: &str, text: &str| assert!(has(&report, check, text), "{text}: {report:#}");
    says("live", "bob@home, tool-use: not exercised");
    says("hooks fire", "bob@home: ");
    says("waking", "bob@home: ");
    let said = until("the model to be told twice", || {
        let last = model.saw(model.count() - 1);
        (last.matches("[claudemesh] A test by the user of this machine").count() >= 2).then_some(last)
    });
    assert!(!said.contains("from peers on the mesh"), "{said}");
    // A hook that begins when its client has gone would take the daemon's end for a fault, and start another.
    until("the next hook to wait", is_waited_for);
    bob.kill();
}
