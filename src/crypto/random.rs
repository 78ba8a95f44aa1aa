//! Randomness, all of it from libsodium's generator: keys and jitter come from the same place, so that no caller has to
//! know which of the two it needs.

use super::ffi;
use crate::base::hex;
use crate::base::ids::Token;
use crate::base::time::Millis;

/// `N` random bytes.
pub fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    ffi::random(&mut bytes);
    bytes
}

/// A version 4 UUID, lower-case.
pub fn uuid_v4() -> String {
    uuid(bytes(), 4)
}

/// A version 7 UUID, lower-case: it begins with the time, so that rows under such ids stand in the order in which they were
/// made, and adding one touches the end of an index instead of any page of it.
pub fn uuid_v7(now: Millis) -> String {
    let mut id = bytes::<16>();
    id[..6].copy_from_slice(&now.to_be_bytes()[2..]);
    uuid(id, 7)
}

/// RFC 9562: version and variant in their places, 8-4-4-4-12 digits.
fn uuid(mut id: [u8; 16], version: u8) -> String {
    id[6] = id[6] & 0x0f | version << 4;
    id[8] = id[8] & 0x3f | 0x80;
    let digits = hex::encode(&id);
    format!("{}-{}-{}-{}-{}", &digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..])
}

/// Digits of the broker's ids, in the order of their bytes.
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// How many of them a time takes: enough for eight thousand years.
const TIME: usize = 8;

/// An id as the broker makes them: 32 characters of `[0-9A-Za-z]`, each equally likely (190 bits).
pub fn id32() -> String {
    fill(String::with_capacity(32))
}

/// An id of the same form that begins with the time, for the reason that [`uuid_v7`] does; the rest of it is random (142 bits).
pub fn id32_at(now: Millis) -> String {
    let mut left = now.max(0).unsigned_abs();
    let mut digits = [0; TIME];
    for digit in digits.iter_mut().rev() {
        *digit = usize::try_from(left % 62).unwrap_or(0);
        left /= 62;
    }
    let mut id = String::with_capacity(32);
    id.extend(digits.iter().map(|digit| char::from(ALPHABET[*digit])));
    fill(id)
}

/// Random digits up to the length of an id.
fn fill(mut id: String) -> String {
    while id.len() < 32 {
        // Six bits at a time; 62 and 63 are thrown away rather than folded back, which would favour two characters.
        let drawn = bytes::<40>();
        let digits = drawn.iter().filter_map(|byte| ALPHABET.get(usize::from(byte & 63)));
        id.extend(digits.take(32 - id.len()).map(|digit| char::from(*digit)));
    }
    id
}

/// A new bearer token for the local API.
pub fn token() -> Token {
    Token::from_bytes(bytes())
}

/// A number in `0.0 <= x < 1.0`, for jitter.
pub fn unit_f64() -> f64 {
    /// A float's mantissa holds 53 bits exactly.
    const BITS: u32 = 53;
    (u64::from_le_bytes(bytes()) >> (u64::BITS - BITS)) as f64 / (1u64 << BITS) as f64
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::base::names::is_uuid;

    #[test]
    fn uuids_have_their_version_and_variant() {
        for _ in 0..100 {
            let id = uuid_v4();
            assert!(is_uuid(&id) && id == id.to_lowercase(), "{id}");
            assert_eq!(&id[14..15], "4");
            assert!("89ab".contains(&id[19..20]), "{id}");
        }
        assert_ne!(uuid_v4(), uuid_v4());
    }

    #[test]
    fn ids_with_a_time_stand_in_its_order() {
        let times = [-1, 0, 1, 61, 62, 1_795_683_930_743, 1_795_683_930_744, 218_340_105_584_895];
        let ids = times.map(id32_at);
        assert!(ids.iter().all(|id| id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_alphanumeric())), "{ids:?}");
        assert!(ids[1..].is_sorted() && ids[2..].windows(2).all(|pair| pair[0][..TIME] < pair[1][..TIME]), "{ids:?}");
        assert_ne!(id32_at(7), id32_at(7));
    }

    #[test]
    fn ids_use_all_62_characters_about_equally() {
        let mut counts = BTreeMap::<char, u32>::new();
        for _ in 0..2000 {
            let id = id32();
            assert_eq!(id.len(), 32);
            id.chars().for_each(|c| *counts.entry(c).or_default() += 1);
        }
        assert_eq!(counts.len(), 62);
        assert!(counts.keys().all(char::is_ascii_alphanumeric));
        // 1032 expected, standard deviation 32: ten of them allow no false alarm, and a doubled character would fail.
        assert!(counts.values().all(|count| (712..1352).contains(count)), "{counts:?}");
    }

    #[test]
    fn tokens_differ_and_jitter_stays_in_its_range() {
        assert_ne!(token(), token());
        let drawn: Vec<f64> = (0..1000).map(|_| unit_f64()).collect();
        assert!(drawn.iter().all(|x| (0.0..1.0).contains(x)));
        assert!(drawn.iter().any(|x| *x < 0.5) && drawn.iter().any(|x| 0.5 <= *x));
    }
}
