//! Keys of a broker's row that this program does not read and passes on: a newer broker's, and the reference's.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

/// Unread keys that are kept of one row. A frame bounds their bytes, this their number.
const MAX_KEYS: usize = 32;

/// Keys that are the envelope's or this program's own: a row that brings them does not decide what they say.
const RESERVED: [&str; 3] = ["mesh", "type", "_reqId"];

/// What else a row holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Rest(Map<String, Value>);

impl Rest {
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.0.get(key)
    }
}

impl<'de> Deserialize<'de> for Rest {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Rest, D::Error> {
        let keys = Map::deserialize(from)?.into_iter().filter(|(key, _)| !RESERVED.contains(&key.as_str()));
        Ok(Rest(keys.take(MAX_KEYS).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::ipc::OnMesh;
    use crate::wire::json;
    use crate::wire::memory::Memory;

    #[test]
    fn what_is_not_known_goes_on_and_names_no_mesh() {
        let row = json::json!({"id": "m", "content": "c", "mesh": "theirs", "score": 0.5, "of": {"a": [1]}});
        let row: Memory = json::from_value(row).unwrap();
        let shown = json::value(&OnMesh { row, mesh: crate::base::ids::Slug::new("ours") });
        assert_eq!((&shown["mesh"], &shown["score"], &shown["of"]), (&"ours".into(), &0.5.into(), &json::json!({"a": [1]})));
        let again: OnMesh<Memory> = json::from_value(shown.clone()).unwrap();
        assert_eq!(json::value(&again), shown);
    }

    #[test]
    fn a_row_has_only_so_many_keys() {
        let keys: Map<String, Value> = (0..1000).map(|n| (format!("k{n}"), n.into())).collect();
        assert_eq!(json::from_value::<Rest>(Value::Object(keys)).unwrap().0.len(), MAX_KEYS);
    }
}
