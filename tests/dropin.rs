//! A machine with an installation of the reference (1.34.13 or 1.37.0) swaps its daemon for ours, and can go back. The homes
//! are built by `support::reference_files` from the description of the formats; the daemon, the broker and the peer are real.
//!
//! What a drop-in must keep, point by point, and the test that holds it or the decision that overrides it:
//!
//! 1. Paths and modes: `takeover::from_the_first_version`, `takeover::from_the_last_version`; modes are tightened (decision 4).
//! 2. Text of the pid file: `files::what_a_killed_daemon_left_is_taken_over`,
//!    `files::a_daemon_that_locks_nothing_is_not_doubled_and_can_be_stopped`, `files::a_socket_that_answers_is_nobodys_to_take`;
//!    ours is locked as well (decision 7).
//! 3. Tables that an older daemon can reopen: `databases::the_reference_can_return_to_every_shape`.
//! 4. Bytes of the request fingerprint: `databases::a_retry_of_what_the_reference_accepted_is_known`.
//! 5. Paths, keys, statuses and texts of the socket API: `endpoints`, `shared`; where we differ, decision 5: no secret in an
//!    answer, an unknown token is 401, bad JSON 400, too large 413, every route in the session's mesh. Beyond it: a listing without
//!    a session marks nothing as seen; a taken `new_client_message_id` is 409 before anything is aborted; a change that the broker
//!    did not confirm is never passed off as made, so a mesh that is away makes `POST /v1/state` and `DELETE /v1/memory` 502
//!    `broker_unreachable`, and `POST /v1/profile` answers `ok: false` with the mesh under `unanswered` instead of `meshes`
//!    (`applied` has the keys that were understood, and a part of another type is 400); a state's `value` must be there. Of a mesh that is not joined nothing is listed as if it
//!    were empty: 404 `mesh_not_attached`. A session's
//!    name and texts are brought into a form that can be addressed and shown; its mesh must be a slug, since files are named
//!    after it, and its process must be there.
//! 6. Events: `endpoints::the_event_stream_keeps_its_form`, `endpoints::who_comes_and_goes_is_told_in_the_references_words`; ids
//!    are places in the inbox, so that `Last-Event-ID` resumes (decision 5).
//! 7. Hello frames and canonical strings: vectors in `crypto::hello`, and the links that open in `takeover`; the parent's
//!    attestation is minted afresh (decision 20).
//! 8. `daemon_version` is a version: `endpoints::of_the_daemon_itself`.
//! 9. `presence.sessionPubkey` in `/v1/sessions/me`: `endpoints::of_sessions`, `takeover::from_the_last_version`.
//! 10. Exit codes and texts: `files::the_codes_and_texts_of_the_daemons_verbs`; no mesh joined is no error any more (decision 3),
//!     and what can not be understood is 3 for every verb (`base::exit`).
//! 11. Names of the units: the files in `contrib/`, checked by `files::the_units_have_the_names_that_are_looked_for`
//!     (decision 4).
//! 12. Fingerprint files of the first form, rows without a route or a recipient: `files::the_host_is_known_by_either_record`,
//!     `databases::every_shape_opens_with_every_row`, `takeover`. Rows without a route are dead and never broadcast: what was accepted
//!     for one recipient goes to no other (decision 12).
//! 13. `sessions.json` and key files: `takeover::from_the_last_version`; we keep tokens as hashes (decision 20), so that whoever
//!     goes back launches its sessions again.
//! 14. No token is needed on the socket: every call of `endpoints` that presents none.

mod databases;
mod endpoints;
mod files;
mod scene;
mod shared;
mod takeover;
