//! What the reference's broker gets wrong, by the numbers of its list of faults: each is shown absent here. Where a test of
//! another file shows it, the table names that; what belongs to families that this program leaves out is refused by name.

mod answers;
mod client;
mod mail;
mod presence;
mod rights;

use std::collections::BTreeSet;

use claudemesh::crypto::keys::KeyPair;

use crate::support::home::Home;
use crate::support::peer::Peer;
use crate::support::raw::RawMesh;
use crate::support::servers::Broker;

/// For each number the file and the function of every test that shows it absent.
const SHOWN: &[(u8, &[(&str, &str)])] = &[
    (
        1,
        &[
            ("tests/faults/mail.rs", "f_01_a_topic_is_live_and_no_other_mesh_is_in_it"),
            ("src/broker/tests/families.rs", "what_is_said_in_a_topic_reaches_every_session_of_its_members_and_stays"),
        ],
    ),
    (2, &[("tests/faults/answers.rs", "f_02_f_03_what_is_left_out_is_refused_by_name")]),
    (
        3,
        &[
            ("tests/faults/answers.rs", "f_02_f_03_what_is_left_out_is_refused_by_name"),
            ("tests/meshes/requests.rs", "a_signature_counts_once_for_what_was_signed_and_not_for_long"),
        ],
    ),
    (
        4,
        &[
            ("tests/faults/presence.rs", "f_04_nobody_takes_a_place_or_mail_by_naming_another_members_session"),
            ("src/broker/tests/hello.rs", "a_session_key_of_another_member_is_another_presence"),
        ],
    ),
    (
        5,
        &[
            ("tests/faults/presence.rs", "f_05_whoever_returns_at_once_stays"),
            ("src/broker/router_tests.rs", "a_late_close_of_an_old_connection_changes_nothing"),
        ],
    ),
    (6, &[("tests/faults/presence.rs", "f_06_f_34_places_that_were_taken_over_are_not_counted")]),
    (7, &[("tests/faults/mail.rs", "f_07_f_32_what_is_sent_while_a_place_is_kept_comes_on_return")]),
    (8, &[("tests/faults/mail.rs", "f_08_answers_and_mail_keep_their_order")]),
    (9, &[("tests/e2e.rs", "mail_waits_for_a_machine_that_is_off")]),
    (10, &[("tests/faults/mail.rs", "f_10_the_same_message_twice_is_one")]),
    (
        11,
        &[
            ("tests/faults/mail.rs", "f_11_nobody_acknowledges_what_is_anothers"),
            ("src/broker/tests/mail.rs", "an_ack_by_the_senders_id_is_for_what_was_pushed_here"),
        ],
    ),
    (12, &[("src/broker/tests/status.rs", "only_idle_lets_go_of_what_is_held")]),
    (13, &[("tests/faults/answers.rs", "f_13_f_25_every_frame_that_makes_no_sense_is_answered_under_its_id")]),
    (14, &[("tests/faults/mail.rs", "f_14_a_group_reaches_those_below_it_at_once_and_later")]),
    (
        15,
        &[
            ("tests/siege.rs", "those_who_never_get_to_the_point_are_closed_and_cost_little"),
            ("tests/siege.rs", "frames_without_measure_are_cut_off"),
            ("tests/siege.rs", "floods_and_readers_that_stop_are_held_back"),
            ("tests/siege.rs", "one_address_can_not_take_every_place"),
            ("tests/deaf.rs", "a_peer_that_stops_reading_is_bounded_and_keeps_its_mail"),
            ("src/broker/tests/rates.rs", "whoever_asks_without_end_is_told_to_wait_and_others_are_not"),
        ],
    ),
    (16, &[("src/store/hub/tests.rs", "text_goes_with_the_last_copy_and_rows_with_their_time")]),
    (17, &[("tests/faults/presence.rs", "f_17_each_row_of_a_list_is_its_own_connections")]),
    (18, &[("tests/faults/presence.rs", "f_18_a_command_with_a_sessions_id_sends_nobody_away")]),
    (
        19,
        &[
            ("tests/faults/answers.rs", "f_19_nobody_sets_a_status_over_http"),
            ("tests/model/reach.rs", "peers_see_from_the_hooks_what_a_session_does_and_how_it_is_reached"),
        ],
    ),
    (
        20,
        &[
            ("tests/faults/presence.rs", "f_20_whoever_is_kicked_or_banned_is_said_to_be_gone"),
            ("src/broker/tests/families.rs", "who_is_kicked_stays_out_and_the_owner_can_not_be"),
            ("src/broker/tests/order.rs", "nobody_kicks_itself"),
        ],
    ),
    (
        21,
        &[
            ("tests/faults/rights.rs", "f_21_what_a_member_wrote_no_other_removes_or_replaces"),
            (
                "src/broker/tests/families.rs",
                "a_private_topic_is_known_to_its_members_alone_and_a_member_who_is_away_gets_what_was_said",
            ),
            ("src/broker/tests/api_keys.rs", "a_key_does_what_it_is_for_and_nothing_else"),
        ],
    ),
    (
        22,
        &[
            ("tests/faults/rights.rs", "f_22_a_mesh_that_was_closed_lets_nobody_in"),
            ("tests/meshes/requests.rs", "one_key_that_joins_many_times_at_once_is_one_member"),
        ],
    ),
    (
        23,
        &[
            ("src/broker/tests/later.rs", "what_is_to_be_sent_later_is_sent_once_whatever_happens_meanwhile"),
            ("src/broker/tests/status.rs", "what_comes_again_goes_on_after_a_restart_and_what_can_not_be_sent_says_why"),
        ],
    ),
    (24, &[("tests/meshes.rs", "from_nothing_to_a_message_in_four_commands")]),
    (25, &[("tests/faults/answers.rs", "f_13_f_25_every_frame_that_makes_no_sense_is_answered_under_its_id")]),
    (26, &[("tests/faults/client.rs", "f_26_a_client_of_the_reference_is_served_in_both_of_its_shapes")]),
    (
        27,
        &[
            ("tests/faults/rights.rs", "f_27_a_hello_is_the_members_own_comes_once_and_is_answered_first"),
            ("src/broker/tests/hello.rs", "a_hello_that_somebody_took_down_lets_nobody_in"),
        ],
    ),
    (
        28,
        &[
            ("tests/faults/mail.rs", "f_28_what_is_for_many_comes_once_to_each_session_and_to_no_daemon_beside_it"),
            ("src/broker/tests/families.rs", "what_a_member_does_not_allow_does_not_reach_it"),
            ("src/broker/router_tests.rs", "what_is_for_many_names_sessions_and_a_daemon_only_for_want_of_one"),
            ("src/broker/tests/status.rs", "what_was_sent_before_its_sender_was_blocked_is_not_delivered_after"),
        ],
    ),
    (
        29,
        &[
            ("tests/faults/rights.rs", "f_29_the_audit_log_holds_nothing_that_was_written"),
            ("tests/faults/answers.rs", "f_02_f_03_what_is_left_out_is_refused_by_name"),
        ],
    ),
    (
        30,
        &[
            ("tests/faults/presence.rs", "f_30_what_a_session_says_of_itself_is_not_its_members_and_a_blip_is_no_event"),
            ("tests/shared.rs", "what_a_session_shows_is_its_own_and_outlives_broker_and_daemon"),
            ("src/broker/tests/mail.rs", "a_place_is_kept_given_back_or_taken"),
        ],
    ),
    (31, &[("tests/faults/mail.rs", "f_31_whoever_comes_while_something_is_said_to_all_hears_it_once")]),
    (32, &[("tests/faults/mail.rs", "f_07_f_32_what_is_sent_while_a_place_is_kept_comes_on_return")]),
    (33, &[("src/broker/tests/away.rs", "a_peer_shows_its_role_and_what_it_has_counted")]),
    (
        34,
        &[
            ("tests/faults/presence.rs", "f_06_f_34_places_that_were_taken_over_are_not_counted"),
            ("tests/faults/answers.rs", "f_34_no_answer_speaks_of_the_database"),
        ],
    ),
    (
        35,
        &[
            ("tests/faults/rights.rs", "f_35_a_groups_name_harms_nobody"),
            ("tests/reference/names.rs", "a_group_that_would_end_the_broker_is_refused_here"),
        ],
    ),
];

