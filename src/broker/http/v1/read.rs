//! What a script may read: topics, what was said in them, members, and who is here.

use crate::base::time::{Millis, iso, now_millis};
use crate::broker::Shared;
use crate::broker::handle::{fitting, topic};
use crate::crypto::base64;
use crate::store::hub::{ApiKeyRow, Member, TopicMessageRow, TopicRow};
use crate::wire::apikey::KeyCapability;
use crate::wire::http_api::{ListedMember, ListedPeer, ListedTopic, Members, Message, Messages, Peers, ReadMark, Topics};
use crate::wire::peer::{Peer, PeerRole, Status};

use super::super::answer::{Answer, Ask};
use super::{Caller, refused, unavailable};

/// A script counts as present for this long after it last asked for something.
const PRESENT_FOR: Millis = 5 * 60_000;

/// The version of a body that is in clear.
const IN_CLEAR: u32 = 1;

pub(super) fn topics(shared: &Shared, caller: &Caller) -> Result<Answer, Answer> {
    caller.may(KeyCapability::Read)?;
    let (mesh, member) = (&caller.key.mesh, &caller.member.id);
    let rows = shared.hub.topics(mesh.clone(), member.clone()).map_err(|err| unavailable(shared, &err))?;
    let unread = shared.hub.unread(mesh.clone(), member.clone()).map_err(|err| unavailable(shared, &err))?;
    let listed = |row: TopicRow| ListedTopic {
        unread: unread.iter().find(|(id, _)| *id == row.id).map_or(0, |(_, count)| *count),
        id: row.id,
        name: row.name,
        description: row.description,
        visibility: row.visibility,
        created_at: iso(row.created_at),
    };
    let topics = rows.into_iter().filter(|row| caller.reaches(&row.name)).map(listed).collect();
    Ok(Answer::json(200, &Topics { topics }))
}

/// A message, with its text if that was said in clear.
pub(super) fn shown(row: TopicMessageRow) -> Message {
    let said = topic::message(row);
    let text = || base64::decode(&said.ciphertext).and_then(|bytes| String::from_utf8(bytes).ok());
    let text = if said.body_version == IN_CLEAR { text() } else { None };
    Message::new(said, text)
}

pub(super) fn messages(shared: &Shared, ask: &Ask<'_>, caller: &Caller, name: &str) -> Result<Answer, Answer> {
    caller.may(KeyCapability::Read)?;
    let row = caller.topic(shared, name)?;
    let query = &ask.head.target.query;
    let limit = match query.get("limit").map(str::parse::<u32>) {
        None => topic::HISTORY,
        Some(Ok(limit)) if (1..=topic::MAX_HISTORY).contains(&limit) => limit,
        Some(_) => return Err(refused(400, "invalid", "limit is a number from 1 to 200")),
    };
    let before = query.get("before").map(str::to_owned);
    let rows = shared.hub.topic_history(row.id.clone(), before, usize::try_from(limit).unwrap_or(1));
    let rows = rows.map_err(|err| unavailable(shared, &err))?;
    let (messages, _) = fitting(rows.into_iter().map(shown));
    Ok(Answer::json(200, &Messages { topic: row.name, topic_id: row.id, messages }))
}

pub(super) fn mark(shared: &Shared, caller: &Caller, name: &str) -> Result<Answer, Answer> {
    caller.may(KeyCapability::Read)?;
    let (topic, now) = (caller.topic(shared, name)?, now_millis());
    let marked = shared.hub.read_topic(topic.id.clone(), caller.member.id.clone(), now);
    if marked.map_err(|err| unavailable(shared, &err))? {
        return Ok(Answer::json(200, &ReadMark { topic: topic.name, topic_id: topic.id, read_at: iso(now) }));
    }
    Err(refused(403, "forbidden", "the member who issued this key is not in this topic"))
}

/// Those present that others may see.
fn present(shared: &Shared, caller: &Caller) -> Vec<Peer> {
    let mut peers = shared.router.roster(&caller.key.mesh);
    peers.retain(|peer| peer.online && (peer.visible != Some(false) || peer.member_pubkey == caller.member.key));
    peers
}

pub(super) fn members(shared: &Shared, caller: &Caller) -> Result<Answer, Answer> {
    caller.may(KeyCapability::Read)?;
    let peers = present(shared, caller);
    let rows = shared.hub.members(caller.key.mesh.clone()).map_err(|err| unavailable(shared, &err))?;
    let listed = |row: Member| {
        let own = || peers.iter().filter(|peer| peer.member_pubkey == row.key);
        // What the session shows that came last; the daemon's own connection only where there is none.
        let shows = own().max_by_key(|peer| (peer.peer_role == PeerRole::Session, peer.connected_at.clone()));
        ListedMember {
            is_human: own().any(|peer| peer.peer_type.as_deref() == Some("human")),
            online: shows.is_some(),
            status: shows.map_or(Status::Idle, |peer| peer.status),
            summary: shows.and_then(|peer| peer.summary.clone()),
            member_id: row.id,
            pubkey: row.key,
            display_name: row.display_name,
            role: row.role.as_str(),
            joined_at: iso(row.joined_at),
        }
    };
    let members = rows.into_iter().filter(|row| !row.revoked).map(listed).collect();
    Ok(Answer::json(200, &Members { members }))
}

pub(super) fn peers(shared: &Shared, caller: &Caller) -> Result<Answer, Answer> {
    caller.may(KeyCapability::Read)?;
    let now = now_millis();
    let mesh = &caller.key.mesh;
    let rows = shared.hub.members(mesh.clone()).map_err(|err| unavailable(shared, &err))?;
    let keys = shared.hub.api_keys(mesh.clone(), None).map_err(|err| unavailable(shared, &err))?;
    let session = |peer: Peer| ListedPeer {
        pubkey: peer.pubkey,
        display_name: peer.display_name,
        status: peer.status,
        summary: peer.summary,
        groups: peer.groups,
        via: "ws",
    };
    let script = |key: ApiKeyRow| {
        let issuer = rows.iter().find(|row| row.id == key.member && !row.revoked)?;
        let (status, groups) = (Status::Idle, Vec::new());
        Some(ListedPeer { pubkey: issuer.key.0, display_name: key.label, status, summary: None, groups, via: "rest" })
    };
    let sessions = present(shared, caller).into_iter().filter(|peer| peer.peer_role == PeerRole::Session).map(session);
    let of_late =
        keys.into_iter().filter(|key| key.is_in_force(now) && key.last_used_at.is_some_and(|at| now - at < PRESENT_FOR));
    Ok(Answer::json(200, &Peers { peers: sessions.chain(of_late.filter_map(script)).collect() }))
}
