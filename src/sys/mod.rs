//! System calls, through rustix and signal-hook: nothing here is unsafe, and nothing above needs to know either crate.

pub mod connect;
pub mod dirs;
pub mod disk;
pub mod files;
pub mod lock;
pub mod notify;
pub mod peer;
pub mod poll;
pub mod process;
pub mod signals;
pub mod stdio;
