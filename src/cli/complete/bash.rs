//! bash: one function that walks the words typed so far.

use std::fmt::Write;

use super::{VERBS, names, next_words, prefixes};

/// The script, for a `completions` directory or `eval`.
pub(in crate::cli) fn script() -> String {
    let mut script = String::from(
        "# bash completion for claudemesh\n_claudemesh() {\n    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} path= word i\n    \
         for ((i = 1; i < COMP_CWORD; i++)); do\n        word=${COMP_WORDS[i]}\n        \
         [[ $word == -* ]] && continue\n        case \"${path:+$path }$word\" in\n            ",
    );
    let mut known: Vec<String> = prefixes().into_iter().filter(|prefix| !prefix.is_empty()).collect();
    known.extend(names().map(|(name, _)| name.to_owned()));
    known.sort();
    known.dedup();
    let patterns: Vec<String> = known.iter().map(|name| format!("\"{name}\"")).collect();
    let _ = write!(script, "{}) path=\"${{path:+$path }}$word\" ;;\n        esac\n    done\n", patterns.join("|"));
    script.push_str("    case $prev in\n");
    let mut valued: Vec<(&str, String)> = VERBS
        .iter()
        .flat_map(|verb| verb.all_flags())
        .filter(|flag| flag.value.is_some())
        .map(|flag| (flag.long, flag.choices.join(" ")))
        .collect();
    valued.sort();
    valued.dedup_by_key(|(long, _)| *long);
    for (long, choices) in valued {
        let _ = writeln!(script, "        {long}) COMPREPLY=($(compgen -W \"{choices}\" -- \"$cur\")); return ;;");
    }
    script.push_str("    esac\n    local words= flags=\n    case $path in\n");
    let mut paths: Vec<String> = prefixes();
    paths.extend(names().map(|(name, _)| name.to_owned()));
    paths.sort();
    paths.dedup();
    for path in paths {
        let mut words: Vec<&str> = next_words(&path).into_iter().map(|(word, _)| word).collect();
        let verb = names().find(|(name, _)| *name == path).map(|(_, verb)| verb);
        let flags: Vec<&str> = verb.map(|verb| verb.all_flags().map(|flag| flag.long).collect()).unwrap_or_default();
        words.extend(verb.iter().flat_map(|verb| verb.operands).flat_map(|operand| operand.choices));
        let _ = writeln!(script, "        \"{path}\") words=\"{}\" flags=\"{}\" ;;", words.join(" "), flags.join(" "));
    }
    script.push_str(
        "    esac\n    if [[ $cur == -* ]]; then words=$flags; fi\n    COMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n}\n\
         complete -o default -F _claudemesh claudemesh\n",
    );
    script
}
