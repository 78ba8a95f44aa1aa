//! zsh: one function that walks the words typed so far.

use std::fmt::Write;

use super::{names, next_words, prefixes};

/// The script, to be installed as `_claudemesh`.
pub(in crate::cli) fn script() -> String {
    let mut script = String::from("#compdef claudemesh\n\n_claudemesh() {\n  local typed= word\n  local -a known=(\n");
    let mut paths: Vec<String> = prefixes();
    paths.extend(names().map(|(name, _)| name.to_owned()));
    paths.sort();
    paths.dedup();
    for path in paths.iter().filter(|path| !path.is_empty()) {
        let _ = writeln!(script, "    '{path}'");
    }
    script.push_str(
        "  )\n  for word in ${words[2,CURRENT-1]}; do\n    [[ $word == -* ]] && continue\n    \
         (( ${known[(Ie)${typed:+$typed }$word]} )) && typed=\"${typed:+$typed }$word\"\n  done\n  local -a verbs flags\n  case $typed in\n",
    );
    for path in &paths {
        let verb = names().find(|(name, _)| name == path).map(|(_, verb)| verb);
        let mut verbs: Vec<String> = next_words(path).into_iter().map(|(word, about)| described(word, about)).collect();
        verbs.extend(
            verb.iter().flat_map(|verb| verb.operands).flat_map(|operand| operand.choices).map(|choice| described(choice, "")),
        );
        let flags: Vec<String> =
            verb.map(|verb| verb.all_flags().map(|flag| described(flag.long, flag.about)).collect()).unwrap_or_default();
        let _ = writeln!(script, "    '{path}') verbs=({}); flags=({}) ;;", verbs.join(" "), flags.join(" "));
    }
    script.push_str(
        "  esac\n  if [[ ${words[CURRENT]} == -* ]]; then\n    _describe -o flag flags\n  elif (( ${#verbs} )); then\n    \
         _describe command verbs\n  else\n    _files\n  fi\n}\n\n_claudemesh \"$@\"\n",
    );
    script
}

/// A word with its description, quoted, as `_describe` takes it.
fn described(word: &str, about: &str) -> String {
    let about = about.replace('\'', "'\\''");
    if about.is_empty() { format!("'{word}'") } else { format!("'{word}:{about}'") }
}
