//! Randomness for ids and delays. Not for keys: those are `crypto`'s.

use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Read};

use crate::base::hex;
use crate::base::time::now_millis;

/// A version 7 UUID: it begins with the time, so that every database on a message's way adds it at the end of an index.
pub fn uuid() -> io::Result<String> {
    let mut bytes = [0_u8; 16];
    File::open("/dev/urandom")?.read_exact(&mut bytes[6..])?;
    bytes[..6].copy_from_slice(&now_millis().to_be_bytes()[2..]);
    bytes[6] = bytes[6] & 0x0f | 0x70;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let digits = hex::encode(&bytes);
    Ok([&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]].join("-"))
}

/// Uniform in `0.0..1.0`, as far as a delay cares.
pub(super) fn jitter() -> f64 {
    // The state of each new hasher differs, which is all that is needed here.
    f64::from(u32::try_from(RandomState::new().hash_one(0) >> 32).unwrap_or(0)) / (f64::from(u32::MAX) + 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::names::is_uuid;

    #[test]
    fn uuids_are_of_version_7_and_differ() {
        let (one, other) = (uuid().unwrap(), uuid().unwrap());
        assert!(is_uuid(&one) && one.as_bytes()[14] == b'7' && b"89ab".contains(&one.as_bytes()[19]));
        assert_ne!(one, other);
        assert!((0.0..1.0).contains(&jitter()));
    }
}
