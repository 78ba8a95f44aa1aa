//! From a broker's push to a row of the inbox: whose it is, whether it opens, and what it says.

use crate::base::ids::{ClientId, MemberKey, MeshId, PublicKey, SessionKey, Slug};
use crate::base::names::neutralise_line;
use crate::base::time::now_millis;
use crate::crypto::base64;
use crate::crypto::keys::SecretKey;
use crate::crypto::random;
use crate::crypto::sealed::OpenError;
use crate::store::RowId;
use crate::store::inbox::{Body, KeptSeal, NewInbound, Recipient};
use crate::wire::event::{Event, PeerEvent, SystemEvent};
use crate::wire::key::{Scope, Seal};
use crate::wire::limits::MAX_FRAME;
use crate::wire::receipt::MAX_MESSAGE_ID;
use crate::wire::schedule::REMINDER;
use crate::wire::server::Push;
use crate::wire::target::Target;

use super::channels::Channels;
use super::keyring::Keyring;
use super::scoped::{self, Came};

/// Largest sealed text that is kept, in bytes: what a broker takes, and as much again.
const MAX_PUSH: usize = 2 * MAX_FRAME;

/// Longest sender name kept, in characters.
const MAX_NAME: usize = 64;

/// Names kept of those that a message calls out to.
const MAX_MENTIONS: usize = 16;

/// On whose behalf a link receives.
#[derive(Debug)]
pub(super) struct Receiver<'a> {
    pub(super) mesh: &'a Slug,
    pub(super) mesh_id: &'a MeshId,
    /// What the recipient is called, if it is a session.
    pub(super) name: Option<&'a str>,
    pub(super) recipient: Recipient,
    pub(super) member: MemberKey,
    /// The secrets that may open what arrives, likeliest first.
    pub(super) secrets: Vec<&'a SecretKey>,
    /// The broker passes on what recipients say.
    pub(super) receipts: bool,
}

impl Receiver<'_> {
    /// Makes the inbox row of a message.
    pub(super) fn accept(&self, push: &Push, channels: &Channels, keyring: &Keyring) -> NewInbound {
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
            body: match &push.seal {
                Some(seal) => self.open_sealed(push, seal, keyring),
                None => self.open(push, channels),
            },
            seal: kept_seal(push),
            mentioned: self.is_mentioned(push),
            mentions: push.mentions.iter().take(MAX_MENTIONS).map(|name| clean(name)).collect(),
            topic: push.topic.clone(),
            sent_to: sent_to(push),
            reply_to: push.reply_to_id.clone(),
            priority: push.priority,
            subtype: push.subtype.clone(),
            created_at: push.created_at.clone(),
            received_at: now_millis(),
            receipts: self.receipts && is_to_be_told(push),
        }
    }

    /// Opens the body. Text in clear is taken only where the message was not for one key: otherwise a broker could put
    /// words into a peer's mouth.
    fn open(&self, push: &Push, channels: &Channels) -> Body {
        if MAX_PUSH < push.ciphertext.len() + push.nonce.len() {
            // No broker takes this much; whoever hands it out shall not fill this disk with it.
            let reason = "it is larger than a message can be".to_owned();
            return Body::Unreadable { reason, nonce: String::new(), ciphertext: String::new() };
        }
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

    /// Opens what was sealed for many. Text in clear is never taken for it.
    fn open_sealed(&self, push: &Push, seal: &Seal, keyring: &Keyring) -> Body {
        let opened = self.read_sealed(push, seal, keyring);
        opened.map_or_else(
            |reason| Body::Unreadable {
                reason: reason.to_owned(),
                nonce: push.nonce.clone(),
                ciphertext: push.ciphertext.clone(),
            },
            Body::Opened,
        )
    }

    fn read_sealed(&self, push: &Push, seal: &Seal, keyring: &Keyring) -> Result<String, &'static str> {
        let (scope, epoch) = key_of(push).ok_or("it names nobody it is for")?;
        let sender = PublicKey::parse(&push.sender_pubkey).ok_or("the sender has no key")?;
        let key = keyring.get(self.mesh_id, &scope, epoch).ok_or(scoped::NO_COPY)?;
        let came = Came {
            mesh: self.mesh_id,
            target: push.target_spec.as_deref().unwrap_or_default(),
            client_id: push.client_message_id.as_ref().map(|id| id.as_str()).unwrap_or_default(),
            mentions: &push.mentions,
            sender: &sender,
            seal,
            nonce: &push.nonce,
            ciphertext: &push.ciphertext,
        };
        scoped::open(came, &key)
    }

    fn is_mentioned(&self, push: &Push) -> bool {
        self.name.is_some_and(|own| push.mentions.iter().any(|name| name.eq_ignore_ascii_case(own)))
    }

    /// Whether this push was for many, or is what one's own member asked to be reminded of. Our broker names its target; the reference's marks a push to many by the sender's
    /// fields and the missing client id, which it never puts together on a direct message.
    fn may_be_plain(&self, push: &Push) -> bool {
        if push.subtype.as_deref() == Some(REMINDER) && push.sender_member_pubkey == Some(self.member) {
            return true;
        }
        match &push.target_spec {
            Some(target) => Target::parse(target).is_some_and(|target| !target.is_direct()),
            None => push.topic.is_some() || (push.sender_member_pubkey.is_some() && push.client_message_id.is_none()),
        }
    }
}

