//! `message_status`: where a message stands.

use crate::base::ids::PublicKey;
use crate::base::time::{Millis, iso};
use crate::broker::Shared;
use crate::broker::conn::{Seat, error};
use crate::broker::presence::Kind;
use crate::net::ws::Outbox;
use crate::store::hub::{MessageLookup, MessageState};
use crate::wire::code::Code;
use crate::wire::schedule::{MessageStatus, MessageStatusResult, RecipientStatus};
use crate::wire::server::ServerFrame;
use crate::wire::target::Target;

use super::{fanout, found};

/// Whether it may be told of this message: a session of what it sent itself and of what its member did, others of everything
/// their member's sessions sent. Whom somebody writes to is nobody else's business.
fn is_its(seat: &Seat, message: &MessageState) -> bool {
    let others_session = match seat.kind {
        Kind::Session(key) => ![key.0, seat.member.key.0].contains(&message.sender_pubkey),
        Kind::Member | Kind::Passing(_) => false,
    };
    message.sender_member_id == seat.member.id && !others_session
}

pub(in crate::broker) fn status(shared: &Shared, seat: &Seat, ask: MessageStatus, out: &mut Outbox) {
    let length = ask.message_id.chars().count();
    if !(8..=32).contains(&length) || !ask.message_id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        let text = format!("messageId must be 8-32 base62 chars (got {length})");
        return error(out, Code::InvalidArgument, &text, None, ask.req_id);
    }
    let state = shared.hub.message_status(seat.mesh.clone(), ask.message_id.clone());
    let state = match found(shared, state, ask.req_id.as_ref(), out) {
        None => return,
        Some(MessageLookup::Found(state)) if is_its(seat, &state) => state,
        Some(MessageLookup::Ambiguous) => {
            return error(out, Code::AmbiguousPrefix, "more than one message's id begins so", None, ask.req_id);
        }
        Some(_) => return error(out, Code::NotFound, "you sent no message with this id, or not of late", None, ask.req_id),
    };
    let roster = shared.router.roster(&seat.mesh);
    let described = |key: &PublicKey, delivered_at: Option<Millis>| {
        let peer = roster.iter().find(|peer| peer.pubkey == *key);
        let status = match delivered_at {
            Some(_) => "delivered",
            None if peer.is_some_and(|peer| peer.online) => "held",
            None => "disconnected",
        };
        RecipientStatus {
            name: peer.map_or_else(|| "unknown".to_owned(), |peer| peer.display_name.clone()),
            pubkey: key.to_string(),
            status: status.to_owned(),
            delivered_at: delivered_at.map(iso),
        }
    };
    let waiting = state.waiting.iter().map(|key| described(key, None));
    let mut recipients: Vec<RecipientStatus> =
        waiting.chain(state.delivered.iter().map(|(key, at)| described(key, Some(*at)))).collect();
    if let (true, Some(at), Some(Target::Key(key))) =
        (recipients.is_empty(), state.delivered_at, Target::parse(&state.target_spec))
    {
        recipients.push(described(&key, Some(at)));
    }
    let blocked = match Target::parse(&state.target_spec).filter(|_| state.recipients == 0) {
        None => 0,
        Some(target) => {
            let from = fanout::Sender { presence: &seat.presence, member: seat.member.key };
            match found(shared, fanout::blocked(shared, &seat.mesh, &target, from), ask.req_id.as_ref(), out) {
                Some(blocked) => blocked,
                None => return,
            }
        }
    };
    let answer = MessageStatusResult {
        message_id: ask.message_id,
        target_spec: state.target_spec,
        delivered: state.delivered_at.is_some(),
        delivered_at: state.delivered_at.map(iso),
        recipients,
        recipient_count: state.recipients,
        sender_pubkey: Some(state.sender_pubkey),
        blocked,
        req_id: ask.req_id,
    };
    out.text(ServerFrame::MessageStatusResult(answer).encode());
}
