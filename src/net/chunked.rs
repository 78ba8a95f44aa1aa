//! The chunked transfer coding of RFC 9112, 7.1, as a state machine over bytes as they come.

/// Hexadecimal digits of one chunk's size: 4 GiB is far beyond every cap.
const MAX_DIGITS: u8 = 8;

/// Bytes of extensions and trailers together; both are read past.
const MAX_EXTRA: usize = 4096;

/// The coding was broken; there is no way on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken;

#[derive(Debug)]
pub struct Decoder {
    state: State,
    digits: u8,
    left: u64,
    extra: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Size,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    TrailerStart,
    Trailer,
    TrailerLf,
    EndLf,
    Done,
}

impl Default for Decoder {
    fn default() -> Decoder {
        Decoder { state: State::Size, digits: 0, left: 0, extra: 0 }
    }
}

impl Decoder {
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Appends to `out` what `input` carries and returns how much of it belonged to the coding: all of it, unless the
    /// end came first.
    pub fn push(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<usize, Broken> {
        let mut at = 0;
        while at < input.len() && !self.is_done() {
            if self.state == State::Data {
                let take = usize::try_from(self.left).unwrap_or(usize::MAX).min(input.len() - at);
                out.extend_from_slice(&input[at..at + take]);
                at += take;
                self.left -= take as u64;
                if self.left == 0 {
                    self.state = State::DataCr;
                }
            } else {
                self.state = self.step(input[at])?;
                at += 1;
            }
        }
        Ok(at)
    }

    fn step(&mut self, byte: u8) -> Result<State, Broken> {
        Ok(match (self.state, byte) {
            (State::Size, b'\r') if 0 < self.digits => State::SizeLf,
            (State::Size, b';' | b' ' | b'\t') if 0 < self.digits => State::Extension,
            (State::Size, digit) if self.digits < MAX_DIGITS => {
                let value = char::from(digit).to_digit(16).ok_or(Broken)?;
                self.left = self.left * 16 + u64::from(value);
                self.digits += 1;
                State::Size
            }
            (State::Extension, b'\r') => State::SizeLf,
            (State::Extension, byte) if byte != b'\n' => self.extra(State::Extension)?,
            (State::SizeLf, b'\n') => {
                self.digits = 0;
                if self.left == 0 { State::TrailerStart } else { State::Data }
            }
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => State::Size,
            (State::TrailerStart, b'\r') => State::EndLf,
            (State::TrailerStart | State::Trailer, byte) if byte != b'\r' && byte != b'\n' => self.extra(State::Trailer)?,
            (State::Trailer, b'\r') => State::TrailerLf,
            (State::TrailerLf, b'\n') => State::TrailerStart,
            (State::EndLf, b'\n') => State::Done,
            _ => return Err(Broken),
        })
    }

    fn extra(&mut self, next: State) -> Result<State, Broken> {
        self.extra += 1;
        if MAX_EXTRA < self.extra { Err(Broken) } else { Ok(next) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(input: &[u8], piece: usize) -> Result<Option<(Vec<u8>, usize)>, Broken> {
        let (mut decoder, mut out, mut used) = (Decoder::default(), Vec::new(), 0);
        for part in input.chunks(piece) {
            used += decoder.push(part, &mut out)?;
        }
        Ok(decoder.is_done().then_some((out, used)))
    }

    #[test]
    fn decodes_in_pieces_of_any_size() {
        for (input, expect, tail) in [
            ("0\r\n\r\n", "", 0),
            ("5\r\nhello\r\n0\r\n\r\n", "hello", 0),
            ("5;x=y\r\nhello\r\n6 \r\n world\r\n0\r\nTrailer: x\r\nOther: y\r\n\r\nnext", "hello world", 4),
            ("00A\r\n\r\n0\r\n\r\n\r\n\r\r\n0\r\n\r\n", "\r\n0\r\n\r\n\r\n\r", 0),
        ] {
            for piece in [1, 2, 3, 1000] {
                let expect = (expect.as_bytes().to_vec(), input.len() - tail);
                assert_eq!(decode(input.as_bytes(), piece), Ok(Some(expect)), "{input:?} by {piece}");
            }
        }
        assert_eq!(decode(b"5\r\nhel", 2), Ok(None));
    }

    #[test]
    fn refuses_what_is_broken() {
        let endless = format!("1;{}", "x".repeat(MAX_EXTRA + 1));
        let trailers = format!("0\r\n{}", "a: b\r\n".repeat(MAX_EXTRA));
        for input in [
            "\r\n",
            "x\r\n",
            "-1\r\n",
            "+1\r\n",
            "0x5\r\n",
            "5\nhello",
            "5\r\nhelloX",
            "5\r\nhello\rX",
            "123456789\r\n",
            "5\r\r",
            &endless,
            &trailers,
        ] {
            assert_eq!(decode(input.as_bytes(), 1), Err(Broken), "{input:?}");
        }
    }
}
