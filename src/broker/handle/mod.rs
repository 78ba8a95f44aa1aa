//! What a broker does for each kind of frame. No function here sees JSON or a socket.

pub(super) mod events;
pub(super) mod mailbox;
pub(super) mod presence;
pub(super) mod send;
