//! Every cap and deadline that both ends of a boundary must agree on, or that keeps a hostile peer cheap.

use std::time::Duration;

/// Largest frame on a broker's WebSocket, in bytes (the reference's `MAX_MESSAGE_BYTES`).
pub const MAX_FRAME: usize = 65_536;

/// What a `send` may weigh at the broker: ciphertext, nonce and target together, in UTF-16 units. The reference allows
/// 65,536 here and 65,536 for the frame around it; this leaves room for the frame's other fields.
pub const MAX_SEALED: usize = MAX_FRAME - 2_048;

/// Largest body of `POST /v1/send`, in bytes.
pub const MAX_SEND_BODY: usize = 256 * 1024;

/// Largest body of the smaller local routes, in bytes.
pub const MAX_SMALL_BODY: usize = 64 * 1024;

/// Largest reply a local client reads, in bytes: a full inbox page of the largest messages.
pub const MAX_REPLY: usize = 128 * 1024 * 1024;

/// A whole local request must have arrived within this.
pub const REQUEST_DEADLINE: Duration = Duration::from_secs(10);

/// A local reply must have been taken within this, or its connection is dropped.
pub const REPLY_DEADLINE: Duration = Duration::from_secs(10);

/// Requests on the local socket at once, streams and waiting claims not counted. The next one is answered 503.
pub const MAX_LOCAL_CONNECTIONS: usize = 1024;

/// The same on the local TCP port, counted apart: every user of the machine can fill that one before it shows a token.
pub const MAX_TCP_CONNECTIONS: usize = 64;

/// Events that wait for one subscriber. When full, the subscriber is cut off with `lagged` and resumes by its cursor.
pub const SUBSCRIBER_QUEUE: usize = 128;

/// How long a message that a path claimed is its alone.
pub const CLAIM_LEASE: Duration = Duration::from_secs(30);

/// How long a claim waits for mail at most.
pub const MAX_CLAIM_WAIT: Duration = Duration::from_secs(300);

/// Longest test of the ways into sessions (`POST /v1/canary`).
pub const MAX_CANARY_WAIT: Duration = Duration::from_secs(120);

/// Silence on an event stream before a comment is sent.
pub const STREAM_KEEPALIVE: Duration = Duration::from_secs(15);

/// From opening a WebSocket to `hello_ack`, for the client; to the hello, for the broker.
pub const HELLO_DEADLINE: Duration = Duration::from_secs(5);

/// Between a broker's pings on a WebSocket.
pub const PING_EVERY: Duration = Duration::from_secs(30);

/// Silence of a broker after which its clients ping. Longer than [`PING_EVERY`]: as long as pings come, nothing needs to go.
pub const PING_AFTER: Duration = Duration::from_secs(35);

/// Silence after which the other end of a WebSocket counts as dead.
pub const STALE_AFTER: Duration = Duration::from_secs(75);

/// How long a closed connection's presence is kept for its return.
pub const LEASE: Duration = Duration::from_secs(90);

/// From a `send` frame to its `ack`.
pub const ACK_DEADLINE: Duration = Duration::from_secs(15);

/// From a request frame to its reply.
pub const RPC_DEADLINE: Duration = Duration::from_secs(5);

/// How long whatever a caller waits for may take at the brokers: a question to several at once, the search for a recipient, a
/// change. The reference's command line waits three seconds, and then does it again in another way.
pub const AGGREGATE_DEADLINE: Duration = Duration::from_millis(2500);

/// How long a broker may take to store a text, which must not be stored twice. The reference's command line waits five seconds.
pub const REMEMBER_DEADLINE: Duration = Duration::from_secs(4);

/// Frames of one sender in flight to a broker that keeps them in order.
pub const SEND_WINDOW: usize = 256;

/// Pushes to one connection that wait for its `client_ack`. More stay in the queue.
pub const PUSH_WINDOW: usize = 256;

/// How far the clocks of the two ends of a hello may differ.
pub const HELLO_SKEW: Duration = Duration::from_secs(60);
