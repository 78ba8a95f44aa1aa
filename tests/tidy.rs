//! The rules of the house that no compiler checks. Each failure names the file, the line and the rule.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::support::home::Home;
use crate::support::process::Process;

/// Which modules a module may import from; the same table stands in `ARCHITECTURE.md`.
const LAYERS: &[(&str, &[&str])] = &[
    ("base", &[]),
    ("sys", &[]),
    ("wire", &["base"]),
    ("crypto", &["base"]),
    ("net", &["base", "sys", "wire"]),
    ("store", &["base", "sys", "wire", "crypto"]),
    ("client", &["base", "sys", "net", "wire"]),
    ("daemon", &["base", "sys", "wire", "crypto", "net", "store"]),
    ("broker", &["base", "sys", "wire", "crypto", "net", "store"]),
    ("mcp", &["base", "wire", "net", "client"]),
    ("cli", &["base", "wire", "crypto", "net", "store", "client", "daemon", "broker", "mcp"]),
];

/// Where a third-party crate may be named: a change of library touches one folder.
const FENCES: &[(&str, &[&str])] = &[
    ("rusqlite", &["src/store"]),
    ("tungstenite", &["src/net"]),
    ("rustls", &["src/net"]),
    ("rustls_native_certs", &["src/net"]),
    ("httparse", &["src/net"]),
    ("rustix", &["src/sys"]),
    ("signal_hook", &["src/sys"]),
    ("qrcodegen", &["src/cli/qr.rs"]),
    ("pico_args", &["src/cli/parse.rs"]),
    ("env_logger", &["src/base/logging.rs"]),
    (
        "serde_json",
        &[
            "src/wire",
            "src/base/config.rs",
            "src/base/settings.rs",
            "src/base/logging.rs",
            "src/base/ids.rs",
            "src/cli/render.rs",
        ],
    ),
];

/// Everything this package depends on directly. One more needs a reason in the commit that adds it.
const DEPENDENCIES: &[&str] = &[
    "crossbeam-channel",
    "env_logger",
    "httparse",
    "libsodium-sys-stable",
    "log",
    "pico-args",
    "qrcodegen",
    "rusqlite",
    "rustix",
    "rustls",
    "rustls-native-certs",
    "serde",
    "serde_json",
    "signal-hook",
    "tungstenite",
];

/// Most lines of a file before its tests.
const FILE_BUDGET: usize = 400;

/// Files that are one table, which would not read better in two.
const TABLES: &[&str] = &[];

struct Source {
    /// Relative to the package, with `/`.
    name: String,
    text: String,
}

impl Source {
    /// Lines with their numbers.
    fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(at, line)| (at + 1, line))
    }

    /// Lines of code: no comments, and nothing that stands behind one.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.lines().map(|(at, line)| (at, split_comment(line).0))
    }

    fn comments(&self) -> impl Iterator<Item = (usize, &str)> {
        self.lines().map(|(at, line)| (at, split_comment(line).1))
    }

    /// The module under `src/` that the file belongs to.
    fn module(&self) -> &str {
        let rest = self.name.strip_prefix("src/").unwrap_or_default();
        rest.split('/').next().unwrap_or_default().trim_end_matches(".rs")
    }

    /// Lines before the unit tests.
    fn budgeted(&self) -> usize {
        if self.name.ends_with("tests.rs") {
            return 0;
        }
        let lines: Vec<&str> = self.text.lines().collect();
        let tests = lines.windows(2).position(|pair| pair[0].trim() == "#[cfg(test)]" && pair[1].trim().starts_with("mod "));
        tests.unwrap_or(lines.len())
    }
}

fn split_comment(line: &str) -> (&str, &str) {
    let mut from = 0;
    while let Some(at) = line[from..].find("//").map(|at| from + at) {
        // `://` is an address in a string.
        if !line[..at].ends_with(':') {
            return line.split_at(at);
        }
        from = at + 2;
    }
    (line, "")
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap_or_else(|err| panic!("{name}: {err}"))
}

fn files(folders: &[&str], wanted: impl Fn(&str) -> bool) -> Vec<Source> {
    let mut found = Vec::new();
    let mut open: Vec<PathBuf> = folders.iter().map(|folder| root().join(folder)).filter(|folder| folder.exists()).collect();
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            continue;
        }
        let name = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
        if wanted(&name) {
            found.push(Source { text: fs::read_to_string(&path).unwrap(), name });
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    assert!(!found.is_empty(), "nothing found in {folders:?}");
    found
}

