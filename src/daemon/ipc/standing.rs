//! `GET /v1/messages/<id>`: where a message stands, and waiting for it to get somewhere. A message is known by the name that
//! its sender gave it as well as by the broker's.

use std::time::{Duration, Instant};

use crossbeam_channel::RecvTimeoutError;

use crate::base::ids::Slug;
use crate::base::time::iso;
use crate::daemon::rosters::Roster;
use crate::store::outbox::{self, Listed, Lookup, Route, Sender, Status};
use crate::wire::ipc::{AtRecipient, LinkStatus, Standing, Waited};
use crate::wire::json::{Map, Value};
use crate::wire::limits::{CLAIM_LEASE, MAX_CLAIM_WAIT};
use crate::wire::peer::Status as Doing;
use crate::wire::priority::Priority;
use crate::wire::schedule::{MessageStatusResult, RecipientStatus};
use crate::wire::server::ServerFrame;
use crate::wire::standing::{Known, State, Wait, of_all, waited};
use crate::wire::target::Target;

use super::outbox::sender;
use super::pass;
use super::reply::Reply;
use super::routes::Call;

pub(super) fn get(call: &Call<'_>) -> Reply {
    standing(call).unwrap_or_else(|refused| refused)
}

fn standing(call: &Call<'_>) -> Result<Reply, Reply> {
    let wanted = wanted(call)?;
    let Some(here) = look(call, &call.item)? else {
        if !is_of_a_broker(&call.item) {
            return Err(unknown());
        }
        let broker = sent_elsewhere(call)?;
        let waited = wanted.map(|_| Waited::NotKnown);
        return Ok(Reply::ok(&Standing { waited, ..of_broker(&broker) }));
    };
    match wanted {
        None => Ok(Reply::ok(&shown(call, &here))),
        Some((state, patience)) => Ok(Reply::ok(&wait(call, &here, state, patience)?)),
    }
}

/// Another of the member's machines may have sent it; then the broker knows of it. A session is told of it only if the broker
/// says that the session sent it, or its member: whom others write to is not its business.
fn sent_elsewhere(call: &Call<'_>) -> Result<MessageStatusResult, Reply> {
    let (mesh, broker) = ask(call, &call.item, call.query("mesh"))?;
    let Some(session) = call.caller.session() else { return Ok(broker) };
    let member = call.ctx.meshes.get(&mesh).map(|membership| membership.key.0);
    let own = [session.public_key().map(|key| key.0), member];
    if broker.sender_pubkey.is_some_and(|sender| own.contains(&Some(sender))) { Ok(broker) } else { Err(unknown()) }
}

fn unknown() -> Reply {
    Reply::error(404, "message_not_found").into()
}

