//! Which keys members share, and each member's sealed copy.

use rusqlite::params;

use super::members::key;
use super::{Submission, sessions};
use crate::base::ids::{MemberId, MemberKey, MeshId, PublicKey};
use crate::store::db::Db;
use crate::store::{Error, limit_sql};
use crate::wire::key::{KeyCopy, Scope, Seal};

/// Keys of one scope that are kept, the latest: what was sealed with an older one can be opened only by those who have
/// opened something under it since they were started.
const MAX_EPOCHS: u32 = 256;

/// Names listed of those who can not open something.
const MAX_NAMED: i64 = 10_000;

/// How a body is sealed, and for whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealing {
    pub scope: Scope,
    pub seal: Seal,
    /// It was sealed when it was put down for later: the key need not be in use any more.
    pub earlier: bool,
}

/// What a member may know of a scope's keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRow {
    /// 0: there is none yet.
    pub epoch: u32,
    pub closed: bool,
    pub publisher: Option<MemberKey>,
    pub proof: Option<String>,
    /// Its own copy: the sealed key and the nonce.
    pub copy: Option<(String, String)>,
    /// Those who have no copy; all, where the one who asks has none itself or the key is closed.
    pub members: Vec<(MemberId, MemberKey)>,
}

/// The next key of a scope.
#[derive(Debug, Clone)]
pub struct NewKey {
    pub mesh: MeshId,
    pub scope: Scope,
    pub epoch: u32,
    pub publisher: MemberKey,
    pub proof: String,
    pub copies: Vec<KeyCopy>,
}

/// The key in use after somebody wanted to change something about it, and whether that was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyInUse {
    pub epoch: u32,
    pub accepted: bool,
    /// Who has a copy now and had none before.
    pub given: Vec<MemberKey>,
}

/// Why a body is not taken as it is sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WrongKey {
    /// Another is in use, or none.
    Closed,
    /// Somebody has no copy of it yet.
    Pending,
}

/// The latest key of a scope and its state.
fn latest(db: &Db<'_>, mesh: &MeshId, scope: &Scope) -> Result<Option<(u32, String)>, Error> {
    db.first(
        "SELECT epoch, state FROM scope_epoch WHERE mesh_id = ?1 AND scope = ?2 ORDER BY epoch DESC LIMIT 1",
        params![mesh.as_str(), scope.to_string()],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )
}

/// Whether something may be sealed like this now.
pub(super) fn check(db: &Db<'_>, mesh: &MeshId, sealing: &Sealing) -> Result<Option<WrongKey>, Error> {
    let latest = latest(db, mesh, &sealing.scope)?;
    Ok(match latest.as_ref().filter(|(epoch, _)| *epoch == sealing.seal.epoch).map(|(_, state)| state.as_str()) {
        Some("open") => None,
        Some("pending") => Some(WrongKey::Pending),
        _ => Some(WrongKey::Closed),
    })
}

/// Those who share the keys of a scope now.
fn sharers(db: &Db<'_>, mesh: &MeshId, scope: &Scope) -> Result<Vec<(MemberId, MemberKey)>, Error> {
    let read = |row: &rusqlite::Row<'_>| Ok((MemberId::new(row.get::<_, String>(0)?), MemberKey(key(row, 1)?)));
    match scope {
        Scope::Mesh => {
            db.all("SELECT id, pubkey FROM member WHERE mesh_id = ?1 AND revoked_at IS NULL ORDER BY id", [mesh.as_str()], read)
        }
        Scope::Topic(topic) => db.all(
            "SELECT member.id, pubkey FROM topic_member CROSS JOIN member ON member.id = topic_member.member_id
              WHERE topic_id = ?1 AND member.mesh_id = ?2 AND revoked_at IS NULL ORDER BY member.id",
            params![topic, mesh.as_str()],
            read,
        ),
    }
}

fn has_copy(db: &Db<'_>, mesh: &MeshId, scope: &Scope, epoch: u32, member: &MemberId) -> Result<bool, Error> {
    let sql = "SELECT 1 FROM sealed_key WHERE mesh_id = ?1 AND scope = ?2 AND epoch = ?3 AND member_id = ?4";
    let found = db.first(sql, params![mesh.as_str(), scope.to_string(), epoch, member.as_str()], |_| Ok(()))?;
    Ok(found.is_some())
}

