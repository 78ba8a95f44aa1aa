//! The difference between two texts, line by line, as people read it.

/// Lines around a difference that are shown with it.
const AROUND: usize = 2;

/// Most comparisons of one difference. Where more would be needed, all of the old lines are shown as gone and all of the new ones
/// as added, which is true as well.
const MAX_COMPARISONS: usize = 4_000_000;

/// A line of either text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line<'a> {
    Same(&'a str),
    Gone(&'a str),
    Added(&'a str),
}

/// The lines that differ, with a few around them; `…` stands for what is left out.
pub(super) fn diff(before: &str, after: &str) -> Vec<String> {
    let (old, new): (Vec<&str>, Vec<&str>) = (before.lines().collect(), after.lines().collect());
    let lines = compare(&old, &new);
    let is_near = |at: usize| {
        let around = at.saturating_sub(AROUND)..(at + AROUND + 1).min(lines.len());
        lines[around].iter().any(|line| !matches!(line, Line::Same(_)))
    };
    let mut shown = Vec::new();
    let mut skipped = false;
    for (at, line) in lines.iter().enumerate() {
        if !is_near(at) {
            skipped = true;
            continue;
        }
        if std::mem::take(&mut skipped) {
            shown.push("…".to_owned());
        }
        shown.push(match line {
            Line::Same(text) => format!("  {text}"),
            Line::Gone(text) => format!("- {text}"),
            Line::Added(text) => format!("+ {text}"),
        });
    }
    shown
}

/// Every line of both, in order: what they share as far as possible once.
fn compare<'a>(old: &[&'a str], new: &[&'a str]) -> Vec<Line<'a>> {
    let head = old.iter().zip(new).take_while(|(a, b)| a == b).count();
    let tail = old[head..].iter().rev().zip(new[head..].iter().rev()).take_while(|(a, b)| a == b).count();
    let (a, b) = (&old[head..old.len() - tail], &new[head..new.len() - tail]);
    let mut lines: Vec<Line<'_>> = old[..head].iter().map(|text| Line::Same(text)).collect();
    if a.len().saturating_mul(b.len()) <= MAX_COMPARISONS {
        walk(a, b, &mut lines);
    } else {
        lines.extend(a.iter().map(|text| Line::Gone(text)));
        lines.extend(b.iter().map(|text| Line::Added(text)));
    }
    lines.extend(old[old.len() - tail..].iter().map(|text| Line::Same(text)));
    lines
}

/// Along a longest common subsequence.
fn walk<'a>(a: &[&'a str], b: &[&'a str], lines: &mut Vec<Line<'a>>) {
    let width = b.len() + 1;
    // How many lines are shared from here to the end.
    let mut shared = vec![0_u32; (a.len() + 1) * width];
    for i in (0..a.len()).rev() {
        for j in (0..b.len()).rev() {
            shared[i * width + j] = if a[i] == b[j] {
                shared[(i + 1) * width + j + 1] + 1
            } else {
                shared[(i + 1) * width + j].max(shared[i * width + j + 1])
            };
        }
    }
    let (mut i, mut j) = (0, 0);
    while i < a.len() || j < b.len() {
        if i < a.len() && j < b.len() && a[i] == b[j] {
            lines.push(Line::Same(a[i]));
            (i, j) = (i + 1, j + 1);
        } else if j == b.len() || (i < a.len() && shared[i * width + j + 1] <= shared[(i + 1) * width + j]) {
            lines.push(Line::Gone(a[i]));
            i += 1;
        } else {
            lines.push(Line::Added(b[j]));
            j += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_two_texts_share_is_not_shown_as_changed() {
        for (before, after, expected) in [
            ("", "", vec![]),
            ("a", "a", vec![]),
            ("", "a\nb", vec!["+ a", "+ b"]),
            ("a\nb", "", vec!["- a", "- b"]),
            ("a\nb\nc", "a\nx\nc", vec!["  a", "- b", "+ x", "  c"]),
            ("a\nb\nc\nd\ne", "z\na\nb\nc\nd\ne\ny", vec!["+ z", "  a", "  b", "…", "  d", "  e", "+ y"]),
        ] {
            assert_eq!(diff(before, after), expected, "{before:?} {after:?}");
        }
    }

    #[test]
    fn texts_too_long_to_compare_are_shown_whole() {
        let long = |word: &str| (0..3000).map(|n| format!("{word}{n}\n")).collect::<String>();
        let shown = diff(&long("a"), &long("b"));
        assert_eq!((shown.len(), shown[0].as_str(), shown[3000].as_str()), (6000, "- a0", "+ b0"));
    }
}
