//! Who a connection is.

use crate::base::ids::{MeshId, PresenceId, PublicKey};
use crate::base::time::now_millis;
use crate::store::hub::{ApiKeyRow, Author, Member, Role, SeenSession};
use crate::wire::client::About;
use crate::wire::grant::Capability;
use crate::wire::json;
use crate::wire::peer::Status;

use super::Shared;
use super::presence::Kind;

/// Who a connection is, once it has said hello.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) mesh: MeshId,
    pub(super) presence: PresenceId,
    pub(super) generation: u64,
    pub(super) kind: Kind,
    pub(super) member: Member,
    pub(super) name: String,
    pub(super) status: Status,
    /// The only rights it was launched with; `None` with all of them.
    pub(super) caps: Option<Vec<Capability>>,
}

impl Seat {
    /// A script's, which has no connection of its own: it speaks in its issuer's name, and under the key's label.
    pub(super) fn of_key(key: &ApiKeyRow, issuer: &Member) -> Seat {
        Seat {
            mesh: key.mesh.clone(),
            presence: PresenceId::new(""),
            generation: 0,
            kind: Kind::Member,
            member: issuer.clone(),
            name: format!("{} via {}", issuer.display_name, key.label),
            status: Status::Idle,
            caps: None,
        }
    }

    /// The key that seals what this connection sends.
    pub(super) fn key(&self) -> PublicKey {
        match self.kind {
            Kind::Session(key) => key.0,
            Kind::Passing(Some(label)) => label,
            Kind::Member | Kind::Passing(None) => self.member.key.0,
        }
    }

    /// Writes down that this session is here and what it says of itself: what is sent to it later is kept, and what is for
    /// many reaches it although the broker was started again meanwhile.
    pub(super) fn note(&self, shared: &Shared) {
        let (about, visible) = shared.router.about(&self.mesh, &self.presence).unzip();
        let opens = about.as_ref().map(About::opens_sealed);
        if let (Kind::Member, Some(opens)) = (self.kind, opens)
            && let Err(err) = shared.hub.member_opens(self.mesh.clone(), self.member.key, opens)
        {
            log::error!("hub: {err}");
        }
        let Kind::Session(key) = self.kind else { return };
        let seen = SeenSession {
            mesh: self.mesh.clone(),
            key,
            member: self.member.id.clone(),
            display_name: self.name.clone(),
            last_seen_at: now_millis(),
            groups: about.iter().flat_map(|about| about.groups.iter().flatten()).map(|group| group.name.clone()).collect(),
            about: about.map(|about| json::encode(&about)),
            here: true,
            hidden: visible == Some(false),
            ended: false,
            opens,
        };
        if let Err(err) = shared.hub.session_seen(vec![seen]) {
            log::error!("hub: {err}");
        }
    }

    /// As whom it writes what the mesh shares.
    pub(super) fn author(&self) -> Author {
        Author { member: self.member.id.clone(), name: self.name.clone(), admin: self.member.role == Role::Admin }
    }

    /// The key whose mail this connection may take.
    pub(super) fn mail_key(&self) -> Option<PublicKey> {
        match self.kind {
            Kind::Session(key) => Some(key.0),
            Kind::Member => Some(self.member.key.0),
            Kind::Passing(_) => None,
        }
    }
}
