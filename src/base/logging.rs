//! The log of the long-lived processes: one JSON object a line on standard error, keys `level`, `msg`, `ts`. Never a
//! message's text, a token or a key.

use std::io::Write;

use env_logger::{Builder, Target};
use log::LevelFilter;

use super::time::{iso, now_millis};

/// Starts logging at `level`, unless `CLAUDEMESH_LOG` (in `RUST_LOG`'s grammar) says otherwise. A second call is ignored.
pub fn init(level: LevelFilter) {
    let mut builder = Builder::new();
    builder.filter_level(level).target(Target::Stderr);
    if let Ok(filters) = std::env::var("CLAUDEMESH_LOG") {
        builder.parse_filters(&filters);
    }
    builder.format(|out, record| {
        let level = record.level().as_str().to_ascii_lowercase();
        writeln!(
            out,
            "{{\"level\":\"{level}\",\"msg\":{},\"ts\":\"{}\"}}",
            json_string(&record.args().to_string()),
            iso(now_millis())
        )
    });
    // Only tests start it twice, in one process.
    let _ = builder.try_init();
}

fn json_string(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            c if c.is_control() => quoted.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_json_whatever_is_logged() {
        let nasty = "a\"b\\c\nd\u{1b}e\u{85}";
        assert_eq!(serde_json::from_str::<String>(&json_string(nasty)).unwrap(), nasty);
    }
}
