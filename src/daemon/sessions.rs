//! The sessions of this machine: who holds which token, on which mesh, with which key.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::base::ids::{SessionId, SessionKey, Slug, Token};
use crate::base::time::Millis;
use crate::crypto;
use crate::crypto::keys::KeyPair;
use crate::sys::process::StartTime;
use crate::wire::peer::{Reach, Status};

use super::outward::{self, Outward};

/// A token as it is kept: only its hash, in memory as on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct TokenHash(pub(super) [u8; 32]);

impl TokenHash {
    pub(super) fn of(token: &Token) -> TokenHash {
        // The hex text is hashed, not the bytes, so that the reference's plain tokens hash to the same.
        TokenHash(crypto::fingerprint::sha256(token.reveal().as_bytes()))
    }
}

/// Tells one registration from every other, of the same token too.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Serial(pub(super) u64);

/// One registered session.
#[derive(Debug)]
pub(super) struct Session {
    /// Given by the table.
    pub(super) serial: Serial,
    pub(super) token: TokenHash,
    /// First eight characters of the token.
    pub(super) token_prefix: String,
    pub(super) id: SessionId,
    pub(super) mesh: Slug,
    pub(super) name: String,
    pub(super) pid: u32,
    /// When that process began: the same pid later is another process.
    pub(super) started: Option<StartTime>,
    pub(super) cwd: Option<String>,
    pub(super) role: Option<String>,
    /// The only rights it was launched with; `None` with all of them.
    pub(super) caps: Option<Vec<String>>,
    pub(super) outward: Mutex<Outward>,
    /// Without a key it has no address of its own and no link.
    pub(super) key: Option<KeyPair>,
    pub(super) registered_at: Millis,
}

impl Session {
    pub(super) fn public_key(&self) -> Option<SessionKey> {
        self.key.as_ref().map(|key| SessionKey(key.public))
    }

