#![no_main]
//! Bodies of the daemon's local API.

use claudemesh::wire::ipc;
use claudemesh::wire::json::decode;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = decode::<ipc::Register>(bytes);
    let _ = decode::<ipc::SendRequest>(bytes);
    let _ = decode::<ipc::Claim>(bytes);
    let _ = decode::<ipc::Handled>(bytes);
    let _ = decode::<ipc::Abort>(bytes);
    let _ = decode::<ipc::Requeue>(bytes);
    let _ = decode::<ipc::Prune>(bytes);
    let _ = decode::<ipc::StateWrite>(bytes);
    let _ = decode::<ipc::RememberRequest>(bytes);
    let _ = decode::<ipc::Seen>(bytes);
    let _ = decode::<ipc::TurnEnd>(bytes);
    let _ = decode::<ipc::CanaryRequest>(bytes);
});
