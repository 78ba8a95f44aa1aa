//! Receipts at both ends: what a recipient signs, and what a sender believes.

use std::collections::HashSet;

use crate::base::ids::{ClientId, MeshId, MessageId, PublicKey, SessionKey};
use crate::base::time::Millis;
use crate::crypto::keys::SecretKey;
use crate::crypto::receipt as signed;
use crate::store;
use crate::store::Seq;
use crate::store::inbox::Due;
use crate::store::outbox::{Addressed, Sender, Word};
use crate::wire::receipt::{Forwarded, Receipt, Stage, is_detail};
use crate::wire::target::Target;

use super::ctx::Ctx;
use super::meshes::Membership;

/// What a recipient hands in about one message.
pub(super) fn sign(due: Due, mesh: &MeshId, recipient: PublicKey, secret: &SecretKey) -> Receipt {
    let receipt = signed::Receipt {
        mesh,
        message: &due.message,
        client: &due.client,
        sender: due.sender,
        recipient,
        state: due.stage.as_str(),
        detail: &due.detail,
        at: due.at,
    };
    let signature = receipt.sign(secret).to_string();
    Receipt { message_id: due.message, state: due.stage, detail: due.detail, at: due.at, signature }
}

/// Keeps what there is to tell senders who are here themselves: of what was sent and received by one daemon nobody else needs
/// to hear, and nothing needs a signature. Returns the places of what is kept so.
pub(super) fn keep_own(ctx: &Ctx, own: &Membership, recipient: PublicKey, due: &[Due]) -> Result<HashSet<Seq>, store::Error> {
    let senders: HashSet<PublicKey> = due.iter().map(|due| due.sender).collect();
    let is_here = |key: &PublicKey| own.key.0 == *key || ctx.sessions.signer(&SessionKey(*key)).is_some();
    let here: HashSet<PublicKey> = senders.into_iter().filter(is_here).collect();
    let near: Vec<&Due> = due.iter().filter(|due| here.contains(&due.sender)).collect();
    if near.is_empty() {
        return Ok(HashSet::new());
    }
    let rows = ctx.outbox.addressed(own.slug.clone(), near.iter().map(|due| due.client.clone()).collect())?;
    // What is another machine's of the same member, or was put aside, goes the long way.
    let word = |(due, row): (&Due, Option<Addressed>)| {
        let row = row.filter(|row| sender(row, own) == due.sender)?;
        let claim = Claim { message: &due.message, recipient, stage: due.stage, detail: &due.detail, at: due.at };
        Some((due.seq, claim.about(&row, own).ok()?))
    };
    let (kept, words): (HashSet<Seq>, Vec<Word>) = near.into_iter().zip(rows).filter_map(word).unzip();
    learn(ctx, words)?;
    Ok(kept)
}

/// Keeps what recipients said of messages that were sent from here, as far as it is to be believed. Returns what the broker
/// need not keep any longer: everything about messages that this machine knows. Others are perhaps another machine's of the
/// same member.
pub(super) fn take(ctx: &Ctx, own: &Membership, said: &[Forwarded]) -> Result<Vec<u64>, store::Error> {
    let ids = said.iter().map(|one| one.client_message_id.clone()).collect();
    let rows = ctx.outbox.addressed(own.slug.clone(), ids)?;
    let mut taken = Vec::with_capacity(said.len());
    let mut words = Vec::with_capacity(said.len());
    for (one, row) in said.iter().zip(rows) {
        let Some(row) = row else { continue };
        taken.push(one.n);
        match believe(one, &row, own) {
            Ok(word) => words.push(word),
            Err(doubt) => log::warn!("a receipt of message {} is not believed: {doubt:?}", one.client_message_id),
        }
    }
    learn(ctx, words)?;
    Ok(taken)
}

