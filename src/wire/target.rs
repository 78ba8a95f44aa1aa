//! Whom a message is for, as the broker reads it (`targetSpec`).

use std::fmt;

use crate::base::ids::PublicKey;
use crate::base::names::is_group_name;

/// A destination on the wire. There is no default: text that is none of these is refused.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Target {
    /// A session's key or a member's key: 64 lower-case hex characters.
    Key(PublicKey),
    /// `@name`: the sessions in a group.
    Group(String),
    /// `#id`: a topic, by its id.
    Topic(String),
    /// `*` or `@all`.
    Everyone,
}

impl Target {
    pub fn parse(text: &str) -> Option<Target> {
        if text == "*" || text == "@all" {
            return Some(Target::Everyone);
        }
        if let Some(name) = text.strip_prefix('@') {
            return is_group_name(name).then(|| Target::Group(name.to_owned()));
        }
        if let Some(id) = text.strip_prefix('#') {
            return is_group_name(id).then(|| Target::Topic(id.to_owned()));
        }
        PublicKey::parse(text).map(Target::Key)
    }

    /// Whether the body must be sealed to one key, so that plaintext is never accepted for it.
    pub fn is_direct(&self) -> bool {
        matches!(self, Target::Key(_))
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Key(key) => key.fmt(f),
            Target::Group(name) => write!(f, "@{name}"),
            Target::Topic(id) => write!(f, "#{id}"),
            Target::Everyone => f.write_str("*"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_prints_every_form_and_nothing_else() {
        let key = "8a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c";
        for text in [key, "@eng", "@eng/api", "#abcDEF123", "*"] {
            assert_eq!(Target::parse(text).map(|target| target.to_string()).as_deref(), Some(text));
        }
        assert_eq!(Target::parse("@all"), Some(Target::Everyone));
        for bad in ["", "@", "#", "@o'neil", "alice", "tag:x", "8a88", &key.to_uppercase(), "* ", "@ eng"] {
            assert_eq!(Target::parse(bad), None, "{bad}");
        }
    }
}
