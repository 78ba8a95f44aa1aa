//! Sockets: HTTP, server-sent events, WebSockets, TLS. Types of third-party crates stop here.

pub mod chunked;
pub mod dial;
pub mod http1;
pub mod http_client;
pub mod listen;
pub mod sse;
pub mod stream;
pub mod target;
pub mod tls;
pub mod ws;
