//! The links to brokers: what keeps one from being open, and who puts that right.

use super::{Finding, Scene};
use crate::base::config::Config;
use crate::base::ids::Slug;
use crate::cli::home;
use crate::wire::ipc::{LinkFault, LinkStatus, MeshHealth};

/// Characters of a key that name a member to whoever lets it in again.
const KEY_PART: usize = 16;

pub(super) fn brokers(scene: &Scene) -> Vec<Finding> {
    let Ok(health) = &scene.health else { return Vec::new() };
    if health.brokers.is_empty() {
        return vec![Finding::failed("no mesh is joined", "claudemesh daemon restart")];
    }
    health.brokers.iter().map(|(slug, status)| of_link(scene, slug, *status, health.meshes.get(slug))).collect()
}

fn of_link(scene: &Scene, slug: &str, status: LinkStatus, mesh: Option<&MeshHealth>) -> Finding {
    let url = mesh.map(|mesh| mesh.broker_url.as_str()).unwrap_or_default();
    let why = mesh.and_then(|mesh| mesh.last_error.as_deref());
    // The broker of the machine's own mesh is the daemon's part.
    let is_own = slug == home::SLUG;
    let fault = mesh.and_then(|mesh| mesh.fault).filter(|_| !is_own);
    let fix = match fault {
        _ if is_own => "claudemesh daemon restart".to_owned(),
        Some(LinkFault::Deleted) => format!("claudemesh leave {slug}"),
        _ => format!("claudemesh mesh reconnect {slug}"),
    };
    match (status, mesh) {
        (LinkStatus::Open, Some(mesh)) if mesh.sessions_open < mesh.sessions => {
            let text = format!("{slug}: open, and only {} of {} sessions are connected", mesh.sessions_open, mesh.sessions);
            Finding::failed(why.map_or(text.clone(), |why| format!("{text}: {why}")), fix)
        }
        (LinkStatus::Open, _) => Finding::ok(format!("{slug}: connected to {url}")),
        // It was only just begun: what comes of it shows within moments, and to begin again would tell nobody anything.
        (LinkStatus::Connecting, Some(_)) if why.is_none() => {
            let text = format!("{slug}: connecting to {url}, which has not answered yet");
            Finding { fix: Some("claudemesh doctor".to_owned()), ..Finding::unknown(text) }.after("wait a moment, and look again")
        }
        _ => {
            let text = format!("{slug}: not connected to {url}: {}", why.unwrap_or("it gives no reason"));
            let advice = fault.and_then(|fault| advice(scene, slug, fault));
            let failed = Finding::failed(text, fix);
            advice.map_or(failed.clone(), |advice| failed.after(advice))
        }
    }
}

