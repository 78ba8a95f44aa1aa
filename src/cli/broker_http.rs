//! Requests to a broker over HTTP: signed by a member's key, with the admin token, or plain.

use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::base::exit::Exit;
use crate::base::time::now_millis;
use crate::crypto::keys::SecretKey;
use crate::crypto::random;
use crate::crypto::request::Request;
use crate::net::dial::{self, Url};
use crate::net::http_client::{self, Ask, Response};
use crate::wire::json;
use crate::wire::mesh_api::{SIGNATURE_HEADER, SignedBy, Verdict};

use super::error::CliError;

/// For a whole request, connecting included.
const DEADLINE: Duration = Duration::from_secs(10);

/// Largest answer that is read, in bytes: a thousand invites.
const MAX_ANSWER: usize = 1024 * 1024;

/// A broker's HTTP side.
#[derive(Debug, Clone)]
pub(super) struct Broker {
    url: Url,
}

/// What to ask of it.
#[derive(Debug, Default)]
pub(super) struct Call<'a> {
    pub(super) method: &'static str,
    pub(super) path: String,
    pub(super) body: Option<String>,
    pub(super) signer: Option<&'a SecretKey>,
    pub(super) admin: Option<&'a str>,
}

impl<'a> Call<'a> {
    pub(super) fn new(method: &'static str, path: impl Into<String>) -> Call<'a> {
        Call { method, path: path.into(), ..Call::default() }
    }

    pub(super) fn with_body<T: Serialize>(self, body: &T) -> Call<'a> {
        Call { body: Some(json::encode(body)), ..self }
    }

