//! Why a connection is over.

use crate::wire::code::Code;

/// Why a link's connection ended, as far as this end knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ending {
    /// No `hello_ack` in time.
    HelloTimeout,
    /// The broker refused the hello, or ended the connection for this reason; and for how long, in milliseconds.
    Refused(Code, String, Option<u64>),
    /// Nothing was heard for too long.
    Stale,
    /// It answers pings, and neither messages nor requests: the broker forgot this connection, or is beyond answering.
    Unanswered,
    /// What came is not of this protocol: the stream is out of step, and what is missing from it is not known.
    Garbled,
    /// What arrives can not be kept on this machine now, so it is left with the broker.
    Store,
    /// Nothing is wrong: such a broker looks at what it held back only when somebody connects.
    LookAgain,
}
