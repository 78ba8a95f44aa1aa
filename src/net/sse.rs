//! Server-sent events, as the HTML standard defines them: written by the daemon, read by its clients.

use std::fmt;
use std::io::{self, Write};

/// Writes one event in one call. Line breaks in `data` are kept; `event` must not have any.
pub fn write_event(out: &mut dyn Write, id: Option<u64>, event: &str, data: &str) -> io::Result<()> {
    let mut text = String::with_capacity(data.len() + event.len() + 48);
    if let Some(id) = id {
        text.push_str(&format!("id: {id}\n"));
    }
    text.push_str("event: ");
    text.extend(event.chars().filter(|c| !matches!(c, '\r' | '\n')));
    text.push('\n');
    for line in lines(data) {
        text.push_str("data: ");
        text.push_str(line);
        text.push('\n');
    }
    text.push('\n');
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Writes a comment, which readers skip: a sign of life.
pub fn write_comment(out: &mut dyn Write, text: &str) -> io::Result<()> {
    let mut bytes = String::with_capacity(text.len() + 4);
    for line in lines(text) {
        bytes.push_str(": ");
        bytes.push_str(line);
        bytes.push('\n');
    }
    bytes.push('\n');
    out.write_all(bytes.as_bytes())?;
    out.flush()
}

/// Splits at the three line ends that readers know.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.split('\n').flat_map(|line| line.strip_suffix('\r').unwrap_or(line).split('\r'))
}

/// One event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// The last id that the stream named, in this event or an earlier one.
    pub id: Option<String>,
    /// Empty: the stream named none, which the standard calls `message`.
    pub event: String,
    pub data: String,
}

/// What the parser made of its input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    Event(Event),
    /// The server asks for this many milliseconds before a reconnect.
    Retry(u64),
}

/// An event or a line longer than the parser's cap. The stream is of no further use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong;

impl fmt::Display for TooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an event longer than allowed")
    }
}

impl std::error::Error for TooLong {}

/// Turns bytes, in pieces of any size, into events.
#[derive(Debug)]
pub struct Parser {
    max: usize,
    line: Vec<u8>,
    /// The last byte was a CR, so that an LF is the rest of the same line end.
    after_cr: bool,
    at_start: bool,
    id: Option<String>,
    event: String,
    data: String,
    has_data: bool,
}

impl Parser {
    /// `max`: bytes of one line, and of one event's data.
    pub fn new(max: usize) -> Parser {
        let line = Vec::new();
        let (event, data) = (String::new(), String::new());
        Parser { max, line, after_cr: false, at_start: true, id: None, event, data, has_data: false }
    }

    /// What the stream says to send as `Last-Event-ID` after a reconnect.
    pub fn last_id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// Appends to `items` what `input` completes.
    pub fn push(&mut self, mut input: &[u8], items: &mut Vec<Item>) -> Result<(), TooLong> {
        if self.after_cr && !input.is_empty() {
            self.after_cr = false;
            input = input.strip_prefix(b"\n").unwrap_or(input);
        }
        while let Some(end) = input.iter().position(|byte| matches!(byte, b'\r' | b'\n')) {
            self.extend(&input[..end])?;
            let line_end = if input[end..].starts_with(b"\r\n") { 2 } else { 1 };
            self.after_cr = input[end] == b'\r' && end + 1 == input.len();
            input = &input[end + line_end..];
            let line = std::mem::take(&mut self.line);
            self.line(&line, items)?;
        }
        self.extend(input)
    }

    fn extend(&mut self, part: &[u8]) -> Result<(), TooLong> {
        // Room for the longest field name and for the mark at the start.
        if self.max + 16 < self.line.len() + part.len() {
            return Err(TooLong);
        }
        self.line.extend_from_slice(part);
        Ok(())
    }

