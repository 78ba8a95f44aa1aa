//! Keys of scripts: who issued them, what they are for, and which are in force.

use rusqlite::{Row as SqlRow, params};

use super::audit::{self, Actor, Entry, Event};
use super::members::{MEMBER, read_member};
use super::{Author, Member};
use crate::base::ids::{MemberId, MeshId};
use crate::base::time::Millis;
use crate::store::Error;
use crate::store::db::Db;
use crate::wire::apikey::KeyCapability;
use crate::wire::json::{self, json};

/// Keys in force that one member may have. As many that are over are kept beside them, the latest.
const MAX_PER_MEMBER: i64 = 100;

/// Keys listed at once.
const LISTED: i64 = 1_000;

/// A key, without its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKeyRow {
    pub id: String,
    pub mesh: MeshId,
    /// Who issued it: in this member's name it is used.
    pub member: MemberId,
    pub label: String,
    pub prefix: String,
    pub capabilities: Vec<KeyCapability>,
    pub topic_scopes: Option<Vec<String>>,
    pub created_at: Millis,
    pub last_used_at: Option<Millis>,
    pub revoked_at: Option<Millis>,
    pub expires_at: Option<Millis>,
}

impl ApiKeyRow {
    pub fn is_in_force(&self, now: Millis) -> bool {
        self.revoked_at.is_none() && self.expires_at.is_none_or(|at| now < at)
    }
}

/// What became of a key that was to be revoked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyRevoked {
    /// With its id.
    Done(String),
    NotFound,
    /// So many keys begin like this.
    Ambiguous(usize),
}

/// False if the member has as many as it may.
pub(super) fn add(db: &Db<'_>, row: ApiKeyRow, hash: String) -> Result<bool, Error> {
    db.check_room()?;
    let in_force = "SELECT count(*) FROM api_key WHERE mesh_id = ?1 AND member_id = ?2 AND revoked_at IS NULL
                      AND (expires_at IS NULL OR expires_at > ?3)";
    let member = params![row.mesh.as_str(), row.member.as_str(), row.created_at];
    if MAX_PER_MEMBER <= db.first(in_force, member, |row| row.get::<_, i64>(0))?.unwrap_or(0) {
        return Ok(false);
    }
    db.execute(
        "DELETE FROM api_key WHERE n IN (
           SELECT n FROM api_key WHERE mesh_id = ?1 AND member_id = ?2 AND (revoked_at IS NOT NULL OR expires_at <= ?3)
            ORDER BY n DESC LIMIT -1 OFFSET ?4)",
        params![row.mesh.as_str(), row.member.as_str(), row.created_at, MAX_PER_MEMBER],
    )?;
    db.execute(
        "INSERT INTO api_key (id, mesh_id, member_id, label, prefix, hash, capabilities, topic_scopes, created_at, expires_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        params![
            row.id,
            row.mesh.as_str(),
            row.member.as_str(),
            row.label,
            row.prefix,
            hash,
            json::encode(&row.capabilities),
            row.topic_scopes.as_ref().map(json::encode),
            row.created_at,
            row.expires_at
        ],
    )?;
    let payload = json!({
        "keyId": row.id, "prefix": row.prefix, "capabilities": row.capabilities, "topicScopes": row.topic_scopes,
    });
    let actor = Actor::Member(row.member);
    audit::append(db, vec![Entry { mesh: row.mesh, event: Event::ApiKeyCreated, actor, payload, now: row.created_at }])?;
    Ok(true)
}

const KEY: &str = "SELECT id, mesh_id, member_id, label, prefix, capabilities, topic_scopes, created_at, last_used_at,
       revoked_at, expires_at FROM api_key";

fn read(row: &SqlRow<'_>) -> rusqlite::Result<ApiKeyRow> {
    // What a newer program wrote and this one can not read allows nothing.
    let scopes = row.get::<_, Option<String>>(6)?;
    Ok(ApiKeyRow {
        id: row.get(0)?,
        mesh: MeshId::new(row.get::<_, String>(1)?),
        member: MemberId::new(row.get::<_, String>(2)?),
        label: row.get(3)?,
        prefix: row.get(4)?,
        capabilities: json::decode(row.get_ref(5)?.as_str()?.as_bytes()).unwrap_or_default(),
        topic_scopes: scopes.map(|text| json::decode(text.as_bytes()).unwrap_or_default()),
        created_at: row.get(7)?,
        last_used_at: row.get(8)?,
        revoked_at: row.get(9)?,
        expires_at: row.get(10)?,
    })
}

