//! Looking at the inbox. Every query is driven by one index that gives the rows in the order of their arrival, so that the
//! cost follows what is returned, not what is stored.

use rusqlite::types::Value;
use rusqlite::{Row as SqlRow, params};
use serde::Deserialize;

use super::scope::{self, Values};
use super::{Body, Filter, Inbound, KEYLESS, Listing, Recipient, Scope, insert, recipient_sql};
use crate::base::ids::{ClientId, MemberKey, MessageId, PublicKey, SessionKey, Slug};
use crate::base::time::Millis;
use crate::store::db::Db;
use crate::store::{Error, RowId, Seq, count, limit_sql};
use crate::wire::json;
use crate::wire::priority::Priority;

/// The first column orders rows by arrival.
const COLUMNS: &str = "rowid AS place, seq, id, mesh, recipient_pubkey, recipient_kind, sender_pubkey, sender_member_pubkey,
    sender_name, coalesce(client_id, client_message_id), broker_message_id, body, unreadable, nonce, ciphertext, plain,
    topic, reply_to_id, priority, subtype, created_at, meta, received_at, seen_at, offered_at, offered_by,
    seal, mentions, mentioned, sent_to";

/// How far back a search in the text goes: about a tenth of a second.
const SEARCHED_ROWS: i64 = 100_000;

/// Where counting what is unread ends, for each kind of recipient.
const COUNTED_ROWS: usize = 10_000;

/// How far the clock may have been set back while messages came in without hiding any from a listing by time.
const CLOCK_SLACK: Millis = 2 * 3_600_000;

pub(super) fn read(row: &SqlRow<'_>) -> rusqlite::Result<Inbound> {
    let text = |name: &str| row.get::<_, Option<String>>(name);
    let key = |name: &str| Ok::<_, rusqlite::Error>(text(name)?.and_then(|key| PublicKey::parse(&key)));
    let recipient = key("recipient_pubkey")?.map(|key| match text("recipient_kind") {
        Ok(Some(kind)) if kind == "member" => Recipient::Member(MemberKey(key)),
        Ok(Some(kind)) if kind == KEYLESS => Recipient::Keyless(MemberKey(key)),
        _ => Recipient::Session(SessionKey(key)),
    });
    let created_at = match text("created_at")? {
        None => text("meta")?.and_then(|meta| created_at(&meta)),
        known => known,
    };
    Ok(Inbound {
        seq: Seq::from_sql(row.get("seq")?),
        id: RowId::new(row.get::<_, String>("id")?),
        mesh: Slug::new(row.get::<_, String>("mesh")?),
        recipient,
        sender_pubkey: row.get("sender_pubkey")?,
        sender_member: key("sender_member_pubkey")?.map(MemberKey),
        sender_name: row.get("sender_name")?,
        client_id: ClientId::new(row.get::<_, String>(9)?),
        broker_id: text("broker_message_id")?.map(MessageId::new),
        body: body(row)?,
        seal: text("seal")?.and_then(|seal| json::decode(seal.as_bytes()).ok()),
        topic: text("topic")?,
        sent_to: text("sent_to")?,
        mentions: text("mentions")?.and_then(|names| json::decode(names.as_bytes()).ok()).unwrap_or_default(),
        mentioned: row.get::<_, Option<bool>>("mentioned")? == Some(true),
        reply_to: text("reply_to_id")?,
        priority: text("priority")?.and_then(|text| Priority::parse(&text)).unwrap_or_default(),
        subtype: text("subtype")?,
        created_at,
        received_at: row.get("received_at")?,
        seen_at: row.get("seen_at")?,
        offered_at: row.get("offered_at")?,
        offered_by: text("offered_by")?,
    })
}