fn rust(folders: &[&str]) -> Vec<Source> {
    files(folders, |name| name.ends_with(".rs"))
}

/// Every text that is published.
fn published() -> Vec<Source> {
    let folders = [
        "src",
        "tests",
        "benches",
        "contrib",
        "docs",
        ".ci",
        ".cargo",
        "Makefile",
        "Cargo.toml",
        "build.rs",
        "README.md",
        "ARCHITECTURE.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
        "deny.toml",
        "clippy.toml",
        "rustfmt.toml",
    ];
    files(&folders, |name| name != "tests/tidy.rs")
}

fn word_at(text: &str, at: usize) -> &str {
    let rest = &text[at..];
    &rest[..rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len())]
}

/// Whether `word` stands in `text` as a word of its own.
fn has_word(text: &str, word: &str) -> bool {
    let part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.match_indices(word).any(|(at, _)| !text[..at].ends_with(part) && !text[at + word.len()..].starts_with(part))
}

#[track_caller]
fn report(broken: &[String], rule: &str) {
    assert!(broken.is_empty(), "{rule}:\n  {}", broken.join("\n  "));
}

#[test]
fn a_module_imports_only_from_below() {
    let allowed: BTreeMap<&str, &[&str]> = LAYERS.iter().copied().collect();
    let mut broken = Vec::new();
    for file in rust(&["src"]) {
        let module = file.module();
        let Some(below) = allowed.get(module) else {
            assert!(matches!(module, "lib" | "main"), "{} belongs to no layer", file.name);
            continue;
        };
        for (at, line) in file.code() {
            for (found, _) in line.match_indices("crate::") {
                let used = word_at(line, found + "crate::".len());
                if used != module && !below.contains(&used) {
                    broken.push(format!("{}:{at}: {module} imports {used:?}", file.name));
                }
            }
        }
    }
    report(&broken, "a module may import only from lower lines of the layer table, one path a line");
}

#[test]
fn the_layer_table_of_the_guide_is_this_one() {
    let guide = read("ARCHITECTURE.md");
    let mut lines = guide.lines().skip_while(|line| *line != "| module | may import |").skip(2);
    let mut rows = Vec::new();
    for line in lines.by_ref().take_while(|line| line.starts_with('|')) {
        let mut cells = line.trim_matches('|').split('|').map(str::trim);
        let module = cells.next().unwrap().to_owned();
        let below: Vec<String> = cells.next().unwrap().split(", ").filter(|name| !name.is_empty()).map(str::to_owned).collect();
        rows.push((module, below));
    }
    let ours: Vec<(String, Vec<String>)> = LAYERS
        .iter()
        .map(|(module, below)| ((*module).to_owned(), below.iter().map(|name| (*name).to_owned()).collect()))
        .collect();
    assert_eq!(rows, ours);
}

#[test]
fn what_the_guide_names_is_there() {
    let guide = read("ARCHITECTURE.md");
    let mut missing = Vec::new();
    for code in guide.split('`').skip(1).step_by(2) {
        let path = code.split(['#', ' ', ':']).next().unwrap_or_default();
        let is_path = path.starts_with("src/") || path.starts_with("tests/") || path.starts_with("benches/");
        if is_path && !root().join(path).exists() {
            missing.push(path.to_owned());
        }
    }
    report(&missing, "ARCHITECTURE.md names files that are not there");
    for (module, _) in LAYERS {
        assert!(guide.contains(&format!("`src/{module}")), "ARCHITECTURE.md's code map leaves out src/{module}");
    }
}

#[test]
fn third_party_crates_stay_behind_their_fences() {
    let mut broken = Vec::new();
    for file in rust(&["src"]) {
        for (at, line) in file.code().take(file.budgeted()) {
            for (name, places) in FENCES {
                let used = line.contains(&format!("{name}::")) && has_word(line, name);
                if used && !places.iter().any(|place| file.name.starts_with(place)) {
                    broken.push(format!("{}:{at}: {name}", file.name));
                }
            }
        }
    }
    report(&broken, "a crate is used outside the folder that owns it");
}

