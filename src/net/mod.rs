//! Sockets: HTTP, server-sent events, WebSockets, TLS. Types of third-party crates stop here.

pub mod chunked;
pub mod http1;
pub mod stream;
pub mod target;
pub mod tls;
pub mod ws;
