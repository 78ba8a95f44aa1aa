//! Links by which people are invited, in every form there is, and the invite within.

use crate::base::exit::Exit;
use crate::base::ids::PublicKey;
use crate::base::time::{Millis, iso};
use crate::crypto::base64;
use crate::crypto::invite::Invite;
use crate::net::dial::Url;
use crate::wire::json::{self, Value};
use crate::wire::mesh_api::{InvitePayload, MAX_TOKEN};

use super::error::CliError;

/// What was typed after `join`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Link {
    /// The invite itself.
    Token(String),
    /// Where its broker, or a website, keeps it.
    Short(Url),
    /// A short link's end without its beginning.
    Code(String),
}

fn is_token(text: &str) -> bool {
    (21..=MAX_TOKEN).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
}

fn is_code(text: &str) -> bool {
    (6..=16).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// The last two parts of a path, as `i` and a code or `join` and a token.
fn tail(path: &str) -> Option<(&str, &str)> {
    let path = path.split(['?', '#']).next()?.trim_end_matches('/');
    let (rest, last) = path.rsplit_once('/')?;
    Some((rest.rsplit('/').next()?, last))
}

/// Reads a link. `None`: it is none of those there are.
pub(super) fn parse(text: &str) -> Option<Link> {
    let text = text.trim();
    if let Some(rest) = text.strip_prefix("ic://") {
        let token = rest.strip_prefix("join/")?.trim_end_matches('/');
        return is_token(token).then(|| Link::Token(token.to_owned()));
    }
    if is_code(text) {
        return Some(Link::Code(text.to_owned()));
    }
    if is_token(text) {
        return Some(Link::Token(text.to_owned()));
    }
    let with_scheme = if text.contains("://") { text.to_owned() } else { format!("https://{text}") };
    let url = Url::parse(&with_scheme).ok()?;
    let scheme = with_scheme.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase())?;
    let (kind, last) = tail(url.target())?;
    match (scheme.as_str(), kind) {
        ("http" | "https", "join") if is_token(last) => Some(Link::Token(last.to_owned())),
        ("http" | "https", "i") if is_code(last) => Some(Link::Short(url.clone())),
        _ => None,
    }
}

/// An invite whose signature and time have been checked.
#[derive(Debug, Clone)]
pub(super) struct Checked {
    /// As it came: it is looked up by its bytes.
    pub(super) token: String,
    pub(super) payload: InvitePayload,
    /// As it came.
    pub(super) value: Value,
}

/// The signed part of a payload.
pub(super) fn signed_part(payload: &InvitePayload) -> Invite<'_> {
    Invite {
        mesh_id: &payload.mesh_id,
        mesh_slug: &payload.mesh_slug,
        broker_url: &payload.broker_url,
        expires_at: payload.expires_at,
        mesh_root_key: &payload.mesh_root_key,
        role: &payload.role,
        owner_pubkey: &payload.owner_pubkey,
    }
}

/// A payload as a token.
pub(super) fn token(payload: &InvitePayload) -> String {
    base64::encode_url(json::encode(payload).as_bytes())
}

