//! What hostile programs make of what honest ones say.

use serde_json::{Value, json};

use super::random::Random;

/// Pieces that parsers stumble over.
const PIECES: [&[u8]; 22] = [
    b"\0",
    b"\xff\xfe",
    b"\xf0\x9f\x98\x80",
    b"\xe2\x80\xae",
    b"\r\n",
    b"\n\n",
    b"\r",
    b": ",
    b"{",
    b"}",
    b"[",
    b"\"",
    b"\\u0000",
    b"\\ud800",
    b"null",
    b"-1",
    b"1e999",
    b"99999999999999999999",
    b"%00",
    b"%",
    b"data:",
    b"Content-Length: 5\r\n",
];

/// Bytes that were almost `seed`.
pub(crate) fn bytes(seed: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..=random.index(4) {
        let at = random.index(bytes.len() + 1);
        match random.index(6) {
            0 if at < bytes.len() => bytes[at] ^= 1 << random.index(8),
            1 => bytes.truncate(at),
            2 => drop(bytes.splice(at..at, PIECES[random.index(PIECES.len())].iter().copied())),
            3 if at < bytes.len() => drop(bytes.remove(at)),
            4 => {
                let end = (at + random.index(24)).min(bytes.len());
                let piece = bytes[at..end].to_vec();
                let to = random.index(bytes.len() + 1);
                bytes.splice(to..to, piece);
            }
            _ => bytes.extend(std::iter::repeat_n(bytes.get(at).copied().unwrap_or(b'['), random.index(300))),
        }
    }
    bytes
}

/// Puts something else into one place of a JSON value, or takes it away: it still reads as JSON, and goes further than bytes
/// that do not.
pub(crate) fn bend(value: &mut Value, random: &mut Random) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            let name = fields.keys().nth(random.index(fields.len())).cloned().unwrap_or_default();
            match fields.get_mut(&name) {
                Some(field) if random.index(6) != 0 => bend(field, random),
                _ => drop(fields.remove(&name)),
            }
        }
        Value::Array(items) if !items.is_empty() && random.index(3) != 0 => {
            let at = random.index(items.len());
            match random.index(4) {
                0 => items.extend(vec![items[at].clone(); 300]),
                _ => bend(&mut items[at], random),
            }
        }
        _ => *value = odd(random),
    }
}

fn odd(random: &mut Random) -> Value {
    match random.index(28) {
        0 => Value::Null,
        1 => json!(true),
        2 => json!(-1),
        3 => json!(i64::MIN),
        4 => json!(i64::MAX),
        5 => json!(u64::MAX),
        6 => json!(1e308),
        7 => json!(0.1),
        8 => json!(""),
        9 => json!("\u{0}"),
        10 => json!("\u{202e}\u{1f600}e\u{301}\r\n"),
        11 => json!("x".repeat(300)),
        12 => json!("\u{1}".repeat(5_000)),
        13 => json!("*"),
        14 => json!("#t"),
        15 => json!("@eng/api"),
        16 => json!("' OR 1 = 1; --"),
        17 => json!("\"a OR NEAR(b* ^c"),
        18 => json!("%_%"),
        19 => json!("* * * * *"),
        20 => json!("0 0 31 2 *"),
        21 => json!("9999-99-99T99:99:99.999Z"),
        22 => json!("ff".repeat(32)),
        23 => json!("////"),
        24 => json!([]),
        25 => json!({"a": null}),
        26 => (0..100).fold(json!(0), |inner, _| json!([inner])),
        _ => json!("../../etc/passwd"),
    }
}
