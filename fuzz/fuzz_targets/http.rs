#![no_main]
//! Heads and bodies of HTTP requests.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use claudemesh::net::http1;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok((mut ours, mut theirs)) = UnixStream::pair() else { return };
    if theirs.write_all(&bytes[..bytes.len().min(60_000)]).is_ok() {
        drop(theirs);
        let _ = http1::read_request(&mut ours, Instant::now() + Duration::from_secs(1), 4096);
    }
});
