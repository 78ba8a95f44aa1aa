//! SHA-256, comparison in constant time, and the fingerprint by which two requests with one id are told to be the same
//! request or a different one.

use std::fmt;

use super::ffi;

/// The first bytes of every fingerprint.
const ENVELOPE_VERSION: &str = "1";

/// What a request is addressed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A peer, by name, key or id; in this version of the format, `#topic` too.
    Dm,
    /// `@group` or `*`.
    Topic,
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Kind::Dm => "dm",
            Kind::Topic => "topic",
        }
    }
}

/// Reads a request's `to`, trimmed, as the fingerprint does: `@eng` is the topic `eng`, `*` the topic `*`, and anything else
/// the peer that is typed there, not resolved. (So `@*` and `*` are one.)
pub fn destination(to: &str) -> (Kind, &str) {
    match to.strip_prefix('@') {
        Some(name) => (Kind::Topic, name),
        None if to == "*" => (Kind::Topic, to),
        None => (Kind::Dm, to),
    }
}

/// The parts of a send request that make it the request it is. Mesh, session, resolved target and client id are no part.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    pub kind: Kind,
    /// The destination without its `@`; see [`destination`].
    pub reference: &'a str,
    pub reply_to: Option<&'a str>,
    /// `now`, `next` or `low`.
    pub priority: &'a str,
    /// Canonical JSON. An empty object is not the same as none.
    pub canonical_meta: Option<&'a str>,
    pub body: &'a [u8],
}

impl fmt::Debug for Request<'_> {
    /// Without the body and the meta, which are what somebody wrote.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Request({:?} {:?}, {}, {} bytes)", self.kind, self.reference, self.priority, self.body.len())
    }
}

impl Request<'_> {
    /// SHA-256 over six fields, each ended by a zero byte, and the body's own SHA-256. A zero byte inside a field is hashed as
    /// it stands, as the reference does.
    pub fn fingerprint(&self) -> [u8; 32] {
        let fields = [
            ENVELOPE_VERSION,
            self.kind.as_str(),
            self.reference,
            self.reply_to.unwrap_or_default(),
            self.priority,
            self.canonical_meta.unwrap_or_default(),
        ];
        let mut bytes = Vec::with_capacity(fields.iter().map(|field| field.len() + 1).sum::<usize>() + ffi::KEY);
        for field in fields {
            bytes.extend_from_slice(field.as_bytes());
            bytes.push(0);
        }
        bytes.extend_from_slice(&sha256(self.body));
        sha256(&bytes)
    }
}

pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    ffi::sha256(bytes)
}

/// Whether two byte strings are the same, in a time that depends on their lengths only.
pub fn equal(a: &[u8], b: &[u8]) -> bool {
    ffi::equal(a, b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::hex;

    #[test]
    fn the_vectors_of_fips_180() {
        assert_eq!(hex::encode(&sha256(b"")), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        assert_eq!(hex::encode(&sha256(b"abc")), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }

    #[test]
    fn destinations_are_read_as_typed() {
        for (to, expected) in [
            ("alice", (Kind::Dm, "alice")),
            ("#general", (Kind::Dm, "#general")),
            ("Bob B.", (Kind::Dm, "Bob B.")),
            ("@eng", (Kind::Topic, "eng")),
            ("@", (Kind::Topic, "")),
            ("@@eng", (Kind::Topic, "@eng")),
            ("*", (Kind::Topic, "*")),
            ("@*", (Kind::Topic, "*")),
            ("**", (Kind::Dm, "**")),
            ("", (Kind::Dm, "")),
        ] {
            assert_eq!(destination(to), expected);
        }
    }

    #[test]
    fn every_part_counts() {
        let request =
            Request { kind: Kind::Dm, reference: "a", reply_to: None, priority: "next", canonical_meta: None, body: b"x" };
        let variants = [
            request,
            Request { kind: Kind::Topic, ..request },
            Request { reference: "A", ..request },
            Request { reply_to: Some("r"), ..request },
            Request { priority: "now", ..request },
            Request { canonical_meta: Some("{}"), ..request },
            Request { body: b"y", ..request },
            Request { body: b"x\0", ..request },
        ];
        for (at, one) in variants.iter().enumerate() {
            for other in &variants[at + 1..] {
                assert!(!equal(&one.fingerprint(), &other.fingerprint()), "{one:?} {other:?}");
            }
        }
        assert_eq!(request.fingerprint(), Request { reply_to: Some(""), ..request }.fingerprint());
    }
}
