//! Messages of the daemon's own that try a session's ways in, one for each path and for that path alone. They are in no inbox: they
//! last as long as somebody waits to hear which of them came through.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::base::ids::{ClientId, Slug};
use crate::base::time::{Millis, iso};
use crate::crypto::random;
use crate::wire::ipc::{CANARY, CanaryState, InboxItem, Path};
use crate::wire::priority::Priority;

use super::sessions::Serial;

/// What it says to the model.
const TEXT: &str = "This is a test of claudemesh by its user (claudemesh doctor --live): mail gets in by this way. It is from no peer, \
                    and there is nothing to do or to answer.";

/// Most canaries of one test.
pub(super) const MAX: usize = 512;

/// The test that runs, if one does. Guards nothing else.
#[derive(Debug, Default)]
pub(super) struct Canaries(Mutex<Option<Test>>);

#[derive(Debug)]
struct Test {
    canaries: Vec<Canary>,
    /// Rung when one of them gets on.
    bell: Sender<()>,
}

/// One of them.
#[derive(Debug, Clone)]
pub(super) struct Canary {
    id: String,
    pub(super) session: Serial,
    pub(super) path: Path,
    /// Whether the test waits for it: its path is open, and needs nobody's doing.
    pub(super) due: bool,
    pub(super) state: CanaryState,
}

impl Canary {
    pub(super) fn new(session: Serial, path: Path, due: bool) -> Canary {
        Canary { id: format!("{CANARY}{}", random::uuid_v4()), session, path, due, state: CanaryState::Waiting }
    }
}

/// A test that runs until this is dropped.
#[derive(Debug)]
pub(super) struct Running<'a> {
    canaries: &'a Canaries,
    /// Says that one of them got on.
    pub(super) bell: Receiver<()>,
}

impl Canaries {
    /// Lets them go. `None` while another test runs.
    pub(super) fn release(&self, canaries: Vec<Canary>) -> Option<Running<'_>> {
        let mut test = self.lock();
        if test.is_some() {
            return None;
        }
        let (bell, heard) = bounded(1);
        *test = Some(Test { canaries, bell });
        Some(Running { canaries: self, bell: heard })
    }

    /// The one that waits for this path, which has it from now on.
    pub(super) fn claim(&self, session: Serial, mesh: &Slug, path: Path, now: Millis) -> Option<InboxItem> {
        let moved = self.advance(session, path, |canary| {
            canary.state == CanaryState::Waiting
                && std::mem::replace(&mut canary.state, CanaryState::Claimed) == CanaryState::Waiting
        });
        moved.map(|id| item(id, mesh, now))
    }

    /// Notes that it stands before the model, and takes it out of `ids`. Returns how many that was.
    pub(super) fn offered(&self, session: Serial, path: Path, ids: &mut Vec<String>) -> usize {
        self.settle(session, path, ids, CanaryState::Arrived)
    }

    /// Takes it back.
    pub(super) fn unclaim(&self, session: Serial, path: Path, ids: &mut Vec<String>) -> usize {
        self.settle(session, path, ids, CanaryState::Waiting)
    }

    fn settle(&self, session: Serial, path: Path, ids: &mut Vec<String>, state: CanaryState) -> usize {
        let named: Vec<String> = ids.iter().filter(|id| id.starts_with(CANARY)).cloned().collect();
        ids.retain(|id| !id.starts_with(CANARY));
        let settled = self.advance(session, path, |canary| {
            let is_it = named.contains(&canary.id) && canary.state == CanaryState::Claimed;
            if is_it {
                canary.state = state;
            }
            is_it
        });
        usize::from(settled.is_some())
    }

    fn advance(&self, session: Serial, path: Path, change: impl Fn(&mut Canary) -> bool) -> Option<String> {
        let mut test = self.lock();
        let test = test.as_mut()?;
        let canary = test.canaries.iter_mut().find(|canary| canary.session == session && canary.path == path)?;
        if !change(canary) {
            return None;
        }
        // A bell that has rung and was not heard yet says the same.
        let _ = test.bell.try_send(());
        Some(canary.id.clone())
    }

    fn lock(&self) -> MutexGuard<'_, Option<Test>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Running<'_> {
    /// How they are now.
    pub(super) fn all(&self) -> Vec<Canary> {
        self.canaries.lock().as_ref().map(|test| test.canaries.clone()).unwrap_or_default()
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        *self.canaries.lock() = None;
    }
}

fn item(id: String, mesh: &Slug, now: Millis) -> InboxItem {
    InboxItem {
        client_message_id: ClientId::new(id.clone()),
        id,
        broker_message_id: None,
        mesh: mesh.clone(),
        topic: None,
        sent_to: None,
        sender_pubkey: String::new(),
        sender_name: "claudemesh".to_owned(),
        body: Some(TEXT.to_owned()),
        received_at: iso(now),
        reply_to_id: None,
        seen_at: None,
        recipient_pubkey: None,
        recipient_kind: None,
        priority: Priority::Now,
        sender_member_pubkey: None,
        unreadable: None,
        plain: true,
        mentions: Vec::new(),
        mentioned: false,
        seq: 0,
        offered_at: None,
        offered_by: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_for_one_path_of_one_session_and_comes_once() {
        let canaries = Canaries::default();
        let (mesh, one, two) = (Slug::new("home"), Serial(1), Serial(2));
        assert!(canaries.claim(one, &mesh, Path::Wake, 0).is_none(), "no test runs");
        let test = canaries.release(vec![Canary::new(one, Path::Wake, true), Canary::new(one, Path::Stop, false)]).unwrap();
        assert!(canaries.release(Vec::new()).is_none(), "one test at a time");
        assert!(canaries.claim(two, &mesh, Path::Wake, 0).is_none());
        let woken = canaries.claim(one, &mesh, Path::Wake, 0).unwrap();
        assert!(woken.id.starts_with(CANARY) && woken.sender_pubkey.is_empty());
        assert!(canaries.claim(one, &mesh, Path::Wake, 0).is_none());
        assert!(test.bell.try_recv().is_ok());

        let mut ids = vec!["a row".to_owned(), woken.id.clone()];
        assert_eq!(canaries.offered(one, Path::Stop, &mut ids.clone()), 0, "another path's");
        assert_eq!((canaries.unclaim(one, Path::Wake, &mut ids), ids), (1, vec!["a row".to_owned()]));
        assert_eq!(canaries.claim(one, &mesh, Path::Wake, 0).map(|item| item.id), Some(woken.id.clone()));
        assert_eq!(canaries.offered(one, Path::Wake, &mut vec![woken.id.clone()]), 1);
        assert_eq!(canaries.offered(one, Path::Wake, &mut vec![woken.id]), 0);
        let states: Vec<CanaryState> = test.all().iter().map(|canary| canary.state).collect();
        assert_eq!(states, [CanaryState::Arrived, CanaryState::Waiting]);
        drop(test);
        assert!(canaries.claim(one, &mesh, Path::Stop, 0).is_none(), "nobody waits for it any more");
    }
}
