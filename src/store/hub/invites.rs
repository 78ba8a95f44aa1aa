//! Invites, and what becomes of the meshes that they are for.

use rusqlite::types::Type;
use rusqlite::{Row as SqlRow, params};

use super::audit::{self, Actor, Entry, Event};
use super::members;
use super::{Member, NewMember, Role};
use crate::base::ids::{MemberId, MeshId, Slug};
use crate::base::time::Millis;
use crate::store::Error;
use crate::store::db::Db;
use crate::wire::json::json;

/// Invites of one mesh that are kept. One more takes the place of the oldest that is of no use any more, or is refused.
const MAX_INVITES: i64 = 1000;

/// An invite to keep.
#[derive(Debug, Clone)]
pub struct NewInvite {
    pub id: String,
    pub mesh: MeshId,
    pub code: String,
    pub token: String,
    pub role: Role,
    pub by: MemberId,
    pub now: Millis,
    pub expires_at: Millis,
    pub uses: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invite {
    pub id: String,
    pub mesh: MeshId,
    pub code: String,
    pub token: String,
    pub role: Role,
    pub by: MemberId,
    pub created_at: Millis,
    pub expires_at: Millis,
    pub uses: u32,
    pub used: u32,
    pub revoked: bool,
}

/// Whether an invite still lets somebody in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    Open,
    Revoked,
    Expired,
    UsedUp,
}