/// The keys of a mesh, or of one of its members, the latest first.
pub(super) fn list(db: &Db<'_>, mesh: MeshId, member: Option<MemberId>) -> Result<Vec<ApiKeyRow>, Error> {
    let sql = format!("{KEY} WHERE mesh_id = ?1 AND (?2 IS NULL OR member_id = ?2) ORDER BY n DESC LIMIT ?3");
    db.all(&sql, params![mesh.as_str(), member.as_ref().map(MemberId::as_str), LISTED], read)
}

/// Ends one of the asker's keys, or for an admin anybody's. To revoke what is revoked changes nothing.
pub(super) fn revoke(db: &Db<'_>, mesh: MeshId, id: String, by: Author, now: Millis) -> Result<KeyRevoked, Error> {
    let sql = format!(
        "{KEY} WHERE mesh_id = ?1 AND (?2 IS NULL OR member_id = ?2)
            AND (substr(id, 1, length(?3)) = ?3 OR substr(prefix, 1, length(?3)) = ?3) ORDER BY n"
    );
    let member = (!by.admin).then(|| by.member.as_str().to_owned());
    let mut found = db.all(&sql, params![mesh.as_str(), member, id], read)?;
    if found.iter().any(|key| key.id == id) {
        found.retain(|key| key.id == id);
    } else if found.iter().any(|key| key.revoked_at.is_none()) {
        found.retain(|key| key.revoked_at.is_none());
    }
    let key = match found.as_slice() {
        [] => return Ok(KeyRevoked::NotFound),
        [key] => key,
        many => return Ok(KeyRevoked::Ambiguous(many.len())),
    };
    let changed = db.execute("UPDATE api_key SET revoked_at = ?2 WHERE id = ?1 AND revoked_at IS NULL", params![key.id, now])?;
    if 0 < changed {
        let payload = json!({"keyId": key.id, "prefix": key.prefix});
        let actor = Actor::Member(by.member);
        audit::append(db, vec![Entry { mesh, event: Event::ApiKeyRevoked, actor, payload, now }])?;
    }
    Ok(KeyRevoked::Done(key.id.clone()))
}

/// Ends all keys of a member.
pub(super) fn revoke_all(db: &Db<'_>, mesh: &MeshId, member_key: &str, now: Millis) -> Result<(), Error> {
    db.execute(
        "UPDATE api_key SET revoked_at = ?3 WHERE mesh_id = ?1 AND revoked_at IS NULL
            AND member_id = (SELECT id FROM member WHERE mesh_id = ?1 AND pubkey = ?2)",
        params![mesh.as_str(), member_key, now],
    )?;
    Ok(())
}

/// The key with this hash that is in force, in a mesh that stands, and its issuer, who is not shut out.
pub(super) fn in_force(db: &Db<'_>, hash: String, now: Millis) -> Result<Option<(ApiKeyRow, Member)>, Error> {
    let Some(key) = db.first(&format!("{KEY} WHERE hash = ?1"), [hash], read)?.filter(|key| key.is_in_force(now)) else {
        return Ok(None);
    };
    let standing = "SELECT 1 FROM mesh WHERE id = ?1 AND archived_at IS NULL";
    if db.first(standing, [key.mesh.as_str()], |_| Ok(()))?.is_none() {
        return Ok(None);
    }
    let member =
        db.first(&format!("{MEMBER} WHERE id = ?1 AND mesh_id = ?2"), [key.member.as_str(), key.mesh.as_str()], read_member)?;
    Ok(member.filter(|member| !member.revoked).map(|member| (key, member)))
}