/// The group it was for, or everybody. A topic has a name of its own.
fn sent_to(push: &Push) -> Option<String> {
    let target = Target::parse(push.target_spec.as_deref()?)?;
    matches!(target, Target::Group(_) | Target::Everyone).then(|| target.to_string())
}

/// Whether a peer sent it who can be told what becomes of it: what a broker writes itself nobody waits for.
fn is_to_be_told(push: &Push) -> bool {
    let named = push.message_id.as_ref().is_some_and(|id| (1..=MAX_MESSAGE_ID).contains(&id.as_str().len()));
    let by_sender = push.client_message_id.as_ref().is_some_and(|id| !id.as_str().is_empty());
    named && by_sender && push.subtype.is_none() && PublicKey::parse(&push.sender_pubkey).is_some()
}

/// Which key a push was sealed with, if it was for many.
pub(super) fn key_of(push: &Push) -> Option<(Scope, u32)> {
    let seal = push.seal.as_ref()?;
    Some((Scope::of(&Target::parse(push.target_spec.as_deref()?)?)?, seal.epoch))
}

/// How it was sealed, for another try later.
fn kept_seal(push: &Push) -> Option<KeptSeal> {
    Some(KeptSeal { target: push.target_spec.clone()?, seal: push.seal.clone()?, mentions: push.mentions.clone() })
}

