#![no_main]
//! Event streams, in pieces of every size.

use claudemesh::net::sse::Parser;

libfuzzer_sys::fuzz_target!(|input: (u8, &[u8])| {
    let mut parser = Parser::new(4096);
    let mut items = Vec::new();
    for piece in input.1.chunks(usize::from(input.0).max(1)) {
        if parser.push(piece, &mut items).is_err() {
            return;
        }
    }
});
