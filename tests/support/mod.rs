//! What the tests and the benchmark stand on: scratch homes, real daemons and brokers as child processes, sessions, and
//! waits that end when something has happened or their deadline has passed.

#![allow(dead_code, reason = "the suite and the benchmark each use a part")]

pub(crate) mod follow;
pub(crate) mod home;
pub(crate) mod http;
pub(crate) mod mesh;
pub(crate) mod model;
pub(crate) mod mutate;
pub(crate) mod peer;
pub(crate) mod process;
pub(crate) mod proxy;
pub(crate) mod random;
pub(crate) mod raw;
pub(crate) mod reference_broker;
pub(crate) mod reference_files;
pub(crate) mod sandbox;
pub(crate) mod servers;
pub(crate) mod session;
pub(crate) mod terminal;
pub(crate) mod wait;