fn without_copy(db: &Db<'_>, mesh: &MeshId, scope: &Scope, epoch: u32) -> Result<Vec<(MemberId, MemberKey)>, Error> {
    let mut without = Vec::new();
    for (member, key) in sharers(db, mesh, scope)? {
        if !has_copy(db, mesh, scope, epoch, &member)? {
            without.push((member, key));
        }
    }
    Ok(without)
}

/// `None` if the one who asks does not share in this. `epoch` asks for an older one, `renew` for all who share.
pub(super) fn state(
    db: &Db<'_>,
    mesh: MeshId,
    scope: Scope,
    member: MemberId,
    epoch: Option<u32>,
    renew: bool,
) -> Result<Option<KeyRow>, Error> {
    let all = sharers(db, &mesh, &scope)?;
    if !all.iter().any(|(id, _)| *id == member) {
        return Ok(None);
    }
    let in_use = latest(db, &mesh, &scope)?;
    let Some(epoch) = epoch.or(in_use.as_ref().map(|(epoch, _)| *epoch)) else {
        return Ok(Some(KeyRow { epoch: 0, closed: false, publisher: None, proof: None, copy: None, members: all }));
    };
    let known = db.first(
        "SELECT publisher, proof, state = 'closed' FROM scope_epoch WHERE mesh_id = ?1 AND scope = ?2 AND epoch = ?3",
        params![mesh.as_str(), scope.to_string(), epoch],
        |row| Ok((MemberKey(key(row, 0)?), row.get::<_, String>(1)?, row.get::<_, bool>(2)?)),
    )?;
    let copy = db.first(
        "SELECT encrypted_key, nonce FROM sealed_key
          WHERE mesh_id = ?1 AND scope = ?2 AND epoch = ?3 AND member_id = ?4 AND encrypted_key <> ''",
        params![mesh.as_str(), scope.to_string(), epoch, member.as_str()],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )?;
    let closed = known.as_ref().is_none_or(|(_, _, closed)| *closed);
    let is_in_use = in_use.is_some_and(|(latest, _)| latest == epoch);
    let members = match () {
        () if !is_in_use => Vec::new(),
        () if closed || renew || copy.is_none() => all,
        () => without_copy(db, &mesh, &scope, epoch)?,
    };
    let (publisher, proof) = known.map(|(publisher, proof, _)| (publisher, proof)).unzip();
    Ok(Some(KeyRow { epoch, closed, publisher, proof, copy, members }))
}

/// Puts the next key into use, if it is the next.
pub(super) fn publish(db: &Db<'_>, new: NewKey) -> Result<KeyInUse, Error> {
    db.check_room()?;
    let last = latest(db, &new.mesh, &new.scope)?.map_or(0, |(epoch, _)| epoch);
    if last.checked_add(1) != Some(new.epoch) {
        return Ok(KeyInUse { epoch: last, accepted: false, given: Vec::new() });
    }
    let (mesh, scope) = (new.mesh.as_str(), new.scope.to_string());
    db.execute(
        "UPDATE scope_epoch SET state = 'closed' WHERE mesh_id = ?1 AND scope = ?2 AND state <> 'closed'",
        params![mesh, scope],
    )?;
    db.execute(
        "INSERT INTO scope_epoch (mesh_id, scope, epoch, publisher, proof, state) VALUES (?1, ?2, ?3, ?4, ?5, 'pending')",
        params![mesh, scope, new.epoch, new.publisher.to_string(), new.proof],
    )?;
    let given = put_copies(db, &new.mesh, &new.scope, new.epoch, &new.copies)?;
    // What is still to be sent under an old one keeps it.
    let old = "mesh_id = ?1 AND scope = ?2 AND epoch <= ?3 AND epoch NOT IN (
                 SELECT json_extract(seal, '$.epoch') FROM scheduled WHERE mesh_id = ?1 AND seal IS NOT NULL)";
    for table in ["scope_epoch", "sealed_key"] {
        let sql = format!("DELETE FROM {table} WHERE {old}");
        db.execute(&sql, params![mesh, scope, new.epoch.saturating_sub(MAX_EPOCHS)])?;
    }
    Ok(KeyInUse { epoch: new.epoch, accepted: true, given })
}

