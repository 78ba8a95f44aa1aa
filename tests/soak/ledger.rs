//! What was accepted, what arrived, and the difference.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::Value;

/// A message to everyone of a mesh, or to a group of it.
#[derive(Debug)]
pub(super) struct ToMany {
    pub(super) id: String,
    /// Who of them must have it: all, where nothing went wrong meanwhile.
    pub(super) must: BTreeSet<usize>,
    /// Who of them may have it.
    pub(super) may: BTreeSet<usize>,
}

/// One session's inbox, and what it should be.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// How many messages were accepted from each session to each other one.
    direct: BTreeMap<(usize, usize), u64>,
    many: HashMap<String, ToMany>,
    /// The ids that came, in the order in which they came, by session.
    arrived: BTreeMap<usize, Vec<String>>,
    unreadable: u64,
}

/// The difference.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Wrong {
    pub(super) lost: u64,
    pub(super) doubled: u64,
    pub(super) misordered: u64,
    /// In the inbox of somebody for whom it was not, or never sent at all.
    pub(super) misplaced: u64,
    pub(super) unreadable: u64,
    /// The first few, in words.
    pub(super) examples: Vec<String>,
}

/// The client id of the `number`th message from one session to another.
pub(super) fn direct_id(from: usize, to: usize, number: u64) -> String {
    format!("d-{from}-{to}-{number}")
}

fn parse_direct(id: &str) -> Option<(usize, usize, u64)> {
    let mut parts = id.strip_prefix("d-")?.split('-');
    let parsed = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    parts.next().is_none().then_some(parsed)
}

impl Ledger {
    /// The next direct message from one to another was accepted.
    pub(super) fn accepted(&mut self, from: usize, to: usize) {
        *self.direct.entry((from, to)).or_default() += 1;
    }

    pub(super) fn accepted_for_many(&mut self, message: ToMany) {
        self.many.insert(message.id.clone(), message);
    }

    pub(super) fn direct_count(&self) -> u64 {
        self.direct.values().sum()
    }

    pub(super) fn many_count(&self) -> usize {
        self.many.len()
    }

    /// Whether the session has as many direct messages, and as many of those to many that it must have, as it should.
    pub(super) fn is_complete(&self, session: usize) -> bool {
        let direct: u64 = self.direct.iter().filter(|((_, to), _)| *to == session).map(|(_, count)| count).sum();
        let many = self.many.values().filter(|message| message.must.contains(&session)).count() as u64;
        let arrived = self.arrived.get(&session).map_or(&[][..], Vec::as_slice);
        let must = |id: &String| id.starts_with("d-") || self.many.get(id).is_some_and(|message| message.must.contains(&session));
        direct + many <= arrived.iter().filter(|id| must(id)).count() as u64
    }

    /// Rows that a session has not seen before, in their order. Member mail is everybody's and counts for nobody.
    pub(super) fn arrived(&mut self, session: usize, rows: &[Value]) {
        for row in rows.iter().filter(|row| row["recipient_kind"] == "session") {
            let id = row["client_message_id"].as_str().unwrap_or_default().to_owned();
            let text = row["body"].as_str();
            self.unreadable += u64::from(text.is_none_or(|text| text.split(' ').next() != Some(&id)));
            self.arrived.entry(session).or_default().push(id);
        }
    }

    pub(super) fn check(&self) -> Wrong {
        let mut wrong = Wrong { unreadable: self.unreadable, ..Wrong::default() };
        let mut numbers: BTreeMap<(usize, usize), Vec<u64>> = BTreeMap::new();
        let mut many: BTreeMap<(&str, usize), u64> = BTreeMap::new();
        for (session, ids) in &self.arrived {
            for id in ids {
                match (parse_direct(id), self.many.get(id)) {
                    (Some((from, to, number)), _) if to == *session && number < self.count(from, to) => {
                        numbers.entry((from, to)).or_default().push(number);
                    }
                    (None, Some(message)) if message.may.contains(session) => {
                        *many.entry((message.id.as_str(), *session)).or_default() += 1;
                    }
                    _ => wrong.note(|wrong| &mut wrong.misplaced, 1, || format!("{id} in the inbox of {session}")),
                }
            }
        }
        for (pair, count) in &self.direct {
            wrong.compare(*pair, *count, numbers.get(pair).map_or(&[], Vec::as_slice));
        }
        for message in self.many.values() {
            for session in &message.must {
                let missing = !many.contains_key(&(message.id.as_str(), *session));
                wrong.note(|wrong| &mut wrong.lost, u64::from(missing), || format!("{} for {session}", message.id));
            }
        }
        for ((id, session), count) in many {
            wrong.note(|wrong| &mut wrong.doubled, count - 1, || format!("{id} for {session}"));
        }
        wrong
    }

