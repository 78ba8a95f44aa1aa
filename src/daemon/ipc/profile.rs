//! `POST /v1/profile`: what the caller shows of itself. A session changes its own presence, on its own mesh; a caller
//! without a session changes its member's, on the named mesh or on all.

use std::time::Instant;

use crate::base::ids::Slug;
use crate::base::names::{is_group_name, neutralise_line};
use crate::daemon::outward::{Change, parse_group};
use crate::daemon::rpc::{self, Asking};
use crate::daemon::sessions::Session;
use crate::daemon::supervisor::Event;
use crate::store::inbox::Recipient;
use crate::store::outbox::Sender;
use crate::wire::code::Code;
use crate::wire::ipc::ProfileSet;
use crate::wire::json::{self, Map, Value};
use crate::wire::limits::AGGREGATE_DEADLINE;
use crate::wire::peer::Status;
use crate::wire::profile::Profile;

use super::mesh::{self, Unanswered, own_route};
use super::reply::Reply;
use super::routes::Call;

/// Longest text of any part, in bytes.
const MAX_TEXT: usize = 2048;

/// Capabilities listed in a profile.
const MAX_CAPABILITIES: usize = 64;

pub(super) fn set(call: &Call<'_>) -> Reply {
    change(call).unwrap_or_else(|refused| refused)
}

fn change(call: &Call<'_>) -> Result<Reply, Reply> {
    let Ok(Value::Object(fields)) = json::decode::<Value>(call.body) else {
        return Err(Reply::error(400, "expected JSON object").into());
    };
    let changes = read(&fields).map_err(|what| Reply::from(Reply::error(400, &what)))?;
    let applied: Vec<String> = fields.keys().filter(|key| KEYS.contains(&key.as_str())).cloned().collect();
    let named = fields.get("mesh").and_then(Value::as_str).or_else(|| call.query("mesh")).filter(|mesh| !mesh.is_empty());
    let slugs: Vec<Slug> = match (named.map(Slug::new), call.caller.session()) {
        (None, None) => call.ctx.meshes.all().iter().map(|membership| membership.slug.clone()).collect(),
        (named, None) => vec![mesh::one(call, named)?.slug.clone()],
        (named, Some(session)) => vec![own(session, mesh::one(call, named)?.slug.clone())?],
    };
    // What a hook notes by itself does not undo what the user asked for.
    let is_automatic = fields.get("auto") == Some(&Value::Bool(true));
    let busy = call.caller.session().is_some_and(|session| session.outward().status == Some(Status::Dnd));
    if is_automatic && busy {
        return Ok(Reply::ok(&ProfileSet { ok: true, applied: Vec::new(), meshes: slugs, unanswered: Unanswered::new() }));
    }
    // All are told before any is waited for: a mesh that does not answer delays no other.
    let deadline = Instant::now() + AGGREGATE_DEADLINE;
    let told: Vec<_> = slugs.into_iter().map(|slug| (tell(call, &slug, &changes), slug)).collect();
    let mut meshes = Vec::new();
    let mut unanswered = Unanswered::new();
    for (told, slug) in told {
        // A hook's note is passed on and its answer not waited for: a turn must not wait for a broker.
        let shown = told.and_then(|told| if is_automatic { Ok(()) } else { answered(told, deadline) });
        match shown {
            Ok(()) => {
                // What was asked for before does not show it.
                call.ctx.rosters.forget(&slug);
                meshes.push(slug);
            }
            Err(code) => drop(unanswered.insert(slug.to_string(), code.to_string())),
        }
    }
    Ok(Reply::ok(&ProfileSet { ok: unanswered.is_empty(), applied, meshes, unanswered }))
}

/// The mesh on which the session shows what it does. On another one, and without a key, there is its member's presence alone,
/// which is not its to change.
fn own(session: &Session, mesh: Slug) -> Result<Slug, Reply> {
    if session.mesh == mesh && session.public_key().is_some() {
        return Ok(mesh);
    }
    Err(Reply::error(409, "this session has no presence there").and("mesh", mesh.as_str()).into())
}

/// Keys of the body that are understood, `mesh` left out.
const KEYS: [&str; 9] = ["status", "summary", "visible", "avatar", "title", "bio", "capabilities", "join_groups", "leave_groups"];

/// What a body asks for. `Err` names what is wrong with it.
fn read(fields: &Map<String, Value>) -> Result<Vec<Change>, String> {
    let text = |key: &str| match fields.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.len() <= MAX_TEXT => Ok(Some(neutralise_line(text))),
        Some(_) => Err(format!("'{key}' must be a string of at most {MAX_TEXT} bytes")),
    };
    let texts = |key: &str| match fields.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Array(items)) if items.len() <= MAX_CAPABILITIES => {
            let all: Option<Vec<String>> = items.iter().map(|item| item.as_str().map(neutralise_line)).collect();
            all.map(Some).ok_or_else(|| format!("'{key}' must be a list of strings"))
        }
        Some(_) => Err(format!("'{key}' must be a list of at most {MAX_CAPABILITIES} strings")),
    };
    let mut changes = Vec::new();
    if let Some(status) = fields.get("status").filter(|status| !status.is_null()) {
        let status = json::from_value(status.clone()).map_err(|_| "status must be 'idle' | 'working' | 'dnd'".to_owned())?;
        changes.push(Change::Status(status));
    }
    changes.extend(text("summary")?.map(Change::Summary));
    match fields.get("visible") {
        None | Some(Value::Null) => {}
        Some(Value::Bool(visible)) => changes.push(Change::Visible(*visible)),
        Some(_) => return Err("'visible' must be true or false".to_owned()),
    }
    let profile =
        Profile { avatar: text("avatar")?, title: text("title")?, bio: text("bio")?, capabilities: texts("capabilities")? };
    if !profile.is_empty() {
        changes.push(Change::Profile(profile));
    }
    for group in texts("join_groups")?.into_iter().flatten() {
        let wrong = || format!("no group can be named \"{group}\"; names are [A-Za-z0-9._/-]");
        changes.push(Change::Join(parse_group(&group).ok_or_else(wrong)?));
    }
    for group in texts("leave_groups")?.into_iter().flatten() {
        let name = group.strip_prefix('@').unwrap_or(&group);
        if !is_group_name(name) {
            return Err(format!("no group can be named \"{group}\"; names are [A-Za-z0-9._/-]"));
        }
        changes.push(Change::Leave(name.to_owned()));
    }
    Ok(changes)
}

/// Tells one mesh of the changes. A session's are kept whether or not its link is open: the next connection is told.
fn tell(call: &Call<'_>, mesh: &Slug, changes: &[Change]) -> Result<Vec<Asking>, Code> {
    let route = own_route(call, mesh);
    if let Some(session) = call.caller.session().filter(|_| route.sender != Sender::Member) {
        session.change(|outward| changes.iter().cloned().for_each(|change| outward.apply(change)));
        call.ctx.sightings.note();
        // Only what a restart would forget hangs on this.
        let _ = call.ctx.supervisor.try_send(Event::Shown);
        if let Some(key) = session.public_key().filter(|_| changes.iter().any(|change| matches!(change, Change::Status(_)))) {
            // Whoever waits for mail that may come now is told to look again.
            call.ctx.bus.mail(mesh, &Recipient::Session(key));
        }
    }
    changes.iter().cloned().map(|change| rpc::ask(&call.ctx.links, &route, move |id| change.frame(Some(id)))).collect()
}

fn answered(told: Vec<Asking>, deadline: Instant) -> Result<(), Code> {
    told.into_iter().try_for_each(|asking| asking.answer(deadline).map(drop))
}
