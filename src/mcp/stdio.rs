//! Lines in and lines out, a thread each, over any pair of streams.

use std::io::{self, BufRead, BufReader, PipeReader, PipeWriter, Read, Write};

use crossbeam_channel::{Receiver, Sender};

use crate::base::thread::{self, Running};

/// Longest line a client may write, in bytes.
const MAX_LINE: usize = 4 * 1024 * 1024;

/// Both threads only copy bytes.
const STACK: usize = 64 * 1024;

/// Where a client's requests come from, and where answers go.
pub struct Connection {
    pub input: Box<dyn Read + Send>,
    pub output: Box<dyn Write + Send>,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Connection")
    }
}

/// The client's end of a [`Connection::memory`].
#[derive(Debug)]
pub struct Far {
    /// Dropping it ends the input.
    pub to_server: PipeWriter,
    pub from_server: BufReader<PipeReader>,
}

impl Connection {
    /// This process's own standard input and output.
    pub fn stdio() -> Connection {
        Connection { input: Box::new(io::stdin()), output: Box::new(io::stdout()) }
    }

    /// A connection inside this process, and its other end.
    pub fn memory() -> io::Result<(Connection, Far)> {
        let (input, to_server) = io::pipe()?;
        let (from_server, output) = io::pipe()?;
        let far = Far { to_server, from_server: BufReader::new(from_server) };
        Ok((Connection { input: Box::new(input), output: Box::new(output) }, far))
    }
}

/// One line of input, without its end.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    Whole(Vec<u8>),
    /// It went past the limit, and was skipped to its end.
    TooLong,
}

/// What to write.
#[derive(Debug)]
pub(super) struct Out {
    /// `None` writes nothing; the row still counts as written, being behind the line that showed it.
    pub(super) line: Option<String>,
    /// The inbox row that the line shows.
    pub(super) row: Option<String>,
}

/// What became of the row that a line was to show.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Told {
    Written(String),
    /// The output is broken: nobody reads it.
    Lost(String),
}

/// Hands over each line until the input ends, or nobody takes them any more. The receiver returned is disconnected then.
pub(super) fn read_lines(input: Box<dyn Read + Send>, lines: Sender<Line>) -> io::Result<Receiver<()>> {
    let (reading, ended) = crossbeam_channel::bounded(0);
    thread::spawn("stdin", STACK, move || {
        let _reading: Sender<()> = reading;
        let mut input = BufReader::with_capacity(8 * 1024, input);
        // An input that fails has ended, for all this program can do about it.
        while let Ok(Some(line)) = next_line(&mut input, MAX_LINE) {
            if lines.send(line).is_err() {
                return;
            }
        }
    })?;
    Ok(ended)
}

/// The next line; the last may lack its newline. `None` at the end of input.
fn next_line(input: &mut impl BufRead, limit: usize) -> io::Result<Option<Line>> {
    let mut line = Vec::new();
    let mut too_long = false;
    loop {
        let available = match input.fill_buf() {
            Ok(available) => available,
            Err(err) if err.kind() == io::ErrorKind::Interrupted => continue,
            Err(err) => return Err(err),
        };
        if available.is_empty() {
            let none = line.is_empty() && !too_long;
            return Ok(if none { None } else { Some(finish(line, too_long)) });
        }
        let end = available.iter().position(|byte| *byte == b'\n');
        let part = &available[..end.unwrap_or(available.len())];
        if too_long || limit < line.len() + part.len() {
            too_long = true;
            line = Vec::new();
        } else {
            line.extend_from_slice(part);
        }
        let used = end.map_or(available.len(), |end| end + 1);
        input.consume(used);
        if end.is_some() {
            return Ok(Some(finish(line, too_long)));
        }
    }
}

fn finish(line: Vec<u8>, too_long: bool) -> Line {
    if too_long { Line::TooLong } else { Line::Whole(line) }
}

/// The thread that writes, and what is disconnected once it does no more.
pub(super) struct Writer {
    pub(super) running: Running,
    pub(super) ended: Receiver<()>,
}

/// Writes and flushes each line; only then its row counts as written. Once the output breaks, it says so, and of all that is
/// still in the queue, or comes until that ends, that it is lost.
pub(super) fn write_lines(mut output: Box<dyn Write + Send>, queue: Receiver<Out>, told: Sender<Told>) -> io::Result<Writer> {
    let (writing, ended) = crossbeam_channel::bounded(0);
    let running = thread::spawn("stdout", STACK, move || {
        let mut writing: Option<Sender<()>> = Some(writing);
        for out in queue {
            if let Some(mut line) = out.line.filter(|_| writing.is_some()) {
                line.push('\n');
                if output.write_all(line.as_bytes()).and_then(|()| output.flush()).is_err() {
                    writing = None;
                }
            }
            if let Some(row) = out.row {
                // Full: the row stays unread, and is found and marked at the next listing.
                let _ = told.try_send(if writing.is_some() { Told::Written(row) } else { Told::Lost(row) });
            }
        }
    })?;
    Ok(Writer { running, ended })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lines_are_skipped_and_the_next_is_read() {
        let text = b"one\n\ntoo long by far\n12345678\nlast";
        for capacity in 1..text.len() {
            let mut input = BufReader::with_capacity(capacity, &text[..]);
            let lines: Vec<Line> = std::iter::from_fn(|| next_line(&mut input, 8).unwrap()).collect();
            let whole = |text: &str| Line::Whole(text.as_bytes().to_vec());
            assert_eq!(lines, [whole("one"), whole(""), Line::TooLong, whole("12345678"), whole("last")]);
        }
    }

    #[test]
    fn a_row_counts_as_written_only_when_it_is() {
        struct Breaks(usize);
        impl Write for Breaks {
            fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
                Ok(buf.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                self.0 = self.0.checked_sub(1).ok_or(io::ErrorKind::BrokenPipe)?;
                Ok(())
            }
        }
        let (out, queue) = crossbeam_channel::unbounded();
        let (told, rows) = crossbeam_channel::unbounded();
        for row in ["a", "b", "c"] {
            out.send(Out { line: Some("x".into()), row: Some(row.into()) }).unwrap();
        }
        let writer = write_lines(Box::new(Breaks(2)), queue, told).unwrap();
        assert!(writer.ended.recv().is_err(), "that it broke is heard while there is more to write");
        out.send(Out { line: Some("x".into()), row: Some("d".into()) }).unwrap();
        drop(out);
        let expected = [Told::Written("a".into()), Told::Written("b".into()), Told::Lost("c".into()), Told::Lost("d".into())];
        assert_eq!(rows.iter().collect::<Vec<_>>(), expected);
    }
}
