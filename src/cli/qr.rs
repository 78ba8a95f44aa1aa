//! A QR code in half blocks: two rows of it in one of text, light on dark as terminals are.

use qrcodegen::{QrCode, QrCodeEcc};

/// Modules of nothing around it, which readers need to find it.
const QUIET: i32 = 2;

/// The lines of a code; none for a text that is too long for one.
pub(super) fn lines(text: &str) -> Vec<String> {
    let Ok(code) = QrCode::encode_text(text, QrCodeEcc::Low) else { return Vec::new() };
    let range = || -QUIET..code.size() + QUIET;
    // Outside of the code nothing is dark.
    let pair = |x: i32, y: i32| match (code.get_module(x, y), code.get_module(x, y + 1)) {
        (false, false) => '█',
        (false, true) => '▀',
        (true, false) => '▄',
        (true, true) => ' ',
    };
    range().step_by(2).map(|y| range().map(|x| pair(x, y)).collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn corners_are_where_readers_look_for_them() {
        let lines = lines("https://broker.example/i/ABCDEFGHJKLM");
        let widths: Vec<usize> = lines.iter().map(|line| line.chars().count()).collect();
        assert!(widths.iter().all(|width| *width == widths[0]) && widths[0] / 2 == lines.len() - widths[0] % 2, "{lines:#?}");
        assert!(lines[0].chars().all(|c| c == '█'), "quiet above");
        // The finder's outer ring: seven dark modules, then a light one.
        assert_eq!(lines[1].chars().skip(2).take(8).collect::<String>(), " ▄▄▄▄▄ █");
        assert!(super::lines(&"x".repeat(4000)).is_empty());
    }
}
