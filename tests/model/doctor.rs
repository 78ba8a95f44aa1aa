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
    until("the session to be idle and waited for", || {
        let sessions = daemon.get("/v1/sessions").json();
        let of_bob = sessions["sessions"].as_array()?.iter().find(|session| session["displayName"] == "bob")?.clone();
        let seen = of_bob["delivery"]["seen"].as_array()?.iter().any(|sighting| sighting["path"] == "stop");
        (seen && of_bob["delivery"]["waiting"] == true).then_some(())
    });
    let ended = Process::run(model.command(&home, &claude, &["doctor", "--live", "--json", "--wait", "90s"]));
    let report: Value = serde_json::from_str(&ended.out).unwrap_or_else(|err| panic!("{err}: {ended:?}"));
    let says = |check: &str, text: &str| {
        let lines = report["checks"].as_array().unwrap();
        assert!(
            lines.iter().any(|line| line["check"] == check && line["text"].as_str().unwrap().contains(text)),
            "{text}: {report:#}"
        );
    };
    says("live", "bob@home, wake: arrived");
    says("live", "bob@home, stop: arrived");
    says("live", "bob@home, tool-use: not exercised");
    says("hooks fire", "bob@home: ");
    says("waking", "bob@home: ");
    let woken = model.saw(1);
    assert!(
        woken.contains("[claudemesh] A test by the user of this machine") && !woken.contains("from peers on the mesh"),
        "{woken}"
    );
    assert_eq!(model.saw(2).matches("[claudemesh] A test by the user").count(), 2, "and once more when that turn ended");
    bob.kill();
}
