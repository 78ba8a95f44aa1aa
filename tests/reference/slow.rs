//! Its answers when they come late.

use std::time::{Duration, Instant};

use serde_json::json;

use super::World;
use crate::support::reference_broker::Rules;
use crate::support::session::Session;

/// How long the reference's command line waits for `/v1/send`, before it sends once more in another way.
const ITS_PATIENCE: Duration = Duration::from_secs(3);

#[test]
fn who_can_not_be_looked_up_is_said_before_a_client_sends_it_twice() {
    let world = World::start(Rules::default());
    let ann = Session::open(&world.alice, "acme", "ann");
    let _ben = Session::open(&world.bob, "acme", "ben");
    world.broker.with(|state| state.rules.peers_delay = Duration::from_secs(60));
    // A machine that has no time for it gets more than one chance; a wait that is too long has none.
    let in_time = (0..3).any(|_| {
        let began = Instant::now();
        let reply = ann.try_send("ben", "x", "m-1").unwrap();
        let refused = reply.json();
        assert_eq!(
            (reply.status, &refused["error"], &refused["code"]),
            (502, &json!("route_failed"), &json!("roster_unavailable"))
        );
        began.elapsed() < ITS_PATIENCE
    });
    assert!(in_time, "the answer came too late each time");
    assert_eq!(world.alice.get("/v1/outbox").json()["items"], json!([]), "so nothing may go out");
}
