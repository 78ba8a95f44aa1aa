//! Mail on its way to one connection: fetched in the order in which it was stored, a window at a time, until the
//! recipient has acknowledged it.

use std::collections::VecDeque;

use crate::base::ids::{ClientId, MeshId, MessageId, PublicKey};
use crate::base::time::{iso, now_millis};
use crate::broker::Shared;
use crate::broker::conn::Seat;
use crate::broker::limits::FETCH;
use crate::net::ws::Outbox;
use crate::store::Seq;
use crate::store::hub::{Ack, Stored, Urgency};
use crate::wire::client::ClientAck;
use crate::wire::grant::Capability;
use crate::wire::key::SEALED_BODY;
use crate::wire::limits::PUSH_WINDOW;
use crate::wire::peer::Status;
use crate::wire::server::{Push, ServerFrame};
use crate::wire::target::Target;

/// What was pushed over this connection and is not acknowledged yet.
#[derive(Debug)]
pub(in crate::broker) struct Mailbox {
    /// Everything up to here has been looked at.
    cursor: Seq,
    pushed: VecDeque<Pushed>,
    acks: Vec<MessageId>,
    /// The last fetch stopped before the end.
    more: bool,
    /// Rows fetched at a time: fewer where they are large, so that what has no room is not read over and over.
    page: usize,
}

impl Default for Mailbox {
    fn default() -> Mailbox {
        Mailbox { cursor: Seq::default(), pushed: VecDeque::new(), acks: Vec::new(), more: false, page: FETCH }
    }
}

#[derive(Debug)]
struct Pushed {
    seq: Seq,
    message: MessageId,
    client: Option<ClientId>,
}

impl Mailbox {
    pub(in crate::broker) fn take_ack(&mut self, seat: &Seat, ack: ClientAck) {
        if seat.mail_key().is_none() {
            // Who gets no mail has nothing to say of it.
            return;
        }
        let message = ack.broker_message_id.filter(|id| !id.as_str().is_empty());
        let client = ack.client_message_id.filter(|id| !id.as_str().is_empty());
        // Acks come in the order of the pushes, as a rule. A sender's id alone means what was pushed here under it: another
        // sender may have used the same.
        let acked = self.pushed.iter().position(|pushed| match (&message, &client) {
            (Some(message), _) => pushed.message == *message,
            (None, Some(client)) => pushed.client.as_ref() == Some(client) || pushed.message.as_str() == client.as_str(),
            (None, None) => false,
        });
        let known = acked.and_then(|at| self.pushed.remove(at)).map(|pushed| pushed.message);
        self.acks.extend(message.or(known));
    }

    /// What the recipient has that is not written down yet.
    pub(in crate::broker) fn has(&self, mesh: &MeshId, recipient: PublicKey) -> Vec<Ack> {
        if self.acks.is_empty() {
            return Vec::new();
        }
        let now = now_millis();
        self.acks.iter().map(|message| Ack { mesh: mesh.clone(), recipient, message: message.clone(), now }).collect()
    }

    /// All of that is written down.
    pub(in crate::broker) fn written(&mut self, shared: &Shared) {
        shared.metrics.acks.add(self.acks.len());
        self.acks.clear();
    }

    /// Writes down what the recipient has.
    pub(in crate::broker) fn acknowledge(&mut self, shared: &Shared, mesh: &MeshId, recipient: PublicKey) {
        let acks = self.has(mesh, recipient);
        if acks.is_empty() {
            return;
        }
        if let Err(err) = shared.hub.acked(acks) {
            log::error!("hub: {err}");
            shared.store_failed(&err);
            // Tried again with what comes next, as long as it is no more than can have been pushed. What is not written down is
            // pushed once more on the next connection; the recipient knows it then.
            if self.acks.len() <= PUSH_WINDOW {
                return;
            }
        }
        self.written(shared);
    }

    /// There was more than the window or a page allowed, and there is room now.
    pub(in crate::broker) fn has_more(&self) -> bool {
        self.more && self.pushed.len() <= PUSH_WINDOW / 2
    }

    /// What was passed over may be due now.
    pub(in crate::broker) fn start_over(&mut self) {
        self.cursor = Seq::default();
        self.more = true;
    }

    /// Fetches what is next and pushes it, as far as the window and the socket allow.
    pub(in crate::broker) fn fetch(&mut self, shared: &Shared, seat: &Seat, key: PublicKey, out: &mut Outbox) {
        let urgency = if seat.status == Status::Idle { Urgency::All } else { Urgency::NowOnly };
        self.more = false;
        loop {
            if PUSH_WINDOW <= self.pushed.len() || !out.has_room() {
                self.more = true;
                return;
            }
            let rows = match shared.hub.fetch(seat.mesh.clone(), key, self.cursor, urgency, now_millis(), self.page) {
                Ok(rows) => rows,
                Err(err) => {
                    log::error!("hub: {err}");
                    shared.store_failed(&err);
                    self.more = true;
                    return;
                }
            };
            let full = self.page <= rows.len();
            for (taken, row) in rows.into_iter().enumerate() {
                if !out.has_room() {
                    // What a connection can not take now stays in the database, however much it is.
                    self.page = taken.max(1);
                    self.more = true;
                    return;
                }
                self.cursor = row.seq;
                if !is_allowed(shared, seat, &row) {
                    continue;
                }
                if self.pushed.iter().any(|pushed| pushed.seq == row.seq) {
                    continue;
                }
                self.pushed.push_back(Pushed { seq: row.seq, message: row.id.clone(), client: row.client_id.clone() });
                let text = ServerFrame::Push(Box::new(push(&seat.mesh, row))).encode();
                shared.metrics.deliveries.add(1);
                shared.metrics.bytes_delivered.add(text.len());
                out.text(text);
            }
            if !full {
                return;
            }
            self.page = (self.page * 2).min(FETCH);
        }
    }
}

/// Whether the recipient allows it by now: a message that was sent before its sender was blocked stays where it is.
fn is_allowed(shared: &Shared, seat: &Seat, row: &Stored) -> bool {
    let capability = match Target::parse(&row.target_spec) {
        Some(Target::Everyone | Target::Group(_)) => Capability::Broadcast,
        Some(Target::Key(_) | Target::Topic(_)) | None => Capability::Dm,
    };
    shared.allowed.allows(&seat.mesh, seat.member.key, row.sender_member, capability)
}

fn push(mesh: &MeshId, row: Stored) -> Push {
    Push {
        message_id: Some(row.id),
        mesh_id: Some(mesh.clone()),
        sender_pubkey: row.sender_pubkey.to_string(),
        sender_member_pubkey: Some(row.sender_member),
        sender_member_id: Some(row.sender_member_id),
        sender_name: Some(row.sender_name),
        target_spec: Some(row.target_spec),
        priority: row.priority,
        nonce: row.nonce,
        ciphertext: row.ciphertext,
        created_at: Some(iso(row.created_at)),
        client_message_id: row.client_id,
        request_fingerprint: row.fingerprint,
        reply_to_id: row.reply_to,
        subtype: row.subtype,
        mentions: row.mentions,
        body_version: row.seal.as_ref().map(|_| SEALED_BODY),
        seal: row.seal,
        topic: row.topic,
        ..Push::default()
    }
}
