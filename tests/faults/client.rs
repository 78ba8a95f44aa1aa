//! A client as the reference's are, frame by frame: what it says, what it waits for, and what it never expects.

use claudemesh::crypto::keys::KeyPair;
use serde_json::{Value, json};

use super::Scene;
use crate::support::peer::Peer;

/// Asks, and takes both of the answers that the reference's clients wait for.
#[track_caller]
fn both(peer: &mut Peer, frame: Value, kinds: [&str; 2]) -> [Value; 2] {
    let first = peer.ask(frame, kinds[0]);
    let second = peer.next(kinds[1]);
    assert_eq!(first["_reqId"], second["_reqId"]);
    [first, second]
}

#[test]
fn f_26_a_client_of_the_reference_is_served_in_both_of_its_shapes() {
    let scene = Scene::new();
    let (bobs, label) = (KeyPair::generate(), KeyPair::generate().public.to_hex());
    let mut hello = scene.mesh.hello(1, &bobs);
    hello["groups"] = json!([{"name": "ops", "role": "lead"}]);
    hello["role"] = json!("reviewer");
    let mut bob = Peer::enter(&scene.broker.address, &hello);
    let more = json!({"sessionPubkey": label, "sessionId": "cold-1", "displayName": "Cold", "hostname": "h", "peerType": "human",
                      "channel": "cli", "protocolVersion": 1, "capabilities": []});
    let mut cold = Peer::enter(&scene.broker.address, &scene.mesh.member_hello(0, &more));

    let peers = cold.peers();
    let row = peers.iter().find(|peer| peer["pubkey"] == json!(bobs.public)).unwrap();
    assert_eq!((&row["displayName"], &row["status"], &row["summary"]), (&json!("peer-1"), &json!("idle"), &Value::Null));
    assert!(row.as_object().unwrap().contains_key("summary"), "{row}");
    assert_eq!((&row["groups"], &row["role"]), (&json!([{"name": "ops", "role": "lead"}]), &json!("reviewer")));
    assert_eq!((&row["peerRole"], &row["sessionId"], &row["cwd"]), (&json!("session"), &json!("session-1"), &json!("/")));
    assert!(row["connectedAt"].as_str().is_some_and(|at| at.ends_with('Z')) && row["memberPubkey"].is_string());

    messages(&scene, &mut cold, &mut bob, (&label, &bobs));
    let alices = KeyPair::generate();
    let mut alice = scene.session(2, &alices);
    let joined = bob.event("peer_joined");
    assert_eq!((&joined["name"], &joined["displayName"]), (&json!("peer-2"), &json!("peer-2")), "{joined}");
    assert_eq!((&joined["pubkey"], &joined["groups"]), (&json!(alices.public), &json!([])));
    groups(&mut alice, &mut bob);
    values(&mut cold, &mut bob);
    assert_eq!(alice.next("state_change")["key"], "build", "everybody else is told");
    texts(&mut cold);
    topics(&mut alice, &mut bob);
    skills(&mut alice);
    tasks(&mut alice, &mut bob);
    later(&mut alice);
    shown(&mut alice, &mut bob, &alices);
}

fn messages(scene: &Scene, cold: &mut Peer, bob: &mut Peer, (label, bobs): (&str, &KeyPair)) {
    let key = bobs.public.to_hex();
    cold.say(&json!({"type": "send", "id": "c-1", "client_message_id": "c-1", "request_fingerprint": "ab".repeat(32),
                     "targetSpec": key, "priority": "now", "nonce": "bm9uY2U=", "ciphertext": "eA=="}));
    let ack = cold.next("ack");
    assert_eq!((&ack["id"], &ack["queued"], ack.get("error")), (&json!("c-1"), &json!(true), None), "{ack}");
    let push = bob.takes();
    for (field, expected) in [
        ("messageId", &ack["messageId"]),
        ("senderPubkey", &json!(label)),
        ("senderMemberPubkey", &json!(scene.mesh.member_key(0))),
        ("priority", &json!("now")),
        ("nonce", &json!("bm9uY2U=")),
        ("ciphertext", &json!("eA==")),
        ("client_message_id", &json!("c-1")),
        ("request_fingerprint", &json!("ab".repeat(32))),
    ] {
        assert_eq!(&push[field], expected, "{field}: {push}");
    }
    assert!(push["meshId"].is_string() && push["createdAt"].is_string(), "{push}");
    let status = cold.ask(json!({"type": "message_status", "messageId": ack["messageId"]}), "message_status_result");
    assert_eq!((&status["targetSpec"], status["recipients"].as_array().map(Vec::len)), (&json!(key), Some(1)), "{status}");
    // Refusals set both of what the two clients look at.
    for to in ["peer-1", "#nowhere", &"0f".repeat(32)] {
        let refused = cold.send("c-2", to, "eA==");
        assert!(refused["queued"] == false && refused["messageId"] == "" && refused["error"].is_string(), "{refused}");
    }
}