/// Reads a token, in the reference's order of checks.
pub(super) fn check(token: &str, now: Millis) -> Result<Checked, CliError> {
    let broken = |why: String| CliError::refused(Exit::Failure, why).with_hint("ask for the link again, and copy all of it");
    let unreadable = |why: &str| broken(format!("the invitation can not be read: {why}"));
    let bytes = base64::decode_url(token).ok_or_else(|| unreadable("it is cut off, or has characters of something else"))?;
    let value: Value = json::decode(&bytes).map_err(|err| unreadable(&err.to_string()))?;
    let payload: InvitePayload = json::from_value(value.clone()).map_err(|err| unreadable(&err.to_string()))?;
    let texts = [&payload.mesh_id, &payload.mesh_slug, &payload.broker_url, &payload.mesh_root_key];
    if payload.v != 1 {
        return Err(unreadable(&format!("it is of version {}, and this program knows version 1", payload.v)));
    }
    if texts.iter().any(|text| text.is_empty()) || !matches!(payload.role.as_str(), "admin" | "member") {
        return Err(unreadable("something is missing in it"));
    }
    if PublicKey::parse_any_case(&payload.owner_pubkey).is_none() {
        return Err(unreadable("it names no owner"));
    }
    if !signed_part(&payload).is_signed(&payload.signature) {
        return Err(broken("the invitation's signature is wrong: it was changed on the way".to_owned()));
    }
    let expires_at = payload.expires_at.saturating_mul(1000);
    if expires_at < now {
        let why = format!("the invitation expired at {}", iso(expires_at.clamp(0, 253_402_300_799_000)));
        return Err(CliError::refused(Exit::Failure, why).with_hint("ask for a new one"));
    }
    Ok(Checked { token: token.to_owned(), payload, value })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::keys::KeyPair;

    /// From the reference's own program.
    const TOKEN: &str = "eyJ2IjoxLCJtZXNoX2lkIjoibWVzaFRFU1QwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDEiLCJtZXNoX3NsdWciOiJhY21lIiwiYnJva2VyX3VybCI6IndzczovL2Jyb2tlci5leGFtcGxlL3dzIiwiZXhwaXJlc19hdCI6MTc2MDYwMDAwMCwibWVzaF9yb290X2tleSI6IkNRa0pDUWtKQ1FrSkNRa0pDUWtKQ1FrSkNRa0pDUWtKQ1FrSkNRa0pDUWsiLCJyb2xlIjoibWVtYmVyIiwib3duZXJfcHVia2V5IjoiOGE4OGUzZGQ3NDA5ZjE5NWZkNTJkYjJkM2NiYTVkNzJjYTY3MDliZjFkOTQxMjFiZjM3NDg4MDFiNDBmNmY1YyIsInNpZ25hdHVyZSI6ImFlN2JlYTViYjNjYmY3YjZjOWU2ZDFiZDVkMDRkNGQ5ZDdmNjQ2MmIwNTlhZTRiOWU1ZTY3NDAxMDAyNjJlMjA2Y2RmNmU2YzgyYTJlNmU1MmMxNWQyMzcxOGM5YjAxOTg3OWM1ZjM3MTQ5MDJhZjNhMmE5MmI2YjAxNzBlZDAwIn0";
    const BEFORE: Millis = 1_760_600_000_000;

    #[test]
    fn every_form_of_a_link() {
        let token = Some(Link::Token(TOKEN.to_owned()));
        for text in [
            TOKEN.to_owned(),
            format!("ic://join/{TOKEN}"),
            format!("ic://join/{TOKEN}/"),
            format!("https://claudemesh.example/join/{TOKEN}"),
            format!("http://h:1/de/join/{TOKEN}/"),
            format!("  https://h/join/{TOKEN}?x=1#y\n"),
        ] {
            assert_eq!(parse(&text), token, "{text}");
        }
        for text in
            ["https://h/i/ABCDEFGH", "http://127.0.0.1:7900/en/i/abc123/", "h.example/i/ABCDEFGH", "https://h/i/abc123?x#y"]
        {
            assert!(matches!(parse(text), Some(Link::Short(_))), "{text}");
        }
        assert_eq!(parse("ABCD2345"), Some(Link::Code("ABCD2345".into())));
        for text in [
            "",
            "abc",
            "dev",
            "https://h/",
            "https://h/i/",
            "https://h/i/a.b",
            "https://h/join/short",
            "ic://ABCDEFGH",
            "ftp://h/i/ABCDEFGH",
            "ws://h/i/ABCDEFGH",
            "https://u:p@h/i/ABCDEFGH",
            "abcdefghijklmnopqrst",
            &"a".repeat(MAX_TOKEN + 1),
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn whatever_a_link_has_become_it_is_read_or_refused() {
        let forms =
            [TOKEN, "ic://join/AAAAAAAAAAAAAAAAAAAAAAAA/", "http://h:1/de/join/t/?x=1#y", "h.example/i/ABCDEFGH", "ABCD2345"];
        for form in forms {
            for (at, piece) in
                (0..form.len()).flat_map(|at| ["", "\0", "/", "[", "://", "%00", "\u{e9}", "A"].map(|piece| (at, piece)))
            {
                let text = format!("{}{piece}{}", &form[..at], &form[at + 1..]);
                let _ = (parse(&text), parse(&form[..at]));
                if let Ok(checked) = check(&text, BEFORE) {
                    assert_eq!(token(&checked.payload), TOKEN, "{text}");
                }
            }
        }
    }

    #[test]
    fn the_token_of_the_reference_reads_and_writes_back() {
        let checked = check(TOKEN, BEFORE).unwrap();
        assert_eq!((checked.payload.mesh_slug.as_str(), checked.payload.expires_at), ("acme", 1_760_600_000));
        assert_eq!(token(&checked.payload), TOKEN);
    }

    #[test]
    fn a_broken_one_is_told_from_an_old_one() {
        let said = |token: &str, now| check(token, now).unwrap_err().to_string();
        assert!(said(TOKEN, BEFORE + 1).contains("expired at 2025-10-16T07:33:20"));
        assert!(said(&TOKEN[..TOKEN.len() - 5], BEFORE).contains("can not be read"));
        assert!(said("AAAAAAAAAAAAAAAAAAAAAAAA", BEFORE).contains("can not be read"));
        let good = check(TOKEN, BEFORE).unwrap().payload;
        let pair = KeyPair::from_seed([1; 32]);
        let resigned = |change: &dyn Fn(&mut InvitePayload)| {
            let mut payload = good.clone();
            change(&mut payload);
            payload.signature = signed_part(&payload).sign(&pair.secret).to_string();
            token(&payload)
        };
        assert!(said(&resigned(&|payload| payload.role = "king".into()), BEFORE).contains("missing"));
        assert!(said(&resigned(&|payload| payload.v = 2), BEFORE).contains("version 2"));
        let mut promoted = good.clone();
        promoted.role = "admin".into();
        assert!(said(&token(&promoted), BEFORE).contains("changed on the way"));
        promoted.expires_at = i64::MAX;
        assert!(said(&token(&promoted), BEFORE).contains("changed on the way"));
        assert!(check(&resigned(&|payload| payload.expires_at = i64::MAX), BEFORE).is_ok());
        assert!(said(&resigned(&|payload| payload.expires_at = i64::MIN), BEFORE).contains("expired"));
    }
}
