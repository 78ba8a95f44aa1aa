//! Verbs of the reference that this program leaves out, so that whoever types one learns why.

/// First words of the verbs, and what to say.
const LEFT_OUT: &[(&[&str], &str)] = &[
    (
        &["login", "logout", "register", "sync", "me", "member", "members", "notification", "notifications", "workspace"],
        "there are no hosted accounts here: a mesh needs a broker and a key, and nothing else",
    ),
    (&["vector"], "there is no vector store here"),
    (&["graph"], "there is no graph database here"),
    (&["sql"], "there is no shared SQL database here"),
    (&["stream"], "there are no streams here: send messages to a group or a topic instead"),
    (&["watch"], "there are no URL watches here"),
    (&["clock"], "there is no simulation clock here"),
    (&["mesh-mcp", "service", "services"], "there are no managed services here"),
    (&["bridge", "telegram"], "there is no Telegram bridge here"),
    (&["upgrade", "update"], "this program does not replace itself: use whatever installed it"),
    (&["url-handler", "seed-test-mesh", "vault", "dashboard"], "this command belongs to the hosted service"),
];

/// The one clear line for a verb that is left out.
pub(super) fn answer(words: &[String]) -> Option<String> {
    let first = words.iter().find(|word| !word.starts_with('-'))?;
    let (_, why) = LEFT_OUT.iter().find(|(names, _)| names.contains(&first.as_str()))?;
    Some(format!("\"{first}\" is left out: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::spec::VERBS;

    #[test]
    fn nothing_is_both_there_and_left_out() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        assert!(answer(&words("login --json")).is_some_and(|line| !line.contains('\n')));
        assert_eq!(answer(&words("send")), None);
        for name in VERBS.iter().flat_map(|verb| verb.names()) {
            assert_eq!(answer(&words(name)), None, "{name}");
        }
    }
}