/// Whether a broker may have given this id, or one that begins so.
fn is_of_a_broker(id: &str) -> bool {
    (8..=32).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// What is waited for, and for how long.
fn wanted(call: &Call<'_>) -> Result<Option<(State, Duration)>, Reply> {
    let Some(word) = call.query("wait") else { return Ok(None) };
    let state = State::parse(word).filter(|state| matches!(state, State::Relayed | State::Arrived | State::Offered));
    let state = state.ok_or_else(|| Reply::from(Reply::error(400, "'wait' must be 'relayed', 'arrived' or 'offered'")))?;
    let patience = match call.query("timeout").map(str::parse::<u64>) {
        None => MAX_CLAIM_WAIT,
        Some(Ok(seconds)) => Duration::from_secs(seconds).min(MAX_CLAIM_WAIT),
        Some(Err(_)) => return Err(Reply::error(400, "'timeout' must be a number of seconds").into()),
    };
    Ok(Some((state, patience)))
}

/// The caller's own message, or its member's.
fn look(call: &Call<'_>, id: &str) -> Result<Option<outbox::Standing>, Reply> {
    let own = sender(call);
    let as_member = own.filter(|own| *own != Sender::Member).map(|_| Sender::Member);
    for sender in [own].into_iter().chain(as_member.map(Some)) {
        match call.ctx.outbox.lookup(id.to_owned(), sender).map_err(|err| Reply::store(&err))? {
            Lookup::Found(standing) => return Ok(Some(*standing)),
            Lookup::NotFound => {}
            Lookup::Ambiguous => {
                let why = "more than one message's id begins so";
                return Err(Reply::error(409, "ambiguous").detail(why).and("code", "ambiguous_prefix").into());
            }
        }
    }
    Ok(None)
}

fn wait(call: &Call<'_>, here: &outbox::Standing, wanted: State, patience: Duration) -> Result<Standing, Reply> {
    let until = Instant::now() + patience;
    let row = here.listed.id.clone();
    // Watched first, read second: the other order would miss what comes between.
    let watching = call.ctx.watch.row(&row).ok_or_else(|| Reply::from(Reply::error(429, "too_many_streams")))?;
    call.connection.place.outlast();
    let mut stopping = false;
    loop {
        let here = look(call, row.as_str())?.ok_or_else(unknown)?;
        let end = match progress(call, &here, wanted) {
            Wait::Reached => Some(Waited::Reached),
            Wait::Over => Some(Waited::Over),
            Wait::NotKnown => Some(Waited::NotKnown),
            Wait::On => (stopping || until <= Instant::now() || call.connection.stream.is_gone()).then_some(Waited::Timeout),
        };
        if end.is_some() {
            return Ok(Standing { waited: end, ..shown(call, &here) });
        }
        // Now and then it is looked whether anybody still waits.
        let look = until.min(Instant::now() + CLAIM_LEASE);
        stopping = watching.news.recv_deadline(look) == Err(RecvTimeoutError::Disconnected);
    }
}

/// How a wait stands. How many a message to many was for, its broker alone can say.
fn progress(call: &Call<'_>, here: &outbox::Standing, wanted: State) -> Wait {
    let told = here.told == Some(true);
    let many = !is_direct(here);
    let so_far = waited(state(here, None).0, wanted, told);
    if !many || here.listed.status != Status::Done || so_far == Wait::NotKnown || wanted == State::Relayed {
        return so_far;
    }
    match broker_of(call, here).map(|broker| broker.recipient_count) {
        // Nobody was there.
        Some(0) => Wait::Over,
        Some(of) => waited(state(here, Some(of)).0, wanted, told),
        None => Wait::On,
    }
}

fn is_direct(here: &outbox::Standing) -> bool {
    here.listed.target.as_deref().and_then(Target::parse).is_some_and(|target| target.is_direct())
}

/// Where a message stands, since when, and by which path or for which reason.
fn state(here: &outbox::Standing, of: Option<usize>) -> (State, Option<i64>, Option<String>) {
    let row = &here.listed;
    match row.status {
        Status::Pending | Status::Inflight => (State::Queued, Some(row.enqueued_at), row.last_error.clone()),
        Status::Dead => (State::Dead, Some(row.next_attempt_at), row.last_error.clone()),
        Status::Aborted => {
            let by = row.aborted_by.as_deref().unwrap_or("somebody");
            let why = match &row.superseded_by {
                Some(id) => format!("given up by {by}, and sent again as {id}"),
                None => format!("given up by {by}"),
            };
            (State::Dead, row.aborted_at, Some(why))
        }
        Status::Done if is_direct(here) => {
            let known = here.said.first().map(|(_, known)| known.clone()).unwrap_or_default();
            let (state, at, detail) = known.state();
            (state, at.or(row.delivered_at), detail.map(str::to_owned))
        }
        Status::Done => {
            let states: Vec<State> = here.said.iter().map(|(_, known)| known.state().0).collect();
            let why = (of == Some(0)).then(|| "nobody was there".to_owned());
            (of_all(&states, of), row.delivered_at, why)
        }
    }
}

/// What the broker says of a message that it has.
fn broker_of(call: &Call<'_>, here: &outbox::Standing) -> Option<MessageStatusResult> {
    let id = here.listed.broker_id.as_ref()?;
    ask(call, id.as_str(), here.listed.mesh.as_ref().map(|mesh| mesh.as_str())).ok().map(|(_, broker)| broker)
}

/// The mesh that was asked, and what its broker says.
fn ask(call: &Call<'_>, id: &str, mesh: Option<&str>) -> Result<(Slug, MessageStatusResult), Reply> {
    let mut fields = Map::from_iter([("messageId".to_owned(), Value::from(id))]);
    fields.extend(mesh.map(|mesh| ("mesh".to_owned(), mesh.into())));
    match pass::exchange(call, "message_status", fields)? {
        (mesh, Some(ServerFrame::MessageStatusResult(result))) => Ok((mesh, result)),
        _ => Err(Reply::error(502, "broker_answer").detail("the broker answered something else").into()),
    }
}

/// A message that nothing is known of here: the broker's word alone.
fn of_broker(broker: &MessageStatusResult) -> Standing {
    let at = |one: &RecipientStatus| AtRecipient {
        name: one.name.clone(),
        pubkey: one.pubkey.clone(),
        status: one.status.clone(),
        state: Some(State::Relayed),
        ..AtRecipient::default()
    };
    Standing {
        message_id: broker.message_id.clone(),
        target_spec: broker.target_spec.clone(),
        delivered: broker.delivered,
        delivered_at: broker.delivered_at.clone(),
        recipients: broker.recipients.iter().map(at).collect(),
        recipient_count: broker.recipient_count,
        state: Some(State::Relayed),
        ..Standing::default()
    }
}

fn shown(call: &Call<'_>, here: &outbox::Standing) -> Standing {
    let broker = if here.listed.status == Status::Done { broker_of(call, here) } else { None };
    let roster = here.listed.mesh.as_ref().and_then(|mesh| call.ctx.rosters.at_hand(mesh, &call.ctx.links));
    let view = view(here, broker.as_ref(), roster.as_ref());
    let waits = (view.state == Some(State::Queued)).then(|| link_trouble(call, &here.listed)).flatten();
    Standing { detail: waits.or(view.detail), ..view }
}

/// What keeps the link of a message from being open, as long as it waits for that.
fn link_trouble(call: &Call<'_>, row: &Listed) -> Option<String> {
    let sender = row.sender_session.map_or(Sender::Member, Sender::Session);
    let report = call.ctx.links.of(&Route { mesh: row.mesh.clone()?, sender })?;
    report.last_error.filter(|_| report.status != LinkStatus::Open)
}

/// Everything that is known, put together.
fn view(here: &outbox::Standing, broker: Option<&MessageStatusResult>, roster: Option<&Roster>) -> Standing {
    let row = &here.listed;
    let of = if is_direct(here) { Some(1) } else { broker.map(|broker| broker.recipient_count) };
    let (state, at, mut detail) = state(here, of);
    if let (Some(0), Some(blocked)) = (of, broker.map(|broker| broker.blocked).filter(|blocked| *blocked != 0)) {
        detail =
            Some(format!("it reached nobody: {blocked} do not let through what you say to many (see: claudemesh help grants)"));
    }
    let is_done = row.status == Status::Done;
    let recipients = if is_done { recipients(here, broker, roster) } else { Vec::new() };
    let mut view = Standing {
        message_id: row.broker_id.as_ref().map_or(row.client_id.as_str(), |id| id.as_str()).to_owned(),
        target_spec: row.target.clone().unwrap_or_default(),
        delivered: broker.is_some_and(|broker| broker.delivered) || (is_done && has_all(&recipients, of)),
        delivered_at: broker.and_then(|broker| broker.delivered_at.clone()),
        recipient_count: of.unwrap_or(recipients.len()),
        recipients,
        state: Some(state),
        at: at.map(iso),
        detail,
        receipts: here.told == Some(true),
        client_message_id: Some(row.client_id.clone()),
        queued_at: Some(iso(row.enqueued_at)),
        relayed_at: row.delivered_at.filter(|_| is_done).map(iso),
        outbox: (!is_done).then(|| row.status.as_str().to_owned()),
        waited: None,
        mesh: row.mesh.clone(),
    };
    if let (State::Relayed, true, [only]) = (state, is_direct(here), view.recipients.as_slice())
        && only.state == Some(State::Held)
    {
        (view.state, view.detail) = (only.state, only.detail.clone());
    }
    view
}

fn has_all(recipients: &[AtRecipient], of: Option<usize>) -> bool {
    let has = |one: &&AtRecipient| matches!(one.state, Some(State::Arrived | State::Offered)) || one.arrived_at.is_some();
    of.is_some_and(|of| 0 < of && of <= recipients.iter().filter(has).count())
}

fn recipients(here: &outbox::Standing, broker: Option<&MessageStatusResult>, roster: Option<&Roster>) -> Vec<AtRecipient> {
    let said = |key: &str| here.said.iter().find(|(of, _)| of.to_string() == key).map(|(_, known)| known);
    let listed = broker.map_or(&[][..], |broker| &broker.recipients);
    let keys = match here.listed.target.as_deref().and_then(Target::parse) {
        Some(Target::Key(key)) => vec![key.to_string()],
        _ => {
            let said = here.said.iter().map(|(key, _)| key.to_string());
            let mut keys: Vec<String> = said.chain(listed.iter().map(|one| one.pubkey.clone())).collect();
            keys.sort();
            keys.dedup();
            keys
        }
    };
    let one = |key: String| {
        // The reference's broker gives the beginning of a key that it does not know.
        let by_broker = listed.iter().find(|one| !one.pubkey.is_empty() && key.starts_with(&one.pubkey));
        at_recipient(&key, said(&key), by_broker, roster, here.listed.priority)
    };
    keys.into_iter().map(one).collect()
}

fn at_recipient(
    key: &str,
    said: Option<&Known>,
    broker: Option<&RecipientStatus>,
    roster: Option<&Roster>,
    priority: Priority,
) -> AtRecipient {
    let peer = roster.and_then(|roster| roster.iter().find(|peer| peer.pubkey.to_string() == key));
    let by_broker = broker.map(|one| &one.name).filter(|name| !name.is_empty() && *name != "unknown");
    let name = peer.map(|peer| &peer.display_name).or(by_broker).cloned();
    let known = said.cloned().unwrap_or_default();
    let (state, at, detail) = known.state();
    let status = broker.map_or(String::new(), |one| one.status.clone());
    let mut at_recipient = AtRecipient {
        name: name.unwrap_or_else(|| format!("{:.8}…", key)),
        pubkey: key.to_owned(),
        state: Some(state),
        at: at.map(iso),
        detail: detail.map(str::to_owned),
        arrived_at: known.arrived_at.map(iso),
        status,
    };
    // A broker keeps what is not urgent from a session that is busy.
    let busy = peer.map(|peer| peer.status).filter(|doing| *doing != Doing::Idle && priority != Priority::Now);
    if let (State::Relayed, "held", Some(doing)) = (state, at_recipient.status.as_str(), busy) {
        at_recipient.state = Some(State::Held);
        at_recipient.detail = Some(if doing == Doing::Dnd { "dnd" } else { "busy" }.to_owned());
    }
    at_recipient
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::{ClientId, MessageId, PublicKey};
    use crate::store::RowId;
    use crate::wire::receipt::Stage;

    fn key() -> PublicKey {
        PublicKey::from_bytes([2; 32])
    }

    /// A direct message that a broker has, and what its recipient said.
    fn here(said: &[(Stage, &str)]) -> outbox::Standing {
        let mut known = Known::default();
        (7..).zip(said).for_each(|(at, (stage, detail))| assert!(known.learn(*stage, detail, at)));
        let listed = Listed {
            id: RowId::new("row"),
            client_id: ClientId::new("c"),
            status: Status::Done,
            attempts: 1,
            enqueued_at: 1,
            next_attempt_at: 4,
            delivered_at: Some(3),
            broker_id: Some(MessageId::new("M")),
            last_error: None,
            aborted_at: None,
            aborted_by: None,
            superseded_by: None,
            payload_bytes: 0,
            mesh: Some(Slug::new("home")),
            target: Some(key().to_hex()),
            sender_session: None,
            priority: Priority::Next,
        };
        outbox::Standing { listed, told: Some(true), said: vec![(key(), known)] }
    }

    fn row(change: impl FnOnce(&mut Listed)) -> outbox::Standing {
        let mut here = here(&[]);
        here.said.clear();
        change(&mut here.listed);
        here
    }

    fn broker(status: &str) -> MessageStatusResult {
        let one =
            RecipientStatus { name: "bob".into(), pubkey: key().to_hex(), status: status.into(), ..RecipientStatus::default() };
        let delivered = status == "delivered";
        MessageStatusResult { recipients: vec![one], recipient_count: 1, delivered, ..MessageStatusResult::default() }
    }

    #[test]
    fn each_state_is_said_by_who_knows_it() {
        use State::{Arrived, Dead, Expired, Held, Offered, Queued, Relayed};
        let pending = |row: &mut Listed| (row.status, row.last_error) = (Status::Pending, Some("busy".into()));
        let dead = |row: &mut Listed| (row.status, row.last_error) = (Status::Dead, Some("too_large".into()));
        let aborted = |row: &mut Listed| {
            row.status = Status::Aborted;
            (row.aborted_by, row.superseded_by) = (Some("ann".into()), Some(RowId::new("next")));
        };
        for (here, broker, state, detail, delivered) in [
            (row(pending), None, Queued, Some("busy"), false),
            (row(dead), None, Dead, Some("too_large"), false),
            (row(aborted), None, Dead, Some("given up by ann, and sent again as next"), false),
            (row(|_| {}), None, Relayed, None, false),
            (row(|_| {}), Some(broker("disconnected")), Relayed, None, false),
            (row(|_| {}), Some(broker("held")), Relayed, None, false),
            (row(|_| {}), Some(broker("delivered")), Relayed, None, true),
            (here(&[(Stage::Arrived, "")]), None, Arrived, None, true),
            (here(&[(Stage::Arrived, ""), (Stage::Held, "repeat")]), None, Held, Some("repeat"), true),
            (here(&[(Stage::Offered, "wake")]), None, Offered, Some("wake"), true),
            (here(&[(Stage::Expired, "")]), None, Expired, None, false),
        ] {
            let view = view(&here, broker.as_ref(), None);
            let seen = (view.state, view.detail.as_deref(), view.delivered);
            assert_eq!(seen, (Some(state), detail, delivered), "{here:?} {broker:?}");
            assert_eq!(view.outbox.is_some(), here.listed.status != Status::Done);
        }
    }

    #[test]
    fn of_many_those_who_said_nothing_do_not_have_it() {
        let many = |here: outbox::Standing| {
            let listed = Listed { target: Some("@eng".into()), ..here.listed };
            outbox::Standing { listed, ..here }
        };
        let offered = many(here(&[(Stage::Offered, "wake")]));
        let of = |count: usize| MessageStatusResult { recipient_count: count, ..MessageStatusResult::default() };
        assert_eq!(view(&offered, Some(&of(1)), None).state, Some(State::Offered));
        assert_eq!(view(&offered, Some(&of(2)), None).state, Some(State::Relayed));
        let nobody = view(&many(row(|_| {})), Some(&of(0)), None);
        assert_eq!((nobody.state, nobody.detail.as_deref()), (Some(State::Relayed), Some("nobody was there")));
        let blocked = view(&many(row(|_| {})), Some(&MessageStatusResult { blocked: 2, ..of(0) }), None);
        assert!(blocked.detail.is_some_and(|detail| detail.starts_with("it reached nobody: 2 do not let through")));
    }
}
