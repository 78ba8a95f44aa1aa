//! The only printer. People get two-space indents, marks and, on a terminal, colours; programs get JSON. Every text that is
//! printed for people is made harmless first, wherever it came from.

use std::io::{self, BufWriter, IsTerminal, Write};

use serde::Serialize;

use super::error::CliError;
use crate::base::names::{neutralise, neutralise_line};

/// How a piece of text looks on a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    Plain,
    Bold,
    Dim,
    Green,
    Yellow,
    Red,
    Cyan,
    /// The colour of titles.
    Clay,
}

impl Style {
    /// The parameter of the SGR escape sequence.
    fn code(self) -> Option<&'static str> {
        match self {
            Style::Plain => None,
            Style::Bold => Some("1"),
            Style::Dim => Some("2"),
            Style::Green => Some("32"),
            Style::Yellow => Some("33"),
            Style::Red => Some("31"),
            Style::Cyan => Some("36"),
            Style::Clay => Some("38;5;173"),
        }
    }
}

/// One line in pieces, each with its style.
#[derive(Debug, Default, Clone)]
pub(super) struct Line(Vec<(Style, String)>);

impl Line {
    pub(super) fn new() -> Line {
        Line::default()
    }

    pub(super) fn plain(text: impl Into<String>) -> Line {
        Line::new().and(Style::Plain, text)
    }

    #[must_use]
    pub(super) fn and(mut self, style: Style, text: impl Into<String>) -> Line {
        self.0.push((style, text.into()));
        self
    }

    /// As [`Line::and`], if there is a text.
    #[must_use]
    pub(super) fn maybe(self, style: Style, text: Option<String>) -> Line {
        match text {
            Some(text) => self.and(style, text),
            None => self,
        }
    }

    fn paint(&self, colour: bool) -> String {
        let mut painted = String::new();
        for (style, text) in &self.0 {
            let text = neutralise_line(text);
            match style.code().filter(|_| colour) {
                Some(code) => painted.push_str(&format!("\x1b[{code}m{text}\x1b[0m")),
                None => painted.push_str(&text),
            }
        }
        painted
    }
}

type Done = Result<(), CliError>;

/// Standard output and standard error.
pub(super) struct Out {
    json: bool,
    colour: bool,
    colour_err: bool,
    /// Whether standard error is a terminal, and whether somebody can answer there, too.
    watched: bool,
    answers: bool,
    stdout: Box<dyn Write + Send>,
    stderr: Box<dyn Write + Send>,
}

impl std::fmt::Debug for Out {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Out").field("json", &self.json).finish_non_exhaustive()
    }
}

impl Out {
    /// Prints to this process's own streams. `json` says which form the command was asked for.
    pub(super) fn stdio(json: bool) -> Out {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
            && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        let watched = io::stderr().is_terminal();
        Out {
            json,
            watched,
            answers: watched && io::stdin().is_terminal(),
            colour: wanted && io::stdout().is_terminal(),
            colour_err: wanted && watched,
            stdout: Box::new(BufWriter::new(io::stdout())),
            stderr: Box::new(io::stderr()),
        }
    }

    pub(super) fn is_json(&self) -> bool {
        self.json
    }

    /// A line of text, as it is; for documents that this program makes itself.
    pub(super) fn document(&mut self, text: &str) -> Done {
        self.write(text)
    }

    /// A line with the usual indent.
    pub(super) fn line(&mut self, line: &Line) -> Done {
        let text = format!("  {}\n", line.paint(self.colour));
        self.write(&text)
    }

    /// A line without indent.
    pub(super) fn bare(&mut self, text: &str) -> Done {
        let text = format!("{}\n", neutralise_line(text));
        self.write(&text)
    }

    pub(super) fn info(&mut self, text: &str) -> Done {
        self.line(&Line::plain(text))
    }

    pub(super) fn blank(&mut self) -> Done {
        self.write("\n")
    }

    pub(super) fn ok(&mut self, text: &str, detail: Option<&str>) -> Done {
        let detail = detail.map(|detail| format!(" ({detail})"));
        self.line(&Line::new().and(Style::Green, "✔").and(Style::Plain, format!(" {text}")).maybe(Style::Dim, detail))
    }

    pub(super) fn warn(&mut self, text: &str, hint: Option<&str>) -> Done {
        self.line(&Line::new().and(Style::Yellow, "⚠").and(Style::Plain, format!(" {text}")))?;
        hint.map_or(Ok(()), |hint| self.line(&Line::new().and(Style::Dim, format!("  {hint}"))))
    }

    /// Something that is not as it should be, as part of what was asked for.
    pub(super) fn bad(&mut self, text: &str) -> Done {
        self.line(&Line::new().and(Style::Red, "✘").and(Style::Plain, format!(" {text}")))
    }

    pub(super) fn hint(&mut self, text: &str) -> Done {
        self.line(&Line::new().and(Style::Dim, format!("→ {text}")))
    }