impl Invite {
    pub fn standing(&self, now: Millis) -> Standing {
        if self.revoked {
            Standing::Revoked
        } else if self.expires_at < now {
            Standing::Expired
        } else if self.uses <= self.used {
            Standing::UsedUp
        } else {
            Standing::Open
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AddedInvite {
    Kept(Invite),
    /// Another has this token: two that were made alike within one second.
    Taken,
    /// The mesh has as many open ones as it may.
    Full,
}

/// Somebody who wants in.
#[derive(Debug, Clone)]
pub struct Redeem {
    pub token: String,
    /// Its role is the invite's, whatever this says.
    pub member: NewMember,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Redeemed {
    Joined(Member),
    /// The key is a member's that stands.
    Already(Member),
    NotFound,
    /// It is for another mesh.
    OtherMesh,
    Revoked,
    Expired,
    UsedUp,
    /// The key is a member's that was shut out.
    ShutOut,
}

const INVITE: &str =
    "SELECT id, mesh_id, code, token, role, created_by, created_at, expires_at, uses, used, revoked_at IS NOT NULL FROM invite";

fn read(row: &SqlRow<'_>) -> rusqlite::Result<Invite> {
    let role = row.get_ref(4)?.as_str()?;
    Ok(Invite {
        id: row.get(0)?,
        mesh: MeshId::new(row.get::<_, String>(1)?),
        code: row.get(2)?,
        token: row.get(3)?,
        role: Role::parse(role).ok_or_else(|| rusqlite::Error::InvalidColumnType(4, role.to_owned(), Type::Text))?,
        by: MemberId::new(row.get::<_, String>(5)?),
        created_at: row.get(6)?,
        expires_at: row.get(7)?,
        uses: row.get(8)?,
        used: row.get(9)?,
        revoked: row.get(10)?,
    })
}

pub(super) fn find(db: &Db<'_>, id: String) -> Result<Option<Invite>, Error> {
    db.first(&format!("{INVITE} WHERE id = ?1"), [id], read)
}

pub(super) fn by_code(db: &Db<'_>, code: String) -> Result<Option<Invite>, Error> {
    db.first(&format!("{INVITE} WHERE code = ?1"), [code], read)
}

fn by_token(db: &Db<'_>, token: &str) -> Result<Option<Invite>, Error> {
    db.first(&format!("{INVITE} WHERE token = ?1"), [token], read)
}

pub(super) fn list(db: &Db<'_>, mesh: MeshId) -> Result<Vec<Invite>, Error> {
    db.all(&format!("{INVITE} WHERE mesh_id = ?1 ORDER BY created_at DESC, id"), [mesh.as_str()], read)
}

pub(super) fn add(db: &Db<'_>, new: NewInvite) -> Result<AddedInvite, Error> {
    if by_token(db, &new.token)?.is_some() {
        return Ok(AddedInvite::Taken);
    }
    let count = "SELECT count(*) FROM invite WHERE mesh_id = ?1";
    let kept: i64 = db.first(count, [new.mesh.as_str()], |row| row.get(0))?.unwrap_or(0);
    if MAX_INVITES <= kept {
        let freed = db.execute(
            "DELETE FROM invite WHERE id = (SELECT id FROM invite WHERE mesh_id = ?1
                AND (revoked_at IS NOT NULL OR expires_at < ?2 OR uses <= used) ORDER BY created_at LIMIT 1)",
            params![new.mesh.as_str(), new.now],
        )?;
        if freed == 0 {
            return Ok(AddedInvite::Full);
        }
    }
    db.execute(
        "INSERT INTO invite (id, mesh_id, code, token, role, created_by, created_at, expires_at, uses)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        params![
            new.id,
            new.mesh.as_str(),
            new.code,
            new.token,
            new.role.as_str(),
            new.by.as_str(),
            new.now,
            new.expires_at,
            new.uses
        ],
    )?;
    let payload = json!({"inviteId": new.id, "role": new.role.as_str(), "uses": new.uses, "expiresAt": new.expires_at});
    let entry = Entry { mesh: new.mesh, event: Event::InviteCreated, actor: Actor::Member(new.by), payload, now: new.now };
    audit::append(db, vec![entry])?;
    let kept = by_token(db, &new.token)?;
    kept.map(AddedInvite::Kept).ok_or_else(|| Error::Sql("an invite that was just kept is not there".to_owned()))
}

pub(super) fn revoke(db: &Db<'_>, id: String, by: Actor, now: Millis) -> Result<bool, Error> {
    let changed = db.execute("UPDATE invite SET revoked_at = ?2 WHERE id = ?1 AND revoked_at IS NULL", params![id, now])?;
    if changed == 0 {
        return Ok(false);
    }
    let mesh = db.first("SELECT mesh_id FROM invite WHERE id = ?1", [&id], |row| Ok(MeshId::new(row.get::<_, String>(0)?)))?;
    let payload = json!({"inviteId": id});
    let entry = |mesh| Entry { mesh, event: Event::InviteRevoked, actor: by, payload, now };
    audit::append(db, mesh.map(entry).into_iter().collect())?;
    Ok(true)
}

/// Notes who came by which invite. The link itself is not written down.
fn joined(db: &Db<'_>, invite: &Invite, member: Member, now: Millis) -> Result<Redeemed, Error> {
    let payload = json!({"inviteId": invite.id, "pubkey": member.key, "role": member.role.as_str()});
    let (mesh, actor) = (invite.mesh.clone(), Actor::Member(member.id.clone()));
    audit::append(db, vec![Entry { mesh, event: Event::MemberJoined, actor, payload, now }])?;
    Ok(Redeemed::Joined(member))
}

pub(super) fn redeem(db: &Db<'_>, redeem: Redeem) -> Result<Redeemed, Error> {
    let Redeem { token, member } = redeem;
    let Some(invite) = by_token(db, &token)? else { return Ok(Redeemed::NotFound) };
    if invite.mesh != member.mesh {
        return Ok(Redeemed::OtherMesh);
    }
    let standing = invite.standing(member.now);
    match standing {
        Standing::Revoked => return Ok(Redeemed::Revoked),
        Standing::Expired => return Ok(Redeemed::Expired),
        Standing::UsedUp | Standing::Open => {}
    }
    if let Some(old) = members::member(db, member.mesh.clone(), member.key)? {
        if !old.revoked {
            return Ok(Redeemed::Already(old));
        }
        if !members::has_left(db, &old)? {
            return Ok(Redeemed::ShutOut);
        }
        if standing == Standing::UsedUp {
            return Ok(Redeemed::UsedUp);
        }
        let member = NewMember { role: invite.role, ..member };
        members::readmit(db, &old, &member)?;
        db.execute("UPDATE invite SET used = used + 1 WHERE id = ?1", [&invite.id])?;
        let back = Member { revoked: false, role: member.role, display_name: member.display_name, ..old };
        return joined(db, &invite, back, member.now);
    }
    if standing == Standing::UsedUp {
        return Ok(Redeemed::UsedUp);
    }
    db.execute("UPDATE invite SET used = used + 1 WHERE id = ?1", [&invite.id])?;
    let now = member.now;
    let member = members::add_member(db, NewMember { role: invite.role, ..member })?;
    joined(db, &invite, member, now)
}

pub(super) fn rename_mesh(db: &Db<'_>, mesh: MeshId, slug: Slug, name: String) -> Result<bool, Error> {
    let sql = "UPDATE mesh SET slug = ?2, name = ?3 WHERE id = ?1 AND archived_at IS NULL";
    Ok(0 < db.execute(sql, params![mesh.as_str(), slug.as_str(), name])?)
}

pub(super) fn archive_mesh(db: &Db<'_>, mesh: MeshId, now: Millis) -> Result<bool, Error> {
    let id = mesh.as_str();
    let closed = db.execute("UPDATE mesh SET archived_at = ?2 WHERE id = ?1 AND archived_at IS NULL", params![id, now])?;
    if closed == 0 {
        return Ok(false);
    }
    // Its messages go with the next sweep, in steps; what is small goes now.
    db.execute("UPDATE message SET expires_at = min(expires_at, ?2) WHERE mesh_id = ?1", params![id, now])?;
    for table in ["topic_message", "topic_member"] {
        db.execute(&format!("DELETE FROM {table} WHERE topic_id IN (SELECT id FROM topic WHERE mesh_id = ?1)"), [id])?;
    }
    for table in [
        "topic",
        "invite",
        "state",
        "memory",
        "skill",
        "peer_grant",
        "kick",
        "scheduled",
        "task",
        "scope_epoch",
        "sealed_key",
        "receipt",
        "api_key",
    ] {
        db.execute(&format!("DELETE FROM {table} WHERE mesh_id = ?1"), [id])?;
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::super::{Actor, Hub, NewMesh, Removed};
    use super::*;
    use crate::base::ids::{MemberKey, PublicKey};
    use tempfile::{TempDir, tempdir};

    fn member(mesh: &str, n: u8, now: Millis) -> NewMember {
        NewMember {
            id: MemberId::new(format!("{mesh}-{n}")),
            mesh: MeshId::new(mesh),
            key: MemberKey(PublicKey::from_bytes([n; 32])),
            display_name: format!("m{n}"),
            role: Role::Member,
            now,
        }
    }

    fn hub(dir: &TempDir) -> Hub {
        let hub = Hub::open(&dir.path().join("hub.db")).unwrap().0;
        for mesh in ["a", "b"] {
            let owner = NewMember { role: Role::Admin, ..member(mesh, 1, 0) };
            let new = NewMesh { id: owner.mesh.clone(), slug: Slug::new(mesh), name: mesh.into(), owner: owner.key, now: 0 };
            hub.create_mesh(new, owner).unwrap();
        }
        hub
    }

    fn invite(token: &str, uses: u32) -> NewInvite {
        NewInvite {
            id: format!("id-{token}"),
            mesh: MeshId::new("a"),
            code: format!("code-{token}"),
            token: token.into(),
            role: Role::Admin,
            by: MemberId::new("a-1"),
            now: 0,
            expires_at: 1000,
            uses,
        }
    }

    #[test]
    fn an_invite_lets_in_as_many_as_it_says_with_its_own_role() {
        let dir = tempdir().unwrap();
        let hub = hub(&dir);
        hub.add_invite(invite("t", 2)).unwrap();
        let redeem = |mesh: &str, n, now| hub.redeem(Redeem { token: "t".into(), member: member(mesh, n, now) }).unwrap();
        assert!(matches!(redeem("a", 2, 1), Redeemed::Joined(member) if member.role == Role::Admin));
        assert!(matches!(redeem("a", 2, 1), Redeemed::Already(_)), "a retry uses nothing up");
        assert_eq!(redeem("b", 3, 1), Redeemed::OtherMesh);
        assert!(matches!(redeem("a", 3, 1000), Redeemed::Joined(_)));
        assert_eq!(redeem("a", 4, 1), Redeemed::UsedUp);
        assert!(matches!(redeem("a", 3, 1), Redeemed::Already(_)));
        assert_eq!(redeem("a", 3, 1001), Redeemed::Expired);
        assert!(hub.revoke(MeshId::new("a"), member("a", 3, 0).key, Removed::Banned(Actor::Nobody), 5).unwrap());
        assert_eq!(redeem("a", 3, 1), Redeemed::ShutOut);
        assert!(hub.revoke(MeshId::new("a"), member("a", 2, 0).key, Removed::Left, 5).unwrap());
        assert_eq!(redeem("a", 2, 1), Redeemed::UsedUp, "who left needs an invite like everybody");
        hub.add_invite(invite("v", 1)).unwrap();
        let back = hub.redeem(Redeem { token: "v".into(), member: NewMember { id: MemberId::new("x"), ..member("a", 2, 6) } });
        assert!(matches!(back, Ok(Redeemed::Joined(member)) if member.id.as_str() == "a-2" && !member.revoked));
        assert!(!hub.member(MeshId::new("a"), member("a", 2, 0).key).unwrap().unwrap().revoked);
        assert_eq!(hub.invite("id-v".into()).unwrap().unwrap().used, 1);
        assert_eq!(hub.redeem(Redeem { token: "u".into(), member: member("a", 5, 1) }).unwrap(), Redeemed::NotFound);
        assert_eq!(hub.invite("id-t".into()).unwrap().unwrap().used, 2);
        // Who invited, who came by it, and who took it back is written down.
        assert!(hub.revoke_invite("id-v".into(), Actor::Key(member("a", 1, 0).key), 9).unwrap());
        let log = super::super::Admin::open(&dir.path().join("hub.db")).unwrap().audit_events(&MeshId::new("a")).unwrap();
        let by = |event: &str| log.iter().filter(|(name, _)| name == event).filter_map(|(_, by)| by.clone()).collect::<Vec<_>>();
        assert_eq!((by("invite_created").len(), by("invite_revoked")), (2, vec!["a-1".to_owned()]), "{log:?}");
        assert_eq!(by("member_joined"), ["a-2", "a-3", "a-2"], "{log:?}");
    }

    #[test]
    fn a_revoked_one_and_those_of_a_closed_mesh_let_nobody_in() {
        let dir = tempdir().unwrap();
        let hub = hub(&dir);
        hub.add_invite(invite("t", 9)).unwrap();
        hub.add_invite(invite("u", 9)).unwrap();
        let again = hub.add_invite(NewInvite { id: "other".into(), code: "other".into(), ..invite("t", 1) }).unwrap();
        assert_eq!(again, AddedInvite::Taken);
        assert!(
            hub.revoke_invite("id-t".into(), Actor::Nobody, 1).unwrap()
                && !hub.revoke_invite("id-t".into(), Actor::Nobody, 2).unwrap()
        );
        assert_eq!(hub.redeem(Redeem { token: "t".into(), member: member("a", 2, 1) }).unwrap(), Redeemed::Revoked);
        assert_eq!(hub.invite_by_code("code-t".into()).unwrap().unwrap().standing(1), Standing::Revoked);
        assert!(hub.rename_mesh(MeshId::new("a"), Slug::new("z"), "Z".into()).unwrap());
        assert_eq!(hub.mesh(MeshId::new("a")).unwrap().unwrap().slug, Slug::new("z"));
        assert!(hub.archive_mesh(MeshId::new("a"), 2).unwrap() && !hub.archive_mesh(MeshId::new("a"), 3).unwrap());
        assert_eq!(hub.redeem(Redeem { token: "u".into(), member: member("a", 2, 1) }).unwrap(), Redeemed::NotFound);
        assert!(!hub.rename_mesh(MeshId::new("a"), Slug::new("y"), "Y".into()).unwrap());
        assert!(hub.invites(MeshId::new("a")).unwrap().is_empty());
    }

    #[test]
    fn one_too_many_takes_the_place_of_one_that_is_spent() {
        let dir = tempdir().unwrap();
        let hub = hub(&dir);
        for n in 0..MAX_INVITES {
            assert!(matches!(hub.add_invite(invite(&n.to_string(), 1)).unwrap(), AddedInvite::Kept(_)));
        }
        assert_eq!(hub.add_invite(invite("more", 1)).unwrap(), AddedInvite::Full);
        hub.revoke_invite("id-7".into(), Actor::Nobody, 1).unwrap();
        assert!(matches!(hub.add_invite(invite("more", 1)).unwrap(), AddedInvite::Kept(_)));
        assert!(hub.invite("id-7".into()).unwrap().is_none());
    }
}
