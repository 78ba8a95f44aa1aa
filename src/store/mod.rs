//! SQLite, and the few small files beside it.

pub mod session_keys;
