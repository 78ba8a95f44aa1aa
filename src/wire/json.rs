//! JSON in and out for every layer above, so that the library behind it is named in one folder; and the canonical form in
//! which `meta` enters a request's fingerprint.

use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Number;

pub use serde_json::{Map, Value, json};

/// Text or bytes that are not what was expected, and why, without the position that only a parser's author cares for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DecodeError {
    /// Not JSON at all.
    Syntax(String),
    /// JSON of another shape.
    Shape(String),
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DecodeError::Syntax(text) => write!(f, "not JSON: {text}"),
            DecodeError::Shape(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for DecodeError {}

/// Reads one JSON document.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    serde_json::from_slice(bytes).map_err(|err| {
        let text = without_position(&err.to_string());
        if err.is_data() { DecodeError::Shape(text) } else { DecodeError::Syntax(text) }
    })
}

/// Reads a value that is already parsed.
pub fn from_value<T: DeserializeOwned>(value: Value) -> Result<T, DecodeError> {
    serde_json::from_value(value).map_err(|err| DecodeError::Shape(without_position(&err.to_string())))
}

/// The value that `encode` would write out.
pub fn value<T: Serialize + ?Sized>(value: &T) -> Value {
    serde_json::to_value(value).unwrap_or_default()
}

/// Writes one compact JSON document.
pub fn encode<T: Serialize + ?Sized>(value: &T) -> String {
    // Only maps with non-string keys and failing `Serialize` impls can fail here; the wire has neither.
    serde_json::to_string(value).unwrap_or_default()
}

/// Writes one JSON document for people, indented by two spaces.
pub fn encode_pretty<T: Serialize + ?Sized>(value: &T) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default()
}

/// serde_json ends its texts with ` at line 1 column N`.
pub(super) fn without_position(text: &str) -> String {
    text.split(" at line ").next().unwrap_or(text).chars().take(200).collect()
}

/// Canonical text of `meta`, per the reference's fingerprint: keys sorted by UTF-16 code units at every level, except that
/// array-index-like keys come first in numeric order and `__proto__` disappears, as both do in its objects.
pub fn canonical(value: &Value) -> String {
    let mut text = String::new();
    write_value(value, &mut text);
    text
}

fn write_value(value: &Value, out: &mut String) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(true) => out.push_str("true"),
        Value::Bool(false) => out.push_str("false"),
        Value::Number(number) => write_number(number, out),
        Value::String(text) => write_string(text, out),
        Value::Array(items) => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                if at != 0 {
                    out.push(',');
                }
                write_value(item, out);
            }
            out.push(']');
        }
        Value::Object(map) => {
            let mut entries: Vec<(&String, &Value)> = map.iter().filter(|(key, _)| *key != "__proto__").collect();
            entries.sort_by(|(a, _), (b, _)| match (array_index(a), array_index(b)) {
                (Some(a), Some(b)) => a.cmp(&b),
                (Some(_), None) => std::cmp::Ordering::Less,
                (None, Some(_)) => std::cmp::Ordering::Greater,
                (None, None) => a.encode_utf16().cmp(b.encode_utf16()),
            });
            out.push('{');
            for (at, (key, value)) in entries.into_iter().enumerate() {
                if at != 0 {
                    out.push(',');
                }
                write_string(key, out);
                out.push(':');
                write_value(value, out);
            }
            out.push('}');
        }
    }
}

/// A canonical array index (`0` to `4294967294`, no leading zero): such keys enumerate first and numerically.
fn array_index(key: &str) -> Option<u32> {
    let index = key.parse::<u32>().ok().filter(|index| *index != u32::MAX)?;
    (index.to_string() == key).then_some(index)
}

fn write_string(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c < ' ' => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
}

/// ECMAScript's `Number::toString`: every number is a double there.
fn write_number(number: &Number, out: &mut String) {
    let Some(value) = number.as_f64().filter(|value| value.is_finite()) else {
        out.push_str("null");
        return;
    };
    if value == 0.0 {
        out.push('0');
        return;
    }
    // Rust's `{:e}` prints the shortest digits that read back as the same double, which is what ECMAScript asks for.
    let scientific = format!("{:e}", value.abs());
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let digits: String = mantissa.chars().filter(|c| *c != '.').collect();
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if value < 0.0 {
        out.push('-');
    }
    write_digits(&digits, exponent, out);
}

fn write_digits(digits: &str, exponent: i32, out: &mut String) {
    let count = i32::try_from(digits.len()).unwrap_or(i32::MAX);
    let zeros = |many: i32| "0".repeat(usize::try_from(many).unwrap_or(0));
    match exponent {
        0..=20 if count <= exponent + 1 => {
            out.push_str(digits);
            out.push_str(&zeros(exponent + 1 - count));
        }
        0..=20 => {
            let (whole, fraction) = digits.split_at(usize::try_from(exponent + 1).unwrap_or(0));
            out.push_str(&format!("{whole}.{fraction}"));
        }
        -6..=-1 => {
            out.push_str("0.");
            out.push_str(&zeros(-exponent - 1));
            out.push_str(digits);
        }
        _ => {
            let (first, rest) = digits.split_at(1);
            out.push_str(first);
            if !rest.is_empty() {
                out.push_str(&format!(".{rest}"));
            }
            out.push_str(&format!("e{exponent:+}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keys_and_strings_as_ecmascript_writes_them() {
        for (json, expected) in [
            (r#"{"z":1,"a":2}"#, r#"{"a":2,"z":1}"#),
            (r#"{"b":2,"a":{"y":1,"x":"é"}}"#, r#"{"a":{"x":"é","y":1},"b":2}"#),
            (
                r#"{"n":1e21,"m":-0.0,"b":{"y":[{"k":1,"a":2}],"x":null},"a":1,"__proto__":{"q":1},"10":1,"9":2}"#,
                r#"{"9":2,"10":1,"a":1,"b":{"x":null,"y":[{"a":2,"k":1}]},"m":0,"n":1e+21}"#,
            ),
            ("1.0", "1"),
            ("-1.5e-7", "-1.5e-7"),
            ("0.000001", "0.000001"),
            ("1e-7", "1e-7"),
            ("123456789012345680000", "123456789012345680000"),
            ("1e20", "100000000000000000000"),
            ("1.5e300", "1.5e+300"),
            ("9007199254740993", "9007199254740992"),
            ("0.1", "0.1"),
            ("1234.5678", "1234.5678"),
            ("\"\\u001f\\b\\u2028/\u{7f}\"", "\"\\u001f\\b\u{2028}/\u{7f}\""),
            ("{}", "{}"),
            ("[true,false,null]", "[true,false,null]"),
        ] {
            let value: Value = serde_json::from_str(json).unwrap();
            assert_eq!(canonical(&value), expected, "{json}");
        }
    }
}
