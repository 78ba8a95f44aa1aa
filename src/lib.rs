//! claudemesh lets AI coding sessions write to each other. One library behind one binary: the daemon, the broker,
//! the command line and the MCP shim. `ARCHITECTURE.md` is the map.
//!
//! Modules in reading order, lowest layer first; a module imports only from the lines above its own:
//!
//! 0. [`base`], [`sys`]: words the whole program uses, and system calls
//! 1. [`wire`], [`crypto`]: everything that crosses a process boundary, and what protects it
//! 2. [`net`], [`store`]: sockets and SQLite
//! 3. [`daemon`], [`broker`], [`client`]: siblings that never import each other
//! 4. [`mcp`], [`cli`]: what people and sessions run

pub mod base;
pub mod sys;

pub mod crypto;
pub mod wire;

pub mod net;
pub mod store;

pub mod broker;
pub mod client;
pub mod daemon;

pub mod cli;
pub mod mcp;

use std::ffi::OsString;
use std::process::ExitCode;

/// Runs the program with its arguments (the first is the program's own name) and returns its exit status.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    cli::main(args.into_iter().skip(1).collect())
}
