//! What each session carries beside it, and what is installed.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::commands::megabytes;
use crate::sizes::status;
use crate::support::home::{CLAUDEMESH, Home};
use crate::table::{Measured, Scale};

const INITIALIZE: &[u8] = b"{\"jsonrpc\":\"2.0\",\"id\":0,\"method\":\"initialize\",\"params\":{\"protocolVersion\":\"2025-11-25\",\"capabilities\":{},\"clientInfo\":{\"name\":\"bench\",\"version\":\"1\"}}}\n";

/// How long a clean build takes is not measured: it is of the machine more than of the program.
pub(crate) fn binary(_: Scale) -> Vec<Measured> {
    let bytes = Path::new(CLAUDEMESH).metadata().unwrap().len();
    vec![Measured::at_most("the program, stripped: size", "MB", megabytes(bytes / 1024), 6.0)]
}

/// From the start of `claudemesh mcp` to the answer to `initialize`, and what it holds then.
pub(crate) fn shim(scale: Scale) -> Vec<Measured> {
    let home = Home::new();
    let mut times = Vec::new();
    let (mut memory, mut own) = (0, 0);
    for _ in 0..scale.rounds(200) {
        let started = start(&home);
        times.push(started.time);
        memory = memory.max(started.resident);
        own = own.max(started.own);
    }
    vec![
        Measured::times("MCP shim: start to `initialize` answered", times, Duration::from_millis(10), None),
        Measured::at_most("the same: memory", "MB", megabytes(memory), 4.0),
        Measured::at_most("of it its own, which no other shim shares", "MB", megabytes(own), 4.0),
    ]
}

struct Started {
    time: Duration,
    /// In KiB, as what follows.
    resident: u64,
    own: u64,
}

fn start(home: &Home) -> Started {
    let mut command = home.command(&["mcp"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let begin = Instant::now();
    let mut child = command.spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(INITIALIZE).unwrap();
    let mut answer = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut answer).unwrap();
    let time = begin.elapsed();
    assert!(answer.contains("protocolVersion"), "{answer}");
    let [resident, own] = ["VmRSS", "RssAnon"].map(|key| status(child.id(), key).unwrap_or(0));
    drop(input);
    child.wait().unwrap();
    Started { time, resident, own }
}
