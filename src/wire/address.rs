//! Whom a person or a model means: what `send` takes before it is resolved to a [`Target`].

use std::fmt;

use crate::base::ids::PublicKey;
use crate::base::names::{is_display_name, is_slug_any_case};

use super::target::Target;

/// Fewest hex characters that are read as the beginning of a key rather than as a name.
const MIN_PREFIX: usize = 8;

/// What stands in `to`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// Complete as it is.
    Exact(Target),
    /// The first 8 to 63 hex characters of a key, lower-cased. It is a name if no key begins so.
    Prefix(String),
    /// A display name, optionally with the mesh it is on (`alice@home`).
    Name { name: String, mesh: Option<String> },
    /// `#name`: a topic by name.
    TopicName(String),
}

/// Text that no peer can have as an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid(pub String);

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "\"{}\" is not an address: use a name, name@mesh, a key, @group, #topic or *",
            crate::base::names::neutralise_line(&self.0)
        )
    }
}

impl std::error::Error for Invalid {}

impl Address {
    pub fn parse(text: &str) -> Result<Address, Invalid> {
        let text = text.trim();
        let invalid = || Invalid(text.chars().take(80).collect());
        if let Some(key) = PublicKey::parse_any_case(text) {
            return Ok(Address::Exact(Target::Key(key)));
        }
        if let Some(name) = text.strip_prefix('#') {
            let target = Target::parse(text).ok_or_else(invalid)?;
            return Ok(if 20 <= name.len() { Address::Exact(target) } else { Address::TopicName(name.to_owned()) });
        }
        if text == "*" || text.starts_with('@') {
            return Target::parse(text).map(Address::Exact).ok_or_else(invalid);
        }
        if (MIN_PREFIX..64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Ok(Address::Prefix(text.to_ascii_lowercase()));
        }
        if let Some((name, mesh)) = text.rsplit_once('@')
            && is_slug_any_case(mesh)
            && is_display_name(name)
        {
            return Ok(Address::Name { name: name.to_owned(), mesh: Some(mesh.to_owned()) });
        }
        if !is_display_name(text) {
            return Err(invalid());
        }
        Ok(Address::Name { name: text.to_owned(), mesh: None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_people_type() {
        let key = "8A88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c";
        let name = |name: &str, mesh: Option<&str>| Ok(Address::Name { name: name.into(), mesh: mesh.map(Into::into) });
        for (text, expected) in [
            (key, Ok(Address::Exact(Target::Key(PublicKey::parse_any_case(key).unwrap())))),
            ("8A88E3dd", Ok(Address::Prefix("8a88e3dd".into()))),
            ("8a88", name("8a88", None)),
            (" alice ", name("alice", None)),
            ("alice@home", name("alice", Some("home"))),
            ("Ann B.@acme", name("Ann B.", Some("acme"))),
            ("@eng", Ok(Address::Exact(Target::Group("eng".into())))),
            ("*", Ok(Address::Exact(Target::Everyone))),
            ("#deploys", Ok(Address::TopicName("deploys".into()))),
            ("#abcdefghij0123456789x", Ok(Address::Exact(Target::Topic("abcdefghij0123456789x".into())))),
        ] {
            assert_eq!(Address::parse(text), expected, "{text}");
        }
        for bad in ["", " ", "@", "@o'neil", "#", "a\nb", "-x"] {
            assert!(Address::parse(bad).is_err(), "{bad}");
        }
    }
}
