use super::*;
use crate::cli::spec::{JSON, MESH};

fn read(args: &[&str]) -> Result<Parsed, CliError> {
    let mut words = verb_first(Words::split(args.iter().map(OsString::from).collect())?)?;
    let (verb, count) = find(&words.head).expect("a verb");
    words.head.drain(..count);
    parse(verb, words)
}

/// Verb, operands, --mesh and --json of a command line that is understood.
#[track_caller]
fn reads(args: &[&str], verb: &str, operands: &[&str], mesh: Option<&str>, json: bool) {
    let parsed = read(args).unwrap_or_else(|err| panic!("{args:?}: {err}"));
    let read = (parsed.verb.name, parsed.operands.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!((read, parsed.value(&MESH), parsed.is_set(&JSON)), ((verb, operands.to_vec()), mesh, json), "{args:?}");
}

/// What is said, and what to do, about one that is not.
#[track_caller]
fn refuses(args: &[&str], what: &str, hint: &str) {
    let err = read(args).expect_err("refused");
    assert_eq!((err.to_string().as_str(), err.hint().unwrap_or_default().as_str()), (what, hint), "{args:?}");
}

#[test]
fn flags_stand_anywhere_and_values_are_values() {
    reads(&["send", "bob", "hi"], "send", &["bob", "hi"], None, false);
    reads(&["message", "send", "bob", "hi"], "send", &["bob", "hi"], None, false);
    reads(&["send", "--mesh", "dev", "bob", "--json", "hi", "there"], "send", &["bob", "hi", "there"], Some("dev"), true);
    reads(&["send", "bob", "hi", "-m", "dev"], "send", &["bob", "hi"], Some("dev"), false);
    reads(&["send", "bob", "hi", "--mesh=dev"], "send", &["bob", "hi"], Some("dev"), false);
    reads(&["send", "bob", "hi", "--mesh=--json"], "send", &["bob", "hi"], Some("--json"), false);
    reads(&["send", "bob", "hi", "--mesh='a"], "send", &["bob", "hi"], Some("'a"), false);
    reads(&["send", "bob", "hi", "--mesh=\"a\""], "send", &["bob", "hi"], Some("\"a\""), false);
    reads(&["--json", "--mesh", "dev", "peers"], "peer list", &[], Some("dev"), true);
    reads(&["--json", "peer", "list", "--json"], "peer list", &[], None, true);
    reads(&["send", "bob", "-"], "send", &["bob", "-"], None, false);
    reads(&["inbox", "flush", "--all"], "inbox flush", &[], None, false);
    reads(&["inbox"], "inbox", &[], None, false);
}

#[test]
fn behind_a_bare_double_hyphen_everything_is_text() {
    reads(&["send", "bob", "--", "--json"], "send", &["bob", "--json"], None, false);
    reads(&["send", "bob", "--", "a", "--", "-b"], "send", &["bob", "a", "--", "-b"], None, false);
    reads(&["send", "--json", "--", "bob", "-h"], "send", &["bob", "-h"], None, true);
    let parsed = read(&["launch", "--name", "bob", "--", "--json", "x"]).unwrap();
    assert_eq!((parsed.operands.len(), parsed.tail), (0, vec![OsString::from("--json"), OsString::from("x")]));
}

#[test]
fn what_follows_a_bare_flag_is_its_value_an_operand_or_a_mistake_and_never_more_of_a_text() {
    let hint = "write --wait=STATE, or --wait behind the whole text if no STATE is meant";
    let wrong = "--wait: \"never\" is not one of relayed, arrived, offered";
    refuses(&["send", "*", "x", "--wait", "never"], wrong, hint);
    refuses(&["send", "*", "--id", "a", "x", "--wait", "never", "mind"], wrong, hint);
    reads(&["send", "bob", "x", "--wait", "arrived"], "send", &["bob", "x"], None, false);
    reads(&["send", "bob", "x", "y", "--wait"], "send", &["bob", "x", "y"], None, false);
    reads(&["send", "bob", "--wait", "never", "mind"], "send", &["bob", "never", "mind"], None, false);
    reads(&["send", "--wait", "bob", "x"], "send", &["bob", "x"], None, false);
    reads(&["send", "bob", "x", "--wait", "--", "never"], "send", &["bob", "x", "never"], None, false);
    reads(&["message", "status", "--wait", "6f1c"], "message status", &["6f1c"], None, false);
}

#[test]
fn what_is_not_understood_is_explained() {
    refuses(&["send", "bob", "hi", "--prioriti", "now"], "unknown flag --prioriti", "did you mean --priority?");
    refuses(&["send", "bob", "hi", "--jsno"], "unknown flag --jsno", "did you mean --json?");
    refuses(
        &["send", "bob", "- a point"],
        "unknown flag - a point",
        "text that begins with \"-\" stands behind a bare \"--\": claudemesh send ... -- \"- a point\"",
    );
    refuses(&["whoami", "-x"], "unknown flag -x", "see: claudemesh help whoami");
    refuses(&["send", "bob", "hi", "--priority", "soon"], "--priority: \"soon\" is not one of now, next, low", "");
    refuses(&["send", "bob", "hi", "--mesh"], "--mesh needs a value (SLUG)", "");
    refuses(
        &["send", "--mesh", "--json", "bob", "hi"],
        "--mesh needs a value (SLUG), and --json is a flag",
        "if it is meant: --mesh=--json",
    );
    refuses(&["send", "bob", "hi", "--mesh", "a", "--mesh", "b"], "--mesh is given twice", "");
    refuses(&["peers", "--json=name"], "--json takes no value", "");
    refuses(&["send", "bob"], "missing TEXT", "usage: claudemesh send [flags] <TO> <TEXT...>");
    refuses(&["peers", "extra"], "unexpected argument \"extra\"", "usage: claudemesh peer list [flags]");
    refuses(&["inbox", "flsh"], "unexpected argument \"flsh\"", "did you mean: claudemesh inbox flush");
    refuses(&["generate", "tcsh"], "WHAT: \"tcsh\" is not one of man, bash, zsh, fish, docs", "");
    refuses(
        &["--follow", "inbox"],
        "unknown flag --follow before a command",
        "flags of a command stand behind its name; see: claudemesh help",
    );
}

#[test]
fn the_longest_name_wins() {
    let verb = |line: &str| find(&line.split(' ').map(str::to_owned).collect::<Vec<_>>()).map(|(verb, count)| (verb.name, count));
    assert_eq!(verb("daemon outbox list"), Some(("daemon outbox list", 3)));
    assert_eq!(verb("daemon outbox --failed"), Some(("daemon outbox list", 2)));
    assert_eq!(verb("inbox rm x"), Some(("inbox delete", 2)));
    assert_eq!(verb("inbox"), Some(("inbox", 1)));
    assert_eq!(verb("daemon"), None);
    assert_eq!(verb("sned"), None);
}

#[test]
fn numbers_have_a_range() {
    use crate::cli::spec::Flag;
    const LIMIT: Flag = Flag::valued("--limit", "N", "");
    let limit = |text: &str| read(&["inbox", "--limit", text]).unwrap().number(&LIMIT, 1..=1000);
    assert_eq!(limit("7").unwrap(), Some(7));
    for bad in ["0", "1001", "x", "-1"] {
        assert_eq!(limit(bad).unwrap_err().to_string(), format!("--limit: \"{bad}\" is no number from 1 to 1000"));
    }
}