fn body(row: &SqlRow<'_>) -> rusqlite::Result<Body> {
    let text = |name: &str| Ok::<_, rusqlite::Error>(row.get::<_, Option<String>>(name)?.unwrap_or_default());
    match row.get::<_, Option<String>>("body")? {
        Some(body) if row.get::<_, Option<bool>>("plain")? == Some(true) => Ok(Body::Plain(body)),
        Some(body) => Ok(Body::Opened(body)),
        None => {
            let reason = row.get::<_, Option<String>>("unreadable")?;
            // The reference keeps no more than the absence of a body.
            let reason = reason.unwrap_or_else(|| "not_opened".to_owned());
            Ok(Body::Unreadable { reason, nonce: text("nonce")?, ciphertext: text("ciphertext")? })
        }
    }
}

/// The reference keeps the broker's time in `meta` alone.
fn created_at(meta: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Meta {
        created_at: Option<String>,
    }
    json::decode::<Meta>(meta.as_bytes()).ok()?.created_at
}

pub(super) fn last_seq(db: &Db<'_>) -> Result<Seq, Error> {
    insert::last_seq(db).map(Seq::from_sql)
}

pub(super) fn since(db: &Db<'_>, after: Seq, scope: Scope, limit: usize) -> Result<Vec<Inbound>, Error> {
    let first: Option<i64> =
        db.first("SELECT rowid FROM inbox INDEXED BY inbox_seq WHERE seq > ?1 ORDER BY seq LIMIT 1", [after.to_sql()], |row| {
            row.get(0)
        })?;
    let Some(first) = first else { return Ok(Vec::new()) };
    let mut values = Values::default();
    let legs = scope::legs(&scope, &mut values);
    let index = if matches!(scope, Scope::Everything) { "NOT INDEXED" } else { "INDEXED BY inbox_recipient" };
    values.set(":first", first);
    values.set(":limit", limit_sql(limit));
    let sql = union(&legs, index, " AND rowid >= :first", "ASC");
    db.all(&sql, values.bind().as_slice(), read)
}

/// One query for each leg, merged by arrival without sorting.
pub(super) fn union(legs: &[&str], index: &str, conditions: &str, order: &str) -> String {
    let select = |leg: &&str| format!("SELECT {COLUMNS} FROM inbox {index} WHERE {leg}{conditions}");
    let all: Vec<String> = legs.iter().map(select).collect();
    format!("{} ORDER BY place {order} LIMIT :limit", all.join(" UNION ALL "))
}

/// Text of one page above which it ends, in bytes: what a reply to a reader may cost this process.
const PAGE_BYTES: usize = 4 * 1024 * 1024;

pub(super) fn list(db: &Db<'_>, filter: Filter) -> Result<Listing, Error> {
    let Some(range) = range(db, &filter)? else { return Ok(Listing::default()) };
    let (sql, values) = listing(&filter, &range);
    let (rows, more) = db.some(&sql, values.bind().as_slice(), read, weight, PAGE_BYTES)?;
    let ended = range.is_cut && !more && rows.len() < filter.limit.clamp(1, 1000);
    let searched_back_to = if ended { range.floor.map(|floor| received(db, floor)).transpose()?.flatten() } else { None };
    Ok(Listing { rows, marked: 0, more, searched_back_to })
}

/// When the first message from this place on was received, if there is anything before that.
fn received(db: &Db<'_>, floor: i64) -> Result<Option<Millis>, Error> {
    let one = |sql| db.first(sql, [floor], |row| row.get::<_, Millis>(0));
    let before = one("SELECT received_at FROM inbox WHERE rowid < ?1 ORDER BY rowid DESC LIMIT 1")?;
    Ok(before.and(one("SELECT received_at FROM inbox WHERE rowid >= ?1 ORDER BY rowid LIMIT 1")?))
}

fn weight(message: &Inbound) -> usize {
    match &message.body {
        Body::Opened(text) | Body::Plain(text) => text.len(),
        Body::Unreadable { nonce, ciphertext, .. } => nonce.len() + ciphertext.len(),
    }
}

/// The rows that are looked at.
#[derive(Debug, Default)]
pub(super) struct Range {
    floor: Option<i64>,
    /// The first that is too new.
    ceiling: Option<i64>,
    /// The floor is not the filter's: a search goes back only so far.
    is_cut: bool,
}

