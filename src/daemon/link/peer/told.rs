//! What a link tells senders of their messages, and what it hears of those that were sent from here.

use std::time::Instant;

use super::Talk;
use crate::base::time::Millis;
use crate::daemon::link::receipts::{AGAIN, Told};
use crate::daemon::link::{Farewell, Reply};
use crate::daemon::{inbound, receipts};
use crate::net::ws::{Flow, Outbox};
use crate::store::{self, Seq, inbox};
use crate::wire::client::ClientFrame;
use crate::wire::receipt::{HandIn, MAX_RECEIPTS, Receipt, Stage, TakeReceipts};
use crate::wire::server::ServerFrame;

/// What a broker is to pass on: as it was noted, and signed.
struct Due {
    told: Told,
    receipts: Vec<Receipt>,
    /// There was a frame's worth or more.
    more: bool,
}

impl Talk<'_> {
    /// The broker passes on what recipients say.
    pub(super) fn receipts_pass(&mut self, out: &mut Outbox) {
        self.outlet.open(Instant::now());
        // What is for the member's sessions, those included that have ended, comes to its daemons.
        if self.identity.session.is_none() {
            out.text(ClientFrame::TakeReceipts(TakeReceipts::default()).encode());
        }
    }

    /// What was handed in under this ticket, if it was, is with the broker now, or is handed in again.
    pub(super) fn handed_in(&mut self, ticket: u64, reply: &Reply) {
        let kept = matches!(reply, Ok(Some(ServerFrame::ReceiptsAck(_))));
        if let Some(told) = self.outlet.answered(ticket, kept, Instant::now())
            && let Err(err) = self.ctx.inbox.receipts_told(told)
        {
            // They are told once more, and the broker knows them then.
            log::warn!("inbox: {err}");
            self.ctx.store_failed(&err);
        }
    }

    /// Hands in what senders are to be told, a frame's worth.
    pub(super) fn tell_senders(&mut self, now: Instant) {
        let Some(Due { told, receipts, more }) = self.due() else {
            self.outlet.later(now);
            return;
        };
        if receipts.is_empty() {
            if more {
                self.outlet.at_once(now);
            }
            return;
        }
        self.next_ticket += 1;
        self.outlet.sent(self.next_ticket, told);
        let frame = |id| ClientFrame::Receipts(HandIn { receipts, req_id: Some(id) });
        self.state.call(self.next_ticket, frame, now, &mut self.effects);
    }

    /// Before the connection is closed: a session that ends can sign nothing later. The answer is not waited for.
    pub(super) fn last_words(&mut self, out: &mut Outbox) {
        if self.outlet.is_on()
            && let Some(Due { receipts, .. }) = self.due()
            && !receipts.is_empty()
        {
            out.text(ClientFrame::Receipts(HandIn { receipts, req_id: None }).encode());
        }
    }

    pub(super) fn stop(&mut self, farewell: Farewell, out: &mut Outbox) -> Flow {
        self.last_words(out);
        self.done.stopped = true;
        let (code, reason) = farewell.close();
        Flow::close(code, reason)
    }

    /// A frame's worth of what senders are to be told; those who are here themselves have been.
    fn due(&self) -> Option<Due> {
        let own = &self.identity.membership;
        let scope = inbound::recipient(own.key, self.identity.session_key());
        let due = self.noted(self.ctx.inbox.receipts_due(own.slug.clone(), scope, MAX_RECEIPTS))?;
        let more = due.len() == MAX_RECEIPTS;
        let session = self.identity.session.as_ref().and_then(|session| session.key.as_ref());
        let (recipient, secret) = session.map_or((own.key.0, &own.secret), |pair| (pair.public, &pair.secret));
        // Where this fails a broker can still pass all of it on.
        let kept = self.noted(receipts::keep_own(self.ctx, own, recipient, &due)).unwrap_or_default();
        let (kept, due): (Vec<_>, Vec<_>) = due.into_iter().partition(|due| kept.contains(&due.seq));
        let written = kept.is_empty() || self.noted(self.ctx.inbox.receipts_told(kept.iter().map(place).collect())).is_some();
        if !written && due.is_empty() {
            return None;
        }
        let told = due.iter().map(place).collect();
        let receipts = due.into_iter().map(|due| receipts::sign(due, &own.mesh, recipient, secret)).collect();
        Some(Due { told, receipts, more })
    }

    fn noted<T>(&self, result: Result<T, store::Error>) -> Option<T> {
        let failed = |err: &store::Error| {
            log::warn!("{err}; what senders are to be told waits");
            self.ctx.store_failed(err);
        };
        result.inspect_err(failed).ok()
    }

    /// Keeps what recipients said of messages that were sent from here, and lets the broker forget it.
    pub(super) fn take_receipts(&mut self, now: Instant, out: &mut Outbox) {
        if self.said.is_empty() || self.said_again.is_some_and(|at| now < at) {
            return;
        }
        self.said_again = None;
        match receipts::take(self.ctx, &self.identity.membership, &self.said) {
            Ok(taken) => {
                self.said.clear();
                out.text(ClientFrame::TakeReceipts(TakeReceipts { taken }).encode());
            }
            // The broker gives nothing more until these are answered.
            Err(err) => {
                log::warn!("outbox: {err}; what recipients said waits to be kept");
                self.ctx.store_failed(&err);
                self.said_again = Some(Instant::now() + AGAIN);
            }
        }
    }
}

fn place(due: &inbox::Due) -> (Seq, Stage, Millis) {
    (due.seq, due.stage, due.at)
}
