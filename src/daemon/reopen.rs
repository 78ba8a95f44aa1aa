//! Messages that could not be opened when they came, tried again with the keys that are here now.

use std::collections::BTreeSet;

use crate::base::ids::{MeshId, PublicKey};
use crate::base::time::now_millis;
use crate::crypto::keys::SecretKey;
use crate::store::inbox::{Body, Inbound, KeptSeal, Recipient};
use crate::store::outbox::{Route, Sender};
use crate::store::{Error, RowId, Seq};
use crate::wire::key::Scope;
use crate::wire::target::Target;

use super::ctx::Ctx;
use super::link::Identity;
use super::meshes::Membership;
use super::scoped::{self, Came};

/// Messages tried in one go: some milliseconds' work, and some megabytes.
const PAGE: usize = 64;

/// Keys asked for at once for what could not be opened.
const MOST_KEYS: usize = 16;

/// The shared key of what was for many.
fn key_of(message: &Inbound) -> Option<(Scope, u32)> {
    let KeptSeal { target, seal, .. } = message.seal.as_ref()?;
    Some((Scope::of(&Target::parse(target)?)?, seal.epoch))
}

/// The shared keys that are not known here of the oldest that is kept for this identity and could not be opened.
pub(super) fn missing_keys(ctx: &Ctx, identity: &Identity) -> Vec<(Scope, u32)> {
    let member = &identity.membership;
    let recipient = identity.session_key().map_or(Recipient::Member(member.key), Recipient::Session);
    let kept = match ctx.inbox.unreadable(member.slug.clone(), recipient, Seq(0), PAGE) {
        Ok(kept) => kept,
        Err(err) => {
            log::warn!("inbox: {err}");
            return Vec::new();
        }
    };
    let keys: BTreeSet<_> = kept.iter().filter_map(key_of).collect();
    keys.into_iter().filter(|(scope, epoch)| ctx.keyring.get(&member.mesh, scope, *epoch).is_none()).take(MOST_KEYS).collect()
}

/// Tries what is kept for this identity, and what is kept for its member.
pub(super) fn retry(ctx: &Ctx, identity: &Identity) {
    let member = &identity.membership;
    let session = identity.session.as_ref().and_then(|session| session.key.as_ref());
    let mut recipients = vec![Recipient::Member(member.key)];
    recipients.extend(identity.session_key().map(Recipient::Session));
    let secrets: Vec<&SecretKey> = session.map(|key| &key.secret).into_iter().chain([&member.secret]).collect();
    retry_all(ctx, member, recipients, &secrets);
}

/// Tries what was for many, for the member of this mesh and all its sessions here.
pub(super) fn retry_shared(ctx: &Ctx, mesh: &MeshId) {
    for member in ctx.meshes.all().iter().filter(|member| member.mesh == *mesh) {
        let sessions = ctx.sessions.all();
        let sessions = sessions.iter().filter(|session| session.mesh == member.slug);
        let mut recipients = vec![Recipient::Member(member.key), Recipient::Keyless(member.key)];
        recipients.extend(sessions.filter_map(|session| session.public_key()).map(Recipient::Session));
        retry_all(ctx, member, recipients, &[]);
    }
}

fn retry_all(ctx: &Ctx, member: &Membership, recipients: Vec<Recipient>, secrets: &[&SecretKey]) {
    for recipient in recipients {
        match retry_for(ctx, member, recipient, secrets) {
            Ok(0) => {}
            Ok(opened) => log::info!("{opened} messages of {} that could not be opened before are readable now", member.slug),
            Err(err) => return log::warn!("inbox: {err}"),
        }
    }
}

fn retry_for(ctx: &Ctx, member: &Membership, recipient: Recipient, secrets: &[&SecretKey]) -> Result<usize, Error> {
    let mesh = &member.slug;
    let (mut after, mut opened) = (Seq(0), 0);
    // What opens moves to the end and is no row of a later page. There may be many pages, and nobody waits for them at the end.
    while !ctx.bus.is_closed() {
        let kept = ctx.inbox.unreadable(mesh.clone(), recipient, after, PAGE)?;
        let Some(last) = kept.last() else { break };
        after = last.seq;
        let texts: Vec<(RowId, String)> =
            kept.iter().filter_map(|message| Some((message.id.clone(), open(ctx, member, secrets, message)?))).collect();
        if !texts.is_empty() {
            opened += ctx.inbox.opened(texts, now_millis())?;
            ctx.bus.mail(mesh, &recipient);
            let sender = match recipient {
                Recipient::Session(key) => Sender::Session(key),
                Recipient::Member(_) | Recipient::Keyless(_) => Sender::Member,
            };
            // Its senders were told that it could not be read.
            ctx.links.owes(&Route { mesh: mesh.clone(), sender });
        }
    }
    Ok(opened)
}

fn open(ctx: &Ctx, member: &Membership, secrets: &[&SecretKey], message: &Inbound) -> Option<String> {
    let Body::Unreadable { nonce, ciphertext, .. } = &message.body else { return None };
    let sender = PublicKey::parse(&message.sender_pubkey)?;
    if let Some(KeptSeal { target, seal, mentions }) = &message.seal {
        let (mesh, client_id) = (&member.mesh, message.client_id.as_str());
        let came = Came { mesh, target, client_id, mentions, sender: &sender, seal, nonce, ciphertext };
        let (scope, epoch) = key_of(message)?;
        let key = ctx.keyring.get(mesh, &scope, epoch)?;
        return scoped::open(came, &key).ok();
    }
    secrets.iter().find_map(|secret| {
        let channel = ctx.channels.between(secret, &sender).ok()?;
        String::from_utf8(channel.open(nonce, ciphertext).ok()?).ok()
    })
}
