//! The way to the key that a mesh or a topic uses: asked for, given to those who lack it, or made anew where there is none
//! that may be used. What to ask next, without the asking.

use std::sync::Arc;

use crate::base::ids::MemberId;
use crate::crypto::scope_key::{ScopeKey, SealedKey, Which};
use crate::crypto::sign::Signature;
use crate::wire::client::ClientFrame;
use crate::wire::code::Code;
use crate::wire::key::{KeyCopy, KeyGet, KeyMember, KeyPublish, KeySeal, KeyState, KeyTaken, MAX_COPIES, Scope};
use crate::wire::server::ServerFrame;

use super::meshes::Membership;

/// How often somebody else may be quicker before it is left for later.
const MOST_TRIES: u32 = 8;

/// Makes a frame from the id under which its answer will come.
pub(super) type Frame = Box<dyn FnOnce(String) -> ClientFrame + Send>;

/// What the key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Something is to be sealed. Who has none makes the next, for all.
    Seal,
    /// The same, and whoever was asked for the one in use may yet give it: with it comes what was said before.
    SealPatiently,
    /// Others are to have it. Who has none to give gives none.
    Give,
}

/// What follows an answer.
pub(super) enum Next {
    Ask(Frame),
    /// This is the key in use, and all have it.
    InUse(u32, Arc<ScopeKey>),
    /// There is none to give.
    Nothing,
    Failed(Code),
}

#[derive(Debug)]
enum Step {
    Asked {
        renew: bool,
    },
    /// Put into use, or being given to more; `rest` have none yet.
    Giving {
        epoch: u32,
        key: Arc<ScopeKey>,
        rest: Vec<KeyMember>,
    },
}

/// One attempt.
#[derive(Debug)]
pub(super) struct Acquire {
    scope: Scope,
    purpose: Purpose,
    step: Step,
    tries: u32,
}

/// Asks for one's own copy of a key: `None` of the one in use.
pub(super) fn ask(scope: Scope, epoch: Option<u32>, renew: bool) -> Frame {
    Box::new(move |id| ClientFrame::KeyGet(KeyGet { scope, epoch, renew, req_id: Some(id) }))
}

/// The key in an answer, if it is what its publisher made.
pub(super) fn open_copy(state: &KeyState, membership: &Membership) -> Option<ScopeKey> {
    let copy = SealedKey { encrypted_key: state.encrypted_key.clone()?, nonce: state.nonce.clone()? };
    let key = ScopeKey::open(&copy, &membership.secret).ok()?;
    let scope = state.scope.to_string();
    let which = Which { mesh: &membership.mesh, scope: &scope, epoch: state.epoch };
    key.is_proven(which, state.publisher?, &Signature::parse(state.proof.as_deref()?)?).then_some(key)
}

impl Acquire {
    /// Begins, with the first thing to ask.
    pub(super) fn begin(scope: Scope, purpose: Purpose) -> (Acquire, Frame) {
        let first = ask(scope.clone(), None, false);
        (Acquire { scope, purpose, step: Step::Asked { renew: false }, tries: 0 }, first)
    }

    pub(super) fn gives(&self) -> bool {
        self.purpose == Purpose::Give
    }

    pub(super) fn scope(&self) -> &Scope {
        &self.scope
    }

    pub(super) fn answered(&mut self, answer: Option<ServerFrame>, membership: &Membership) -> Next {
        match answer {
            Some(ServerFrame::KeyState(state)) if state.scope == self.scope => self.told(state, membership),
            Some(ServerFrame::KeyTaken(taken)) if taken.scope == self.scope => self.taken(&taken, membership),
            Some(ServerFrame::Error(refused)) => Next::Failed(refused.code),
            _ => Next::Failed(Code::Malformed),
        }
    }

    fn again(&mut self, renew: bool) -> Next {
        self.tries += 1;
        if MOST_TRIES < self.tries {
            return Next::Failed(Code::Unavailable);
        }
        self.step = Step::Asked { renew };
        Next::Ask(ask(self.scope.clone(), None, renew))
    }

    fn told(&mut self, state: KeyState, membership: &Membership) -> Next {
        let Step::Asked { renew } = self.step else { return Next::Failed(Code::Malformed) };
        if state.epoch == 0 || state.closed || renew {
            return self.make(state.epoch, state.members, membership);
        }
        match open_copy(&state, membership) {
            Some(key) => {
                let (epoch, key) = (state.epoch, Arc::new(key));
                self.give(epoch, key, state.members, membership)
            }
            None if self.gives() => Next::Nothing,
            None if self.purpose == Purpose::SealPatiently && state.asked => Next::Failed(Code::KeyPending),
            // There is a copy, and it is none: who lacks one was listed, and not all who are to have the next.
            None if state.encrypted_key.is_some() => self.again(true),
            None => self.make(state.epoch, state.members, membership),
        }
    }

