//! Keeping order: what a member allows others (`/v1/grants`), who is kept out (`/v1/admin`), and coming back oneself.

use crate::base::ids::Slug;
use crate::daemon::link::Cmd;
use crate::daemon::resolve::{self, Candidate, Resolved};
use crate::wire::address::Address;
use crate::wire::ipc::Done;
use crate::wire::json::{Map, Value};
use crate::wire::target::Target;

use super::mesh::{self, Placed};
use super::pass;
use super::reply::Reply;
use super::routes::Call;

pub(super) fn grants(call: &Call<'_>) -> Reply {
    pass::question(call, "list_grants", &[])
}

pub(super) fn set_grants(call: &Call<'_>) -> Reply {
    grant(call).unwrap_or_else(|refused| refused)
}

/// A peer is named as in a message's address; the broker knows it by a key.
fn grant(call: &Call<'_>) -> Result<Reply, Reply> {
    let mut fields = pass::fields(call)?;
    let peer = fields.get("peer").and_then(Value::as_str).unwrap_or_default();
    let bad = |detail: &str| -> Reply { Reply::error(400, "invalid").detail(detail).and("code", "invalid").into() };
    let address = Address::parse(peer).map_err(|err| bad(&err.to_string()))?;
    let named = fields.get("mesh").and_then(Value::as_str).map(Slug::new);
    let placed = mesh::place(call, named, address)?;
    let mesh = placed.membership.slug.clone();
    let (rosters, links) = (&call.ctx.rosters, &call.ctx.links);
    let resolved = resolve::resolve(&placed.address, None, || rosters.at_hand(&mesh, links), || rosters.of(&mesh, links));
    fields.remove("peer");
    fields.insert("mesh".to_owned(), mesh.as_str().into());
    let key = match resolved {
        Ok(Resolved { target: Target::Key(key), .. }) => key.to_hex(),
        Ok(_) => return Err(bad("only a peer can be allowed something")),
        // Whichever of a member's sessions is meant, the grant is the member's.
        Err(resolve::Error::Ambiguous { ref candidates, .. }) if is_one(candidates) => {
            candidates.first().map(|one| one.member.to_string()).unwrap_or_default()
        }
        Err(resolve::Error::NoSession { member, .. }) => member.to_string(),
        Err(err) => return by_member_name(call, fields, &placed, &err),
    };
    fields.insert("peer".to_owned(), key.into());
    pass::ask(call, "set_grants", fields)
}

/// Whether all are sessions of one member.
fn is_one(candidates: &[Candidate]) -> bool {
    candidates.windows(2).all(|two| two[0].member == two[1].member)
}

/// No session is called so; a member may be, as its broker knows.
fn by_member_name(
    call: &Call<'_>,
    mut fields: Map<String, Value>,
    placed: &Placed,
    err: &resolve::Error,
) -> Result<Reply, Reply> {
    let (Address::Name { name, .. }, resolve::Error::NotFound { .. }) = (&placed.address, err) else {
        return Err(placed.unroutable(call, err));
    };
    fields.insert("name".to_owned(), name.as_str().into());
    // One that knows no such member, or does not look for one, is not who says whom there is.
    pass::ask(call, "set_grants", fields)
        .map_err(|refused| if matches!(refused.status, 400 | 404) { placed.unroutable(call, err) } else { refused })
}

pub(super) fn kick(call: &Call<'_>) -> Reply {
    pass::change(call, "kick")
}

pub(super) fn disconnect(call: &Call<'_>) -> Reply {
    pass::change(call, "disconnect")
}

pub(super) fn ban(call: &Call<'_>) -> Reply {
    pass::change(call, "ban")
}

pub(super) fn unban(call: &Call<'_>) -> Reply {
    pass::change(call, "unban")
}

pub(super) fn bans(call: &Call<'_>) -> Reply {
    pass::question(call, "list_bans", &[])
}

/// Has the links of a mesh dial now, those included that a broker has sent away for good.
pub(super) fn reconnect(call: &Call<'_>) -> Reply {
    let named = pass::fields(call).map(|fields| fields.get("mesh").and_then(Value::as_str).map(Slug::new));
    let membership = match named.and_then(|named| mesh::one(call, named)) {
        Ok(membership) => membership,
        Err(refused) => return refused,
    };
    let told = call.ctx.links.all().into_iter().filter(|(route, _)| route.mesh == membership.slug);
    // One too busy to hear it is at work.
    let told = told.filter(|(_, link)| link.try_send(Cmd::Reconnect).is_ok()).count();
    Reply::ok(&Done { mesh: membership.slug.clone(), confirmed: 0 < told })
}
