#![no_main]
//! Bodies of the broker's HTTP routes, what signs them, and receipts.

use claudemesh::wire::json::decode;
use claudemesh::wire::mesh_api::{CreateInvite, CreateMesh, JoinRequest, RenameMesh, SignedBy};
use claudemesh::wire::{http_api, receipt};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = decode::<JoinRequest>(bytes);
    let _ = decode::<CreateMesh>(bytes);
    let _ = decode::<RenameMesh>(bytes);
    let _ = decode::<CreateInvite>(bytes);
    let _ = decode::<http_api::PostMessage>(bytes);
    let _ = decode::<receipt::Receipt>(bytes);
    if let Some(signed) = SignedBy::parse(&String::from_utf8_lossy(bytes)) {
        assert_eq!(SignedBy::parse(&signed.header()), Some(signed));
    }
});