    pub(super) fn signed_by(self, key: &'a SecretKey) -> Call<'a> {
        Call { signer: Some(key), ..self }
    }

    pub(super) fn with_admin(self, token: Option<&'a str>) -> Call<'a> {
        Call { admin: token, ..self }
    }
}

impl Broker {
    /// The broker at this address; its path does not matter.
    pub(super) fn at(text: &str) -> Result<Broker, CliError> {
        let url = Url::parse(text).map_err(|err| {
            CliError::usage(format!("\"{text}\" is no address of a broker: {err}")).with_hint("as in http://127.0.0.1:7900")
        })?;
        Ok(Broker { url })
    }

    /// Its address for daemons: `ws://` or `wss://`, with a path.
    pub(super) fn ws_url(&self) -> String {
        let scheme = if self.url.is_tls() { "wss" } else { "ws" };
        let path = if self.url.target() == "/" { "/ws" } else { self.url.target() };
        format!("{scheme}://{}{path}", self.url.host_header())
    }

    /// Where people find it.
    pub(super) fn origin(&self) -> String {
        format!("{}://{}", if self.url.is_tls() { "https" } else { "http" }, self.url.host_header())
    }

    /// Whether only this machine reaches it.
    pub(super) fn is_loopback(&self) -> bool {
        let host = self.url.host();
        host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
    }

    pub(super) fn is_tls(&self) -> bool {
        self.url.is_tls()
    }

    /// Asks, and reads what was asked for or why not.
    pub(super) fn call<T: DeserializeOwned>(&self, call: &Call<'_>) -> Result<T, CliError> {
        let mut answer = self.exchange(call, 0)?;
        if let Some(theirs) = verdict(&answer).server_time.filter(|_| call.signer.is_some()) {
            // The clocks differ: once more, by theirs.
            answer = self.exchange(call, theirs.saturating_sub(now_millis()))?;
        }
        if !(200..300).contains(&answer.status) {
            return Err(refusal(&self.origin(), &answer));
        }
        json::decode(&answer.body).map_err(|err| self.strange(&err.to_string()))
    }

    /// Asks without credentials; the answer as it is.
    pub(super) fn get(&self, path: &str) -> Result<Response, CliError> {
        self.exchange(&Call::new("GET", path), 0)
    }

    pub(super) fn strange(&self, what: &str) -> CliError {
        CliError::refused(Exit::Network, format!("{} does not answer as a broker does: {what}", self.origin()))
    }

    fn exchange(&self, call: &Call<'_>, offset: i64) -> Result<Response, CliError> {
        let body = call.body.as_deref().map(str::as_bytes);
        let mut headers = vec![("Accept", "application/json".to_owned())];
        if body.is_some() {
            headers.push(("Content-Type", "application/json".to_owned()));
        }
        if let Some(secret) = call.signer {
            let (nonce, timestamp) = (random::id32(), now_millis().saturating_add(offset));
            let key = secret.public();
            let body = body.unwrap_or_default();
            let request = Request { method: call.method, path: &call.path, body, key, timestamp, nonce: &nonce };
            let signature = request.sign(secret).to_string();
            headers.push((SIGNATURE_HEADER, SignedBy { key: key.to_hex(), timestamp, nonce, signature }.header()));
        }
        if let Some(token) = call.admin {
            headers.push(("Authorization", format!("Bearer {token}")));
        }
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let ask = Ask { method: call.method, target: &call.path, headers: &headers, body };
        let deadline = Instant::now() + DEADLINE;
        let unreachable = |why: String| {
            let hint = match self.is_loopback() {
                true => "see that it runs on this machine, and on that port: claudemesh broker starts one",
                false => {
                    "see that the address is right, that this machine has a network, and that the broker runs there; then try again"
                }
            };
            CliError::refused(Exit::Network, format!("the broker at {} can not be reached: {why}", self.origin())).with_hint(hint)
        };
        let mut stream = dial::open(&self.url, deadline).map_err(|err| unreachable(err.to_string()))?;
        http_client::exchange(&mut stream, &self.url.host_header(), &ask, deadline, MAX_ANSWER)
            .map_err(|err| unreachable(err.to_string()))
    }
}

fn verdict(answer: &Response) -> Verdict {
    json::decode(&answer.body).unwrap_or_default()
}

/// The broker's word for a refusal, if it is one of ours or the reference's.
pub(super) fn sentence(error: &str) -> Option<(&'static str, &'static str)> {
    Some(match error {
        "invite_bad_signature" => ("the invitation's signature is wrong: it was changed on the way", "ask for the link again"),
        "mesh_not_found" => ("the mesh is not there any more", "ask whoever invited you"),
        "invite_owner_mismatch" => ("whoever signed the invitation may not invite to this mesh", "ask the owner for another"),
        "invite_not_found" => ("the broker does not know this invitation", "ask for a new one"),
        "invite_mesh_mismatch" => ("the invitation is for another mesh", "ask for a new one"),
        "invite_revoked" => ("the invitation was taken back", "ask for a new one"),
        "invite_expired" => ("the invitation has expired", "ask for a new one"),
        "invite_exhausted" => ("the invitation is used up", "ask for a new one"),
        "member_insert_failed" => ("this key was shut out of the mesh", "ask the owner"),
        "admin_token_wrong" => {
            ("the broker has another admin token", "it is in the file admin-token of the broker's data directory")
        }
        "admin_token_required" => (
            "making a mesh on this broker takes its admin token",
            "give it with --token-file FILE or $CLAUDEMESH_ADMIN_TOKEN; it is in the file admin-token of the broker's data directory",
        ),
        "timestamp_skew" => ("this machine's clock and the broker's differ too much", "set the clock"),
        "rate_limited" => ("too many requests", "try again in a minute"),
        _ => return None,
    })
}

fn refusal(origin: &str, answer: &Response) -> CliError {
    let verdict = verdict(answer);
    let error = verdict.error.unwrap_or_default();
    let exit = match (answer.status, error.as_str()) {
        (401 | 403, _) => Exit::Denied,
        (404, _) | (_, "mesh_not_found" | "invite_not_found") => Exit::NotFound,
        (409, "invite_exists") => Exit::AlreadyExists,
        (429 | 500.., _) => Exit::Network,
        _ => Exit::Failure,
    };
    if error.is_empty() {
        return CliError::refused(Exit::Network, format!("{origin} answered {}", answer.status))
            .with_hint("is there a claudemesh broker, and is it of this implementation?");
    }
    match sentence(&error) {
        Some((what, hint)) => CliError::refused(exit, what).with_hint(hint),
        None => CliError::refused(exit, verdict.detail.unwrap_or(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_in_either_form() {
        for (text, ws, origin, local) in [
            ("http://127.0.0.1:7900", "ws://127.0.0.1:7900/ws", "http://127.0.0.1:7900", true),
            ("wss://b.example/ws", "wss://b.example/ws", "https://b.example", false),
            ("https://b.example/", "wss://b.example/ws", "https://b.example", false),
            ("ws://localhost:1/x/ws", "ws://localhost:1/x/ws", "http://localhost:1", true),
            ("ws://[::1]:1", "ws://[::1]:1/ws", "http://[::1]:1", true),
        ] {
            let broker = Broker::at(text).unwrap();
            assert_eq!((broker.ws_url().as_str(), broker.origin().as_str(), broker.is_loopback()), (ws, origin, local), "{text}");
        }
        assert!(Broker::at("b.example").is_err());
    }
}
