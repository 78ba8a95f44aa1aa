//! JSON of somebody else's file, its keys in the order in which they stand: so that a change to one of them is a change to
//! nothing else.

use std::fmt;

use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::ser::{SerializeMap, SerializeSeq};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

/// A value; only objects differ from [`Value`].
#[derive(Debug, Clone, PartialEq)]
pub enum Tree {
    /// Whatever has no keys.
    Leaf(Value),
    Array(Vec<Tree>),
    Object(Vec<(String, Tree)>),
}

impl Tree {
    pub fn object() -> Tree {
        Tree::Object(Vec::new())
    }

    /// The same as a [`Value`], its order lost.
    pub fn value(&self) -> Value {
        serde_json::to_value(self).unwrap_or_default()
    }

    pub fn get(&self, key: &str) -> Option<&Tree> {
        let Tree::Object(entries) = self else { return None };
        entries.iter().find(|(name, _)| name == key).map(|(_, value)| value)
    }

    /// The value of a key, an empty object or whatever `or` makes if it was not there. `None` where this is no object.
    pub fn entry(&mut self, key: &str, or: impl FnOnce() -> Tree) -> Option<&mut Tree> {
        let Tree::Object(entries) = self else { return None };
        let at = entries.iter().position(|(name, _)| name == key).unwrap_or_else(|| {
            entries.push((key.to_owned(), or()));
            entries.len() - 1
        });
        entries.get_mut(at).map(|(_, value)| value)
    }

    pub fn get_mut(&mut self, key: &str) -> Option<&mut Tree> {
        let Tree::Object(entries) = self else { return None };
        entries.iter_mut().find(|(name, _)| name == key).map(|(_, value)| value)
    }

    /// Takes a key out; whether it was there.
    pub fn remove(&mut self, key: &str) -> bool {
        let Tree::Object(entries) = self else { return false };
        let before = entries.len();
        entries.retain(|(name, _)| name != key);
        entries.len() < before
    }

    pub fn is_empty(&self) -> bool {
        match self {
            Tree::Leaf(_) => false,
            Tree::Array(items) => items.is_empty(),
            Tree::Object(entries) => entries.is_empty(),
        }
    }
}

impl From<Value> for Tree {
    fn from(value: Value) -> Tree {
        match value {
            Value::Array(items) => Tree::Array(items.into_iter().map(Tree::from).collect()),
            Value::Object(entries) => Tree::Object(entries.into_iter().map(|(key, value)| (key, Tree::from(value))).collect()),
            leaf => Tree::Leaf(leaf),
        }
    }
}

impl Serialize for Tree {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Tree::Leaf(value) => value.serialize(serializer),
            Tree::Array(items) => {
                let mut seq = serializer.serialize_seq(Some(items.len()))?;
                items.iter().try_for_each(|item| seq.serialize_element(item))?;
                seq.end()
            }
            Tree::Object(entries) => {
                let mut map = serializer.serialize_map(Some(entries.len()))?;
                entries.iter().try_for_each(|(key, value)| map.serialize_entry(key, value))?;
                map.end()
            }
        }
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Tree, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::Leaf(Value::Null))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Tree, E> {
        Ok(Tree::Leaf(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Tree, E> {
        Ok(Tree::Leaf(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Tree, E> {
        Ok(Tree::Leaf(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Tree, E> {
        Ok(Tree::Leaf(value.into()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Tree, E> {
        Ok(Tree::Leaf(value.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Tree, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Tree::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tree, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Tree::Object(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::json::{decode, encode};

    #[test]
    fn keys_stay_where_they_are() {
        let text = r#"{"z":1,"a":{"y":[{"q":-2,"b":null},"é\n"],"x":1.5},"m":true,"big":18446744073709551615}"#;
        let mut tree: Tree = decode(text.as_bytes()).unwrap();
        assert_eq!(encode(&tree), text);
        *tree.entry("m", Tree::object).unwrap() = Tree::Leaf("new".into());
        tree.entry("n", Tree::object).unwrap();
        assert!(tree.remove("z") && !tree.remove("z") && tree.get("n").unwrap().is_empty());
        assert_eq!(encode(&tree), r#"{"a":{"y":[{"q":-2,"b":null},"é\n"],"x":1.5},"m":"new","big":18446744073709551615,"n":{}}"#);
        assert!(Tree::Leaf(Value::Null).entry("a", Tree::object).is_none());
        assert_eq!(Tree::from(tree.value()).value(), tree.value());
    }
}