#[cfg(test)]
impl Range {
    pub(super) fn of(floor: i64, ceiling: i64) -> Range {
        Range { floor: Some(floor), ceiling: Some(ceiling), is_cut: false }
    }
}

/// The forms in which a text is looked for, where only ASCII letters are compared in either case: whatever is written in small
/// letters, in capitals, or with a capital in front is found.
fn forms(text: &str) -> [String; 3] {
    let mut rest = text.chars();
    let title = rest.next().map(|first| first.to_uppercase().chain(rest.flat_map(char::to_lowercase)).collect::<String>());
    [text.to_lowercase(), text.to_uppercase(), title.unwrap_or_default()].map(|form| form.to_ascii_lowercase())
}

const LIKE: &str = " AND (lower(sender_name) IN (:like_small, :like_large, :like_title)
    OR substr(sender_pubkey, 1, length(:like_small)) = :like_small)";

const HAS: &str = " AND (instr(lower(coalesce(body, '')), :text_small) > 0 OR instr(lower(coalesce(body, '')), :text_large) > 0
    OR instr(lower(coalesce(body, '')), :text_title) > 0)";

/// The query that lists what matches within a range.
pub(super) fn listing(filter: &Filter, range: &Range) -> (String, Values) {
    let mut values = Values::default();
    let mut conditions = String::new();
    let mut also = |condition: &str, name: &'static str, value: Option<Value>| {
        if let Some(value) = value {
            conditions.push_str(" AND ");
            conditions.push_str(condition);
            values.set(name, value);
        }
    };
    also("rowid >= :floor", ":floor", range.floor.map(Value::from));
    also("rowid < :ceiling", ":ceiling", range.ceiling.map(Value::from));
    also("mesh = :mesh", ":mesh", filter.mesh.as_ref().map(|mesh| Value::from(mesh.to_string())));
    also("received_at >= :since", ":since", filter.since.map(Value::from));
    also("received_at <= :until", ":until", filter.until.map(Value::from));
    also("topic = :topic", ":topic", filter.topic.clone().map(Value::from));
    also("sender_pubkey = :sender", ":sender", filter.sender.clone().map(Value::from));
    if let Some(text) = &filter.sender_like {
        conditions.push_str(LIKE);
        [":like_small", ":like_large", ":like_title"]
            .into_iter()
            .zip(forms(text))
            .for_each(|(name, form)| values.set(name, form));
    }
    if let Some(text) = &filter.text {
        conditions.push_str(HAS);
        [":text_small", ":text_large", ":text_title"]
            .into_iter()
            .zip(forms(text))
            .for_each(|(name, form)| values.set(name, form));
    }
    if filter.unread_only {
        conditions.push_str(" AND seen_at IS NULL");
    }
    values.set(":limit", limit_sql(filter.limit.clamp(1, 1000)));
    let (index, by_recipient) = driver(filter);
    let sql = if by_recipient {
        union(&scope::legs(&filter.scope, &mut values), index, &conditions, "DESC")
    } else {
        union(&[scope::condition(&filter.scope, &mut values).as_str()], index, &conditions, "DESC")
    };
    (sql, values)
}

/// The index that is likely to leave the fewest rows to look at, and whether it is one for a recipient.
fn driver(filter: &Filter) -> (&'static str, bool) {
    match filter.scope {
        _ if filter.sender.is_some() => ("INDEXED BY inbox_sender", false),
        _ if filter.topic.is_some() => ("INDEXED BY inbox_topic", false),
        Scope::Session { .. } if filter.unread_only => ("INDEXED BY inbox_unread", true),
        Scope::Session { .. } => ("INDEXED BY inbox_recipient", true),
        Scope::Everything if filter.unread_only => ("INDEXED BY inbox_seen_at", false),
        Scope::Everything if filter.mesh.is_some() => ("INDEXED BY inbox_mesh", false),
        Scope::Everything => ("NOT INDEXED", false),
    }
}