    fn line(&mut self, mut line: &[u8], items: &mut Vec<Item>) -> Result<(), TooLong> {
        if std::mem::take(&mut self.at_start) {
            line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line);
        }
        if line.is_empty() {
            self.dispatch(items);
            return Ok(());
        }
        let text = String::from_utf8_lossy(line);
        let (name, value) = text.split_once(':').unwrap_or((&text, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "data" => {
                if self.max < self.data.len() + value.len() + 1 {
                    return Err(TooLong);
                }
                if self.has_data {
                    self.data.push('\n');
                }
                self.has_data = true;
                self.data.push_str(value);
            }
            "event" => value.clone_into(&mut self.event),
            "id" if !value.contains('\0') => self.id = Some(value.to_owned()),
            "retry" if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) => {
                items.extend(value.parse().ok().map(Item::Retry));
            }
            _ => {}
        }
        Ok(())
    }

    fn dispatch(&mut self, items: &mut Vec<Item>) {
        let (event, data) = (std::mem::take(&mut self.event), std::mem::take(&mut self.data));
        if std::mem::take(&mut self.has_data) {
            items.push(Item::Event(Event { id: self.id.clone(), event, data }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(input: &[u8], piece: usize) -> Result<Vec<Item>, TooLong> {
        let (mut parser, mut items) = (Parser::new(32), Vec::new());
        for part in input.chunks(piece) {
            parser.push(part, &mut items)?;
        }
        Ok(items)
    }

    fn event(id: Option<&str>, event: &str, data: &str) -> Item {
        Item::Event(Event { id: id.map(str::to_owned), event: event.to_owned(), data: data.to_owned() })
    }

    #[test]
    fn parses_in_pieces_of_any_size() {
        for (input, expect) in [
            ("", vec![]),
            (": connected\n\n", vec![]),
            ("data: a\n\n", vec![event(None, "", "a")]),
            ("id: 7\nevent: message\ndata: {}\n\n", vec![event(Some("7"), "message", "{}")]),
            ("data: a\r\ndata: b\r\n\r\n", vec![event(None, "", "a\nb")]),
            ("data: a\rdata:  b\r\rdata:c\r\r", vec![event(None, "", "a\n b"), event(None, "", "c")]),
            ("data\ndata\n\n", vec![event(None, "", "\n")]),
            ("data:\n\n", vec![event(None, "", "")]),
            ("event: x\n\ndata: y\n\n", vec![event(None, "", "y")]),
            (
                "id: 1\ndata: a\n\ndata: b\n\nid\ndata: c\n\n",
                vec![event(Some("1"), "", "a"), event(Some("1"), "", "b"), event(Some(""), "", "c")],
            ),
            ("id: a\0b\ndata: a\n\n", vec![event(None, "", "a")]),
            ("retry: 250\nretry: 2s\nretry:\nretry: -1\n\n", vec![Item::Retry(250)]),
            ("retry: 99999999999999999999999\n", vec![]),
            ("\u{feff}data: a\n\n\u{feff}data: b\n\n", vec![event(None, "", "a")]),
            ("unknown: x\ndata: a: b\n\n", vec![event(None, "", "a: b")]),
            ("data: unfinished", vec![]),
            ("data: unfinished\n", vec![]),
        ] {
            for piece in [1, 2, 3, 1000] {
                assert_eq!(parse(input.as_bytes(), piece), Ok(expect.clone()), "{input:?} by {piece}");
            }
        }
        assert_eq!(parse(b"data: \xff\n\n", 100), Ok(vec![event(None, "", "\u{fffd}")]));
    }

    #[test]
    fn bounds_lines_and_events() {
        assert_eq!(parse(format!("data: {}\n\n", "x".repeat(31)).as_bytes(), 5).map(|items| items.len()), Ok(1));
        for input in [format!("data: {}", "x".repeat(50)), "data: xxxxxxxxxxxxxxxx\n".repeat(3), format!(":{}", "x".repeat(50))] {
            for piece in [1, 1000] {
                assert_eq!(parse(input.as_bytes(), piece), Err(TooLong), "{input:?}");
            }
        }
    }

    #[test]
    fn what_is_written_parses_to_the_same() {
        let mut bytes = Vec::new();
        write_event(&mut bytes, Some(3), "message", "{\"a\":1}").unwrap();
        assert_eq!(bytes, b"id: 3\nevent: message\ndata: {\"a\":1}\n\n");
        write_comment(&mut bytes, "keepalive").unwrap();
        write_event(&mut bytes, None, "x\ny", "one\ntwo\r\nthree\rfour").unwrap();
        let expect = [event(Some("3"), "message", "{\"a\":1}"), event(Some("3"), "xy", "one\ntwo\nthree\nfour")];
        assert_eq!(parse(&bytes, 7), Ok(expect.to_vec()));
    }
}
