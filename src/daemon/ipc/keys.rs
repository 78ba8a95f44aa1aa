//! Shared keys, for requests that can not wait in the outbox, and who could not open what is sealed with them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::crypto::scope_key::ScopeKey;
use crate::daemon::acquire::{self, Acquire, Frame, Next, Purpose};
use crate::daemon::meshes::Membership;
use crate::daemon::rpc;
use crate::daemon::scoped::{self, Came};
use crate::wire::client::ClientFrame;
use crate::wire::code::Code;
use crate::wire::key::{KeyCheck, Scope};
use crate::wire::limits::AGGREGATE_DEADLINE;
use crate::wire::schedule::ScheduledMessage;
use crate::wire::server::ServerFrame;
use crate::wire::target::Target;

use super::mesh::own_route;
use super::reply::Reply;
use super::routes::Call;

/// How long it is waited to hear who could not open a message. Without an answer it is accepted: the broker looks again when
/// it is sent.
const MOMENT: Duration = Duration::from_millis(500);

/// How long it is waited for a key that somebody was asked to give: a few round trips, and time for a slow machine.
const MOST_PATIENT: Duration = Duration::from_millis(1500);

/// Refuses a message to many that could not be sealed for all of them, as far as that is known now.
pub(super) fn check(call: &Call<'_>, membership: &Membership, target: &Target) -> Result<(), Reply> {
    let route = own_route(call, &membership.slug);
    let refused = |detail: &str| -> Reply {
        Reply::error(409, "recipient_cannot_open")
            .detail(detail)
            .hint("with --plaintext (\"plaintext\": true) it is sent in clear, and the broker can read it")
            .and("code", Code::CannotOpen.as_str())
            .and("mesh", membership.slug.as_str())
            .into()
    };
    match call.ctx.links.keeps_keys(&route) {
        None => return Ok(()),
        Some(false) => return Err(refused("the broker of this mesh passes on nothing that is sealed for many")),
        Some(true) => {}
    }
    let to = target.to_string();
    let unable = match call.ctx.keyring.unable(&membership.mesh, &to) {
        Some(unable) => unable,
        None => {
            let asked = to.clone();
            let frame = move |id| ClientFrame::KeyCheck(KeyCheck { to: asked, req_id: Some(id) });
            let answer = rpc::ask(&call.ctx.links, &route, frame).and_then(|asking| asking.answer(Instant::now() + MOMENT));
            let Ok(Some(ServerFrame::KeyCheckResult(result))) = answer else { return Ok(()) };
            call.ctx.keyring.note_unable(&membership.mesh, &to, result.unable.clone());
            result.unable
        }
    };
    if unable.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = unable.iter().map(|name| crate::base::names::neutralise_line(name)).collect();
    Err(refused(&format!("{} cannot read sealed mail to many", names.join(", "))))
}

/// How long it is waited for whoever was asked for a key, and until when the broker is asked at all.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    given: Instant,
    until: Instant,
}

impl Patience {
    /// For all that one request reads.
    pub(super) fn from(now: Instant) -> Patience {
        Patience { given: now + MOST_PATIENT, until: now + AGGREGATE_DEADLINE }
    }
}

fn ask(call: &Call<'_>, membership: &Membership, frame: Frame, until: Instant) -> Result<Option<ServerFrame>, Code> {
    rpc::ask(&call.ctx.links, &own_route(call, &membership.slug), frame).and_then(|asking| asking.answer(until))
}

/// The key to seal with, as the broker says now.
pub(super) fn in_use(call: &Call<'_>, membership: &Membership, scope: Scope) -> Result<(u32, Arc<ScopeKey>), Code> {
    let until = Instant::now() + AGGREGATE_DEADLINE;
    let patience = Instant::now() + MOST_PATIENT;
    let keyring = &call.ctx.keyring;
    let begin = |purpose| Acquire::begin(scope.clone(), purpose);
    let mut given = keyring.given();
    let (mut acquire, mut frame) = begin(Purpose::SealPatiently);
    loop {
        match acquire.answered(ask(call, membership, frame, until)?, membership) {
            Next::Ask(next) => frame = next,
            Next::InUse(epoch, key) => {
                call.ctx.use_key(&membership.mesh, &scope, epoch, key.clone());
                return Ok((epoch, key));
            }
            Next::Failed(Code::KeyPending) => {
                let came = keyring.await_given(given, patience);
                given = keyring.given();
                (acquire, frame) = begin(if came { Purpose::SealPatiently } else { Purpose::Seal });
            }
            Next::Failed(code) => return Err(code),
            Next::Nothing => return Err(Code::Malformed),
        }
    }
}

/// A key to read with: one that is known, or one's own copy at the broker; `Err` says why there is none.
fn read(
    call: &Call<'_>,
    membership: &Membership,
    scope: &Scope,
    epoch: u32,
    patience: Patience,
) -> Result<Arc<ScopeKey>, &'static str> {
    let keyring = &call.ctx.keyring;
    if let Some(key) = keyring.get(&membership.mesh, scope, epoch) {
        return Ok(key);
    }
    let state = loop {
        let given = keyring.given();
        let answer = ask(call, membership, acquire::ask(scope.clone(), Some(epoch), false), patience.until);
        let Ok(Some(ServerFrame::KeyState(state))) = answer else { return Err(scoped::NO_COPY) };
        if !(state.asked && keyring.await_given(given, patience.given)) {
            break state;
        }
    };
    let waits = !state.closed && state.encrypted_key.is_none();
    let key = acquire::open_copy(&state, membership).filter(|_| state.epoch == epoch && state.scope == *scope);
    let key = key.ok_or(if waits { scoped::NOT_YET } else { scoped::NO_COPY })?;
    let key = Arc::new(key);
    call.ctx.learn_key(&membership.mesh, scope, epoch, key.clone());
    Ok(key)
}

/// What was sealed for many and is kept with the broker.
pub(super) fn open(call: &Call<'_>, membership: &Membership, came: Came<'_>, patience: Patience) -> Result<String, &'static str> {
    let scope = Target::parse(came.target).as_ref().and_then(Scope::of).ok_or("it is not for many")?;
    let key = read(call, membership, &scope, came.seal.epoch, patience)?;
    scoped::open(came, &key)
}

/// What this member has put down for later, for many.
pub(super) fn own_text(
    call: &Call<'_>,
    membership: &Membership,
    message: &ScheduledMessage,
    patience: Patience,
) -> Option<String> {
    let scope = Scope::of(&Target::parse(&message.to)?)?;
    let key = read(call, membership, &scope, message.seal.as_ref()?.epoch, patience).ok()?;
    String::from_utf8(key.open_body(message.nonce.as_deref()?, message.ciphertext.as_deref()?).ok()?).ok()
}