#[test]
fn direct_dependencies_are_the_agreed_ones() {
    let manifest = read("Cargo.toml");
    let section = manifest.split("\n[dependencies]\n").nth(1).and_then(|rest| rest.split("\n[").next()).unwrap();
    let names: BTreeSet<&str> = section
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once(" = "))
        .map(|(name, _)| name)
        .collect();
    assert_eq!(names, DEPENDENCIES.iter().copied().collect());
}

#[test]
fn files_stay_within_their_budget() {
    let mut broken = Vec::new();
    for file in rust(&["src", "tests", "benches"]) {
        let lines = file.budgeted();
        if FILE_BUDGET < lines && !TABLES.contains(&file.name.as_str()) && !file.name.starts_with("tests/tidy") {
            broken.push(format!("{}: {lines} lines", file.name));
        }
    }
    report(&broken, "a file has more than 400 lines before its tests");
    assert!(read("clippy.toml").contains("too-many-lines-threshold = 60"));
    assert!(read("Cargo.toml").contains("too_many_lines = "));
}

#[test]
fn comments_say_why_and_not_since_when() {
    let version = |word: &str| {
        let word = word.trim_matches(|c: char| !c.is_ascii_alphanumeric()).trim_start_matches('v');
        let parts: Vec<&str> = word.split('.').collect();
        parts.len() == 3 && parts.iter().all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let mut broken = Vec::new();
    for file in rust(&["src", "tests", "benches"]) {
        for (at, comment) in file.comments() {
            let words: Vec<&str> = comment.trim_start_matches(['/', '!']).split_whitespace().collect();
            let dated = |pair: &[&str]| matches!(pair[0], "since" | "Since" | "until" | "before" | "from") && version(pair[1]);
            if words.first().is_some_and(|word| version(word)) || words.windows(2).any(dated) {
                broken.push(format!("{}:{at}: {comment}", file.name));
            }
        }
    }
    report(&broken, "a comment dates itself by a version");
}

#[test]
fn lints_are_silenced_only_with_a_reason() {
    let mut broken = Vec::new();
    for file in rust(&["src", "tests", "benches"]).into_iter().filter(|file| file.name != "tests/tidy.rs") {
        for mark in ["#[allow(", "#[expect(", "#![allow(", "#![expect("] {
            for (at, _) in file.text.match_indices(mark) {
                let attribute = &file.text[at..];
                let end = attribute.find(")]").unwrap_or(attribute.len());
                if !attribute[..end].contains("reason = \"") {
                    broken.push(format!("{}: {}", file.name, &attribute[..end]));
                }
            }
        }
    }
    report(&broken, "a lint is silenced without a reason");
}

#[test]
fn unsafe_code_stands_in_one_file() {
    let mut broken = Vec::new();
    for file in rust(&["src", "tests", "benches"]).into_iter().filter(|file| file.name != "tests/tidy.rs") {
        for (at, line) in file.code() {
            if has_word(line, "unsafe") && file.name != "src/crypto/ffi.rs" {
                broken.push(format!("{}:{at}", file.name));
            }
        }
    }
    report(&broken, "unsafe outside src/crypto/ffi.rs");
}

#[test]
fn nothing_is_left_unfinished_and_nothing_waits_by_sleeping() {
    let mut broken = Vec::new();
    for file in rust(&["src", "tests", "benches"]).into_iter().filter(|file| file.name != "tests/tidy.rs") {
        for (at, line) in file.code() {
            for mark in ["todo", "unimplemented", "dbg"] {
                if line.contains(&format!("{mark}!(")) {
                    broken.push(format!("{}:{at}: {mark}", file.name));
                }
            }
            if line.contains("thread::sleep") && file.name != "tests/support/wait.rs" {
                broken.push(format!("{}:{at}: sleeps", file.name));
            }
        }
    }
    report(&broken, "unfinished code, or a sleep where something can be waited for");
}

#[test]
fn every_limit_says_what_it_means() {
    let mut broken = Vec::new();
    for file in rust(&["src"]) {
        let lines: Vec<&str> = file.text.lines().collect();
        for (at, line) in lines.iter().enumerate() {
            let Some(name) = line.trim_start().split("const ").nth(1).map(|rest| word_at(rest, 0)) else { continue };
            let docs: Vec<&str> =
                lines[..at].iter().rev().map(|line| line.trim()).take_while(|line| line.starts_with("//")).collect();
            if file.name == "src/wire/limits.rs" && line.starts_with("pub const") && docs.is_empty() {
                broken.push(format!("{}:{}: {name} has no sentence", file.name, at + 1));
            }
            if has_word(&name.replace('_', " "), "QUEUE") && !docs.concat().contains("ull") {
                broken.push(format!("{}:{}: {name} does not say what a full queue means", file.name, at + 1));
            }
        }
    }
    report(&broken, "a limit is not explained");
}

#[test]
fn nothing_tells_of_the_machine_it_was_written_on() {
    let own =
        |name: &str| std::env::var(name).ok().filter(|dir| 2 < dir.len()).map(|dir| format!("{}/", dir.trim_end_matches('/')));
    let mut marks = vec![format!("{}/", env!("CARGO_MANIFEST_DIR")), "/home/".to_owned()];
    marks.extend(["HOME", "CARGO_HOME", "TMPDIR"].into_iter().filter_map(own));
    let mut broken = Vec::new();
    for file in published() {
        for (at, line) in file.lines() {
            for mark in marks.iter().filter(|mark| line.contains(mark.as_str())) {
                broken.push(format!("{}:{at}: {mark}", file.name));
            }
        }
    }
    report(&broken, "a path of the machine this was built on");
}

#[test]
fn the_changelog_keeps_its_shape() {
    const KINDS: &[&str] = &["Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"];
    let text = read("CHANGELOG.md");
    assert!(text.starts_with("# Changelog\n"));
    let mut releases = Vec::new();
    for line in text.lines() {
        if let Some(kind) = line.strip_prefix("### ") {
            assert!(KINDS.contains(&kind), "{kind:?} is no kind of change");
        } else if let Some(release) = line.strip_prefix("## ") {
            releases.push(release);
        }
    }
    assert_eq!(releases.first(), Some(&"[Unreleased]"));
    for release in &releases[1..] {
        let (version, date) = release.split_once(" - ").unwrap_or_else(|| panic!("{release:?} has no date"));
        assert!(version.starts_with('[') && version.ends_with(']'), "{release:?}");
        let digits: Vec<usize> = date.split('-').map(str::len).collect();
        assert_eq!(digits, [4, 2, 2], "{release:?}");
    }
}

#[test]
fn commands_in_the_guides_exist() {
    let makefile = read("Makefile");
    let phony = makefile.lines().find_map(|line| line.strip_prefix(".PHONY: ")).expect("a .PHONY line");
    let targets: BTreeSet<&str> = phony.split(' ').collect();
    for target in &targets {
        assert!(makefile.contains(&format!("\n{target}:")), "the Makefile has no rule for {target}");
    }
    let mut broken = Vec::new();
    for name in ["README.md", "CONTRIBUTING.md", "ARCHITECTURE.md", "SECURITY.md"] {
        let text = read(name);
        for (at, _) in text.match_indices("make ") {
            let quoted = text[..at].ends_with(['`', '\n']) || text[..at].ends_with("    ");
            let target = text[at + 5..].split(|c: char| !c.is_ascii_lowercase() && c != '-').next().unwrap_or_default();
            if quoted && !targets.contains(target) {
                broken.push(format!("{name}: make {target}"));
            }
        }
    }
    report(&broken, "a guide names a make target that is not there");
    let readme = read("README.md");
    assert!(readme.contains("make run") && readme.contains("make test"));
}

#[test]
fn verbs_in_the_readme_exist() {
    let home = Home::new();
    let readme = read("README.md");
    let verbs: BTreeSet<&str> = readme
        .lines()
        .map(|line| line.trim_start().trim_start_matches("$ "))
        .filter_map(|line| line.strip_prefix("claudemesh "))
        .filter_map(|rest| rest.split(' ').next())
        .filter(|verb| !verb.starts_with('-'))
        .collect();
    assert!(!verbs.is_empty());
    for verb in verbs {
        let ended = Process::run(home.command(&[verb, "--help"]));
        assert!(ended.status.success() && ended.out.contains(verb), "README.md shows `claudemesh {verb}`: {ended:?}");
    }
}

#[test]
fn the_generated_reference_is_fresh() {
    let Ok(kept) = fs::read_to_string(root().join("docs/cli.md")) else { return };
    let ended = Process::run(Home::new().command(&["generate", "docs"]));
    assert!(ended.status.success(), "{ended:?}");
    assert!(kept == ended.out, "docs/cli.md is stale: run `make docs`");
}
