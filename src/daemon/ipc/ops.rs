//! `GET /v1/version` and `GET /v1/health`.

use std::collections::BTreeMap;
use std::time::Instant;

use crate::base::service;
use crate::daemon::guard::Budget;
use crate::wire::ipc::{Health, LinkStatus, MeshHealth, TcpHealth, Version};

use super::reply::Reply;
use super::routes::Call;

/// What this API can do, in the reference's words; clients look for the ones they need.
const FEATURES: [&str; 11] =
    ["version", "health", "send", "inbox", "events", "peers", "profile", "skills", "state", "memory", "sessions"];

pub(super) fn version(_: &Call<'_>) -> Reply {
    Reply::ok(&Version {
        daemon_version: env!("CARGO_PKG_VERSION").to_owned(),
        ipc_api: "v1".to_owned(),
        ipc_features: FEATURES.map(str::to_owned).to_vec(),
        schema_version: 1,
    })
}

pub(super) fn health(call: &Call<'_>) -> Reply {
    let ctx = call.ctx;
    let sessions = ctx.sessions.all();
    let outbox = match ctx.outbox.counts() {
        Ok(counts) => counts,
        Err(err) => return Reply::store(&err),
    };
    let mut brokers = BTreeMap::new();
    let mut meshes = BTreeMap::new();
    for membership in ctx.meshes.all() {
        let (report, sessions_open) = ctx.links.of_mesh(&membership.slug);
        let queued = match ctx.outbox.waiting(membership.slug.clone()) {
            Ok(queued) => queued,
            Err(err) => return Reply::store(&err),
        };
        let status = report.as_ref().map_or(LinkStatus::Connecting, |report| report.status);
        brokers.insert(membership.slug.to_string(), status);
        meshes.insert(
            membership.slug.to_string(),
            MeshHealth {
                status,
                broker_url: membership.broker_url.clone(),
                sessions_open,
                sessions: sessions.iter().filter(|session| session.mesh == membership.slug).count(),
                queued,
                last_error: report.as_ref().and_then(|report| report.last_error.clone()),
                fault: report.as_ref().filter(|report| report.status != LinkStatus::Open).and_then(|report| report.fault),
                clock_skew_ms: report.and_then(|report| report.clock_skew_ms),
            },
        );
    }
    let settings = ctx.settings();
    let budget = Budget { window: settings.wake_window(), wakes: settings.wake_budget() };
    let mut guard = ctx.guard.report(budget, Instant::now());
    for pair in &mut guard.pairs {
        if let Some(session) = sessions.iter().find(|session| session.id.as_str() == pair.session) {
            pair.session.clone_from(&session.name);
        }
    }
    let pid = std::process::id();
    // A service manager starts it anew with what its unit says.
    let is_service = service::is_service(|name| std::env::var_os(name), pid);
    let started_with = if is_service { Vec::new() } else { ctx.flags.texts() };
    let tcp = ctx.tcp().map(|tcp| TcpHealth { public_health: settings.public_health, ..tcp });
    Reply::ok(&Health { ok: true, pid, brokers, meshes, outbox, guard, started_with, tcp })
}
