#![no_main]
//! What the client tells its hooks on their standard input.

use claudemesh::base::names::is_uuid;
use claudemesh::wire::hook::HookInput;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let input = HookInput::parse(bytes);
    assert!(input.session_id.is_none_or(|id| is_uuid(&id)));
});
