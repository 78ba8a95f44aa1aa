//! Who a link speaks as, and how it says so.

use std::sync::{Arc, OnceLock};

use crate::base::hex;
use crate::base::ids::SessionKey;
use crate::base::time::now_millis;
use crate::crypto::hello::{self, Attestation};
use crate::crypto::random;
use crate::daemon::meshes::Membership;
use crate::daemon::sessions::Session;
use crate::store::outbox::{self, Route};
use crate::sys::process;
use crate::wire::client::{About, ClientFrame, Hello, SessionHello};
use crate::wire::key::SCOPE_KEYS;

/// Groups named in a hello: it must stay a frame that a broker reads, or the session would never be connected.
const MAX_GROUPS: usize = 128;

/// Who a link speaks as.
#[derive(Debug, Clone)]
pub(in crate::daemon) struct Identity {
    pub(in crate::daemon) membership: Arc<Membership>,
    /// `None`: as the member (control-plane).
    pub(in crate::daemon) session: Option<Arc<Session>>,
}

impl Identity {
    pub(in crate::daemon) fn session_key(&self) -> Option<SessionKey> {
        self.session.as_ref().and_then(|session| session.public_key())
    }

    pub(in crate::daemon) fn route(&self) -> Route {
        let sender = self.session_key().map_or(outbox::Sender::Member, outbox::Sender::Session);
        Route { mesh: self.membership.slug.clone(), sender }
    }

    /// The hello, signed now. The member's word for a session is given anew each time, so it can not run out.
    pub(super) fn hello(&self) -> ClientFrame {
        let now = now_millis();
        let member = &self.membership;
        match self.session.as_ref().and_then(|session| Some((session, session.key.as_ref()?))) {
            None => {
                let pubkey = member.key.to_string();
                let signed = hello::Hello { mesh_id: &member.mesh, member_id: &member.member, pubkey: &pubkey, timestamp: now };
                let signature = signed.sign(&member.secret).to_string();
                ClientFrame::Hello(Hello {
                    mesh_id: member.mesh.to_string(),
                    member_id: member.member.to_string(),
                    pubkey,
                    session_pubkey: None,
                    about: member_about(),
                    timestamp: now,
                    signature,
                })
            }
            Some((session, key)) => {
                let public = SessionKey(key.public);
                let attested = Attestation::mint(&member.secret, public, now);
                let signed = hello::SessionHello { mesh_id: &member.mesh, member: member.key, session: public, timestamp: now };
                let signature = signed.sign(&key.secret).to_string();
                ClientFrame::SessionHello(SessionHello {
                    mesh_id: member.mesh.to_string(),
                    parent_member_id: Some(member.member.to_string()),
                    parent_member_pubkey: member.key.to_string(),
                    session_pubkey: public.to_string(),
                    parent_attestation: crate::wire::client::Attestation {
                        session_pubkey: public.to_string(),
                        parent_member_pubkey: member.key.to_string(),
                        expires_at: attested.expires_at,
                        signature: attested.signature.to_string(),
                    },
                    about: session_about(session),
                    timestamp: now,
                    signature,
                })
            }
        }
    }
}

fn member_about() -> About {
    let cwd = std::env::current_dir().map(|dir| dir.display().to_string()).unwrap_or_default();
    About {
        session_id: daemon_id().to_owned(),
        pid: std::process::id(),
        cwd,
        hostname: Some(process::hostname()),
        peer_type: Some("ai".to_owned()),
        channel: Some("claudemesh-daemon".to_owned()),
        capabilities: vec![SCOPE_KEYS.to_owned()],
        ..About::default()
    }
}

/// The session id of member links. The reference's broker closes one connection for another with the same, whoever it
/// belongs to, and in containers process numbers are soon the same.
fn daemon_id() -> &'static str {
    static ID: OnceLock<String> = OnceLock::new();
    ID.get_or_init(|| format!("daemon-{}-{}", std::process::id(), hex::encode(&random::bytes::<4>())))
}

fn session_about(session: &Session) -> About {
    About {
        display_name: Some(session.name.clone()),
        session_id: session.id.to_string(),
        pid: session.pid,
        cwd: session.cwd.clone().unwrap_or_default(),
        hostname: Some(process::hostname()),
        peer_type: Some("ai".to_owned()),
        channel: Some("claudemesh-session".to_owned()),
        groups: Some(session.outward().groups.into_iter().take(MAX_GROUPS).collect())
            .filter(|groups: &Vec<_>| !groups.is_empty()),
        role: session.role.clone(),
        allowed_caps: session.caps.clone(),
        capabilities: vec![SCOPE_KEYS.to_owned()],
        ..About::default()
    }
}
