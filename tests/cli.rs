//! The command line as data: `tests/cli/*.txt` say what is typed and what comes back. Each file is one home, its commands run
//! in order.
//!
//! ```text
//! # a remark                        @ config.json       a file of the home; its `|` lines follow
//! $ claudemesh send bob "a b"       % NAME=value        environment of this command
//! < a line of standard input        | a line of output  ! a line of standard error  = the exit status, if not 0
//! ```
//!
//! In expected lines `[..]` stands for anything, a line `...` for any lines, and `[HOME]` for the home everywhere.

mod demo;
mod follow;

use std::fmt::Write;
use std::path::Path;

use crate::support::home::Home;
use crate::support::process::Process;

#[derive(Default)]
struct Case {
    line: usize,
    typed: String,
    env: Vec<(String, String)>,
    input: Vec<String>,
    out: Vec<String>,
    err: Vec<String>,
    status: i32,
}

/// Ends the daemon that a file's commands may have started, however the test ends.
struct Quiet<'a>(&'a Home);

impl Drop for Quiet<'_> {
    fn drop(&mut self) {
        // Nothing to stop is the usual case.
        let _ = self.0.command(&["down"]).output();
    }
}

#[test]
fn what_is_typed_and_what_comes_back() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|kind| kind == "txt"));
    files.sort();
    assert!(!files.is_empty());
    let wrong: Vec<String> = files.iter().flat_map(|file| play(file)).collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// A disk that is full takes no output; that is said where it can be, to programs, too.
#[cfg(target_os = "linux")]
#[test]
fn output_that_can_not_be_written_is_said_beside_it() {
    let home = Home::new();
    for args in [&["version"][..], &["version", "--json"]] {
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let ended = home.command(args).stdout(full).output().unwrap();
        let said = String::from_utf8(ended.stderr).unwrap();
        assert!(ended.status.code() == Some(10) && said.contains("the output cannot be written: "), "{said}");
    }
}

/// Runs one file; what differs, as text.
fn play(file: &Path) -> Vec<String> {
    let home = Home::new();
    let _quiet = Quiet(&home);
    let text = std::fs::read_to_string(file).unwrap().replace("[HOME]", home.path().to_str().unwrap());
    let name = file.file_name().unwrap().to_string_lossy();
    read(&text, &home).iter().filter_map(|case| run(case, &home).map(|wrong| format!("{name}:{} {wrong}", case.line))).collect()
}

/// The cases of a file. The files it makes are written here.
fn read(text: &str, home: &Home) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    let mut made: Option<String> = None;
    for (at, line) in text.lines().enumerate() {
        let (mark, rest) = line.split_at_checked(2).unwrap_or((line, ""));
        if let (Some(name), "| ") = (&made, mark) {
            std::fs::write(home.join(name), rest).unwrap();
            continue;
        }
        made = None;
        match (mark.trim_end(), cases.last_mut()) {
            ("" | "#", _) => {}
            ("@", _) => made = Some(rest.to_owned()),
            ("$", _) => cases.push(Case { line: at + 1, typed: rest.to_owned(), ..Case::default() }),
            ("%", Some(case)) => {
                let (name, value) = rest.split_once('=').unwrap();
                case.env.push((name.to_owned(), value.to_owned()));
            }
            ("<", Some(case)) => case.input.push(rest.to_owned()),
            ("|", Some(case)) => case.out.push(rest.to_owned()),
            ("!", Some(case)) => case.err.push(rest.to_owned()),
            ("=", Some(case)) => case.status = rest.parse().unwrap(),
            (other, _) => panic!("line {}: what is \"{other}\"?", at + 1),
        }
    }
    cases
}

fn run(case: &Case, home: &Home) -> Option<String> {
    let words = words(&case.typed);
    assert_eq!(words[0], "claudemesh");
    let mut command = home.command(&words[1..].iter().map(String::as_str).collect::<Vec<_>>());
    command.env("CLAUDEMESH_INTERNAL_NO_AUTOSPAWN", "1").envs(case.env.iter().map(|(name, value)| (name, value)));
    let mut process = Process::spawn(command);
    case.input.iter().for_each(|line| process.say(line));
    let ended = process.finish();
    let mut wrong = String::new();
    for (what, expected, got) in [("output", &case.out, &ended.out), ("errors", &case.err, &ended.err)] {
        let got: Vec<&str> = got.lines().map(str::trim_end).collect();
        if !matches(expected, &got) {
            let _ = write!(wrong, "\n-- {what}, expected:\n{}\n-- got:\n{}", expected.join("\n"), got.join("\n"));
        }
    }
    if ended.status.code() != Some(case.status) {
        let _ = write!(wrong, "\n-- status {:?}, expected {}", ended.status.code(), case.status);
    }
    (!wrong.is_empty()).then(|| format!("$ {}{wrong}", case.typed))
}

/// Splits as a shell does, as far as these files go: spaces, and double quotes.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut quoted) = (vec![String::new()], false);
    for c in line.chars() {
        match c {
            '"' => quoted = !quoted,
            ' ' if !quoted => words.push(String::new()),
            c => words.last_mut().unwrap().push(c),
        }
    }
    words
}

fn matches(expected: &[String], got: &[&str]) -> bool {
    match expected.split_first() {
        None => got.is_empty(),
        Some((any, rest)) if any == "..." => (0..=got.len()).any(|skipped| matches(rest, &got[skipped..])),
        Some((line, rest)) => {
            got.split_first().is_some_and(|(first, others)| fits(line.trim_end(), first) && matches(rest, others))
        }
    }
}

/// Whether a line is as expected, `[..]` standing for anything.
fn fits(expected: &str, got: &str) -> bool {
    match expected.split_once("[..]") {
        None => expected == got,
        Some((start, rest)) => got
            .strip_prefix(start)
            .is_some_and(|tail| tail.char_indices().map(|(at, _)| at).chain([tail.len()]).any(|at| fits(rest, &tail[at..]))),
    }
}

#[test]
fn the_runner_can_fail() {
    assert!(fits("a[..]c[..]", "abbcd") && !fits("a[..]c", "abd") && fits("[..]", ""));
    let lines = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
    assert!(matches(&lines("a ... d"), &["a", "b", "c", "d"]) && !matches(&lines("a ... d"), &["a", "b"]));
    assert!(!matches(&lines("a"), &["a", "b"]) && !matches(&lines("a b"), &["a"]));
    let home = Home::new();
    let cases = read("$ claudemesh version\n| something else\n! and this\n= 9\n", &home);
    let wrong = run(&cases[0], &home).unwrap();
    assert!(wrong.contains("-- output") && wrong.contains("-- errors") && wrong.contains("-- status"), "{wrong}");
}