fn learn(ctx: &Ctx, words: Vec<Word>) -> Result<(), store::Error> {
    if !words.is_empty() {
        ctx.outbox.learn(words.clone())?;
        ctx.watch.tell(words.iter().map(|word| &word.row));
    }
    Ok(())
}

/// Why a receipt is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Doubt {
    /// The message was sent on another mesh that had this name, or under another broker's id.
    OtherMessage,
    /// The message was for somebody else.
    NotRecipient,
    /// It is not signed by who it says.
    Forged,
}

/// What is said of a message, whoever says it.
struct Claim<'a> {
    message: &'a MessageId,
    recipient: PublicKey,
    stage: Stage,
    detail: &'a str,
    at: Millis,
}

impl Claim<'_> {
    /// Whether it can be about this row. Of a message for many the broker says who its recipients are, as it does of everything
    /// that is for many.
    fn about(&self, row: &Addressed, own: &Membership) -> Result<Word, Doubt> {
        let mesh = row.membership.as_ref().map_or(&own.mesh, |of| &of.mesh);
        let same_id = row.broker_id.as_ref().is_none_or(|id| id == self.message);
        if *mesh != own.mesh || !same_id || !is_detail(self.detail) {
            return Err(Doubt::OtherMessage);
        }
        match Target::parse(&row.target) {
            Some(Target::Key(key)) if key != self.recipient => return Err(Doubt::NotRecipient),
            Some(_) => {}
            None => return Err(Doubt::NotRecipient),
        }
        Ok(Word {
            row: row.row.clone(),
            recipient: self.recipient,
            stage: self.stage,
            detail: self.detail.to_owned(),
            at: self.at,
        })
    }
}

/// As whom a message was sent.
fn sender(row: &Addressed, own: &Membership) -> PublicKey {
    match row.sender {
        Sender::Member => row.membership.as_ref().map_or(own.key, |of| of.member).0,
        Sender::Session(key) => key.0,
    }
}

/// Whether a receipt is a word of a recipient of this message: who could read a message for one key has that key.
pub(super) fn believe(said: &Forwarded, row: &Addressed, own: &Membership) -> Result<Word, Doubt> {
    let Receipt { message_id, state, detail, at, .. } = &said.receipt;
    let claim = Claim { message: message_id, recipient: said.recipient, stage: *state, detail, at: *at };
    let word = claim.about(row, own)?;
    if state.is_signed() && !is_signed(said, &own.mesh, sender(row, own)) {
        return Err(Doubt::Forged);
    }
    Ok(word)
}

