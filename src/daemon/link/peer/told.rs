//! What a link tells senders of their messages, and what it hears of those that were sent from here.

use std::time::Instant;

use super::Talk;
use crate::daemon::link::receipts::Told;
use crate::daemon::link::{Farewell, Reply};
use crate::daemon::{inbound, receipts};
use crate::net::ws::{Flow, Outbox};
use crate::wire::client::ClientFrame;
use crate::wire::receipt::{HandIn, MAX_RECEIPTS, Receipt, TakeReceipts};
use crate::wire::server::ServerFrame;

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
        let Some((told, receipts)) = self.due() else { return };
        self.next_ticket += 1;
        self.outlet.sent(self.next_ticket, told);
        let frame = |id| ClientFrame::Receipts(HandIn { receipts, req_id: Some(id) });
        self.state.call(self.next_ticket, frame, now, &mut self.effects);
    }

    /// Before the connection is closed: a session that ends can sign nothing later. The answer is not waited for.
    pub(super) fn last_words(&mut self, out: &mut Outbox) {
        if self.outlet.is_on()
            && let Some((_, receipts)) = self.due()
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

    /// A frame's worth of what senders are to be told, signed.
    fn due(&self) -> Option<(Told, Vec<Receipt>)> {
        let membership = &self.identity.membership;
        let recipient = inbound::recipient(membership.key, self.identity.session_key());
        let due = match self.ctx.inbox.receipts_due(membership.slug.clone(), recipient, MAX_RECEIPTS) {
            Ok(due) => due,
            Err(err) => {
                log::warn!("inbox: {err}; what senders are to be told waits");
                self.ctx.store_failed(&err);
                return None;
            }
        };
        let session = self.identity.session.as_ref().and_then(|session| session.key.as_ref());
        let (key, secret) = session.map_or((membership.key.0, &membership.secret), |pair| (pair.public, &pair.secret));
        let told: Told = due.iter().map(|due| (due.seq, due.stage, due.at)).collect();
        let receipts = due.into_iter().map(|due| receipts::sign(due, &membership.mesh, key, secret)).collect();
        (!told.is_empty()).then_some((told, receipts))
    }

    /// Keeps what recipients said of messages that were sent from here, and lets the broker forget it.
    pub(super) fn take_receipts(&mut self, out: &mut Outbox) {
        if self.said.is_empty() {
            return;
        }
        let said = std::mem::take(&mut self.said);
        match receipts::take(self.ctx, &self.identity.membership, &said) {
            Ok(taken) => out.text(ClientFrame::TakeReceipts(TakeReceipts { taken }).encode()),
            // Nothing more is asked for on this connection; the next begins anew.
            Err(err) => {
                log::warn!("outbox: {err}; receipts are left with the broker");
                self.ctx.store_failed(&err);
            }
        }
    }
}
