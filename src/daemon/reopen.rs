//! Messages that could not be opened when they came, tried again with the keys that a link has now.

use crate::base::ids::PublicKey;
use crate::base::time::now_millis;
use crate::crypto::keys::SecretKey;
use crate::store::inbox::{Body, Inbound, Recipient};
use crate::store::{Error, RowId, Seq};

use super::ctx::Ctx;
use super::link::Identity;

/// Messages tried in one go: some milliseconds' work, and some megabytes.
const PAGE: usize = 64;

/// Tries what is kept for this identity, and what is kept for its member.
pub(super) fn retry(ctx: &Ctx, identity: &Identity) {
    let member = &identity.membership;
    let session = identity.session.as_ref().and_then(|session| session.key.as_ref());
    let mut recipients = vec![Recipient::Member(member.key)];
    recipients.extend(identity.session_key().map(Recipient::Session));
    let secrets: Vec<&SecretKey> = session.map(|key| &key.secret).into_iter().chain([&member.secret]).collect();
    for recipient in recipients {
        match retry_for(ctx, identity, recipient, &secrets) {
            Ok(0) => {}
            Ok(opened) => log::info!("{opened} messages of {} that could not be opened before are readable now", member.slug),
            Err(err) => return log::warn!("inbox: {err}"),
        }
    }
}

fn retry_for(ctx: &Ctx, identity: &Identity, recipient: Recipient, secrets: &[&SecretKey]) -> Result<usize, Error> {
    let mesh = &identity.membership.slug;
    let (mut after, mut opened) = (Seq(0), 0);
    // What opens moves to the end and is no row of a later page. There may be many pages, and nobody waits for them at the end.
    while !ctx.bus.is_closed() {
        let kept = ctx.inbox.unreadable(mesh.clone(), recipient, after, PAGE)?;
        let Some(last) = kept.last() else { break };
        after = last.seq;
        let texts: Vec<(RowId, String)> =
            kept.iter().filter_map(|message| Some((message.id.clone(), open(ctx, secrets, message)?))).collect();
        if !texts.is_empty() {
            opened += ctx.inbox.opened(texts, now_millis())?;
            ctx.bus.mail(mesh, &recipient);
        }
    }
    Ok(opened)
}

fn open(ctx: &Ctx, secrets: &[&SecretKey], message: &Inbound) -> Option<String> {
    let Body::Unreadable { nonce, ciphertext, .. } = &message.body else { return None };
    let sender = PublicKey::parse(&message.sender_pubkey)?;
    secrets.iter().find_map(|secret| {
        let channel = ctx.channels.between(secret, &sender).ok()?;
        String::from_utf8(channel.open(nonce, ciphertext).ok()?).ok()
    })
}
