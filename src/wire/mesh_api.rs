//! Bodies of the broker's HTTP routes: making meshes, inviting, joining. `POST /join` and the invite within a link are the
//! reference's; the rest is ours.

use serde::{Deserialize, Serialize};

/// The reason with which a broker closes the connections of a mesh that is no more, with the code of a ban: whoever does not know
/// it stays away all the same.
pub const MESH_DELETED: &str = "mesh_deleted";

/// Carries a member's signature over the request: `key=<64 hex>,ts=<ms>,nonce=<text>,sig=<128 hex>`.
pub const SIGNATURE_HEADER: &str = "X-ClaudeMesh-Signature";

/// Largest body of these routes, in bytes.
pub const MAX_BODY: usize = 64 * 1024;

/// Largest token of an invite, in characters.
pub const MAX_TOKEN: usize = 4096;

/// What a link carries, as base64url of this as compact JSON. The order of the fields is the reference's: the token is
/// looked up as text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InvitePayload {
    pub v: u32,
    pub mesh_id: String,
    pub mesh_slug: String,
    /// `ws://` or `wss://`, with its path.
    pub broker_url: String,
    /// Unix seconds.
    pub expires_at: i64,
    pub mesh_root_key: String,
    /// `admin` or `member`.
    pub role: String,
    pub owner_pubkey: String,
    pub signature: String,
}

/// `POST /join`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct JoinRequest {
    pub invite_token: String,
    pub invite_payload: InvitePayload,
    /// 64 hex characters.
    pub peer_pubkey: String,
    pub display_name: String,
}

/// The answer to [`JoinRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Joined {
    pub ok: bool,
    pub member_id: String,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub already_member: bool,
}

/// `POST /mesh`, signed by the key that becomes the owner's.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CreateMesh {
    pub name: String,
    pub slug: String,
    /// The owner's name as a member.
    pub display_name: String,
}

/// The answer to [`CreateMesh`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreatedMesh {
    pub ok: bool,
    pub mesh_id: String,
    pub member_id: String,
    pub slug: String,
}

/// `PATCH /mesh/ID`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RenameMesh {
    pub slug: String,
    pub name: String,
}

/// `POST /invite`, signed by the key that signed the invite within the token.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CreateInvite {
    pub invite_token: String,
    pub uses: u32,
}

/// One invite, as `POST /invite` answers it and `GET /mesh/ID/invites` lists it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InviteRow {
    pub id: String,
    /// The end of the short link `/i/CODE`.
    pub code: String,
    pub role: String,
    /// ISO 8601.
    pub created_at: String,
    /// ISO 8601.
    pub expires_at: String,
    pub uses: u32,
    pub used: u32,
    /// `open`, `revoked`, `expired` or `used_up`.
    pub state: String,
}

/// The answer to [`CreateInvite`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreatedInvite {
    pub ok: bool,
    pub invite: InviteRow,
}

/// `GET /mesh/ID/invites`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InviteList {
    pub ok: bool,
    pub invites: Vec<InviteRow>,
}

/// `GET /i/CODE` for programs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShortLink {
    pub ok: bool,
    pub token: String,
}

/// Any other answer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    pub ok: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The broker's clock in milliseconds, when the request's timestamp was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_time: Option<i64>,
}

/// The parts of [`SIGNATURE_HEADER`], none of them checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedBy {
    pub key: String,
    pub timestamp: i64,
    pub nonce: String,
    pub signature: String,
}

impl SignedBy {
    pub fn header(&self) -> String {
        format!("key={},ts={},nonce={},sig={}", self.key, self.timestamp, self.nonce, self.signature)
    }

    /// Reads what [`SignedBy::header`] writes. A nonce has 16 to 64 letters and digits.
    pub fn parse(text: &str) -> Option<SignedBy> {
        let mut parts = text.split(',').map(str::trim);
        let mut part = |name: &str| parts.next()?.strip_prefix(name)?.strip_prefix('=').map(str::to_owned);
        let (key, timestamp, nonce, signature) = (part("key")?, part("ts")?.parse().ok()?, part("nonce")?, part("sig")?);
        let nonce_ok = (16..=64).contains(&nonce.len()) && nonce.bytes().all(|byte| byte.is_ascii_alphanumeric());
        (nonce_ok && parts.next().is_none()).then_some(SignedBy { key, timestamp, nonce, signature })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_reads_back_and_nothing_else_does() {
        let signed = SignedBy { key: "k".into(), timestamp: -7, nonce: "0123456789abcdef".into(), signature: "s".into() };
        assert_eq!(SignedBy::parse(&signed.header()), Some(signed.clone()));
        for bad in [
            "",
            "key=k,ts=1,nonce=0123456789abcdef",
            "key=k,ts=x,nonce=0123456789abcdef,sig=s",
            "key=k,ts=1,nonce=short,sig=s",
            "key=k,ts=1,nonce=0123456789abcde|,sig=s",
            "ts=1,key=k,nonce=0123456789abcdef,sig=s",
            "key=k,ts=1,nonce=0123456789abcdef,sig=s,more=1",
        ] {
            assert_eq!(SignedBy::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_fields_of_a_token_stand_in_the_order_of_the_reference() {
        let payload = InvitePayload {
            v: 1,
            mesh_id: "m".into(),
            mesh_slug: "s".into(),
            broker_url: "u".into(),
            expires_at: 2,
            mesh_root_key: "r".into(),
            role: "member".into(),
            owner_pubkey: "o".into(),
            signature: "x".into(),
        };
        let text = crate::wire::json::encode(&payload);
        assert_eq!(
            text,
            r#"{"v":1,"mesh_id":"m","mesh_slug":"s","broker_url":"u","expires_at":2,"mesh_root_key":"r","role":"member","owner_pubkey":"o","signature":"x"}"#
        );
    }
}