/// What has to be done before it helps to connect again.
fn advice(scene: &Scene, slug: &str, fault: LinkFault) -> Option<String> {
    let config = scene.paths.config_file();
    let address = format!("\"brokerUrl\" of \"{slug}\" in {}", config.display());
    Some(match fault {
        LinkFault::NoAddress => format!("correct {address}, as in wss://mesh.example.org/ws"),
        LinkFault::UnknownHost => format!("see that this machine has a network, and that the name is right: it is {address}"),
        LinkFault::Unreachable => {
            format!("start the broker where it belongs, or look what is between; its address is {address}. Mail waits meanwhile")
        }
        LinkFault::NoBroker => format!("something else answers there: correct {address}, or ask whoever runs the broker"),
        LinkFault::Tls => "ask whoever runs the broker about its certificate; the file of an authority of your own is named by \
                           CLAUDEMESH_CA_FILE where the daemon starts"
            .to_owned(),
        LinkFault::Kicked => "wait: nobody is let in before that is over. If it does not come back by itself then".to_owned(),
        LinkFault::Banned => {
            let member = Config::load(&config).ok().and_then(|config| {
                let key = config.mesh(&Slug::new(slug))?.pubkey.to_string();
                Some(key.chars().take(KEY_PART).collect::<String>())
            });
            format!("an admin of {slug} lets you in again: claudemesh unban {}", member.as_deref().unwrap_or("<your key>"))
        }
        LinkFault::Deleted => {
            "keep what was not delivered, if it is still of use: claudemesh outbox; the mesh does not come back".to_owned()
        }
        LinkFault::Refused => format!(
            "the mesh does not know this member, or is no more: ask for a new invitation, then: claudemesh leave {slug}; claudemesh join <link>"
        ),
        LinkFault::Ended | LinkFault::Unknown => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::json;

    #[test]
    fn links_are_judged_for_each_mesh() {
        let mesh = |status: &str, open: u32, why: Option<&str>, fault: Option<&str>| {
            json::json!({ "status": status, "broker_url": "wss://b/ws", "sessions": 2, "sessions_open": open, "last_error": why,
                          "fault": fault })
        };
        let scene = Scene::of_meshes(&json::json!({
            "away": mesh("reconnecting", 0, Some("refused"), Some("unreachable")),
            "gone": mesh("closed", 0, Some("banned from this mesh"), Some("banned")),
            "half": mesh("open", 1, Some("refused"), None),
            "home": mesh("closed", 0, Some("not there"), Some("unreachable")),
            "just": mesh("connecting", 0, None, None),
            "later": mesh("reconnecting", 0, Some("of later"), Some("what-is-not-known-yet")),
            "out": mesh("closed", 0, Some("kicked until then"), Some("kicked")),
            "site": mesh("reconnecting", 0, Some("404"), Some("no-broker")),
            "over": mesh("closed", 0, Some("the mesh was deleted"), Some("deleted")),
            "typo": mesh("closed", 0, Some("no address"), Some("no-address")),
            "well": mesh("open", 2, None, None),
        }));
        let address = |slug: &str| format!("\"brokerUrl\" of \"{slug}\" in /no/such/config.json");
        assert_eq!(
            brokers(&scene).into_iter().map(Finding::said).collect::<Vec<_>>(),
            [
                format!(
                    "away: not connected to wss://b/ws: refused (start the broker where it belongs, or look what is between; its \
                     address is {}. Mail waits meanwhile) -> claudemesh mesh reconnect away",
                    address("away")
                ),
                "gone: not connected to wss://b/ws: banned from this mesh (an admin of gone lets you in again: claudemesh unban \
                 <your key>) -> claudemesh mesh reconnect gone"
                    .to_owned(),
                "half: open, and only 1 of 2 sessions are connected: refused -> claudemesh mesh reconnect half".to_owned(),
                "home: not connected to wss://b/ws: not there -> claudemesh daemon restart".to_owned(),
                "just: connecting to wss://b/ws, which has not answered yet (wait a moment, and look again) -> claudemesh doctor"
                    .to_owned(),
                "later: not connected to wss://b/ws: of later -> claudemesh mesh reconnect later".to_owned(),
                "out: not connected to wss://b/ws: kicked until then (wait: nobody is let in before that is over. If it does not \
                 come back by itself then) -> claudemesh mesh reconnect out"
                    .to_owned(),
                "over: not connected to wss://b/ws: the mesh was deleted (keep what was not delivered, if it is still of use: \
                 claudemesh outbox; the mesh does not come back) -> claudemesh leave over"
                    .to_owned(),
                format!(
                    "site: not connected to wss://b/ws: 404 (something else answers there: correct {}, or ask whoever runs the \
                     broker) -> claudemesh mesh reconnect site",
                    address("site")
                ),
                format!(
                    "typo: not connected to wss://b/ws: no address (correct {}, as in wss://mesh.example.org/ws) -> claudemesh mesh \
                     reconnect typo",
                    address("typo")
                ),
                "well: connected to wss://b/ws -> ".to_owned(),
            ]
        );
    }
}
