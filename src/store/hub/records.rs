//! What goes into the broker's database, and what comes out of it.

use super::{Actor, Full, Sealing, WrongKey};
use crate::base::ids::{ClientId, MemberId, MemberKey, MeshId, MessageId, PublicKey, SessionKey, Slug};
use crate::base::time::Millis;
use crate::store::Seq;
use crate::wire::key::Seal;
use crate::wire::priority::Priority;

/// A mesh to make.
#[derive(Debug, Clone)]
pub struct NewMesh {
    pub id: MeshId,
    pub slug: Slug,
    pub name: String,
    pub owner: MemberKey,
    pub now: Millis,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mesh {
    pub id: MeshId,
    pub slug: Slug,
    pub name: String,
    pub owner: MemberKey,
    pub created_at: Millis,
    pub archived_at: Option<Millis>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    Admin,
    Member,
}

impl Role {
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Admin => "admin",
            Role::Member => "member",
        }
    }

    pub fn parse(text: &str) -> Option<Role> {
        [Role::Admin, Role::Member].into_iter().find(|role| role.as_str() == text)
    }
}

/// A member to add.
#[derive(Debug, Clone)]
pub struct NewMember {
    pub id: MemberId,
    pub mesh: MeshId,
    pub key: MemberKey,
    pub display_name: String,
    pub role: Role,
    pub now: Millis,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    pub id: MemberId,
    pub key: MemberKey,
    pub display_name: String,
    pub role: Role,
    pub joined_at: Millis,
    pub revoked: bool,
}

/// How a member comes to have no part in a mesh any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removed {
    /// Shut out, by whom.
    Banned(Actor),
    /// By itself: it may come back with an invite.
    Left,
}

/// A session key that has been on a mesh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenSession {
    pub mesh: MeshId,
    pub key: SessionKey,
    pub member: MemberId,
    pub display_name: String,
    pub last_seen_at: Millis,
    /// What it says of itself, as JSON; `None` keeps what is known.
    pub about: Option<String>,
    /// The groups that it is in, where `about` is given; not filled in when it is read.
    pub groups: Vec<String>,
    /// Its place in the mesh is taken or kept.
    pub here: bool,
    /// Whether its client opens what is sealed for many; `None` keeps what is known.
    pub opens: Option<bool>,
    /// Other members do not see it.
    pub hidden: bool,
    /// It said that it is over when it went. Being seen takes that back.
    pub ended: bool,
}

/// A session of a group, and its member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AwayRow {
    pub key: PublicKey,
    pub member: MemberKey,
    pub hidden: bool,
    /// It said that it is over, and is not expected back.
    pub ended: bool,
    /// It had a place when this was last written, which may be a moment behind.
    pub here: bool,
}

/// Whose key it is, among those that messages are kept for. Revoked members' keys are nobody's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Known {
    Member(MemberId),
    Session(MemberId),
}

/// A message to keep until its recipients have it.
#[derive(Debug, Clone)]
pub struct Submission {
    pub id: MessageId,
    pub mesh: MeshId,
    pub sender_member: MemberId,
    /// The key that sealed it.
    pub sender_pubkey: PublicKey,
    pub sender_name: String,
    pub target_spec: String,
    /// One copy waits for each of these. Twice the same counts once.
    pub recipients: Vec<PublicKey>,
    /// It is for one key, which must be known; otherwise the recipients are taken as they are.
    pub direct: bool,
    pub priority: Priority,
    pub nonce: String,
    pub ciphertext: String,
    pub reply_to: Option<String>,
    pub client_id: Option<ClientId>,
    pub fingerprint: Option<String>,
    pub now: Millis,
    pub expires_at: Millis,
    /// What kind of message it is, if not somebody's word of the moment.
    pub subtype: Option<String>,
    /// It belongs into a topic's history.
    pub topic: Option<Topical>,
    /// It is for many and sealed: the key must be the one in use.
    pub sealing: Option<Sealing>,
}

/// The topic of a message, and whom the message calls out to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topical {
    pub id: String,
    pub mentions: Vec<String>,
    /// As its sender says: 1 is in clear.
    pub body_version: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Enqueued {
    New(MessageId),
    /// The member has sent this before, under the same client id: nothing was written.
    Same(MessageId),
    /// The member has sent something else under the same client id.
    Conflict,
    /// The key is neither a member's nor a session's that has been here.
    UnknownRecipient,
    /// It is of a topic that is gone.
    NoTopic,
    /// As much waits as may.
    Full(Full),
    /// It must be sealed anew first.
    WrongKey(WrongKey),
}

/// Which priorities a recipient is open for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Urgency {
    NowOnly,
    All,
}

/// A message that a recipient does not have yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    pub seq: Seq,
    pub id: MessageId,
    pub sender_pubkey: PublicKey,
    pub sender_member: MemberKey,
    pub sender_member_id: MemberId,
    pub sender_name: String,
    pub target_spec: String,
    pub priority: Priority,
    pub nonce: String,
    pub ciphertext: String,
    pub reply_to: Option<String>,
    pub created_at: Millis,
    pub client_id: Option<ClientId>,
    pub fingerprint: Option<String>,
    pub subtype: Option<String>,
    /// The name of the topic it was said in.
    pub topic: Option<String>,
    /// How it is sealed, if it was for many and is.
    pub seal: Option<Seal>,
    /// Names that it calls out to.
    pub mentions: Vec<String>,
}

/// One recipient has one message on its disk.
#[derive(Debug, Clone)]
pub struct Ack {
    pub mesh: MeshId,
    pub recipient: PublicKey,
    pub message: MessageId,
    pub now: Millis,
}

/// Where a message stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageState {
    pub id: MessageId,
    pub sender_member_id: MemberId,
    pub sender_pubkey: PublicKey,
    pub target_spec: String,
    pub priority: Priority,
    pub created_at: Millis,
    pub expires_at: Millis,
    /// How many recipients it had.
    pub recipients: usize,
    /// Those that do not have it yet, 1,000 at most.
    pub waiting: Vec<PublicKey>,
    /// Of a message to many, those that have it, and since when; 1,000 at most.
    pub delivered: Vec<(PublicKey, Millis)>,
    /// When the last of them had it.
    pub delivered_at: Option<Millis>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MessageLookup {
    Found(MessageState),
    NotFound,
    /// More than one message begins with this.
    Ambiguous,
}

/// A shared value; `value` is JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateRow {
    pub key: String,
    pub value: String,
    pub updated_by: String,
    /// Whose it is; values from before this was noted are everybody's.
    pub member: Option<MemberKey>,
    pub updated_at: Millis,
}

/// A remembered text; `tags` is a JSON list. `by` is filled in when it is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryRow {
    pub id: String,
    pub content: String,
    pub tags: String,
    pub by: String,
    pub at: Millis,
}

/// A skill; `tags` is a JSON list, `manifest` JSON. `author` is filled in when it is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SkillRow {
    pub name: String,
    pub description: String,
    pub instructions: String,
    pub tags: String,
    pub manifest: Option<String>,
    pub author: String,
    pub created_at: Millis,
}

/// Who writes or removes something shared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Author {
    pub member: MemberId,
    pub name: String,
    pub admin: bool,
}

/// What became of a change to something shared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Done,
    NotFound,
    /// It is somebody else's.
    Forbidden,
    /// The mesh has as many as it may.
    Full,
}
