//! Shared state: `GET /v1/state`, `POST /v1/state`.

use crate::base::ids::Slug;
use crate::wire::client::ClientFrame;
use crate::wire::code::Code;
use crate::wire::ipc::{OnMesh, Silence, StateEntries, StateFound, StateSet, StateWrite};
use crate::wire::json::{self, Value};
use crate::wire::server::ServerFrame;
use crate::wire::state::{GetState, ListState, SetState, StateEntry};

use super::mesh::{self, Unanswered};
use super::reply::Reply;
use super::routes::Call;

/// Longest key, in bytes.
const MAX_KEY: usize = 256;

pub(super) fn read(call: &Call<'_>) -> Reply {
    match call.query("key") {
        Some(key) => get(call, key.to_owned()),
        None => list(call),
    }
}

/// The value on the first mesh that has it.
fn get(call: &Call<'_>, key: String) -> Reply {
    let wanted = key.clone();
    let frame = move |id| ClientFrame::GetState(GetState { key: wanted.clone(), req_id: Some(id) });
    let asked = mesh::ask_all(call, frame, |frame| match frame {
        ServerFrame::StateResult(result) => Some(Some(result.entry)),
        ServerFrame::StateValue(value) => Some(value.state),
        _ => None,
    });
    let (answers, unanswered) = match asked {
        Ok(answered) => answered,
        Err(refused) => return refused,
    };
    // A key that was never set is answered with null.
    let found = answers.into_iter().find_map(|(mesh, entry)| Some((mesh, entry.filter(|entry| !entry.value.is_null())?)));
    match found {
        Some((mesh, row)) => {
            let silence = silence(call, &mesh, unanswered);
            Reply::ok(&StateFound { state: OnMesh { row, mesh }, silence })
        }
        None => not_found("state_not_found", "key", &key, unanswered),
    }
}

/// A thing that no mesh has, as far as they answered.
pub(super) fn not_found(word: &str, kind: &str, name: &str, unanswered: Unanswered) -> Reply {
    let refusal = Reply::error(404, word).and(kind, name);
    if unanswered.is_empty() { refusal.into() } else { refusal.and("unanswered", json::value(&unanswered)).into() }
}

/// Who said nothing while `found` had what was asked for. A mesh before it that is silent may have it, too.
pub(super) fn silence(call: &Call<'_>, found: &Slug, unanswered: Unanswered) -> Silence {
    let asked = mesh::asked(call).unwrap_or_default();
    let before = asked.iter().map(|membership| &membership.slug).take_while(|slug| *slug != found);
    let unanswered_before = before.filter(|slug| unanswered.contains_key(slug.as_str())).cloned().collect();
    Silence { unanswered, unanswered_before }
}

fn list(call: &Call<'_>) -> Reply {
    let frame = |id| ClientFrame::ListState(ListState { req_id: Some(id) });
    let asked = mesh::ask_all(call, frame, |frame| match frame {
        ServerFrame::StateList(list) => Some(list.entries),
        _ => None,
    });
    let (answers, unanswered) = match asked {
        Ok(answered) => answered,
        Err(refused) => return refused,
    };
    let on_mesh = |(mesh, rows): (Slug, Vec<StateEntry>)| rows.into_iter().map(move |row| OnMesh { row, mesh: mesh.clone() });
    Reply::ok(&StateEntries { entries: answers.into_iter().flat_map(on_mesh).collect(), unanswered })
}

pub(super) fn write(call: &Call<'_>) -> Reply {
    set(call).unwrap_or_else(|refused| refused)
}

fn set(call: &Call<'_>) -> Result<Reply, Reply> {
    let bad = |error: &str| -> Reply { Reply::error(400, error).and("code", Code::Invalid.as_str()).into() };
    let request: StateWrite = call.json()?;
    let key = request.key.filter(|key| !key.is_empty()).ok_or_else(|| bad("missing 'key' (string)"))?;
    if MAX_KEY < key.len() || key.contains(char::is_control) {
        return Err(bad("'key' must be printable and at most 256 bytes"));
    }
    // The reference's broker leaves a null without an answer.
    let value = request.value.filter(|value| *value != Value::Null).ok_or_else(|| bad("missing 'value' (anything but null)"))?;
    let membership = mesh::one(call, request.mesh.map(Slug::new))?;
    let written = key.clone();
    let frame = move |id| ClientFrame::SetState(SetState { key: written.clone(), value: value.clone(), req_id: Some(id) });
    let confirmed = mesh::tell(call, &membership.slug, frame)?.is_some();
    Ok(Reply::ok(&StateSet { ok: true, key, mesh: membership.slug.clone(), confirmed }))
}
