//! Receipts: handed in by recipients, kept, and given to the daemons of the sender's member, a frame at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::base::time::now_millis;
use crate::broker::Shared;
use crate::broker::conn::{Seat, error};
use crate::broker::presence::Kind;
use crate::net::ws::Outbox;
use crate::store::hub;
use crate::wire::code::Code;
use crate::wire::receipt::{HandIn, HandedIn, MAX_RECEIPTS, Receipts as Frame, TakeReceipts};
use crate::wire::server::ServerFrame;

use super::found;

/// Whose turn it is. A word of the daemon's out of its turn costs nothing, whatever it says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Turn {
    /// It has not asked for any.
    #[default]
    Off,
    /// It waits for some.
    Ready,
    /// It was given some, and has to say which it has.
    Given,
}

/// What one connection is given.
#[derive(Debug, Default)]
pub(in crate::broker) struct Receipts {
    /// Some wait.
    waits: Arc<AtomicBool>,
    turn: Turn,
    /// Everything up to here has been given.
    cursor: u64,
}

/// Keeps what a recipient says, as far as it is a recipient's own to say, and tells the senders' daemons.
pub(in crate::broker) fn hand_in(shared: &Shared, seat: &Seat, ask: HandIn, out: &mut Outbox) {
    let HandIn { receipts, req_id } = ask;
    let Some(recipient) = seat.mail_key().filter(|_| receipts.len() <= MAX_RECEIPTS) else {
        let text = format!("at most {MAX_RECEIPTS} receipts at a time, from a member's daemon or a session");
        return error(out, Code::Invalid, &text, None, req_id);
    };
    let handed = hub::HandedIn { mesh: seat.mesh.clone(), recipient, receipts, now: now_millis() };
    let kept = shared.hub.hand_in(Box::new(handed));
    let Some(kept) = found(shared, kept, req_id.as_ref(), out) else { return };
    kept.members.iter().for_each(|member| shared.router.receipts(&seat.mesh, *member));
    out.text(ServerFrame::ReceiptsAck(HandedIn { kept: kept.count, req_id }).encode());
}

impl Receipts {
    /// What says that some wait.
    pub(in crate::broker) fn flag(&self) -> Arc<AtomicBool> {
        self.waits.clone()
    }

    /// The daemon wants more, and has these.
    pub(in crate::broker) fn take(&mut self, shared: &Shared, seat: &Seat, ask: &TakeReceipts) {
        if seat.kind != Kind::Member || self.turn == Turn::Ready {
            return;
        }
        if self.turn == Turn::Given && !ask.taken.is_empty() {
            let taken = ask.taken.iter().copied().take(MAX_RECEIPTS).collect();
            if let Err(err) = shared.hub.receipts_taken(seat.member.id.clone(), taken) {
                // Whoever has them is given them once more, and knows them then.
                log::error!("hub: {err}");
                shared.store_failed(&err);
            }
        }
        self.turn = Turn::Ready;
        self.waits.store(true, Ordering::Release);
    }

    /// Gives it the next, if it is ready for them. Mail goes first.
    pub(in crate::broker) fn fetch(&mut self, shared: &Shared, seat: &Seat, out: &mut Outbox) {
        if self.turn != Turn::Ready || !out.has_room() || !self.waits.swap(false, Ordering::AcqRel) {
            return;
        }
        match shared.hub.receipts(seat.member.id.clone(), self.cursor, MAX_RECEIPTS) {
            Ok(receipts) => {
                let Some(last) = receipts.last() else { return };
                self.cursor = last.n;
                self.turn = Turn::Given;
                out.text(ServerFrame::Receipts(Frame { receipts }).encode());
            }
            Err(err) => {
                log::error!("hub: {err}");
                shared.store_failed(&err);
                self.waits.store(true, Ordering::Release);
            }
        }
    }
}
