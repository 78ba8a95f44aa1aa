//! Names that people give to things, checked on both sides of every boundary, and text from peers made safe to show.

/// Longest name in characters.
const MAX_NAME: usize = 64;

/// A display name: 1 to 64 characters, no control or invisible ones, no surrounding space, and nothing that the address
/// grammar reads as something else (`@group`, `#topic`, `*`).
pub fn is_display_name(text: &str) -> bool {
    let count = text.chars().count();
    (1..=MAX_NAME).contains(&count)
        && text.trim() == text
        && !text.starts_with(['@', '#', '*', '-'])
        && !text.chars().any(|c| c.is_control() || is_invisible(c))
}

/// The display name that is nearest to what somebody wants to be called: what can not be seen and what the address grammar
/// reads as something else is left out, and what is too long is cut. `fallback`, where nothing is left.
pub fn to_display_name(text: &str, fallback: &str) -> String {
    let seen: String =
        text.chars().map(|c| if c.is_whitespace() { ' ' } else { c }).filter(|c| !c.is_control() && !is_invisible(*c)).collect();
    let named = seen.trim_start_matches(|c: char| c == ' ' || "@#*-".contains(c));
    let cut: String = named.chars().take(MAX_NAME).collect();
    let cut = cut.trim();
    if is_display_name(cut) { cut.to_owned() } else { fallback.to_owned() }
}

/// A group or topic name: `[A-Za-z0-9][A-Za-z0-9._/-]{0,63}`. The reference's broker fails on anything with a quote in it.
pub fn is_group_name(text: &str) -> bool {
    text.len() <= MAX_NAME
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._/-".contains(&byte))
}

/// A mesh's slug: `[a-z0-9][a-z0-9._-]{0,63}`, and no `..`, so that it is safe as a file name.
pub fn is_slug(text: &str) -> bool {
    text.len() <= MAX_NAME
        && text.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte))
        && !text.contains("..")
}

/// A slug that somebody else may have made: the reference's key files allow capitals too.
pub fn is_slug_any_case(text: &str) -> bool {
    is_slug(&text.to_ascii_lowercase())
}

/// A UUID in its 8-4-4-4-12 form, either case: the only session ids that become file names.
pub fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

/// Characters that change how text around them is shown without being seen: zero-width, bidirectional controls, tags.
pub fn is_invisible(c: char) -> bool {
    matches!(
        c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}'
            | '\u{feff}' | '\u{ffa0}' | '\u{fff9}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}'
    )
}

/// Peer text for a terminal or a model: controls other than tab and newline, and invisible characters, become U+FFFD.
pub fn neutralise(text: &str) -> String {
    text.chars().map(|c| if (c.is_control() && c != '\n' && c != '\t') || is_invisible(c) { '\u{fffd}' } else { c }).collect()
}

/// As [`neutralise`], on one line.
pub fn neutralise_line(text: &str) -> String {
    neutralise(text).replace(['\n', '\t'], " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for good in ["alice", "Bob B.", "é", "a b", &"x".repeat(64)] {
            assert!(is_display_name(good), "{good}");
        }
        for bad in ["", " a", "a ", "@a", "#a", "*", "-x", "a\nb", "a\u{200b}b", "a\u{202e}b", &"x".repeat(65)] {
            assert!(!is_display_name(bad), "{bad}");
        }
        let long = "x".repeat(65);
        for (wanted, got) in [
            ("alice", "alice"),
            ("  @#alice ", "alice"),
            ("a\nb\u{200b}", "a b"),
            ("\u{1f469}\u{200d}\u{1f4bb} dev", "\u{1f469}\u{1f4bb} dev"),
            ("-- *", "session"),
            ("", "session"),
            (&long, &long[1..]),
        ] {
            assert_eq!(to_display_name(wanted, "session"), got, "{wanted:?}");
        }
        for good in ["eng", "eng/api", "a.b-c_d".replace('_', "-").as_str(), "9"] {
            assert!(is_group_name(good), "{good}");
        }
        for bad in ["", "o'neil", "/a", "a b", "é"] {
            assert!(!is_group_name(bad), "{bad}");
        }
        assert!(
            is_slug("home")
                && is_slug_any_case("Acme-2")
                && !is_slug_any_case("A/b")
                && !is_slug("..")
                && !is_slug("a..b")
                && !is_slug("A")
                && !is_slug("a/b")
        );
        assert!(is_uuid("01234567-89ab-cdef-0123-456789ABCDEF") && !is_uuid("0123456789abcdef0123456789abcdef0123"));
    }

    #[test]
    fn text_from_peers_cannot_move_the_cursor_or_hide() {
        assert_eq!(neutralise("a\x1b[2Jb\u{202e}c\td\n"), "a\u{fffd}[2Jb\u{fffd}c\td\n");
        assert_eq!(neutralise_line("a\nb"), "a b");
    }
}
