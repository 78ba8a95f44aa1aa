//! Requests that are the broker's alone: the body or the query becomes a frame, its answer becomes the reply. What the
//! fields must be says the frame's own type.

use std::time::Instant;

use crate::base::ids::Slug;
use crate::base::names::neutralise_line;
use crate::daemon::rpc;
use crate::wire::client::ClientFrame;
use crate::wire::code::Code;
use crate::wire::json::{self, Map, Value};
use crate::wire::limits::{MAX_FRAME, RPC_DEADLINE};
use crate::wire::server::ServerFrame;

use super::mesh::{self, own_route};
use super::reply::Reply;
use super::routes::Call;

/// Asks the broker of the body's mesh for what the body says.
pub(super) fn change(call: &Call<'_>, kind: &'static str) -> Reply {
    fields(call).and_then(|fields| ask(call, kind, fields)).unwrap_or_else(|refused| refused)
}

/// As [`change`], about the thing that the path names.
pub(super) fn change_item(call: &Call<'_>, kind: &'static str, field: &str) -> Reply {
    let mut fields = Map::new();
    fields.insert(field.to_owned(), call.item.as_str().into());
    fields.extend(call.query("mesh").map(|mesh| ("mesh".to_owned(), mesh.into())));
    ask(call, kind, fields).unwrap_or_else(|refused| refused)
}

/// Asks for something: each key of the query that stands in `keys` becomes the field beside it.
pub(super) fn question(call: &Call<'_>, kind: &'static str, keys: &[(&str, &str)]) -> Reply {
    ask(call, kind, queried(call, keys)).unwrap_or_else(|refused| refused)
}

/// The fields of a question.
pub(super) fn queried(call: &Call<'_>, keys: &[(&str, &str)]) -> Map<String, Value> {
    let mut fields = Map::new();
    for (key, field) in [("mesh", "mesh")].iter().chain(keys) {
        if let Some(text) = call.query(key) {
            // The one number that any of them takes.
            let value = text.parse::<u32>().ok().filter(|_| *key == "limit").map_or_else(|| Value::from(text), Value::from);
            fields.insert((*field).to_owned(), value);
        }
    }
    fields
}

/// The body's fields.
pub(super) fn fields(call: &Call<'_>) -> Result<Map<String, Value>, Reply> {
    match call.json()? {
        Value::Object(fields) => Ok(fields),
        _ => Err(Reply::error(400, "expected JSON object").into()),
    }
}

/// Asks the broker of the mesh in `fields` (the session's, or the only one), in the caller's own name.
pub(super) fn ask(call: &Call<'_>, kind: &'static str, fields: Map<String, Value>) -> Result<Reply, Reply> {
    let (mesh, answer) = exchange(call, kind, fields)?;
    Ok(Reply::ok(&shown(&mesh, answer)))
}

/// What a caller is shown of an answer.
pub(super) fn shown(mesh: &Slug, answer: Option<ServerFrame>) -> Map<String, Value> {
    let confirmed = answer.is_some();
    let mut shown = match answer {
        None | Some(ServerFrame::Ack(_) | ServerFrame::Unknown) => Map::new(),
        Some(frame) => match json::value(&frame) {
            Value::Object(shown) => shown,
            _ => Map::new(),
        },
    };
    shown.retain(|key, _| key != "type" && key != "_reqId");
    if shown.is_empty() {
        // The reference's broker carries some requests out in silence.
        shown.extend([("ok".to_owned(), true.into()), ("confirmed".to_owned(), confirmed.into())]);
    }
    shown.insert("mesh".to_owned(), mesh.as_str().into());
    shown
}

/// The mesh that was asked, and what its broker said.
pub(super) fn exchange(
    call: &Call<'_>,
    kind: &'static str,
    mut fields: Map<String, Value>,
) -> Result<(Slug, Option<ServerFrame>), Reply> {
    let named = fields.remove("mesh").and_then(|mesh| mesh.as_str().map(str::trim).map(str::to_owned));
    let membership = mesh::one(call, named.filter(|mesh| !mesh.is_empty()).map(Slug::new))?;
    let mesh = &membership.slug;
    let first = ClientFrame::of_fields(kind, &fields, "r-00000000")
        .map_err(|err| Reply::from(Reply::error(400, "invalid").detail(&err.to_string()).and("code", Code::Invalid.as_str())))?;
    let bytes = first.encode().len();
    if MAX_FRAME < bytes {
        let detail = format!("a broker takes frames of at most {MAX_FRAME} bytes; this one has {bytes}");
        return Err(Reply::error(413, "payload_too_large").detail(&detail).into());
    }
    // It was read once already, so it is read again.
    let frame = move |id: String| ClientFrame::of_fields(kind, &fields, &id).unwrap_or(first);
    let answer = rpc::ask(&call.ctx.links, &own_route(call, mesh), frame)
        .and_then(|asking| asking.whole_answer(Instant::now() + RPC_DEADLINE));
    match answer {
        Ok(Some(ServerFrame::Error(refused))) => {
            let why = neutralise_line(&refused.message);
            Err(mesh::refused_because(mesh, &refused.code, if why.is_empty() { refused.code.as_str() } else { &why }))
        }
        Ok(answer) => Ok((mesh.clone(), answer)),
        Err(code) => Err(mesh::unanswered(call, mesh, &code)),
    }
}