    /// Makes the next key, for these.
    fn make(&mut self, last: u32, mut members: Vec<KeyMember>, membership: &Membership) -> Next {
        if self.gives() {
            return Next::Nothing;
        }
        let Some(epoch) = last.checked_add(1) else { return Next::Failed(Code::Capacity) };
        let key = Arc::new(ScopeKey::generate());
        let rest = members.split_off(members.len().min(MAX_COPIES));
        let scope = self.scope.clone();
        let text = scope.to_string();
        let proof = key.prove(Which { mesh: &membership.mesh, scope: &text, epoch }, &membership.secret).to_string();
        let sealed = copies(&key, &members, membership);
        self.step = Step::Giving { epoch, key, rest };
        Next::Ask(Box::new(move |id| ClientFrame::KeyPublish(KeyPublish { scope, epoch, proof, sealed, req_id: Some(id) })))
    }

    /// Gives the key to those who lack it, as many as one frame holds.
    fn give(&mut self, epoch: u32, key: Arc<ScopeKey>, mut members: Vec<KeyMember>, membership: &Membership) -> Next {
        if members.is_empty() {
            return Next::InUse(epoch, key);
        }
        let rest = members.split_off(members.len().min(MAX_COPIES));
        let sealed = copies(&key, &members, membership);
        let scope = self.scope.clone();
        self.step = Step::Giving { epoch, key, rest };
        Next::Ask(Box::new(move |id| ClientFrame::KeySeal(KeySeal { scope, epoch, sealed, req_id: Some(id) })))
    }

    fn taken(&mut self, taken: &KeyTaken, membership: &Membership) -> Next {
        match std::mem::replace(&mut self.step, Step::Asked { renew: false }) {
            Step::Giving { epoch, key, rest } if taken.accepted && taken.epoch == epoch => {
                self.give(epoch, key, rest, membership)
            }
            Step::Giving { .. } => self.again(false),
            Step::Asked { .. } => Next::Failed(Code::Malformed),
        }
    }
}

