#![no_main]
//! What an agent writes to the MCP server's standard input.

use std::io::{Cursor, sink};

use claudemesh::base::paths::Paths;
use claudemesh::mcp::{Connection, Options, Start, run};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let connection = Connection { input: Box::new(Cursor::new(bytes.to_vec())), output: Box::new(sink()) };
    let paths = Paths::under(std::path::Path::new("/nonexistent/claudemesh"));
    let _ = run(connection, Options { paths, token: None, own: None, mesh: None, start: Start::Wait, channels: true });
});