fn is_signed(said: &Forwarded, mesh: &MeshId, sender: PublicKey) -> bool {
    let Forwarded { client_message_id, recipient, receipt, .. } = said;
    let client: &ClientId = client_message_id;
    let claimed = signed::Receipt {
        mesh,
        message: &receipt.message_id,
        client,
        sender,
        recipient: *recipient,
        state: receipt.state.as_str(),
        detail: &receipt.detail,
        at: receipt.at,
    };
    claimed.is_signed(&receipt.signature)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::{MemberId, MemberKey, Slug};
    use crate::crypto::keys::KeyPair;
    use crate::store::RowId;
    use crate::store::outbox;

    const ALICE: u8 = 1;
    const BOB: u8 = 2;
    const CAROL: u8 = 3;

    fn key(seed: u8) -> PublicKey {
        KeyPair::from_seed([seed; 32]).public
    }

    fn own() -> Membership {
        Membership {
            slug: Slug::new("home"),
            mesh: MeshId::new("mesh"),
            member: MemberId::new("m"),
            key: MemberKey(key(9)),
            secret: KeyPair::from_seed([9; 32]).secret,
            broker_url: String::new(),
        }
    }

    /// What alice's session sent to bob.
    fn row() -> Addressed {
        Addressed {
            row: RowId::new("row"),
            target: key(BOB).to_hex(),
            sender: Sender::Session(SessionKey(key(ALICE))),
            membership: Some(outbox::Membership { mesh: MeshId::new("mesh"), member: MemberKey(key(9)) }),
            broker_id: Some(MessageId::new("M")),
        }
    }

    fn said_by(by: u8, change: impl FnOnce(&mut Due)) -> Forwarded {
        let mut due = Due {
            seq: Seq(1),
            sender: key(ALICE),
            message: MessageId::new("M"),
            client: ClientId::new("c"),
            stage: Stage::Offered,
            detail: "prompt".into(),
            at: 5,
        };
        change(&mut due);
        let receipt = sign(due, &MeshId::new("mesh"), key(by), &KeyPair::from_seed([by; 32]).secret);
        Forwarded { n: 1, client_message_id: ClientId::new("c"), recipient: key(by), receipt }
    }

    #[test]
    fn a_recipients_word_is_believed() {
        let word = believe(&said_by(BOB, |_| {}), &row(), &own()).unwrap();
        assert_eq!((word.recipient, word.stage, word.detail.as_str(), word.at), (key(BOB), Stage::Offered, "prompt", 5));
        let early = Addressed { broker_id: None, ..row() };
        assert!(believe(&said_by(BOB, |_| {}), &early, &own()).is_ok(), "before the broker's answer came");
        let as_member = Addressed { sender: Sender::Member, ..row() };
        assert!(believe(&said_by(BOB, |due| due.sender = key(9)), &as_member, &own()).is_ok());
        let to_many = Addressed { target: "@eng".into(), ..row() };
        assert!(believe(&said_by(CAROL, |_| {}), &to_many, &own()).is_ok());
    }

    #[test]
    fn what_is_forged_replayed_or_anothers_is_not() {
        let no = |said: Forwarded, row: &Addressed| believe(&said, row, &own()).unwrap_err();
        assert_eq!(no(said_by(CAROL, |_| {}), &row()), Doubt::NotRecipient);
        let forged = Forwarded { recipient: key(BOB), ..said_by(CAROL, |_| {}) };
        assert_eq!(no(forged, &row()), Doubt::Forged);
        let mut later = said_by(BOB, |due| due.stage = Stage::Arrived);
        later.receipt.state = Stage::Offered;
        assert_eq!(no(later, &row()), Doubt::Forged);
        let mut by_another_path = said_by(BOB, |_| {});
        by_another_path.receipt.detail = "wake".into();
        assert_eq!(no(by_another_path, &row()), Doubt::Forged);
        assert_eq!(no(said_by(BOB, |due| due.sender = key(CAROL)), &row()), Doubt::Forged, "said to another sender");
        assert_eq!(no(said_by(BOB, |due| due.client = ClientId::new("d")), &row()), Doubt::Forged, "of another message");
        assert_eq!(no(said_by(BOB, |due| due.message = MessageId::new("N")), &row()), Doubt::OtherMessage);
        let elsewhere = outbox::Membership { mesh: MeshId::new("other"), member: MemberKey(key(9)) };
        let of_another_mesh = Addressed { membership: Some(elsewhere), ..row() };
        assert_eq!(no(said_by(BOB, |_| {}), &of_another_mesh), Doubt::OtherMessage);
        let mut unsigned = said_by(BOB, |_| {});
        unsigned.receipt.signature.clear();
        assert_eq!(no(unsigned, &row()), Doubt::Forged);
        let mut shouted = said_by(BOB, |_| {});
        shouted.receipt.detail = "\u{1b}[2J".into();
        assert_eq!(no(shouted, &row()), Doubt::OtherMessage);
    }

    #[test]
    fn of_expiry_the_broker_has_the_word() {
        let mut said = said_by(BOB, |due| due.stage = Stage::Expired);
        said.receipt.signature.clear();
        assert_eq!(believe(&said, &row(), &own()).unwrap().stage, Stage::Expired);
        said.recipient = key(CAROL);
        assert_eq!(believe(&said, &row(), &own()), Err(Doubt::NotRecipient));
    }
}