/// Gives the key in use to more members. Only one who has it may.
pub(super) fn add_copies(
    db: &Db<'_>,
    mesh: MeshId,
    scope: Scope,
    epoch: u32,
    by: MemberId,
    copies: Vec<KeyCopy>,
) -> Result<KeyInUse, Error> {
    db.check_room()?;
    let (last, state) = latest(db, &mesh, &scope)?.unwrap_or_default();
    let accepted = last == epoch && state != "closed" && has_copy(db, &mesh, &scope, epoch, &by)?;
    let given = if accepted { put_copies(db, &mesh, &scope, epoch, &copies)? } else { Vec::new() };
    Ok(KeyInUse { epoch: last, accepted, given })
}

/// Keeps copies for those who share in it and have none yet, who are returned, and opens the key for use when nobody is left
/// without.
fn put_copies(db: &Db<'_>, mesh: &MeshId, scope: &Scope, epoch: u32, copies: &[KeyCopy]) -> Result<Vec<MemberKey>, Error> {
    let mut without = without_copy(db, mesh, scope, epoch)?;
    let mut given = Vec::with_capacity(copies.len());
    for copy in copies {
        let Some(at) = without.iter().position(|(member, _)| *member == copy.member_id) else { continue };
        given.push(without.swap_remove(at).1);
        db.execute(
            "INSERT INTO sealed_key (mesh_id, scope, epoch, member_id, encrypted_key, nonce) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            params![mesh.as_str(), scope.to_string(), epoch, copy.member_id.as_str(), copy.encrypted_key, copy.nonce],
        )?;
    }
    if without.is_empty() {
        let open = "UPDATE scope_epoch SET state = 'open'
                     WHERE mesh_id = ?1 AND scope = ?2 AND epoch = ?3 AND state = 'pending'";
        db.execute(open, params![mesh.as_str(), scope.to_string(), epoch])?;
    }
    Ok(given)
}

/// The members that have the key in use, where somebody who shares it has none; nobody where all have it.
pub(super) fn holders(db: &Db<'_>, mesh: MeshId, scope: Scope) -> Result<Vec<MemberKey>, Error> {
    db.all(
        "SELECT member.pubkey FROM scope_epoch AS key
           JOIN sealed_key AS copy ON copy.mesh_id = key.mesh_id AND copy.scope = key.scope AND copy.epoch = key.epoch
           JOIN member ON member.id = copy.member_id
          WHERE key.mesh_id = ?1 AND key.scope = ?2 AND key.state <> 'closed' AND key.state = 'pending'
            AND copy.encrypted_key <> '' AND member.revoked_at IS NULL",
        params![mesh.as_str(), scope.to_string()],
        |row| Ok(MemberKey(key(row, 0)?)),
    )
}

/// The topics whose key in use a member has and others who are in them do not.
pub(super) fn needed(db: &Db<'_>, mesh: MeshId, member: MemberId, limit: usize) -> Result<Vec<Scope>, Error> {
    let scopes = db.all(
        "SELECT key.scope FROM scope_epoch AS key
           JOIN sealed_key AS copy ON copy.mesh_id = key.mesh_id AND copy.scope = key.scope AND copy.epoch = key.epoch
          WHERE key.mesh_id = ?1 AND key.state <> 'closed' AND key.state = 'pending' AND key.scope <> '*'
            AND copy.member_id = ?2 AND copy.encrypted_key <> '' ORDER BY key.scope LIMIT ?3",
        params![mesh.as_str(), member.as_str(), limit_sql(limit)],
        |row| row.get::<_, String>(0),
    )?;
    Ok(scopes.iter().filter_map(|scope| Scope::parse(scope)).collect())
}

/// Leaves out those who were given no copy of the key: they have come since it was sealed.
pub(super) fn leave_out_newcomers(db: &Db<'_>, submission: &mut Submission) -> Result<(), Error> {
    let Some(Sealing { scope, seal, .. }) = submission.sealing.clone() else { return Ok(()) };
    let mut kept = Vec::with_capacity(submission.recipients.len());
    for recipient in std::mem::take(&mut submission.recipients) {
        let member = match sessions::owner_of(db, submission.mesh.clone(), recipient)? {
            Some(super::Known::Member(member) | super::Known::Session(member)) => member,
            None => continue,
        };
        if has_copy(db, &submission.mesh, &scope, seal.epoch, &member)? {
            kept.push(recipient);
        }
    }
    submission.recipients = kept;
    Ok(())
}