    /// What it says of itself now.
    pub(super) fn outward(&self) -> Outward {
        self.outward.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Its status and how it is said to be reached: what is looked at all the time, without a copy of all the rest.
    pub(super) fn standing(&self) -> (Option<Status>, Option<Vec<Reach>>) {
        let outward = self.outward.lock().unwrap_or_else(PoisonError::into_inner);
        (outward.status, outward.reach.clone())
    }

    /// Changes what it says of itself.
    pub(super) fn change(&self, change: impl FnOnce(&mut Outward)) {
        change(&mut self.outward.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// The groups as the local API spells them: `@name` or `@name:role`.
    pub(super) fn group_texts(&self) -> Vec<String> {
        self.outward().groups.iter().map(outward::group_text).collect()
    }
}

/// The table of sessions. Guards only the map; what it hands out is shared and unchanging. Only the supervisor changes it,
/// so that what it does about a change can not be overtaken by the next one.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    by_token: HashMap<TokenHash, Arc<Session>>,
    /// Sessions that have ended and left something to be sent under their keys.
    departed: HashMap<SessionKey, Arc<Session>>,
    last: u64,
}

impl Sessions {
    /// Adds a session, and takes out those it replaces: the same token, the same session id, or the same key; one that had
    /// ended is among them if it had that key.
    pub(super) fn insert(&self, mut session: Session) -> (Arc<Session>, Vec<Arc<Session>>) {
        let mut table = self.lock();
        table.last += 1;
        session.serial = Serial(table.last);
        let session = Arc::new(session);
        let replaced: Vec<TokenHash> =
            table.by_token.values().filter(|old| replaces(&session, old)).map(|old| old.token).collect();
        let mut replaced: Vec<Arc<Session>> = replaced.iter().filter_map(|token| table.by_token.remove(token)).collect();
        replaced.extend(session.public_key().and_then(|key| table.departed.remove(&key)));
        table.by_token.insert(session.token, session.clone());
        (session, replaced)
    }

    /// Puts a session that is on a mesh with another name now in the place of what it was.
    pub(super) fn rename(&self, session: Session) {
        self.lock().by_token.insert(session.token, Arc::new(session));
    }

    pub(super) fn remove(&self, token: &TokenHash) -> Option<Arc<Session>> {
        self.lock().by_token.remove(token)
    }

    /// Takes out the session of this one registration, if it is there still.
    pub(super) fn remove_serial(&self, serial: Serial) -> Option<Arc<Session>> {
        let mut table = self.lock();
        let token = table.by_token.values().find(|session| session.serial == serial)?.token;
        table.by_token.remove(&token)
    }

    pub(super) fn get(&self, token: &TokenHash) -> Option<Arc<Session>> {
        self.lock().by_token.get(token).cloned()
    }

    /// All sessions, oldest registration first.
    pub(super) fn all(&self) -> Vec<Arc<Session>> {
        let mut all: Vec<Arc<Session>> = self.lock().by_token.values().cloned().collect();
        all.sort_by(|a, b| (a.registered_at, &a.id).cmp(&(b.registered_at, &b.id)));
        all
    }

    /// Whether a session of this mesh has no key of its own.
    pub(super) fn has_keyless(&self, mesh: &Slug) -> bool {
        self.lock().by_token.values().any(|session| session.mesh == *mesh && session.key.is_none())
    }

    /// The session that holds this key.
    pub(super) fn by_key(&self, key: &SessionKey) -> Option<Arc<Session>> {
        self.lock().by_token.values().find(|session| session.public_key() == Some(*key)).cloned()
    }

    /// Keeps a session that has ended for what it left to be sent. One without a key has left nothing.
    pub(super) fn depart(&self, session: Arc<Session>) {
        if let Some(key) = session.public_key() {
            self.lock().departed.insert(key, session);
        }
    }

    /// Those that have ended and left something to be sent.
    pub(super) fn departed(&self) -> Vec<Arc<Session>> {
        self.lock().departed.values().cloned().collect()
    }

    /// Nothing is left to be sent under this key.
    pub(super) fn forget_departed(&self, key: &SessionKey) {
        self.lock().departed.remove(key);
    }

    /// Who may sign with this key: the session that holds it, or that held it and has left something to be sent.
    pub(super) fn signer(&self, key: &SessionKey) -> Option<Arc<Session>> {
        self.by_key(key).or_else(|| self.lock().departed.get(key).cloned())
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn replaces(new: &Session, old: &Session) -> bool {
    new.token == old.token || new.id == old.id || (new.key.is_some() && new.public_key() == old.public_key())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::daemon) fn session(token: u8, id: &str, key: Option<u8>) -> Session {
        Session {
            serial: Serial::default(),
            token: TokenHash([token; 32]),
            token_prefix: "00".into(),
            id: SessionId::new(id),
            mesh: Slug::new("home"),
            name: id.into(),
            pid: 1,
            started: None,
            cwd: None,
            role: None,
            caps: None,
            outward: Mutex::default(),
            key: key.map(|seed| KeyPair::from_seed([seed; 32])),
            registered_at: 0,
        }
    }

    #[test]
    fn a_registration_replaces_the_same_token_id_or_key_and_nothing_else() {
        let sessions = Sessions::default();
        assert!(sessions.insert(session(1, "a", Some(1))).1.is_empty());
        assert!(sessions.insert(session(2, "b", None)).1.is_empty());
        assert!(sessions.insert(session(3, "c", None)).1.is_empty(), "two without a key are two");
        let ids = |replaced: Vec<Arc<Session>>| replaced.iter().map(|old| old.id.to_string()).collect::<Vec<_>>();
        assert_eq!(ids(sessions.insert(session(4, "b", Some(2))).1), ["b"]);
        assert_eq!(ids(sessions.insert(session(5, "d", Some(1))).1), ["a"]);
        assert_eq!(ids(sessions.insert(session(5, "e", Some(3))).1), ["d"]);
        assert_eq!(sessions.all().len(), 3);
        assert!(sessions.get(&TokenHash([1; 32])).is_none());
    }
}