    pub(super) fn section(&mut self, title: &str) -> Done {
        self.blank()?;
        self.line(&Line::new().and(Style::Clay, format!("— {title}")))?;
        self.blank()
    }

    /// Names and values, aligned.
    pub(super) fn pairs(&mut self, pairs: &[(&str, String)]) -> Done {
        let width = pairs.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0) + 2;
        for (name, value) in pairs {
            self.line(&Line::new().and(Style::Dim, format!("{name:width$}")).and(Style::Plain, value))?;
        }
        Ok(())
    }

    /// Text of several lines from a peer, each with the usual indent.
    pub(super) fn body(&mut self, text: &str) -> Done {
        for line in neutralise(text).lines() {
            self.write(&format!("  {line}\n"))?;
        }
        Ok(())
    }

    /// One line of JSON.
    pub(super) fn json<T: Serialize + ?Sized>(&mut self, value: &T) -> Done {
        let mut text = serde_json::to_string(value).map_err(|err| CliError::Output(err.into()))?;
        text.push('\n');
        self.write(&text)
    }

    /// JSON over several lines.
    pub(super) fn json_pretty<T: Serialize + ?Sized>(&mut self, value: &T) -> Done {
        let mut text = serde_json::to_string_pretty(value).map_err(|err| CliError::Output(err.into()))?;
        text.push('\n');
        self.write(&text)
    }

    /// A remark beside the output proper, on standard error.
    pub(super) fn note(&mut self, line: &Line) -> Done {
        let text = format!("  {}\n", line.paint(self.colour_err));
        self.stderr.write_all(text.as_bytes()).map_err(CliError::Output)
    }

    /// One line beside the answer, on standard error: what is missing from it, or what the program did on the way. For programs,
    /// too, which would take a part for the whole; standard output stays pure JSON.
    pub(super) fn remark(&mut self, text: &str) -> Done {
        let text = format!("[claudemesh] {}\n", neutralise_line(text));
        self.stderr.write_all(text.as_bytes()).map_err(CliError::Output)
    }

    /// Whether a person reads remarks, rather than a file or a program.
    pub(super) fn is_watched(&self) -> bool {
        self.watched && !self.json
    }

    /// Asks once, on standard error; anything but a yes is a no. `None` where nobody can answer.
    pub(super) fn ask(&mut self, question: &str) -> Result<Option<bool>, CliError> {
        if self.json || !self.answers {
            return Ok(None);
        }
        self.flush()?;
        let text = format!("[claudemesh] {} [y/N] ", neutralise_line(question));
        self.stderr.write_all(text.as_bytes()).and_then(|()| self.stderr.flush()).map_err(CliError::Output)?;
        let mut answer = String::new();
        io::stdin().read_line(&mut answer).map_err(|err| CliError::io("standard input cannot be read", err))?;
        Ok(Some(is_yes(&answer)))
    }

    /// What went wrong and what to do: for people on standard error, for programs an object on standard output.
    pub(super) fn error(&mut self, err: &CliError) -> Done {
        let hint = err.hint();
        if self.json {
            return self.json(&Failure { ok: false, error: err.to_string(), hint });
        }
        self.note(&Line::new().and(Style::Red, "✘").and(Style::Plain, format!(" {err}")))?;
        let lines = hint.iter().flat_map(|hint| hint.lines());
        lines.into_iter().try_for_each(|line| self.note(&Line::new().and(Style::Dim, format!("  {line}"))))
    }

    /// That the output itself can not be written, on standard error for programs, too.
    pub(super) fn unwritten(&mut self, err: &CliError) -> Done {
        self.note(&Line::new().and(Style::Red, "✘").and(Style::Plain, format!(" {err}")))
    }

    /// Everything printed so far has reached whoever reads it, or the pipe to it.
    pub(super) fn flush(&mut self) -> Done {
        self.stdout.flush().map_err(CliError::Output)
    }

    fn write(&mut self, text: &str) -> Done {
        self.stdout.write_all(text.as_bytes()).map_err(CliError::Output)
    }
}

fn is_yes(answer: &str) -> bool {
    matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes")
}

#[derive(Serialize)]
struct Failure {
    ok: bool,
    error: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_yes_is_a_yes() {
        assert!(["y\n", "Y", " yes\r\n", "YES"].into_iter().all(is_yes));
        assert!(!["", "\n", "n", "no", "yess", "ja"].into_iter().any(is_yes));
    }

    #[test]
    fn colours_stand_around_harmless_text() {
        let line = Line::new().and(Style::Bold, "a\x1b[31m\nb").and(Style::Plain, " c");
        assert_eq!(line.paint(true), "\x1b[1ma\u{fffd}[31m b\x1b[0m c");
        assert_eq!(line.paint(false), "a\u{fffd}[31m b c");
    }
}