/// Sessions and members of a mesh whose client could not open what is sealed for many when it was last seen, and their
/// names.
pub(super) fn unable(db: &Db<'_>, mesh: MeshId) -> Result<Vec<(PublicKey, String)>, Error> {
    db.all(
        "SELECT * FROM (
           SELECT pubkey, display_name FROM session INDEXED BY session_unable WHERE mesh_id = ?1 AND opens = 0
           UNION ALL SELECT pubkey, display_name FROM member INDEXED BY member_unable WHERE mesh_id = ?1 AND opens = 0)
          LIMIT ?2",
        params![mesh.as_str(), MAX_NAMED],
        |row| Ok((key(row, 0)?, row.get(1)?)),
    )
}

/// Notes what a member's daemon can.
pub(super) fn member_opens(db: &Db<'_>, mesh: MeshId, member: MemberKey, opens: bool) -> Result<(), Error> {
    let sql = "UPDATE member SET opens = ?3 WHERE mesh_id = ?1 AND pubkey = ?2 AND opens IS NOT ?3";
    db.execute(sql, params![mesh.as_str(), member.to_string(), opens])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::tests::{ALICE, OWNER, SESSION, group, key, mesh, new_member, open};
    use super::super::{Author, Enqueued, Hub, TopicRow};
    use super::*;
    use crate::wire::topic::{TopicRole, Visibility};
    use tempfile::TempDir;

    const THIRD: u8 = 3;

    fn copies(members: &[u8]) -> Vec<KeyCopy> {
        let copy = |n: &u8| KeyCopy {
            member_id: MemberId::new(format!("member-{n}")),
            encrypted_key: "k".repeat(108),
            nonce: "n".repeat(32),
        };
        members.iter().map(copy).collect()
    }

    fn publish(hub: &Hub, scope: &Scope, epoch: u32, members: &[u8]) -> (u32, bool) {
        let (proof, publisher) = ("p".into(), MemberKey(key(OWNER)));
        let new = NewKey { mesh: mesh(), scope: scope.clone(), epoch, publisher, proof, copies: copies(members) };
        let KeyInUse { epoch, accepted, .. } = hub.publish_key(new).unwrap();
        (epoch, accepted)
    }

    fn row(hub: &Hub, scope: &Scope, member: u8) -> Option<KeyRow> {
        hub.key_state(mesh(), scope.clone(), MemberId::new(format!("member-{member}")), None, false).unwrap()
    }

    fn lacking(hub: &Hub, scope: &Scope) -> Vec<MemberId> {
        row(hub, scope, OWNER).unwrap().members.into_iter().map(|(id, _)| id).collect()
    }

    fn send(hub: &Hub, id: &str, scope: &Scope, epoch: u32) -> Enqueued {
        let seal = Seal { epoch, repeats: false, signature: String::new() };
        let sealing = Some(Sealing { scope: scope.clone(), seal, earlier: false });
        hub.enqueue(vec![Submission { sealing, ..group(id, &[SESSION]) }]).unwrap().remove(0)
    }

    fn world() -> (TempDir, Hub) {
        let (dir, hub) = open();
        hub.add_member(new_member(THIRD)).unwrap();
        (dir, hub)
    }

    #[test]
    fn one_key_is_in_use_while_all_have_it_and_nobody_who_has_it_is_gone() {
        let (_dir, hub) = world();
        let scope = Scope::Mesh;
        let closed = Enqueued::WrongKey(WrongKey::Closed);
        let pending = Enqueued::WrongKey(WrongKey::Pending);
        assert_eq!((row(&hub, &scope, OWNER).unwrap().epoch, lacking(&hub, &scope).len()), (0, 3));
        assert_eq!(send(&hub, "a", &scope, 1), closed);
        assert_eq!(publish(&hub, &scope, 2, &[]), (0, false));
        assert_eq!(publish(&hub, &scope, 1, &[OWNER, ALICE, 77]), (1, true));
        assert_eq!(publish(&hub, &scope, 1, &[OWNER]), (1, false), "the second comes too late");
        assert_eq!((send(&hub, "a", &scope, 1), lacking(&hub, &scope)), (pending.clone(), vec![MemberId::new("member-3")]));
        let add = |by: u8, epoch| {
            hub.add_copies(mesh(), scope.clone(), epoch, MemberId::new(format!("member-{by}")), copies(&[THIRD]))
                .unwrap()
                .accepted
        };
        assert!(!add(THIRD, 1), "who has none gives none");
        assert!(!add(ALICE, 2));
        assert!(add(ALICE, 1));
        assert!(matches!(send(&hub, "a", &scope, 1), Enqueued::New(_)));
        assert!(row(&hub, &scope, THIRD).unwrap().copy.is_some() && lacking(&hub, &scope).is_empty());

        hub.add_member(new_member(4)).unwrap();
        assert_eq!((send(&hub, "b", &scope, 1), lacking(&hub, &scope)), (pending.clone(), vec![MemberId::new("member-4")]));
        let newcomer = row(&hub, &scope, 4).unwrap();
        assert_eq!((newcomer.copy, newcomer.members.len()), (None, 4), "it may make the next for all");
        assert_eq!(publish(&hub, &scope, 2, &[OWNER, ALICE, THIRD, 4]), (2, true));
        assert_eq!(send(&hub, "b", &scope, 1), closed);
        assert!(matches!(send(&hub, "b", &scope, 2), Enqueued::New(_)));
        assert_eq!(send(&hub, "b", &scope, 1), Enqueued::Same(crate::base::ids::MessageId::new("b")), "what was sent was sent");

        assert!(
            hub.revoke(mesh(), MemberKey(key(THIRD)), super::super::Removed::Banned(super::super::Actor::Nobody), 5).unwrap()
        );
        assert_eq!(send(&hub, "c", &scope, 2), closed);
        assert_eq!(row(&hub, &scope, THIRD), None);
        assert_eq!(publish(&hub, &scope, 3, &[OWNER, ALICE, THIRD, 4]), (3, true));
        assert!(matches!(send(&hub, "c", &scope, 3), Enqueued::New(_)));
        let old = hub.key_state(mesh(), scope.clone(), MemberId::new("member-2"), Some(1), false).unwrap().unwrap();
        assert!(old.closed && old.copy.is_some() && old.members.is_empty());
        // Let in again, the member gets no copy of what was used meanwhile.
        let nobody = super::super::Actor::Nobody;
        assert!(hub.unrevoke(mesh(), MemberKey(key(THIRD)), nobody, 6).unwrap());
        assert_eq!((send(&hub, "d", &scope, 3), lacking(&hub, &scope).len()), (closed, 4));
    }

    #[test]
    fn a_topic_has_keys_of_its_own_members() {
        let (_dir, hub) = world();
        let by = Author { member: MemberId::new("member-1"), name: "o".into(), admin: true };
        let topic = TopicRow {
            id: "t1".into(),
            name: "t".into(),
            description: None,
            visibility: Visibility::Public,
            created_at: 1,
            members: 0,
            role: None,
        };
        hub.create_topic(mesh(), topic, by).unwrap();
        let scope = Scope::Topic("t1".into());
        assert_eq!(row(&hub, &scope, ALICE), None);
        assert_eq!(publish(&hub, &scope, 1, &[OWNER, ALICE]), (1, true));
        assert!(matches!(send(&hub, "a", &scope, 1), Enqueued::New(_)));
        hub.join_topic("t1".into(), MemberId::new("member-2"), TopicRole::Member, 2).unwrap();
        assert_eq!(lacking(&hub, &scope), [MemberId::new("member-2")], "she was not in it when the copies were made");
        assert_eq!(publish(&hub, &scope, 2, &[OWNER, ALICE]), (2, true));
        assert!(matches!(send(&hub, "b", &scope, 2), Enqueued::New(_)));
        assert!(hub.leave_topic("t1".into(), MemberId::new("member-2")).unwrap());
        assert_eq!(send(&hub, "c", &scope, 2), Enqueued::WrongKey(WrongKey::Closed));
        assert_eq!(publish(&hub, &scope, 3, &[OWNER]), (3, true));
        assert!(matches!(send(&hub, "c", &scope, 3), Enqueued::New(_)));
        hub.join_topic("t1".into(), MemberId::new("member-2"), TopicRole::Member, 3).unwrap();
        assert!(hub.revoke(mesh(), MemberKey(key(ALICE)), super::super::Removed::Left, 5).unwrap());
        assert_eq!(send(&hub, "d", &scope, 3), Enqueued::WrongKey(WrongKey::Closed), "out of the mesh is out of its topics");
    }

    #[test]
    fn old_keys_go_and_what_is_still_to_be_sent_keeps_its_own() {
        let (_dir, hub) = world();
        let scope = Scope::Mesh;
        let all = [OWNER, ALICE, THIRD];
        assert_eq!(publish(&hub, &scope, 1, &all), (1, true));
        let later = super::super::ScheduledRow {
            id: "s".into(),
            mesh: mesh(),
            member: MemberId::new("member-1"),
            sender_pubkey: key(OWNER),
            sender_name: "o".into(),
            target_spec: "*".into(),
            nonce: "n".into(),
            ciphertext: "c".into(),
            subtype: None,
            cron: None,
            deliver_at: i64::MAX,
            created_at: 1,
            fired: 0,
            seal: Some(Seal { epoch: 2, repeats: false, signature: String::new() }),
            client_id: Some(crate::base::ids::ClientId::new("c")),
            error: None,
        };
        let wrong = super::super::Scheduling::WrongKey(WrongKey::Closed);
        assert_eq!(hub.add_scheduled(Box::new(later.clone())), Ok(wrong));
        assert_eq!(publish(&hub, &scope, 2, &all), (2, true));
        assert_eq!(hub.add_scheduled(Box::new(later)), Ok(super::super::Scheduling::Kept));
        for epoch in 3..=MAX_EPOCHS + 4 {
            assert_eq!(publish(&hub, &scope, epoch, &[OWNER]), (epoch, true));
        }
        let has = |epoch| {
            let row = hub.key_state(mesh(), scope.clone(), MemberId::new("member-1"), Some(epoch), false).unwrap().unwrap();
            row.copy.is_some()
        };
        assert_eq!([1, 2, 3, 4, 5, MAX_EPOCHS + 4].map(has), [false, true, false, false, true, true]);
    }

    #[test]
    fn what_was_put_down_goes_to_those_who_had_the_key_then() {
        let (_dir, hub) = world();
        let scope = Scope::Mesh;
        assert_eq!(publish(&hub, &scope, 1, &[OWNER, ALICE, THIRD]), (1, true));
        let seal = Seal { epoch: 1, repeats: false, signature: String::new() };
        let later = super::super::ScheduledRow {
            id: "s".into(),
            mesh: mesh(),
            member: MemberId::new("member-1"),
            sender_pubkey: key(OWNER),
            sender_name: "o".into(),
            target_spec: "@eng".into(),
            nonce: "n".into(),
            ciphertext: "c".into(),
            subtype: None,
            cron: None,
            deliver_at: 50,
            created_at: 1,
            fired: 0,
            seal: Some(seal),
            client_id: Some(crate::base::ids::ClientId::new("c")),
            error: None,
        };
        assert_eq!(hub.add_scheduled(Box::new(later.clone())), Ok(super::super::Scheduling::Kept));
        hub.add_member(new_member(4)).unwrap();
        assert_eq!(publish(&hub, &scope, 2, &[OWNER, ALICE, THIRD, 4]), (2, true));
        let submission = Submission { sealing: later.sealing(), ..group("later", &[SESSION, THIRD, 4]) };
        let fired = hub.fire(Box::new(later), super::super::Firing::Send(Box::new(submission)), None).unwrap();
        assert!(matches!(fired, Some(Enqueued::New(_))), "its key is an older one, and that was known: {fired:?}");
        let waiting = |of: u8| {
            let urgency = super::super::Urgency::All;
            hub.fetch(mesh(), key(of), crate::store::Seq::default(), urgency, 100, 9).unwrap().len()
        };
        assert_eq!([SESSION, THIRD, 4].map(waiting), [1, 1, 0]);
    }

    #[test]
    fn what_clients_can_is_remembered() {
        let (_dir, hub) = open();
        let seen = |opens| super::super::SeenSession { opens, ..super::super::tests::seen(SESSION, 9) };
        let names = || hub.unable(mesh()).unwrap();
        assert_eq!(names(), [], "nothing is known of those from before");
        hub.session_seen(vec![seen(Some(false))]).unwrap();
        hub.member_opens(mesh(), MemberKey(key(OWNER)), false).unwrap();
        assert_eq!(names().into_iter().map(|(key, _)| key).collect::<Vec<_>>(), [key(SESSION), key(OWNER)]);
        hub.session_seen(vec![seen(None)]).unwrap();
        hub.member_opens(mesh(), MemberKey(key(OWNER)), true).unwrap();
        assert_eq!(names(), [(key(SESSION), "Alice".to_owned())]);
        hub.session_seen(vec![seen(Some(true))]).unwrap();
        assert_eq!(names(), []);
    }
}