/// A name that was called out to, fit to be shown.
fn clean(name: &str) -> String {
    neutralise_line(name).chars().take(MAX_NAME).collect()
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

/// Whether a broker wrote this to every connection, the member's and each session's alike, and kept it for none. The
/// reference's does so; ours names the target, and gives a member nothing that its sessions have.
pub(super) fn is_for_every_connection(push: &Push) -> bool {
    push.target_spec.is_none() && push.sender_member_pubkey.is_some() && push.client_message_id.is_none()
}

/// The recipient of a link's mail.
pub(super) fn recipient(member: MemberKey, session: Option<SessionKey>) -> Recipient {
    session.map_or(Recipient::Member(member), Recipient::Session)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::MessageId;
    use crate::crypto::keys::KeyPair;
    use crate::crypto::sealed;
    use crate::wire::json::json;

    /// What bob's session makes of a push that `change` has altered.
    fn received(change: impl FnOnce(&mut Push, &KeyPair)) -> NewInbound {
        let [alice, bob, member] = [1, 2, 3].map(|seed| KeyPair::from_seed([seed; 32]));
        let sealed = sealed::seal(b"hello", &bob.public, &alice.secret).unwrap();
        let mut push = Push {
            message_id: Some(MessageId::new("M")),
            sender_pubkey: alice.public.to_hex(),
            sender_name: Some("alice".into()),
            target_spec: Some(bob.public.to_hex()),
            nonce: sealed.nonce_b64,
            ciphertext: sealed.ciphertext_b64,
            client_message_id: Some(ClientId::new("c")),
            ..Push::default()
        };
        change(&mut push, &member);
        let mesh = Slug::new("home");
        let recipient = recipient(MemberKey(member.public), Some(SessionKey(bob.public)));
        let (member, secrets) = (MemberKey(member.public), vec![&bob.secret, &member.secret]);
        let mesh_id = MeshId::new("m");
        let (mesh, mesh_id, name) = (&mesh, &mesh_id, Some("bob"));
        let receiver = Receiver { mesh, mesh_id, name, recipient, member, secrets, receipts: true };
        receiver.accept(&push, &Channels::default(), &Keyring::default())
    }

    fn clear(push: &mut Push, text: &str) {
        let plain = sealed::plain(text.as_bytes());
        (push.nonce, push.ciphertext) = (plain.nonce_b64, plain.ciphertext_b64);
    }

    fn reason(row: NewInbound) -> String {
        match row.body {
            Body::Unreadable { reason, .. } => reason,
            body => panic!("{body:?}"),
        }
    }

    #[test]
    fn what_was_sealed_to_the_session_or_its_member_opens() {
        let row = received(|_, _| {});
        assert_eq!((row.body, row.sender_name.as_str(), row.client_id.as_str()), (Body::Opened("hello".into()), "alice", "c"));
        let row = received(|push, member| {
            let sealed = sealed::seal(b"to the member", &member.public, &KeyPair::from_seed([1; 32]).secret).unwrap();
            (push.nonce, push.ciphertext) = (sealed.nonce_b64, sealed.ciphertext_b64);
        });
        assert_eq!(row.body, Body::Opened("to the member".into()));
    }

    #[test]
    fn no_text_in_clear_passes_for_a_message_to_one_key() {
        assert_eq!(reason(received(|push, _| clear(push, "forged"))), "it was not sealed to a key of this session");
        // The reference's broker names no target; what it drained from a queue was for one key.
        let drained = received(|push, _| {
            clear(push, "forged");
            push.target_spec = None;
        });
        assert_eq!(reason(drained), "it was not sealed to a key of this session");
        // What this member asked to be reminded of came from itself; a reminder of anybody else's did not.
        let reminder = |of: fn(&KeyPair) -> PublicKey| {
            received(|push, member| {
                clear(push, "stand up");
                push.subtype = Some("reminder".into());
                push.sender_member_pubkey = Some(MemberKey(of(member)));
            })
        };
        assert_eq!(reminder(|member| member.public).body, Body::Plain("stand up".into()));
        assert_eq!(reason(reminder(|_| KeyPair::from_seed([9; 32]).public)), "it was not sealed to a key of this session");
        for many in ["*", "@eng", "#topic"] {
            let row = received(|push, _| {
                clear(push, "to many");
                push.target_spec = Some(many.into());
            });
            assert_eq!(row.body, Body::Plain("to many".into()), "{many}");
        }
    }

    #[test]
    fn what_can_not_be_opened_is_kept_with_its_reason() {
        for (broken, expected) in [
            (("AAAA", "AAAA"), "its envelope is malformed"),
            (("", ""), "its envelope is malformed"),
            (("AAECAwQFBgcICQoLDA0ODxAREhMUFRYX", "AAAAAAAAAAAAAAAAAAAAAAAAAAAA"), "it was not sealed to a key of this session"),
        ] {
            let row = received(|push, _| (push.nonce, push.ciphertext) = (broken.0.into(), broken.1.into()));
            let Body::Unreadable { reason, nonce, ciphertext } = row.body else { panic!("{broken:?} opened") };
            assert_eq!((reason.as_str(), nonce.as_str(), ciphertext.as_str()), (expected, broken.0, broken.1));
        }
        assert_eq!(reason(received(|push, _| push.sender_pubkey = "system".into())), "the sender has no key");
        assert_eq!(reason(received(|push, _| push.sender_pubkey = "00".repeat(32))), "the sender's key is not a key");
    }

    #[test]
    fn a_name_can_not_play_with_the_terminal_and_is_never_missing() {
        let row = received(|push, _| push.sender_name = Some(format!("a\x1b[2J\u{202e}b{}", "x".repeat(200))));
        assert!(
            row.sender_name.starts_with("a\u{fffd}[2J\u{fffd}b") && row.sender_name.chars().count() == MAX_NAME,
            "{}",
            row.sender_name
        );
        let row = received(|push, _| push.sender_name = Some("  ".into()));
        assert_eq!(row.sender_name.len(), 8);
    }

    #[test]
    fn an_event_can_not_speak_for_another_mesh_and_one_about_ourselves_is_none() {
        let push = |data| Push { event: Some("peer_joined".into()), event_data: Some(data), ..Push::default() };
        let key = PublicKey::from_bytes([7; 32]);
        let forged = push(json!({"mesh": "other", "event": "x", "name": "bob", "pubkey": key}));
        let (event, about) = system_event(&Slug::new("home"), &forged, |_| false).unwrap();
        assert_eq!(about, Some(key));
        let data = event.data("t");
        assert!(data.contains(r#""mesh":"home""#) && !data.contains("other"), "{data}");
        assert!(system_event(&Slug::new("home"), &forged, |own| *own == key).is_none());
    }
}
