//! What the meshes remember: `GET /v1/memory`, `POST /v1/memory`, `DELETE /v1/memory/<id>`.

use crate::base::ids::Slug;
use crate::wire::client::ClientFrame;
use crate::wire::code::Code;
use crate::wire::ipc::{Forgotten, Memories, OnMesh, RememberRequest, Remembered};
use crate::wire::limits::REMEMBER_DEADLINE;
use crate::wire::memory::{Forget, Memory, Recall, Remember};
use crate::wire::server::ServerFrame;

use super::mesh;
use super::reply::Reply;
use super::routes::Call;

/// Tags of one text, and the longest of them in bytes.
const MAX_TAGS: usize = 32;
const MAX_TAG: usize = 64;

pub(super) fn search(call: &Call<'_>) -> Reply {
    let query = call.query("q").unwrap_or_default().to_owned();
    let frame = move |id| ClientFrame::Recall(Recall { query: query.clone(), req_id: Some(id) });
    let asked = mesh::ask_all(call, frame, |frame| match frame {
        ServerFrame::MemoryResults(results) => Some(results.memories),
        ServerFrame::MemoryRecallResult(results) => Some(results.matches),
        _ => None,
    });
    let (answers, unanswered) = match asked {
        Ok(answered) => answered,
        Err(refused) => return refused,
    };
    let on_mesh = |(mesh, rows): (Slug, Vec<Memory>)| rows.into_iter().map(move |row| OnMesh { row, mesh: mesh.clone() });
    Reply::ok(&Memories { matches: answers.into_iter().flat_map(on_mesh).collect(), unanswered })
}

pub(super) fn add(call: &Call<'_>) -> Reply {
    remember(call).unwrap_or_else(|refused| refused)
}

fn remember(call: &Call<'_>) -> Result<Reply, Reply> {
    let bad = |error: &str| -> Reply { Reply::error(400, error).into() };
    let request: RememberRequest = call.json()?;
    let content = request.content.filter(|text| !text.is_empty()).ok_or_else(|| bad("missing 'content' (string)"))?;
    let tags: Vec<String> = request.tags.iter().filter_map(|tag| tag.as_str()).map(str::to_owned).collect();
    if MAX_TAGS < tags.len() || tags.iter().any(|tag| MAX_TAG < tag.len() || tag.contains(char::is_control)) {
        return Err(bad("'tags' must be at most 32, printable and at most 64 bytes each"));
    }
    let membership = mesh::one(call, request.mesh.map(Slug::new))?;
    let frame = move |id| ClientFrame::Remember(Remember { content: content.clone(), tags: tags.clone(), req_id: Some(id) });
    let stored = match mesh::tell_within(REMEMBER_DEADLINE, call, &membership.slug, frame)? {
        Ok(Some(ServerFrame::MemoryStored(stored))) => stored.id.or(stored.memory_id).ok_or(Code::Malformed),
        Ok(_) => Err(Code::Malformed),
        Err(code) => Err(code),
    };
    let id = stored.map_err(|code| not_stored(&membership.slug, &code))?;
    Ok(Reply::ok(&Remembered { id, mesh: membership.slug.clone() }))
}

/// The reference's word for every broker that did not say that it has the text; one that refuses is named as for any change.
fn not_stored(mesh: &Slug, code: &Code) -> Reply {
    match code {
        Code::Timeout | Code::ConnectionLost | Code::Unavailable | Code::Malformed => Reply::error(502, "remember_timeout")
            .detail(&format!("the broker of {mesh} did not say that it has the text: {code}"))
            .and("code", code.as_str())
            .and("mesh", mesh.as_str())
            .into(),
        code => mesh::refused(mesh, code),
    }
}

pub(super) fn remove(call: &Call<'_>) -> Reply {
    forget(call).unwrap_or_else(|refused| refused)
}

fn forget(call: &Call<'_>) -> Result<Reply, Reply> {
    if call.item.is_empty() {
        return Err(Reply::error(400, "missing memory id").into());
    }
    let membership = mesh::one(call, call.query("mesh").map(Slug::new))?;
    let memory_id = call.item.clone();
    let frame = move |id| ClientFrame::Forget(Forget { memory_id: memory_id.clone(), req_id: Some(id) });
    mesh::tell(call, &membership.slug, frame)?;
    Ok(Reply::ok(&Forgotten { ok: true, id: call.item.clone(), mesh: membership.slug.clone() }))
}
