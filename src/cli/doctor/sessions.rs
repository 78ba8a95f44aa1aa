//! The sessions of this machine: whether their hooks fire, and what stands by to wake them.

use super::{Finding, Scene};
use crate::base::time::{Millis, now_millis};
use crate::wire::ipc::{Delivery, SessionView};
use crate::wire::peer::Reach;

/// How long a session may be there before a hook should have fired, in milliseconds.
const YOUNG: Millis = 30_000;

pub(super) fn hooks_fire(scene: &Scene) -> Vec<Finding> {
    if scene.health.is_err() {
        return Vec::new();
    }
    if scene.sessions.is_empty() {
        return vec![Finding::unknown("no session runs on this machine")];
    }
    scene.sessions.iter().map(|session| of_session(session, now_millis(), is_claude(session.pid))).collect()
}

fn of_session(session: &SessionView, now: Millis, is_claude: bool) -> Finding {
    let delivery = session.delivery.clone().unwrap_or_default();
    let name = named(session);
    match (delivery.last_hook, delivery.last_hook_at) {
        (Some(path), Some(at)) => Finding::ok(format!("{name}: {} {} s ago", path.as_str(), (now - at).max(0) / 1000)),
        _ if !is_claude => Finding::unknown(format!("{name}: none has fired; it is no claude, and reads by command")),
        _ if now - session.registered_at < YOUNG => Finding::unknown(format!("{name}: none yet, the session has just begun")),
        _ => {
            let text = format!("{name}: none has fired since it was registered");
            Finding::failed(text, relaunch(&session.session_id))
                .after(format!("end it where it runs, or with: kill {}", session.pid))
        }
    }
}

/// Brings a session back with its address, once its process has ended.
pub(super) fn relaunch(id: &str) -> String {
    format!("claudemesh launch --resume {id}")
}

pub(super) fn waking(scene: &Scene) -> Vec<Finding> {
    let known = scene.sessions.iter().filter_map(|session| Some((session, session.delivery.as_ref()?)));
    known.filter(|(_, delivery)| delivery.hooks_fire).map(|(session, delivery)| standing_by(session, delivery)).collect()
}

fn standing_by(session: &SessionView, delivery: &Delivery) -> Finding {
    let name = named(session);
    let can = |way: Reach| delivery.reach.as_ref().is_some_and(|reach| reach.contains(&way));
    match (delivery.waiting, can(Reach::Wake)) {
        (true, _) => Finding::ok(format!("{name}: a hook waits for mail")),
        (false, true) => Finding::ok(format!("{name}: it works; a hook waits again when its turn ends")),
        (false, false) => Finding::unknown(format!("{name}: nothing waits beside it: mail comes with its next turn")),
    }
}

pub(super) fn channel(scene: &Scene) -> Vec<Finding> {
    if scene.health.is_err() {
        return Vec::new();
    }
    let open = scene.sessions.iter().filter(|session| session.delivery.as_ref().is_some_and(|delivery| delivery.channel));
    let names: Vec<String> = open.map(named).collect();
    vec![if names.is_empty() {
        Finding::ok("not in use; claude shows its notifications only with --dangerously-load-development-channels")
    } else {
        Finding::unknown(format!("{}: connected; whether claude shows what comes can not be told", names.join(", ")))
    }]
}

pub(super) fn named(session: &SessionView) -> String {
    format!("{}@{}", session.display_name, session.mesh)
}

/// Whether a process is the client, where the system says so. One that can not be looked at is taken for it.
fn is_claude(pid: u32) -> bool {
    let Ok(line) = std::fs::read(format!("/proc/{pid}/cmdline")) else { return true };
    let words = line.split(|byte| *byte == 0).take(2).map(String::from_utf8_lossy);
    words.into_iter().any(|word| word.rsplit('/').next() == Some("claude") || word.contains("claude-code"))
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;
    use crate::wire::ipc::Path;
    use crate::wire::json;

    fn session(delivery: Delivery) -> SessionView {
        let view = json::json!({ "sessionId": "id", "mesh": "home", "displayName": "bob", "pid": 1, "registeredAt": 1000,
                                 "token_prefix": "ab" });
        SessionView { delivery: Some(delivery), ..json::from_value(view).unwrap() }
    }

    #[test]
    fn a_claude_whose_hooks_never_fired_has_a_fault_and_any_other_program_has_not() {
        let seen = Delivery { last_hook: Some(Path::Stop), last_hook_at: Some(50_000), ..Delivery::default() };
        for (delivery, now, is_claude, verdict, part) in [
            (seen, 60_000, true, Verdict::Ok, "bob@home: stop 10 s ago"),
            (Delivery::default(), 60_000, true, Verdict::Failed, "none has fired since"),
            (Delivery::default(), 2_000, true, Verdict::Unknown, "just begun"),
            (Delivery::default(), 60_000, false, Verdict::Unknown, "reads by command"),
        ] {
            let found = of_session(&session(delivery), now, is_claude);
            assert!(found.verdict == verdict && found.text.contains(part), "{found:?}");
            assert_eq!(found.fix.is_some(), verdict == Verdict::Failed);
        }
    }

    #[test]
    fn waking_is_told_by_who_stands_by() {
        let waits = Delivery { waiting: true, ..Delivery::default() };
        let works = Delivery { reach: Some(vec![Reach::Wake]), ..Delivery::default() };
        for (delivery, verdict) in [(waits, Verdict::Ok), (works, Verdict::Ok), (Delivery::default(), Verdict::Unknown)] {
            assert_eq!(standing_by(&session(Delivery::default()), &delivery).verdict, verdict, "{delivery:?}");
        }
    }
}