    fn count(&self, from: usize, to: usize) -> u64 {
        self.direct.get(&(from, to)).copied().unwrap_or(0)
    }
}

impl Wrong {
    pub(super) fn is_nothing(&self) -> bool {
        *self == Wrong::default()
    }

    fn note(&mut self, what: fn(&mut Wrong) -> &mut u64, count: u64, example: impl FnOnce() -> String) {
        *what(self) += count;
        if 0 < count && self.examples.len() < 10 {
            self.examples.push(example());
        }
    }

    /// One sender and recipient: each number below `count` once, and growing.
    fn compare(&mut self, pair: (usize, usize), count: u64, numbers: &[u64]) {
        let seen: BTreeSet<u64> = numbers.iter().copied().collect();
        let steps = numbers.windows(2).filter(|two| two[1] < two[0]).count() as u64;
        self.note(
            |wrong| &mut wrong.lost,
            count - seen.len() as u64,
            || {
                let first = (0..count).find(|number| !seen.contains(number));
                format!("{pair:?}: {first:?} of {count} is lost")
            },
        );
        self.note(
            |wrong| &mut wrong.doubled,
            (numbers.len() - seen.len()) as u64,
            || format!("{pair:?}: doubled in {numbers:?}"),
        );
        self.note(|wrong| &mut wrong.misordered, steps, || format!("{pair:?}: out of order: {numbers:?}"));
    }
}

/// A checker that lets a lost message pass would hide what the soak is for.
#[test]
fn the_ledger_notices_everything() {
    use serde_json::json;
    let row = |id: &str| json!({"client_message_id": id, "body": format!("{id} x"), "recipient_kind": "session"});
    let check = |ids: &[&str]| {
        let mut ledger = Ledger::default();
        for _ in 0..3 {
            ledger.accepted(1, 2);
        }
        let message =
            |id: &str, must: &[usize]| ToMany { id: id.into(), must: must.iter().copied().collect(), may: [1, 2].into() };
        ledger.accepted_for_many(message("b-0", &[2]));
        ledger.accepted_for_many(message("b-1", &[]));
        ledger.arrived(2, &ids.iter().map(|id| row(id)).collect::<Vec<_>>());
        ledger.arrived(2, &[json!({"client_message_id": "b-9", "body": "member mail", "recipient_kind": "member"})]);
        let wrong = ledger.check();
        ([wrong.lost, wrong.doubled, wrong.misordered, wrong.misplaced], ledger.is_complete(2))
    };
    let good = ["d-1-2-0", "b-0", "d-1-2-1", "d-1-2-2"];
    assert_eq!(check(&good), ([0, 0, 0, 0], true));
    assert_eq!(check(&[&good[..], &["b-1"]].concat()), ([0, 0, 0, 0], true), "it may have this one");
    assert_eq!(check(&good[..3]), ([1, 0, 0, 0], false), "the last one lost");
    assert_eq!(check(&good[2..]), ([2, 0, 0, 0], false), "the first and the broadcast lost");
    assert_eq!(check(&["d-1-2-0", "d-1-2-2", "d-1-2-1", "b-0"]), ([0, 0, 1, 0], true));
    assert_eq!(check(&[&good[..], &["d-1-2-2"]].concat()), ([0, 1, 0, 0], true));
    assert_eq!(check(&[&good[..], &["b-0"]].concat()), ([0, 1, 0, 0], true));
    for stray in ["d-1-2-3", "d-1-3-0", "b-7", "x"] {
        assert_eq!(check(&[&good[..], &[stray]].concat()).0, [0, 0, 0, 1], "{stray}");
    }
    let mut garbled = Ledger::default();
    garbled.arrived(2, &[json!({"client_message_id": "d-1-2-0", "body": null, "recipient_kind": "session"})]);
    assert!(!garbled.check().is_nothing() && garbled.check().unreadable == 1);
}
