//! Base64 (RFC 4648), read strictly: one text per value, so that no two spellings of a ciphertext or of an invite differ.
//! Nothing here is constant-time.

const STANDARD: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const URL: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

const STANDARD_VALUES: [u8; 256] = values(STANDARD);
const URL_VALUES: [u8; 256] = values(URL);

/// Stands in the tables for a byte that is not of the alphabet.
const NONE: u8 = 0xff;

/// Writes the standard alphabet, padded: libsodium's `ORIGINAL`, the form of nonces and ciphertexts.
pub fn encode(bytes: &[u8]) -> String {
    let mut text = digits(bytes, STANDARD);
    while !text.len().is_multiple_of(4) {
        text.push('=');
    }
    text
}

/// Reads what [`encode`] writes and nothing else: `None` for other characters, missing padding or stray trailing bits.
pub fn decode(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(4) {
        return None;
    }
    let unpadded = text.strip_suffix("==").or_else(|| text.strip_suffix('=')).unwrap_or(text);
    bytes(unpadded, &STANDARD_VALUES)
}

/// Writes the URL-safe alphabet without padding: the form of invite tokens and of what they carry.
pub fn encode_url(bytes: &[u8]) -> String {
    digits(bytes, URL)
}

/// Reads what [`encode_url`] writes and nothing else.
pub fn decode_url(text: &str) -> Option<Vec<u8>> {
    bytes(text, &URL_VALUES)
}

const fn values(alphabet: &[u8; 64]) -> [u8; 256] {
    let mut values = [NONE; 256];
    let mut value = 0u8;
    while value < 64 {
        values[alphabet[value as usize] as usize] = value;
        value += 1;
    }
    values
}

fn digits(bytes: &[u8], alphabet: &[u8; 64]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().enumerate().fold(0u32, |bits, (at, byte)| bits | u32::from(*byte) << (16 - 8 * at));
        for at in 0..=chunk.len() {
            text.push(char::from(alphabet[(bits >> (18 - 6 * at) & 63) as usize]));
        }
    }
    text
}

fn bytes(text: &str, values: &[u8; 256]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3 + 2);
    for chunk in text.as_bytes().chunks(4) {
        let mut bits = 0u32;
        for (at, digit) in chunk.iter().enumerate() {
            let value = values[usize::from(*digit)];
            if value == NONE {
                return None;
            }
            bits |= u32::from(value) << (18 - 6 * at);
        }
        let [_, whole @ ..] = bits.to_be_bytes();
        // Four digits carry three bytes, three carry two, two carry one; one digit carries none.
        let (kept, trailing) = whole.split_at(chunk.len() - 1);
        if kept.is_empty() || trailing.iter().any(|byte| *byte != 0) {
            return None;
        }
        bytes.extend_from_slice(kept);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vectors_of_rfc_4648() {
        for (plain, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(encode(plain.as_bytes()), text);
            assert_eq!(decode(text).as_deref(), Some(plain.as_bytes()));
            let bare = text.trim_end_matches('=');
            assert_eq!(encode_url(plain.as_bytes()), bare);
            assert_eq!(decode_url(bare).as_deref(), Some(plain.as_bytes()));
        }
        assert_eq!((encode(&[0xfb, 0xff]), encode_url(&[0xfb, 0xff])), ("+/8=".into(), "-_8".into()));
    }

    #[test]
    fn every_byte_survives_at_every_length() {
        let all: Vec<u8> = (0..=255).rev().collect();
        for end in 0..=all.len() {
            let bytes = &all[..end];
            assert_eq!(decode(&encode(bytes)).as_deref(), Some(bytes));
            assert_eq!(decode_url(&encode_url(bytes)).as_deref(), Some(bytes));
        }
    }

    #[test]
    fn refuses_every_other_spelling() {
        for bad in [
            "Zg",
            "Zg=",
            "Zg===",
            "Zm8",
            "Z===",
            "Z",
            "=",
            "==",
            "====",
            "Zm9v====",
            "Zm9v=",
            "Zg==Zg==", // padding
            "Zh==",
            "Zm9=",
            "Zm9vYh==", // trailing bits
            "Zm 9v",
            " Zm9v",
            "Zm9v\n",
            "Zm9v\r\n==",
            "Zm9\n", // whitespace
            "-_8=",
            "Zm9*",
            "Zm\09",
            "é==",
            "Zmé=",
            "=Zm9", // alphabet
        ] {
            assert_eq!(decode(bad), None, "{bad:?}");
        }
        for bad in ["Zg==", "Zm8=", "Z", "Zm9vY", "Zh", "Zm9", "+/8", "Zm9v\n", "é"] {
            assert_eq!(decode_url(bad), None, "{bad:?}");
        }
    }
}
