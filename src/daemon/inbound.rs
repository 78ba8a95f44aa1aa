//! From a broker's push to a row of the inbox: whose it is, whether it opens, and what it says.

use crate::base::ids::{ClientId, MemberKey, PublicKey, SessionKey, Slug};
use crate::base::names::neutralise_line;
use crate::base::time::now_millis;
use crate::crypto::base64;
use crate::crypto::keys::SecretKey;
use crate::crypto::random;
use crate::crypto::sealed::OpenError;
use crate::store::RowId;
use crate::store::inbox::{Body, NewInbound, Recipient};
use crate::wire::event::{Event, PeerEvent, SystemEvent};
use crate::wire::server::Push;
use crate::wire::target::Target;

use super::channels::Channels;

/// Longest sender name kept, in characters.
const MAX_NAME: usize = 64;

/// On whose behalf a link receives.
#[derive(Debug)]
pub(super) struct Receiver<'a> {
    pub(super) mesh: &'a Slug,
    pub(super) recipient: Recipient,
    /// The secrets that may open what arrives, likeliest first.
    pub(super) secrets: Vec<&'a SecretKey>,
}

impl Receiver<'_> {
    /// Makes the inbox row of a message.
    pub(super) fn accept(&self, push: &Push, channels: &Channels) -> NewInbound {
        let broker_id = push.message_id.clone().filter(|id| !id.as_str().is_empty());
        let client_id = push.client_message_id.clone().filter(|id| !id.as_str().is_empty());
        let id = RowId::new(random::uuid_v7(now_millis()));
        NewInbound {
            client_id: client_id
                .or_else(|| broker_id.as_ref().map(|id| ClientId::new(id.as_str())))
                .unwrap_or_else(|| ClientId::new(id.as_str())),
            id,
            mesh: self.mesh.clone(),
            recipient: self.recipient,
            sender_pubkey: push.sender_pubkey.clone(),
            sender_member: push.sender_member_pubkey,
            sender_name: sender_name(push),
            broker_id,
            body: self.open(push, channels),
            topic: push.topic.clone(),
            reply_to: push.reply_to_id.clone(),
            priority: push.priority,
            subtype: push.subtype.clone(),
            created_at: push.created_at.clone(),
            received_at: now_millis(),
        }
    }

    /// Opens the body. Text in clear is taken only where the message was not for one key: otherwise a broker could put
    /// words into a peer's mouth.
    fn open(&self, push: &Push, channels: &Channels) -> Body {
        let unreadable = |reason: &str| Body::Unreadable {
            reason: reason.to_owned(),
            nonce: push.nonce.clone(),
            ciphertext: push.ciphertext.clone(),
        };
        let Some(sender) = PublicKey::parse(&push.sender_pubkey) else {
            return if push.subtype.as_deref() == Some("webhook") {
                Body::Plain(push.event_data.as_ref().map(ToString::to_string).unwrap_or_default())
            } else {
                unreadable("the sender has no key")
            };
        };
        let mut last = OpenError::Forged;
        for secret in &self.secrets {
            let opened = match channels.between(secret, &sender) {
                Ok(channel) => channel.open(&push.nonce, &push.ciphertext),
                Err(_) => return unreadable("the sender's key is not a key"),
            };
            match opened {
                Ok(bytes) => {
                    return String::from_utf8(bytes).map_or_else(|_| unreadable("it opened, and is not text"), Body::Opened);
                }
                Err(err) => last = err,
            }
        }
        if self.may_be_plain(push) {
            return plain(&push.ciphertext).map_or_else(|| unreadable("it is neither sealed to this key nor text"), Body::Plain);
        }
        unreadable(match last {
            OpenError::Forged => "it was not sealed to a key of this session",
            _ => "its envelope is malformed",
        })
    }

    /// Whether this push was for many. Our broker names its target; the reference's marks a push to many by the sender's
    /// fields and the missing client id, which it never puts together on a direct message.
    fn may_be_plain(&self, push: &Push) -> bool {
        match &push.target_spec {
            Some(target) => Target::parse(target).is_some_and(|target| !target.is_direct()),
            None => push.topic.is_some() || (push.sender_member_pubkey.is_some() && push.client_message_id.is_none()),
        }
    }
}

fn plain(ciphertext: &str) -> Option<String> {
    String::from_utf8(base64::decode(ciphertext)?).ok()
}

fn sender_name(push: &Push) -> String {
    let name = push.sender_name.as_deref().map(neutralise_line).unwrap_or_default();
    let name: String = name.trim().chars().take(MAX_NAME).collect();
    if name.is_empty() { push.sender_pubkey.chars().take(8).collect() } else { name }
}

/// What a system push tells, unless it is about one of our own keys.
pub(super) fn system_event(mesh: &Slug, push: &Push, is_own: impl Fn(&PublicKey) -> bool) -> Option<(Event, Option<PublicKey>)> {
    let name = push.event.clone()?;
    let data = push.event_data.clone().unwrap_or_default();
    let text = |key: &str| data.get(key).and_then(|value| value.as_str()).map(str::to_owned);
    let pubkey = text("pubkey").unwrap_or_default();
    let key = PublicKey::parse(&pubkey);
    if key.as_ref().is_some_and(is_own) {
        return None;
    }
    let event = match name.as_str() {
        "peer_joined" | "peer_left" => Event::Peer(PeerEvent {
            mesh: mesh.clone(),
            event: name,
            name: neutralise_line(&text("name").or_else(|| text("displayName")).unwrap_or_default()),
            pubkey,
            groups: data.get("groups").cloned().unwrap_or_default(),
        }),
        _ => Event::System(SystemEvent { mesh: mesh.clone(), event: name, event_data: data }),
    };
    Some((event, key))
}

/// The recipient of a link's mail.
pub(super) fn recipient(member: MemberKey, session: Option<SessionKey>) -> Recipient {
    session.map_or(Recipient::Member(member), Recipient::Session)
}
