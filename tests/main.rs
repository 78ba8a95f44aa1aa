//! Everything that is tested from outside, in one binary: one link step, one list.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test that can not go on should stop where it stands")]

mod storm;
mod support;

mod apart;
mod cli;
mod crash;
mod crash_many;
mod cuts;
mod damage;
mod deaf;
mod departed;
mod disk;
mod doctor;
mod dropin;
mod e2e;
mod families;
mod faults;
mod harness;
mod hostile;
mod launch;
mod lifecycle;
mod mailboxes;
mod many;
mod mcp_clients;
mod meshes;
mod model;
mod newcomers;
mod operate;
mod parsers;
mod races;
mod receipts;
mod reference;
mod sealed;
mod several;
mod shared;
mod siege;
mod soak;
mod tidy;
