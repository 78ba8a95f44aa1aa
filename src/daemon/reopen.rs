//! Messages that could not be opened when they came, tried again with the keys that a link has now.

use crate::base::ids::PublicKey;
use crate::crypto::keys::SecretKey;
use crate::store::inbox::{Body, Inbound, Recipient};

use super::ctx::Ctx;
use super::link::Identity;

/// Messages tried in one go: some milliseconds' work.
const MOST: usize = 500;

/// Tries what is kept for this identity, and what is kept for its member.
pub(super) fn retry(ctx: &Ctx, identity: &Identity) {
    let member = &identity.membership;
    let session = identity.session.as_ref().and_then(|session| session.key.as_ref());
    let mut recipients = vec![Recipient::Member(member.key)];
    recipients.extend(identity.session_key().map(Recipient::Session));
    let secrets: Vec<&SecretKey> = session.map(|key| &key.secret).into_iter().chain([&member.secret]).collect();
    for recipient in recipients {
        let kept = match ctx.inbox.unreadable(member.slug.clone(), recipient, MOST) {
            Ok(kept) => kept,
            Err(err) => return log::warn!("inbox: {err}"),
        };
        let opened = kept.iter().filter(|message| open(ctx, &secrets, message)).count();
        if 0 < opened {
            log::info!("{opened} messages of {} that could not be opened before are readable now", member.slug);
        }
    }
}

fn open(ctx: &Ctx, secrets: &[&SecretKey], message: &Inbound) -> bool {
    let Body::Unreadable { nonce, ciphertext, .. } = &message.body else { return false };
    let Some(sender) = PublicKey::parse(&message.sender_pubkey) else { return false };
    let text = secrets.iter().find_map(|secret| {
        let channel = ctx.channels.between(secret, &sender).ok()?;
        String::from_utf8(channel.open(nonce, ciphertext).ok()?).ok()
    });
    match text.map(|text| ctx.inbox.opened(message.id.clone(), text)) {
        None => false,
        Some(Ok(opened)) => opened,
        Some(Err(err)) => {
            log::warn!("inbox: {err}");
            false
        }
    }
}