fn groups(alice: &mut Peer, bob: &mut Peer) {
    // Said without an id, these are answered by nothing, as the reference's are.
    alice.say(&json!({"type": "join_group", "name": "crew", "role": "member"}));
    bob.say(&json!({"type": "join_group", "name": "crew"}));
    alice.is_quiet();
    bob.is_quiet();
    let id = alice.sent("g-1", "@crew", "eA==");
    assert_eq!(bob.takes()["messageId"], json!(id));
    bob.say(&json!({"type": "leave_group", "name": "crew"}));
    bob.is_quiet();
    alice.sent("g-2", "@crew", "eA==");
    bob.is_quiet();
    alice.is_quiet();
}

fn values(cold: &mut Peer, bob: &mut Peer) {
    cold.say(&json!({"type": "set_state", "key": "build", "value": {"green": true}}));
    let change = bob.next("state_change");
    let told = (&change["key"], &change["value"], &change["updatedBy"]);
    assert_eq!(told, (&json!("build"), &json!({"green": true}), &json!("Cold")), "{change}");
    let [result, value] = both(bob, json!({"type": "get_state", "key": "build"}), ["state_result", "state_value"]);
    for state in [&result, &value["state"]] {
        assert_eq!((&state["key"], &state["value"]), (&json!("build"), &json!({"green": true})), "{state}");
        assert!(state["updatedBy"] == "Cold" && state["updatedAt"].as_str().is_some_and(|at| at.ends_with('Z')), "{state}");
    }
    let [result, value] = both(bob, json!({"type": "get_state", "key": "none"}), ["state_result", "state_value"]);
    let never = (&result["value"], &result["updatedBy"], &result["updatedAt"], &value["state"]);
    assert_eq!(never, (&Value::Null, &json!(""), &json!(""), &Value::Null));
    let listed = bob.ask(json!({"type": "list_state"}), "state_list");
    assert_eq!(listed["entries"].as_array().unwrap().len(), 1, "{listed}");
}

fn texts(cold: &mut Peer) {
    let stored = cold.ask(json!({"type": "remember", "content": "the printer jams", "tags": ["office"]}), "memory_stored");
    assert!(stored["id"].is_string() && stored["id"] == stored["memoryId"], "{stored}");
    let [results, again] = both(cold, json!({"type": "recall", "query": "printers"}), ["memory_results", "memory_recall_result"]);
    assert_eq!(results["memories"], again["matches"]);
    let text = &results["memories"][0];
    assert_eq!((&text["id"], &text["content"], &text["tags"]), (&stored["id"], &json!("the printer jams"), &json!(["office"])));
    assert!(text["rememberedBy"] == "Cold" && text["rememberedAt"].is_string(), "{text}");
    let gone = cold.ask(json!({"type": "forget", "memoryId": stored["id"]}), "ack");
    let told = (&gone["id"], &gone["messageId"], &gone["queued"]);
    assert_eq!(told, (&stored["id"], &stored["id"], &json!(false)), "{gone}");
}

fn topics(alice: &mut Peer, bob: &mut Peer) {
    let create = || json!({"type": "topic_create", "name": "plans", "description": "d", "visibility": "public"});
    let made = alice.ask(create(), "topic_created");
    assert_eq!((&made["created"], &made["topic"]["visibility"]), (&json!(true), &json!("public")));
    let again = alice.ask(create(), "topic_created");
    assert_eq!((&again["created"], &again["topic"]["id"]), (&json!(false), &made["topic"]["id"]));
    bob.say(&json!({"type": "topic_join", "topic": "plans"}));
    bob.is_quiet();
    let to = format!("#{}", made["topic"]["id"].as_str().unwrap());
    let id = alice.sent("t-1", &to, "eA==");
    assert_eq!(bob.takes()["topic"], "plans");
    let listed = bob.ask(json!({"type": "topic_list"}), "topic_list_response")["topics"].clone();
    assert_eq!((&listed[0]["name"], &listed[0]["memberCount"]), (&json!("plans"), &json!(2)), "{listed}");
    let history = bob.ask(json!({"type": "topic_history", "topic": "plans", "limit": 5}), "topic_history_response");
    let said = &history["messages"][0];
    assert_eq!((&history["topic"], &said["id"], &said["bodyVersion"]), (&json!("plans"), &json!(id), &json!(1)), "{history}");
    assert!(said["senderName"] == "peer-2" && said["senderMemberId"].is_string() && said["createdAt"].is_string(), "{said}");
    bob.say(&json!({"type": "topic_mark_read", "topic": "plans"}));
    let members = bob.ask(json!({"type": "topic_members", "topic": "plans"}), "topic_members_response");
    assert_eq!(members["members"].as_array().unwrap().len(), 2, "{members}");
}