fn copies(key: &ScopeKey, members: &[KeyMember], membership: &Membership) -> Vec<KeyCopy> {
    let copy = |member: &KeyMember| {
        let member_id: MemberId = member.member_id.clone();
        match key.seal_for(&member.pubkey.0, &membership.secret) {
            Ok(SealedKey { encrypted_key, nonce }) => KeyCopy { member_id, encrypted_key, nonce },
            // Nothing can be sealed to it. Others must not wait for that.
            Err(_) => KeyCopy { member_id, encrypted_key: String::new(), nonce: String::new() },
        }
    };
    members.iter().map(copy).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::{MemberKey, MeshId, PublicKey, Slug};
    use crate::crypto::keys::KeyPair;

    fn member(seed: u8) -> Membership {
        let pair = KeyPair::from_seed([seed; 32]);
        Membership {
            slug: Slug::new("home"),
            mesh: MeshId::new("m"),
            member: MemberId::new(format!("member-{seed}")),
            key: MemberKey(pair.public),
            secret: pair.secret,
            broker_url: String::new(),
        }
    }

    fn listed(members: &[&Membership]) -> Vec<KeyMember> {
        members.iter().map(|member| KeyMember { member_id: member.member.clone(), pubkey: member.key }).collect()
    }

    fn state(epoch: u32, closed: bool, members: Vec<KeyMember>) -> KeyState {
        let (publisher, proof, encrypted_key, nonce, req_id) = (None, None, None, None, None);
        KeyState { scope: Scope::Mesh, epoch, closed, publisher, proof, encrypted_key, nonce, members, asked: false, req_id }
    }

    fn tell(acquire: &mut Acquire, state: KeyState, own: &Membership) -> Next {
        acquire.answered(Some(ServerFrame::KeyState(state)), own)
    }

    fn asked(next: Next) -> ClientFrame {
        match next {
            Next::Ask(frame) => frame("r".into()),
            Next::InUse(epoch, _) => panic!("key {epoch} is in use"),
            Next::Nothing => panic!("nothing"),
            Next::Failed(code) => panic!("{code}"),
        }
    }

    fn taken(acquire: &mut Acquire, epoch: u32, accepted: bool, own: &Membership) -> Next {
        let taken = KeyTaken { scope: Scope::Mesh, epoch, accepted, req_id: None };
        acquire.answered(Some(ServerFrame::KeyTaken(taken)), own)
    }

    /// What the broker tells `to` of a key that was published.
    fn published(publish: &KeyPublish, by: &Membership, to: &Membership, lacking: Vec<KeyMember>) -> KeyState {
        let own = publish.sealed.iter().find(|copy| copy.member_id == to.member);
        KeyState {
            publisher: Some(by.key),
            proof: Some(publish.proof.clone()),
            encrypted_key: own.map(|copy| copy.encrypted_key.clone()),
            nonce: own.map(|copy| copy.nonce.clone()),
            ..state(publish.epoch, false, lacking)
        }
    }

    fn made(own: &Membership, members: &[&Membership]) -> (Acquire, KeyPublish) {
        let mut acquire = Acquire::begin(Scope::Mesh, Purpose::Seal).0;
        match asked(tell(&mut acquire, state(0, false, listed(members)), own)) {
            ClientFrame::KeyPublish(publish) => (acquire, publish),
            frame => panic!("{frame:?}"),
        }
    }

    #[test]
    fn the_first_to_want_a_key_makes_it_and_the_others_take_it() {
        let (ann, bob, cid) = (member(1), member(2), member(3));
        let (mut acquire, publish) = made(&ann, &[&ann, &bob]);
        assert_eq!((publish.epoch, publish.sealed.len()), (1, 2));
        let Next::InUse(1, key) = taken(&mut acquire, 1, true, &ann) else { panic!("not in use") };

        let mut acquire = Acquire::begin(Scope::Mesh, Purpose::Seal).0;
        let told = published(&publish, &ann, &bob, Vec::new());
        let Next::InUse(1, same) = tell(&mut acquire, told, &bob) else { panic!("not in use") };
        let body = key.seal_body(b"x");
        assert!(same.open_body(&body.nonce_b64, &body.ciphertext_b64).is_ok());

        // Who has it gives it to whoever lacks it before anything is sent.
        let mut acquire = Acquire::begin(Scope::Mesh, Purpose::Seal).0;
        let frame = asked(tell(&mut acquire, published(&publish, &ann, &bob, listed(&[&cid])), &bob));
        let ClientFrame::KeySeal(seal) = frame else { panic!("{frame:?}") };
        let copy = &seal.sealed[0];
        let copy = SealedKey { encrypted_key: copy.encrypted_key.clone(), nonce: copy.nonce.clone() };
        assert!(ScopeKey::open(&copy, &cid.secret).unwrap().open_body(&body.nonce_b64, &body.ciphertext_b64).is_ok());
        assert!(matches!(taken(&mut acquire, 1, true, &bob), Next::InUse(1, _)));

        // Who has none, or is told that it is closed, makes the next.
        for told in [published(&publish, &ann, &cid, listed(&[&ann, &cid])), state(1, true, listed(&[&ann, &cid]))] {
            let mut acquire = Acquire::begin(Scope::Mesh, Purpose::Seal).0;
            let frame = asked(tell(&mut acquire, told, &cid));
            assert!(matches!(&frame, ClientFrame::KeyPublish(next) if next.epoch == 2 && next.sealed.len() == 2), "{frame:?}");
        }
    }

    #[test]
    fn who_is_to_give_it_gives_what_it_has_and_makes_nothing() {
        let (ann, bob, cid) = (member(1), member(2), member(3));
        let (_, publish) = made(&ann, &[&ann, &bob]);
        let begin = || Acquire::begin(Scope::Mesh, Purpose::Give).0;
        let mut acquire = begin();
        let frame = asked(tell(&mut acquire, published(&publish, &ann, &bob, listed(&[&cid])), &bob));
        assert!(matches!(&frame, ClientFrame::KeySeal(seal) if seal.sealed.len() == 1), "{frame:?}");
        assert!(matches!(taken(&mut acquire, 1, true, &bob), Next::InUse(1, _)));
        // It is in use no more, there is none, or this member has none or nothing that opens.
        let closed = KeyState { closed: true, ..published(&publish, &ann, &bob, listed(&[&cid])) };
        let spoilt = KeyState { encrypted_key: Some("A".repeat(108)), ..published(&publish, &ann, &bob, listed(&[&cid])) };
        for told in [closed, spoilt, state(0, false, listed(&[&bob])), published(&publish, &ann, &cid, listed(&[&cid]))] {
            assert!(matches!(tell(&mut begin(), told, &bob), Next::Nothing));
        }
    }

    #[test]
    fn who_may_yet_be_given_the_key_makes_another_only_when_it_was_waited_for() {
        let (ann, cid) = (member(1), member(3));
        let (_, publish) = made(&ann, &[&ann]);
        let told = |asked| KeyState { asked, ..published(&publish, &ann, &cid, listed(&[&ann, &cid])) };
        for (purpose, asked, waits) in
            [(Purpose::SealPatiently, true, true), (Purpose::SealPatiently, false, false), (Purpose::Seal, true, false)]
        {
            let mut acquire = Acquire::begin(Scope::Mesh, purpose).0;
            match tell(&mut acquire, told(asked), &cid) {
                Next::Failed(Code::KeyPending) => assert!(waits, "{purpose:?}"),
                Next::Ask(_) => assert!(!waits, "{purpose:?}"),
                _ => panic!("{purpose:?}"),
            }
        }
    }

    #[test]
    fn of_two_that_make_a_key_one_is_first_and_the_other_takes_that() {
        let (ann, bob) = (member(1), member(2));
        let (_, won) = made(&ann, &[&ann, &bob]);
        let (mut late, _) = made(&bob, &[&ann, &bob]);
        assert!(matches!(asked(taken(&mut late, 1, false, &bob)), ClientFrame::KeyGet(_)));
        assert!(matches!(tell(&mut late, published(&won, &ann, &bob, Vec::new()), &bob), Next::InUse(1, _)));
        // It ends, whoever is always quicker.
        let mut acquire = Acquire::begin(Scope::Mesh, Purpose::Seal).0;
        let mut last = 0;
        let failed = loop {
            last += 1;
            asked(tell(&mut acquire, state(last, true, listed(&[&bob])), &bob));
            match taken(&mut acquire, last + 5, false, &bob) {
                Next::Ask(_) => {}
                Next::InUse(..) | Next::Nothing => panic!("not in use"),
                Next::Failed(code) => break code,
            }
        };
        assert_eq!((failed, last), (Code::Unavailable, MOST_TRIES + 1));
    }

    #[test]
    fn a_copy_that_is_none_and_a_key_that_nobody_vouches_for_are_replaced() {
        let (ann, bob, eve) = (member(1), member(2), member(3));
        let (_, publish) = made(&ann, &[&ann, &bob]);
        let good = published(&publish, &ann, &bob, Vec::new());
        let (_, other) = made(&eve, &[&bob]);
        let swapped = published(&other, &eve, &bob, Vec::new());
        for told in [
            KeyState { encrypted_key: Some("A".repeat(108)), ..good.clone() },
            KeyState { publisher: Some(eve.key), ..good.clone() },
            KeyState { epoch: 2, ..good.clone() },
            KeyState { publisher: Some(ann.key), proof: Some(publish.proof.clone()), ..swapped },
        ] {
            let mut acquire = Acquire::begin(Scope::Mesh, Purpose::Seal).0;
            let epoch = told.epoch;
            let frame = asked(tell(&mut acquire, told, &bob));
            assert!(matches!(&frame, ClientFrame::KeyGet(get) if get.renew), "{frame:?}");
            let told = state(epoch, false, listed(&[&ann, &bob]));
            assert!(matches!(asked(tell(&mut acquire, told, &bob)), ClientFrame::KeyPublish(next) if next.epoch == epoch + 1));
        }
    }

    #[test]
    fn as_many_as_there_are_get_it_a_frame_at_a_time_and_one_that_can_not_be_sealed_to_holds_up_nobody() {
        let ann = member(1);
        let many = |n: usize| KeyMember { member_id: MemberId::new(format!("m{n}")), pubkey: ann.key };
        let mut members: Vec<KeyMember> = (0..2 * MAX_COPIES + 1).map(many).collect();
        members[0].pubkey = MemberKey(PublicKey::from_bytes([0; 32]));
        let mut acquire = Acquire::begin(Scope::Mesh, Purpose::Seal).0;
        let ClientFrame::KeyPublish(publish) = asked(tell(&mut acquire, state(0, false, members), &ann)) else { panic!() };
        assert!(publish.sealed.len() == MAX_COPIES && publish.sealed.iter().all(KeyCopy::fits));
        assert!(publish.sealed[0].encrypted_key.is_empty() && !publish.sealed[1].encrypted_key.is_empty());
        for size in [MAX_COPIES, 1] {
            let frame = asked(taken(&mut acquire, 1, true, &ann));
            assert!(matches!(&frame, ClientFrame::KeySeal(seal) if seal.sealed.len() == size), "{frame:?}");
        }
        assert!(matches!(taken(&mut acquire, 1, true, &ann), Next::InUse(1, _)));
        let mut acquire = Acquire::begin(Scope::Mesh, Purpose::Seal).0;
        assert!(matches!(acquire.answered(None, &ann), Next::Failed(Code::Malformed)));
    }
}