pub(super) fn used(db: &Db<'_>, id: String, now: Millis) -> Result<(), Error> {
    db.execute("UPDATE api_key SET last_used_at = max(coalesce(last_used_at, 0), ?2) WHERE id = ?1", params![id, now])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::{Hub, NewMember, NewMesh, Removed, Role};
    use super::*;
    use crate::base::ids::{MemberKey, PublicKey, Slug};
    use tempfile::{TempDir, tempdir};

    fn mesh() -> MeshId {
        MeshId::new("mesh")
    }

    fn member(n: u8) -> NewMember {
        NewMember {
            id: MemberId::new(format!("m{n}")),
            mesh: mesh(),
            key: MemberKey(PublicKey::from_bytes([n; 32])),
            display_name: format!("m{n}"),
            role: if n == 1 { Role::Admin } else { Role::Member },
            now: 0,
        }
    }

    fn hub(dir: &TempDir) -> Hub {
        let hub = Hub::open(&dir.path().join("hub.db")).unwrap().0;
        let new = NewMesh { id: mesh(), slug: Slug::new("m"), name: "m".into(), owner: member(1).key, now: 0 };
        hub.create_mesh(new, member(1)).unwrap();
        hub.add_member(member(2)).unwrap();
        hub
    }

    fn row(id: &str, n: u8) -> ApiKeyRow {
        ApiKeyRow {
            id: id.to_owned(),
            mesh: mesh(),
            member: member(n).id,
            label: "ci".into(),
            prefix: format!("cm_{id}"),
            capabilities: vec![KeyCapability::Read],
            topic_scopes: Some(vec!["deploys".into()]),
            created_at: 10,
            last_used_at: None,
            revoked_at: None,
            expires_at: None,
        }
    }

    fn author(n: u8) -> Author {
        Author { member: member(n).id, name: String::new(), admin: n == 1 }
    }

    #[test]
    fn a_key_is_in_force_until_it_expires_is_revoked_or_its_issuer_is_shut_out() {
        let dir = tempdir().unwrap();
        let hub = hub(&dir);
        let is = |hash: &str, now| hub.api_key(hash.to_owned(), now).unwrap().is_some();
        hub.add_api_key(ApiKeyRow { expires_at: Some(20), ..row("short", 2) }, "h1".into()).unwrap();
        assert!(is("h1", 19) && !is("h1", 20) && !is("", 0));
        hub.add_api_key(row("long", 2), "h2".into()).unwrap();
        let (key, issuer) = hub.api_key("h2".into(), 11).unwrap().unwrap();
        assert_eq!((key, issuer.id), (row("long", 2), member(2).id));
        assert_eq!(hub.revoke_api_key(mesh(), "long".into(), author(2), 12).unwrap(), KeyRevoked::Done("long".into()));
        assert!(!is("h2", 11));

        hub.add_api_key(row("third", 2), "h3".into()).unwrap();
        hub.revoke(mesh(), member(2).key, Removed::Left, 13).unwrap();
        assert!(!is("h3", 13));
        hub.unrevoke(mesh(), member(2).key, Actor::Nobody, 14).unwrap();
        assert!(!is("h3", 14), "what a ban ended does not come back with its member");

        hub.add_api_key(row("fourth", 1), "h4".into()).unwrap();
        hub.use_api_key("fourth".into(), 15).unwrap();
        assert_eq!(hub.api_key("h4".into(), 16).unwrap().unwrap().0.last_used_at, Some(15));
        hub.archive_mesh(mesh(), 17).unwrap();
        assert!(!is("h4", 17) && hub.api_keys(mesh(), None).unwrap().is_empty());
    }

    #[test]
    fn keys_are_named_by_their_beginning_and_are_their_issuers_or_an_admins() {
        let dir = tempdir().unwrap();
        let hub = hub(&dir);
        for (id, n) in [("ab1", 1), ("ab2", 2), ("ac3", 2)] {
            hub.add_api_key(row(id, n), format!("h-{id}")).unwrap();
        }
        let revoke = |id: &str, n| hub.revoke_api_key(mesh(), id.to_owned(), author(n), 20).unwrap();
        assert_eq!(
            (revoke("ab1", 2), revoke("nothing", 1), revoke("a", 2)),
            (KeyRevoked::NotFound, KeyRevoked::NotFound, KeyRevoked::Ambiguous(2))
        );
        assert_eq!((revoke("ab", 1), revoke("cm_ac", 1)), (KeyRevoked::Ambiguous(2), KeyRevoked::Done("ac3".into())));
        assert_eq!((revoke("a", 2), revoke("ab2", 2)), (KeyRevoked::Done("ab2".into()), KeyRevoked::Done("ab2".into())));
        let listed = |member| hub.api_keys(mesh(), member).unwrap().into_iter().map(|key| key.id).collect::<Vec<_>>();
        assert_eq!(
            (listed(None), listed(Some(member(2).id))),
            (vec!["ac3".to_owned(), "ab2".into(), "ab1".into()], vec!["ac3".to_owned(), "ab2".into()])
        );
    }

    #[test]
    fn a_member_has_so_many_in_force_and_so_many_that_are_over() {
        let dir = tempdir().unwrap();
        let hub = hub(&dir);
        let add =
            |n: i64, expires_at| hub.add_api_key(ApiKeyRow { expires_at, ..row(&format!("k{n}"), 2) }, format!("h{n}")).unwrap();
        assert!((0..MAX_PER_MEMBER + 5).all(|n| add(n, Some(10))));
        assert!((0..MAX_PER_MEMBER).all(|n| add(1000 + n, Some(11))) && !add(2000, None));
        assert_eq!(hub.api_keys(mesh(), None).unwrap().len(), 200);
    }
}
