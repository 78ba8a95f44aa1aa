//! Events of a mesh, passed on to those who listen here, and what they mean for what waits.

use super::Talk;
use crate::base::ids::{PublicKey, SessionKey};
use crate::daemon::{drain, inbound};
use crate::wire::event::{Event, SystemEvent};
use crate::wire::json;
use crate::wire::server::Push;

impl Talk<'_> {
    /// Somebody changed what all members share.
    pub(super) fn changed(&self, event: &str, event_data: json::Value) {
        // As with every event of a mesh, the member's link passes it on.
        if self.identity.session.is_none() {
            let mesh = self.identity.membership.slug.clone();
            let event = SystemEvent { mesh: mesh.clone(), event: event.to_owned(), event_data };
            self.ctx.bus.publish(&mesh, Event::System(event));
        }
    }

    /// Somebody came, went, or changed what it shows.
    pub(super) fn system(&self, push: &Push) {
        // Every link of this machine hears the same event; the member's passes it on.
        if self.identity.session.is_some() {
            return;
        }
        let mesh = &self.identity.membership.slug;
        self.ctx.rosters.forget(mesh);
        self.ctx.keyring.forget_unable(&self.identity.membership.mesh);
        let own =
            |key: &PublicKey| self.identity.membership.key.0 == *key || self.ctx.sessions.signer(&SessionKey(*key)).is_some();
        let about = push.event_data.as_ref().and_then(|data| data.get("pubkey")).and_then(|key| key.as_str());
        if let Some(key) = about.and_then(PublicKey::parse)
            && push.event.as_deref() != Some("peer_left")
        {
            // Whose session it is stands in no event. The reference's broker tells a member of its own sessions elsewhere, and
            // of nothing else that could take what waits for the member itself.
            for key in [key, self.identity.membership.key.0] {
                self.ctx.drain.tell(drain::Event::PeerBack(mesh.clone(), key));
            }
        }
        if let Some((event, _)) = inbound::system_event(mesh, push, own) {
            self.ctx.bus.publish(mesh, event);
        }
    }
}