/// The rows worth looking at, as far as the filter implies them. `None`: there are none.
fn range(db: &Db<'_>, filter: &Filter) -> Result<Option<Range>, Error> {
    let mut range = Range::default();
    if let Some(until) = filter.until {
        range.ceiling = db.first(
            "SELECT rowid FROM inbox INDEXED BY inbox_received_at WHERE received_at > ?1 ORDER BY received_at, rowid LIMIT 1",
            [until.saturating_add(CLOCK_SLACK)],
            |row| row.get::<_, i64>(0),
        )?;
    }
    if let Some(since) = filter.since {
        let oldest = db.first(
            "SELECT rowid FROM inbox INDEXED BY inbox_received_at WHERE received_at >= ?1 ORDER BY received_at, rowid LIMIT 1",
            [since.saturating_sub(CLOCK_SLACK)],
            |row| row.get::<_, i64>(0),
        )?;
        if oldest.is_none() {
            return Ok(None);
        }
        range.floor = oldest;
    }
    if filter.text.is_some() || filter.sender_like.is_some() {
        let newest = db.first("SELECT max(rowid) FROM inbox", [], |row| row.get::<_, Option<i64>>(0))?.flatten();
        let newest = range.ceiling.map(|ceiling| ceiling - 1).or(newest);
        let searched = newest.map(|newest| newest - SEARCHED_ROWS);
        range.is_cut = range.floor < searched;
        range.floor = range.floor.max(searched);
    }
    Ok(Some(range))
}

pub(super) fn list_marking(db: &Db<'_>, filter: Filter, now: Millis) -> Result<Listing, Error> {
    let mut page = list(db, filter)?;
    for row in page.rows.iter().filter(|row| row.seen_at.is_none()) {
        page.marked += db.execute("UPDATE inbox SET seen_at = ?2 WHERE id = ?1", params![row.id.as_str(), now])?;
    }
    Ok(page)
}

pub(super) fn mark_seen(db: &Db<'_>, ids: Vec<RowId>, scope: Scope, now: Millis) -> Result<usize, Error> {
    let mut marked = 0;
    for id in ids {
        let mut values = Values::default();
        let allowed = scope::condition(&scope, &mut values);
        values.set(":id", id.to_string());
        values.set(":now", now);
        let sql = format!("UPDATE inbox SET seen_at = :now WHERE id = :id AND +seen_at IS NULL AND {allowed}");
        marked += db.execute(&sql, values.bind().as_slice())?;
    }
    Ok(marked)
}

pub(super) fn unread(db: &Db<'_>, scope: Scope) -> Result<usize, Error> {
    let mut values = Values::default();
    let legs = scope::legs(&scope, &mut values);
    let index = if matches!(scope, Scope::Everything) { "inbox_seen_at" } else { "inbox_unread" };
    let select = |leg: &str| {
        let unseen = format!("SELECT 1 FROM inbox INDEXED BY {index} WHERE seen_at IS NULL AND {leg} LIMIT {COUNTED_ROWS}");
        format!("(SELECT count(*) FROM ({unseen}))")
    };
    let sum: Vec<String> = legs.into_iter().map(select).collect();
    let unread = db.first(&format!("SELECT {}", sum.join(" + ")), values.bind().as_slice(), |row| row.get::<_, i64>(0))?;
    Ok(count(unread.unwrap_or(0)))
}

pub(super) fn unreadable(db: &Db<'_>, mesh: Slug, recipient: Recipient, after: Seq, limit: usize) -> Result<Vec<Inbound>, Error> {
    let sql = format!(
        "SELECT {COLUMNS} FROM inbox INDEXED BY inbox_unreadable
          WHERE unreadable IS NOT NULL AND mesh = ?1 AND recipient_pubkey = ?2
            AND rowid > coalesce((SELECT rowid FROM inbox INDEXED BY inbox_seq WHERE seq <= ?4 ORDER BY seq DESC LIMIT 1), 0)
          ORDER BY rowid LIMIT ?3"
    );
    db.all(&sql, params![mesh.as_str(), recipient_sql(recipient).0, limit_sql(limit), after.to_sql()], read)
}
