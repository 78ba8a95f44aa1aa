//! Skills that members share: `share_skill`, `list_skills`, `get_skill`, `remove_skill`.

use crate::base::names::is_group_name;
use crate::base::time::{iso, now_millis};
use crate::broker::Shared;
use crate::broker::conn::{Seat, error};
use crate::broker::limits::MAX_SHARED;
use crate::net::ws::Outbox;
use crate::store::hub::{Outcome, SkillRow};
use crate::wire::code::Code;
use crate::wire::json;
use crate::wire::rest::Rest;
use crate::wire::server::ServerFrame;
use crate::wire::skill::{
    GetSkill, ListSkills, RemoveSkill, ShareSkill, Skill, SkillAck, SkillAction, SkillChange, SkillData, SkillList,
};

use super::{events, fits, fitting, found, made};

/// Longest description, in bytes.
const MAX_DESCRIPTION: usize = 2048;

/// Tags of one skill, and the longest of them in bytes.
const MAX_TAGS: usize = 32;
const MAX_TAG: usize = 64;

pub(in crate::broker) fn share(shared: &Shared, seat: &Seat, ask: ShareSkill, out: &mut Outbox) {
    let req_id = ask.req_id.as_ref();
    if !is_group_name(&ask.name) {
        return error(out, Code::Invalid, "a skill's name is [A-Za-z0-9][A-Za-z0-9._/-]{0,63}", None, ask.req_id);
    }
    if MAX_DESCRIPTION < ask.description.len() || MAX_TAGS < ask.tags.len() || ask.tags.iter().any(|tag| MAX_TAG < tag.len()) {
        let text = "a description has at most 2048 bytes; tags are at most 32, of at most 64 bytes each";
        return error(out, Code::Invalid, text, None, ask.req_id);
    }
    let manifest = ask.manifest.as_ref().map(json::encode);
    let whole = ask.instructions.len() + manifest.as_ref().map_or(0, String::len);
    if MAX_SHARED < whole || !fits("instructions", &ask.instructions, MAX_SHARED, req_id, out) {
        if MAX_SHARED < whole {
            error(out, Code::TooLarge, "instructions and manifest together are too large", None, ask.req_id);
        }
        return;
    }
    let row = SkillRow {
        name: ask.name.clone(),
        description: ask.description,
        instructions: ask.instructions,
        tags: json::encode(&ask.tags),
        manifest,
        author: String::new(),
        created_at: now_millis(),
    };
    let outcome = shared.hub.share_skill(seat.mesh.clone(), seat.author(), row);
    let Some(outcome) = found(shared, outcome, req_id, out) else { return };
    if made(outcome, "skill", req_id, out) {
        changed(shared, seat, &ask.name, SkillAction::Shared);
        acknowledge(ask.name, SkillAction::Shared, ask.req_id, out);
    }
}

fn changed(shared: &Shared, seat: &Seat, name: &str, action: SkillAction) {
    events::skill_changed(shared, seat, SkillChange { name: name.to_owned(), action, by: seat.name.clone() });
}

fn acknowledge(name: String, action: SkillAction, req_id: Option<String>, out: &mut Outbox) {
    out.text(ServerFrame::SkillAck(SkillAck { name, action, req_id }).encode());
}

fn listed(row: SkillRow) -> Skill {
    Skill {
        name: row.name,
        description: row.description,
        instructions: None,
        // Written by this program as a JSON list.
        tags: json::decode(row.tags.as_bytes()).unwrap_or_default(),
        author: row.author,
        manifest: None,
        created_at: iso(row.created_at),
        rest: Rest::default(),
    }
}

pub(in crate::broker) fn list(shared: &Shared, seat: &Seat, ask: ListSkills, out: &mut Outbox) {
    let rows = shared.hub.skills(seat.mesh.clone(), ask.query.filter(|query| !query.is_empty()));
    let Some(rows) = found(shared, rows, ask.req_id.as_ref(), out) else { return };
    let (skills, truncated) = fitting(rows.into_iter().map(listed));
    out.text(ServerFrame::SkillList(SkillList { skills, truncated, req_id: ask.req_id }).encode());
}

pub(in crate::broker) fn get(shared: &Shared, seat: &Seat, ask: GetSkill, out: &mut Outbox) {
    let row = shared.hub.skill(seat.mesh.clone(), ask.name);
    let Some(row) = found(shared, row, ask.req_id.as_ref(), out) else { return };
    let skill = row.map(|row| {
        let manifest = row.manifest.as_ref().and_then(|text| json::decode(text.as_bytes()).ok());
        Skill { instructions: Some(row.instructions.clone()), manifest, ..listed(row) }
    });
    out.text(ServerFrame::SkillData(SkillData { skill, req_id: ask.req_id }).encode());
}

pub(in crate::broker) fn remove(shared: &Shared, seat: &Seat, ask: RemoveSkill, out: &mut Outbox) {
    let outcome = shared.hub.remove_skill(seat.mesh.clone(), ask.name.clone(), seat.author());
    let Some(outcome) = found(shared, outcome, ask.req_id.as_ref(), out) else { return };
    match outcome {
        Outcome::NotFound => acknowledge(ask.name, SkillAction::NotFound, ask.req_id, out),
        outcome if made(outcome, "skill", ask.req_id.as_ref(), out) => {
            changed(shared, seat, &ask.name, SkillAction::Removed);
            acknowledge(ask.name, SkillAction::Removed, ask.req_id, out);
        }
        _ => {}
    }
}
