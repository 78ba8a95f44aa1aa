//! Skills that the meshes share: `GET /v1/skills`, `GET /v1/skills/<name>`, `POST /v1/skills`, `DELETE /v1/skills/<name>`.

use crate::base::ids::Slug;
use crate::wire::client::ClientFrame;
use crate::wire::ipc::{OnMesh, SkillFound, Skills};
use crate::wire::server::ServerFrame;
use crate::wire::skill::{GetSkill, ListSkills, Skill};

use super::mesh;
use super::pass;
use super::reply::Reply;
use super::routes::Call;
use super::state::{not_found, silence};

pub(super) fn list(call: &Call<'_>) -> Reply {
    let query = call.query("query").map(str::to_owned);
    let frame = move |id| ClientFrame::ListSkills(ListSkills { query: query.clone(), req_id: Some(id) });
    let asked = mesh::ask_all(call, frame, |frame| match frame {
        ServerFrame::SkillList(list) => Some(list.skills),
        _ => None,
    });
    let (answers, unanswered) = match asked {
        Ok(answered) => answered,
        Err(refused) => return refused,
    };
    let on_mesh = |(mesh, rows): (Slug, Vec<Skill>)| rows.into_iter().map(move |row| OnMesh { row, mesh: mesh.clone() });
    Reply::ok(&Skills { skills: answers.into_iter().flat_map(on_mesh).collect(), unanswered })
}

pub(super) fn publish(call: &Call<'_>) -> Reply {
    pass::change(call, "share_skill")
}

pub(super) fn remove(call: &Call<'_>) -> Reply {
    pass::change_item(call, "remove_skill", "name")
}

/// The skill on the first mesh that has it.
pub(super) fn get(call: &Call<'_>) -> Reply {
    if call.item.is_empty() {
        return Reply::error(400, "missing skill name").into();
    }
    let name = call.item.clone();
    let frame = move |id| ClientFrame::GetSkill(GetSkill { name: name.clone(), req_id: Some(id) });
    let asked = mesh::ask_all(call, frame, |frame| match frame {
        ServerFrame::SkillData(data) => Some(data.skill),
        _ => None,
    });
    let (answers, unanswered) = match asked {
        Ok(answered) => answered,
        Err(refused) => return refused,
    };
    match answers.into_iter().find_map(|(mesh, skill)| Some(OnMesh { row: skill?, mesh })) {
        Some(skill) => {
            let silence = silence(call, &skill.mesh, unanswered);
            Reply::ok(&SkillFound { skill, silence })
        }
        None => not_found("skill_not_found", "name", &call.item, unanswered),
    }
}
