//! Everything that crosses a process boundary, as plain data: the broker's frames, the local API's bodies and events,
//! the MCP envelope. No I/O and no state. `shared` names such as `targetSpec` or `_reqId` are the reference's.

pub mod address;
pub mod admin;
pub mod apikey;
pub mod client;
pub mod code;
pub mod event;
pub mod grant;
pub mod hook;
pub mod http_api;
pub mod ipc;
pub mod json;
pub mod key;
pub mod limits;
pub mod memory;
pub mod mesh_api;
pub mod peer;
pub mod priority;
pub mod profile;
pub mod receipt;
pub mod rest;
pub mod rpc;
pub mod schedule;
pub mod server;
pub mod session_key;
pub mod skill;
pub mod standing;
pub mod state;
pub mod target;
pub mod task;
pub mod topic;
pub mod tree;
