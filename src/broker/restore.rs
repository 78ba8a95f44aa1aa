//! What a broker takes up again when it starts on files that another has left.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::time::Instant;

use crate::base::ids::{MemberId, MemberKey, MeshId, PresenceId};
use crate::crypto::random;
use crate::store;
use crate::store::hub::Hub;
use crate::wire::client::About;
use crate::wire::json;
use crate::wire::limits::LEASE;
use crate::wire::peer::Status;
use crate::wire::profile::Profile;

use super::presence::{Kind, Place, Presence};
use super::router::Router;

/// Keeps the places of those who were here when the last broker on these files ended.
pub(super) fn places(hub: &Hub, router: &Router) -> Result<(), store::Error> {
    let mut members: HashMap<MeshId, HashMap<MemberId, MemberKey>> = HashMap::new();
    for seen in hub.sessions_here()? {
        let known = match members.entry(seen.mesh.clone()) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                let standing = hub.members(seen.mesh.clone())?.into_iter().filter(|member| !member.revoked);
                new.insert(standing.map(|member| (member.id, member.key)).collect())
            }
        };
        let about = seen.about.as_deref().and_then(|about| json::decode::<About>(about.as_bytes()).ok());
        if let (Some(member), Some(about)) = (known.get(&seen.member), about) {
            let presence = Presence {
                kind: Kind::Session(seen.key),
                member: *member,
                name: seen.display_name,
                about,
                status: Status::Idle,
                summary: None,
                visible: !seen.hidden,
                profile: Profile::default(),
                reach: None,
                stats: None,
                connected_at: seen.last_seen_at,
                place: Place::Kept { until: Instant::now() + LEASE, since: seen.last_seen_at },
            };
            router.restore(&seen.mesh, PresenceId::new(random::id32()), presence, seen.key);
        }
    }
    Ok(())
}