fn skills(alice: &mut Peer) {
    let share = json!({"type": "share_skill", "name": "lift", "description": "d", "instructions": "i", "tags": ["t"]});
    let shared = alice.ask(share, "skill_ack");
    assert_eq!((&shared["name"], &shared["action"]), (&json!("lift"), &json!("shared")));
    let skill = alice.ask(json!({"type": "get_skill", "name": "lift"}), "skill_data")["skill"].clone();
    assert_eq!((&skill["instructions"], &skill["author"], &skill["tags"]), (&json!("i"), &json!("peer-2"), &json!(["t"])));
    assert_eq!(alice.ask(json!({"type": "get_skill", "name": "none"}), "skill_data")["skill"], Value::Null);
    let listed = alice.ask(json!({"type": "list_skills", "query": "LIF"}), "skill_list")["skills"].clone();
    assert_eq!((&listed[0]["name"], &listed[0]["description"]), (&json!("lift"), &json!("d")), "{listed}");
    for action in ["removed", "not_found"] {
        assert_eq!(alice.ask(json!({"type": "remove_skill", "name": "lift"}), "skill_ack")["action"], action);
    }
}

fn tasks(alice: &mut Peer, bob: &mut Peer) {
    let id = alice.ask(json!({"type": "create_task", "title": "paint", "tags": ["wall"]}), "task_created")["id"].clone();
    let listed = bob.ask(json!({"type": "list_tasks", "status": "open"}), "task_list")["tasks"].clone();
    assert_eq!((&listed[0]["id"], &listed[0]["priority"], &listed[0]["status"]), (&id, &json!("normal"), &json!("open")));
    bob.ask(json!({"type": "claim_task", "taskId": id}), "task_list");
    alice.refused(json!({"type": "claim_task", "taskId": id}), "task_not_claimable");
    bob.ask(json!({"type": "complete_task", "taskId": id, "result": "white"}), "task_list");
    let done = alice.ask(json!({"type": "list_tasks"}), "task_list")["tasks"].clone();
    assert_eq!((&done[0]["status"], &done[0]["claimedBy"]), (&json!("done"), &json!("peer-1")), "{done}");
    alice.refused(json!({"type": "complete_task", "taskId": "nothing"}), "task_not_found");
}

fn later(alice: &mut Peer) {
    let at = 4_000_000_000_000_i64;
    let ask = json!({"type": "schedule", "to": "*", "message": "tick", "deliverAt": at, "subtype": "reminder"});
    let kept = alice.ask(ask, "scheduled_ack");
    assert!(kept["scheduledId"].is_string() && kept["deliverAt"] == at, "{kept}");
    let listed = alice.ask(json!({"type": "list_scheduled"}), "scheduled_list")["messages"].clone();
    assert_eq!((&listed[0]["id"], &listed[0]["to"], &listed[0]["message"]), (&kept["scheduledId"], &json!("*"), &json!("tick")));
    assert_eq!((&listed[0]["deliverAt"], listed[0]["createdAt"].is_i64()), (&json!(at), true), "{listed}");
    for ok in [true, false] {
        let gone = alice.ask(json!({"type": "cancel_scheduled", "scheduledId": kept["scheduledId"]}), "cancel_scheduled_ack");
        assert_eq!((&gone["scheduledId"], &gone["ok"]), (&kept["scheduledId"], &json!(ok)), "{gone}");
    }
    alice.refused(json!({"type": "schedule", "to": "*", "message": "x", "cron": "soon"}), "invalid_cron");
}

fn shown(alice: &mut Peer, bob: &mut Peer, alices: &KeyPair) {
    alice.say(&json!({"type": "set_status", "status": "dnd"}));
    alice.say(&json!({"type": "set_summary", "summary": "at lunch"}));
    alice.say(&json!({"type": "set_stats", "stats": {"messagesIn": 3}}));
    let done = alice.ask(json!({"type": "set_profile", "title": "Lead"}), "ack");
    assert_eq!((&done["id"], &done["messageId"], &done["queued"]), (&json!("q"), &json!(""), &json!(false)), "{done}");
    let peers = bob.peers();
    let row = peers.iter().find(|peer| peer["pubkey"] == json!(alices.public)).unwrap();
    assert_eq!((&row["status"], &row["summary"]), (&json!("dnd"), &json!("at lunch")));
    assert_eq!((&row["profile"]["title"], &row["stats"]["messagesIn"]), (&json!("Lead"), &json!(3)), "{row}");
    alice.ask(json!({"type": "set_visible", "visible": false}), "ack");
    assert_eq!(bob.event("peer_hidden")["name"], "peer-2");
    assert!(bob.peers().iter().all(|peer| peer["pubkey"] != json!(alices.public)));
}
