//! Who is calling: decided once per request, before anything is looked at. A token that is presented and not known is an
//! error, never an unscoped answer.

use std::sync::Arc;

use crate::base::ids::{MemberKey, PublicKey, Token};
use crate::daemon::ctx::Ctx;
use crate::daemon::local_token::LocalToken;
use crate::daemon::sessions::{Session, TokenHash};
use crate::store::inbox::Scope;
use crate::wire::ipc::SESSION_SCHEME;

use super::reply::Reply;
use super::routes::{HEALTH, REGISTER, Route};

/// Whoever sent a request over the private socket.
#[derive(Debug, Clone)]
pub(super) enum Caller {
    /// The user, by some program that presented no token: sees everything on this machine.
    User,
    Session(Arc<Session>),
}

/// The parts of a request that decide about it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Credentials<'a> {
    pub(super) query_has_token: bool,
    pub(super) host: Option<&'a str>,
    pub(super) origin: Option<&'a str>,
    pub(super) authorization: Option<&'a str>,
}

impl Caller {
    pub(super) fn session(&self) -> Option<&Arc<Session>> {
        match self {
            Caller::User => None,
            Caller::Session(session) => Some(session),
        }
    }

    /// Whether it would still be let in: its session may have ended since, or go by another token.
    pub(super) fn is_known(&self, ctx: &Ctx) -> bool {
        self.session().is_none_or(|session| ctx.sessions.get(&session.token).is_some())
    }

    /// What of the inbox this caller may see.
    pub(super) fn scope(&self, ctx: &Ctx) -> Scope {
        let Caller::Session(session) = self else { return Scope::Everything };
        // A mesh that was left has no member key any more; this one is nobody's.
        let member = ctx.meshes.get(&session.mesh).map_or(MemberKey(PublicKey::from_bytes([0; 32])), |membership| membership.key);
        Scope::Session { mesh: session.mesh.clone(), session: session.public_key(), member }
    }
}

/// What a connection over TCP must pass: any program of any user can make one.
#[derive(Debug, Clone)]
pub(super) struct TcpGate {
    pub(super) token: LocalToken,
    /// `/v1/health` answers without it.
    pub(super) public_health: bool,
}

/// How a request came in.
#[derive(Debug, Clone, Copy)]
pub(super) enum Transport<'a> {
    /// Through the private socket, from the same user.
    Unix,
    Tcp(&'a TcpGate),
}

/// Applies the reference's gates in the reference's order, for the route that the request is for, if there is one.
pub(super) fn identify(
    ctx: &Ctx,
    credentials: Credentials<'_>,
    transport: Transport<'_>,
    route: Option<&Route>,
) -> Result<Caller, Reply> {
    let registers = route.is_some_and(|route| route.path == REGISTER);
    if credentials.query_has_token {
        return Err(Reply::error(400, "token must be in Authorization header, not query string").into());
    }
    if !is_local(credentials.host.unwrap_or_default()) {
        return Err(Reply::error(403, "forbidden host").into());
    }
    if credentials.origin.is_some_and(|origin| !origin.is_empty()) {
        return Err(Reply::error(403, "forbidden origin").into());
    }
    if let Transport::Tcp(gate) = transport
        && !(gate.public_health && route.is_some_and(|route| route.path == HEALTH))
    {
        let presented = credentials.authorization.and_then(|header| header.trim().strip_prefix("Bearer "));
        let presented = presented.ok_or_else(|| Reply::from(Reply::error(401, "missing bearer token")))?;
        if !gate.token.is(presented.trim()) {
            log::warn!("a request over TCP presented a wrong token");
            return Err(Reply::error(401, "invalid bearer token").into());
        }
    }
    let Some(presented) = credentials.authorization.and_then(session_token) else { return Ok(Caller::User) };
    let session = Token::parse(presented).and_then(|token| ctx.sessions.get(&TokenHash::of(&token)));
    if session.is_none() && registers {
        return Ok(Caller::User);
    }
    session.map(Caller::Session).ok_or_else(|| {
        Reply::error(401, "unknown session token")
            .hint("the session has ended, or belongs to another daemon; start a new one with `claudemesh launch`")
            .into()
    })
}

/// A web page can reach the socket through no browser, but a name that resolves to this machine can reach a port.
fn is_local(host: &str) -> bool {
    let host = host.trim().to_ascii_lowercase();
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((name, _)) => name,
        None => host.split(':').next().unwrap_or_default(),
    };
    matches!(name, "" | "localhost" | "127.0.0.1" | "::1")
}

fn session_token(header: &str) -> Option<&str> {
    let (scheme, token) = header.trim().split_once(' ').unwrap_or((header.trim(), ""));
    scheme.eq_ignore_ascii_case(SESSION_SCHEME).then_some(token.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        for good in ["", "localhost", "LOCALHOST:47823", "127.0.0.1", "127.0.0.1:1", "[::1]:80", "[::1]", "::1"] {
            assert!(is_local(good), "{good}");
        }
        for bad in ["example.com", "localhost.", "127.0.0.2", "[::2]", "localhost.example.com"] {
            assert!(!is_local(bad), "{bad}");
        }
    }

    #[test]
    fn tokens() {
        assert_eq!(session_token("ClaudeMesh-Session abc"), Some("abc"));
        assert_eq!(session_token("claudemesh-session  abc "), Some("abc"));
        assert_eq!(session_token("Bearer abc"), None);
        assert_eq!(session_token("ClaudeMesh-Session"), Some(""), "a token that is missing is not known either");
    }
}
