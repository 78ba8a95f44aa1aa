#![no_main]
//! What people type as a recipient, and what stands on the wire.

use claudemesh::wire::address::Address;
use claudemesh::wire::target::Target;

libfuzzer_sys::fuzz_target!(|text: &str| {
    let _ = Address::parse(text);
    if let Some(target) = Target::parse(text) {
        assert_eq!(Target::parse(&target.to_string()), Some(target));
    }
});
