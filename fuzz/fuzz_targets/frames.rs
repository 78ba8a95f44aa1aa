#![no_main]
//! Frames of the broker's protocol, both directions.

use claudemesh::wire::client::ClientFrame;
use claudemesh::wire::server::ServerFrame;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    let _ = ClientFrame::decode(&text);
    let _ = ServerFrame::decode(&text);
});
