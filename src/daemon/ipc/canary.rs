//! `POST /v1/canary`: tries the ways into each session of this machine, or into the one that asks, and says which of them work.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{after, select};

use crate::daemon::bus::News;
use crate::daemon::canaries::{Canary, MAX, Running};
use crate::daemon::sessions::Session;
use crate::store::inbox::Recipient;
use crate::wire::ipc::{Canaries, CanaryRequest, CanaryState, CanaryView, Path};
use crate::wire::limits::MAX_CANARY_WAIT;
use crate::wire::peer::Status;

use super::reply::Reply;
use super::routes::Call;

/// The ways that are tried; a session starts only once.
const PATHS: [Path; 5] = [Path::Wake, Path::Stop, Path::ToolUse, Path::Prompt, Path::Channel];

pub(super) fn fly(call: &Call<'_>) -> Reply {
    let asked: CanaryRequest = match call.json() {
        Ok(asked) => asked,
        Err(refused) => return refused,
    };
    // What others do, and that they are there, is no session's business.
    let sessions = call.caller.session().map_or_else(|| call.ctx.sessions.all(), |session| vec![session.clone()]);
    let canaries: Vec<Canary> = sessions.iter().flat_map(|session| of(call, session)).take(MAX).collect();
    let Some(test) = call.ctx.canaries.release(canaries) else {
        return Reply::error(409, "a test is running").hint("try again when it is over").into();
    };
    for session in &sessions {
        // Whoever waits looks again, and finds its own.
        if let Some(key) = session.public_key() {
            call.ctx.bus.mail(&session.mesh, &Recipient::Session(key));
        }
    }
    wait(call, &test, Duration::from_millis(asked.wait_ms).min(MAX_CANARY_WAIT));
    let views = test.all().into_iter().filter_map(|canary| view(&sessions, canary)).collect();
    Reply::ok(&Canaries { canaries: views })
}

/// The canaries of one session. A waiter takes its own at once, and the turn that it begins has an end.
fn of(call: &Call<'_>, session: &Session) -> Vec<Canary> {
    let delivery = call.ctx.sightings.of(session);
    let due = |path: Path| match path {
        Path::Wake | Path::Stop => delivery.waiting,
        Path::Channel => delivery.channel,
        _ => false,
    };
    PATHS.map(|path| Canary::new(session.serial, path, due(path))).into()
}

/// Until all that can come without anybody's doing have come. Where there is none, somebody may do something meanwhile.
fn wait(call: &Call<'_>, test: &Running<'_>, patience: Duration) {
    let until = Instant::now() + patience;
    let Some(subscription) = call.ctx.bus.subscribe(call.caller.scope(call.ctx)) else { return };
    loop {
        let canaries = test.all();
        let mut due = canaries.iter().filter(|canary| canary.due).peekable();
        if canaries.is_empty() || (due.peek().is_some() && due.all(|canary| canary.state == CanaryState::Arrived)) {
            return;
        }
        select! {
            recv(test.bell) -> _ => {}
            recv(subscription.news) -> news => match news {
                Ok(News::Mail) => subscription.mail_noticed(),
                Ok(News::Event(_)) => {}
                Ok(News::Bye) | Err(_) => return,
            },
            recv(after(until.saturating_duration_since(Instant::now()))) -> _ => return,
        }
    }
}

fn view(sessions: &[Arc<Session>], canary: Canary) -> Option<CanaryView> {
    let session = sessions.iter().find(|session| session.serial == canary.session)?;
    // A turn may be longer than a test.
    let works_on = canary.path == Path::Stop && session.outward().status == Some(Status::Working);
    Some(CanaryView {
        session_id: session.id.to_string(),
        display_name: session.name.clone(),
        mesh: session.mesh.clone(),
        path: canary.path,
        due: canary.due && !works_on,
        state: canary.state,
    })
}
