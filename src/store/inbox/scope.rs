//! What a caller may see, as SQL.

use rusqlite::ToSql;
use rusqlite::types::Value;

use super::Scope;

/// A statement's named values.
#[derive(Default)]
pub(super) struct Values(Vec<(&'static str, Value)>);

impl Values {
    pub(super) fn set(&mut self, name: &'static str, value: impl Into<Value>) {
        self.0.push((name, value.into()));
    }

    pub(super) fn bind(&self) -> Vec<(&str, &dyn ToSql)> {
        self.0.iter().map(|(name, value)| (*name, value as &dyn ToSql)).collect()
    }
}

/// The scope as conditions, one for each kind of recipient it covers: a query over each alone can use an index. `values`
/// receives what they name.
pub(super) fn legs(scope: &Scope, values: &mut Values) -> Vec<&'static str> {
    let Scope::Session { mesh, session, member } = scope else { return vec!["1"] };
    values.set(":scope_mesh", mesh.to_string());
    values.set(":scope_member", member.to_string());
    let mut legs = vec!["mesh = :scope_mesh AND recipient_pubkey IS NULL"];
    legs.push(match session {
        None => "mesh = :scope_mesh AND recipient_pubkey = :scope_member",
        Some(_) => "mesh = :scope_mesh AND recipient_pubkey = :scope_member AND recipient_kind IS NOT 'keyless'",
    });
    // A session that goes by its member's own key has no row of its own to see twice.
    if let Some(session) = session.filter(|session| session.0 != member.0) {
        values.set(":scope_session", session.to_string());
        legs.push("mesh = :scope_mesh AND recipient_pubkey = :scope_session");
    }
    legs
}

/// The scope as one condition, for rows that are found by something else.
pub(super) fn condition(scope: &Scope, values: &mut Values) -> String {
    // The plus keeps SQLite from choosing an index by it.
    let legs = legs(scope, values).into_iter().map(|leg| leg.replace("mesh =", "+mesh =").replace("recip", "+recip"));
    format!("({})", legs.collect::<Vec<_>>().join(" OR "))
}
