//! What protects a message and proves who is speaking: libsodium's signatures and boxes, and the exact bytes the
//! reference signs, seals and hashes. Pure functions; no I/O, no clock. Imports `base` only.

pub mod api_key;
pub mod base64;
mod ffi;
pub mod fingerprint;
pub mod hello;
pub mod invite;
pub mod keys;
pub mod random;
pub mod receipt;
pub mod request;
pub mod scope_key;
pub mod sealed;
pub mod sign;

#[cfg(test)]
mod tests;
