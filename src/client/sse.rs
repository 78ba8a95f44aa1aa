//! Server-sent events, as the daemon writes them: blocks of `id:`, `event:` and `data:` lines, ended by an empty line.
//! Pure: bytes in, blocks out, however they were cut on the way.

/// Largest block, in bytes: the largest message with every character escaped, twice over.
const MAX_BLOCK: usize = 1024 * 1024;

/// One block.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) id: Option<u64>,
    pub(super) event: String,
    pub(super) data: String,
}

/// A block or a line is larger than any that a daemon writes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooLarge;

/// What was read of a stream so far.
#[derive(Debug, Default)]
pub(super) struct Parser {
    line: Vec<u8>,
    block: Block,
    has_data: bool,
    ready: std::collections::VecDeque<Block>,
}

impl Parser {
    /// Takes the next bytes of the stream.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Result<(), TooLarge> {
        let mut lines = bytes.split(|byte| *byte == b'\n').peekable();
        while let Some(part) = lines.next() {
            if MAX_BLOCK < self.line.len() + part.len() + self.block.data.len() {
                return Err(TooLarge);
            }
            self.line.extend_from_slice(part);
            if lines.peek().is_some() {
                let line = std::mem::take(&mut self.line);
                self.on_line(&String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(&line)));
            }
        }
        Ok(())
    }

    /// The next whole block.
    pub(super) fn next(&mut self) -> Option<Block> {
        self.ready.pop_front()
    }

    fn on_line(&mut self, line: &str) {
        if line.is_empty() {
            let block = std::mem::take(&mut self.block);
            if std::mem::take(&mut self.has_data) {
                self.ready.push_back(block);
            }
            return;
        }
        // A comment has an empty name.
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "id" => self.block.id = value.parse().ok(),
            "event" => self.block.event = value.to_owned(),
            "data" => {
                if std::mem::replace(&mut self.has_data, true) {
                    self.block.data.push('\n');
                }
                self.block.data.push_str(value);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_survive_any_cut() {
        let text = ": connected\n\nid: 7\nevent: message\ndata: {\"a\":\"é\"}\n\n: keepalive\n\nevent: bye\r\ndata: 1\r\ndata: 2\r\n\r\nid: 9\n\n";
        let expected = [
            Block { id: Some(7), event: "message".into(), data: "{\"a\":\"é\"}".into() },
            Block { id: None, event: "bye".into(), data: "1\n2".into() },
        ];
        for size in 1..=text.len() {
            let mut parser = Parser::default();
            let mut blocks = Vec::new();
            for piece in text.as_bytes().chunks(size) {
                parser.feed(piece).unwrap();
                blocks.extend(std::iter::from_fn(|| parser.next()));
            }
            assert_eq!(blocks, expected, "pieces of {size}");
        }
    }

    #[test]
    fn memory_is_bounded() {
        let mut parser = Parser::default();
        let endless = std::iter::repeat_n([b'x'; 4096], MAX_BLOCK / 4096 + 1);
        assert!(endless.into_iter().any(|piece| parser.feed(&piece).is_err()));
        let mut parser = Parser::default();
        assert!((0..=MAX_BLOCK / 8).any(|_| parser.feed(b"data: 123456789\n").is_err()));
    }
}
