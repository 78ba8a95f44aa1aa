//! Words the whole program uses: identifiers, paths, configuration, exit codes, pure helpers. No sockets, no threads of its own.

pub mod atomic_file;
pub mod backoff;
pub mod config;
pub mod cron;
pub mod exit;
pub mod hex;
pub mod ids;
pub mod logging;
pub mod names;
pub mod paths;
pub mod rate;
pub mod service;
pub mod settings;
pub mod thread;
pub mod time;