#[test]
fn every_fault_is_named_once_and_its_tests_are_there() {
    let numbers: Vec<u8> = SHOWN.iter().map(|(number, _)| *number).collect();
    assert_eq!(numbers, (1..=35).collect::<Vec<u8>>());
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let named: BTreeSet<(&str, &str)> = SHOWN.iter().flat_map(|(_, tests)| tests.iter().copied()).collect();
    assert!(SHOWN.iter().all(|(_, tests)| !tests.is_empty()));
    for (file, function) in named {
        let text = std::fs::read_to_string(root.join(file)).unwrap_or_else(|err| panic!("{file}: {err}"));
        assert!(text.contains(&format!("#[test]\nfn {function}()")), "{file} has no test {function}");
    }
}

/// A broker with one mesh. Its first member owns it; nobody is an admin.
struct Scene {
    broker: Broker,
    mesh: RawMesh,
    home: Home,
}

impl Scene {
    #[track_caller]
    fn new() -> Scene {
        let home = Home::new();
        let mesh = RawMesh::create(home.path());
        Scene { broker: Broker::start(home.path()), mesh, home }
    }

    /// The `n`th session, of member `n % 10`, has been let in.
    #[track_caller]
    fn session(&self, n: usize, keys: &KeyPair) -> Peer {
        Peer::enter(&self.broker.address, &self.mesh.hello(n, keys))
    }

    /// The first sessions, each of another member, with their keys.
    #[track_caller]
    fn sessions<const N: usize>(&self) -> [(Peer, KeyPair); N] {
        std::array::from_fn(|n| {
            let keys = KeyPair::generate();
            (self.session(n, &keys), keys)
        })
    }
}

/// A session's connection breaks; returns once another has seen that nobody is there.
#[track_caller]
fn lose(lost: Peer, key: &str, seen_by: &mut Peer) {
    drop(lost);
    crate::support::wait::until("a place to be kept only", || {
        seen_by.peers().iter().all(|peer| peer["pubkey"] != key).then_some(())
    });
}
