//! How much waits for whom, as the commands of one transaction change it: noted here with each copy that comes or goes, and
//! written once, at the transaction's end. Many copies come and go in one transaction, most of them the same recipients'.

use std::collections::HashMap;

use crate::base::ids::{MeshId, PublicKey};

/// For whom: a recipient, or all those of the mesh.
pub(super) type Whose = (MeshId, Option<PublicKey>);

/// How many copies more wait than before, and their bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) copies: i64,
    pub(super) bytes: i64,
}

impl Change {
    fn add(&mut self, other: Change) {
        self.copies += other.copies;
        self.bytes += other.bytes;
    }
}

#[derive(Debug, Default)]
pub(super) struct Sums {
    changes: HashMap<Whose, Change>,
    /// What the command that runs now has changed.
    latest: Vec<(Whose, Change)>,
}

impl Sums {
    /// A copy for a recipient came, or went.
    pub(super) fn note(&mut self, mesh: &MeshId, recipient: PublicKey, change: Change) {
        for whose in [(mesh.clone(), Some(recipient)), (mesh.clone(), None)] {
            self.changes.entry(whose.clone()).or_default().add(change);
            self.latest.push((whose, change));
        }
    }

    /// What the transaction has changed so far.
    pub(super) fn of(&self, whose: &Whose) -> Change {
        self.changes.get(whose).copied().unwrap_or_default()
    }

    /// Another command begins.
    pub(super) fn next_command(&mut self) {
        self.latest.clear();
    }

    /// The command is undone.
    pub(super) fn undo_command(&mut self) {
        for (whose, Change { copies, bytes }) in self.latest.drain(..) {
            self.changes.entry(whose).or_default().add(Change { copies: -copies, bytes: -bytes });
        }
    }

    /// The transaction is over: what it has changed, for whoever writes it down.
    pub(super) fn take(&mut self) -> impl Iterator<Item = (Whose, Change)> + use<> {
        self.latest.clear();
        std::mem::take(&mut self.changes).into_iter().filter(|(_, change)| *change != Change::default())
    }
}
