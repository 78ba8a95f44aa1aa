//! `hub.db`: what a broker keeps. Meshes, their members, the session keys that have been there, and the messages that
//! somebody does not have yet.

mod admin;
mod allowed;
mod api_keys;
mod audit;
pub mod invites;
mod keys;
mod members;
mod queue;
mod receipts;
mod records;
mod room;
mod schedule;
mod sessions;
mod shared;
mod status;
mod tasks;
mod topics;

use std::path::Path;

pub use admin::{Admin, MeshTotals, Totals, WaitingRow, compact, restore};
pub use audit::{Actor, Entry, Event, Verdict};
pub use room::{Full, Policy};

use self::invites::{AddedInvite, Invite, NewInvite, Redeem, Redeemed};
use super::owner::{self, Kind, commands};
use super::{Error, Seq};
use crate::base::ids::{MemberId, MemberKey, MeshId, PublicKey, SessionKey, Slug};
use crate::base::thread::Running;
use crate::base::time::Millis;
use crate::wire::key::{KeyCopy, Scope};
use crate::wire::receipt::Forwarded;
use crate::wire::task::Task;
use crate::wire::topic::TopicRole;

pub use self::allowed::{BanRow, GrantRow, KickRow};
pub use self::api_keys::{ApiKeyRow, KeyRevoked};
pub use self::keys::{KeyInUse, KeyRow, NewKey, Sealing, WrongKey};
pub use self::receipts::{HandedIn, Kept};
pub use self::records::{
    Ack, Author, AwayRow, Enqueued, Known, Member, MemoryRow, Mesh, MessageLookup, MessageState, NewMember, NewMesh, Outcome,
    Removed, Role, SeenSession, SkillRow, StateRow, Stored, Submission, Topical, Urgency,
};
pub use self::schedule::{Firing, ScheduledRow, Scheduling};
pub use self::status::Expired;
pub use self::tasks::TaskChanged;
pub use self::topics::{NewsFrom, TopicMade, TopicMemberRow, TopicMessageRow, TopicRow};

commands! {
    /// The broker's database. Cheap to clone; it closes when the last clone is dropped.
    pub struct Hub;

    /// Makes a mesh with its owner as a member. If the id is taken, the mesh that has it is returned and nothing changes.
    Sync CreateMesh => members::create_mesh: pub fn create_mesh(mesh: NewMesh, owner: NewMember) -> Mesh;

    Read FindMesh => members::mesh: pub fn mesh(id: MeshId) -> Option<Mesh>;

    /// Every mesh, the oldest first.
    Read Meshes => members::meshes: pub fn meshes() -> Vec<Mesh>;

    /// Adds a member, or returns the one that has this key, revoked or not, as it is.
    Sync AddMember => members::add_member: pub fn add_member(member: NewMember) -> Member;

    Read FindMember => members::member: pub fn member(mesh: MeshId, key: MemberKey) -> Option<Member>;

    /// Every member of a mesh, the longest-standing first.
    Read Members => members::members: pub fn members(mesh: MeshId) -> Vec<Member>;

    /// Shuts a member out, or lets it go. False if there is none, or it was done before.
    Sync Revoke => members::revoke: pub fn revoke(mesh: MeshId, key: MemberKey, removed: Removed, now: Millis) -> bool;

    /// Notes that sessions are here, so that what is sent to them later is kept.
    Lazy SessionSeen => sessions::session_seen: pub fn session_seen(sessions: Vec<SeenSession>) -> ();

    Read FindSession => sessions::session: pub fn session(mesh: MeshId, key: SessionKey) -> Option<SeenSession>;

    /// Sessions seen at `since` or later, the latest first.
    Read AwaySessions => sessions::away_sessions:
        pub fn away_sessions(mesh: MeshId, since: Millis, limit: usize) -> Vec<SeenSession>;

    /// Sessions whose place was taken or kept when this was last written.
    Read SessionsHere => sessions::sessions_here: pub fn sessions_here() -> Vec<SeenSession>;

    /// Their places are given up; `ended` if they said that they are over.
    Lazy SessionsGone => sessions::sessions_gone: pub fn sessions_gone(gone: Vec<(MeshId, SessionKey)>, ended: bool) -> ();

    /// It has a place after all.
    Lazy SessionBack => sessions::session_back: pub fn session_back(mesh: MeshId, key: SessionKey) -> ();

    /// The sessions of a group and its parts, seen at `since` or later; those first that are away and have not ended, and of
    /// them the latest. Whether one is here now the table of who is here knows better.
    Read AwayInGroup => sessions::away_in_group:
        pub fn away_in_group(mesh: MeshId, group: String, since: Millis, limit: usize) -> Vec<AwayRow>;

    /// The keys of a mesh's members that stand.
    Read Standing => members::standing: pub fn standing(mesh: MeshId) -> Vec<MemberKey>;

    /// Forgets sessions of one mesh last seen before `before`. Bounded: call again while it returns more than 0.
    Lazy ForgetSessions => sessions::forget_sessions: pub fn forget_sessions(mesh: MeshId, before: Millis) -> usize;

    Read OwnerOf => sessions::owner_of: pub fn owner_of(mesh: MeshId, key: PublicKey) -> Option<Known>;

    /// Keeps messages, in the order given; the answers are in the same order. On return they survive a power cut: now they
    /// may be acked.
    Sync [WithAll] Enqueue => queue::enqueue: pub fn enqueue(submissions: Vec<Submission>) -> Vec<Enqueued>;

    /// As `acked` and then `enqueue`, in one step: whoever answers what it was sent waits once. Both happen or neither.
    Sync [WithAll] Exchange => queue::exchange: pub fn exchange(acks: Vec<Ack>, submissions: Vec<Submission>) -> Vec<Enqueued>;

    /// What waits for a recipient after `after` and has not expired at `now`, oldest first.
    Read Fetch => queue::fetch: pub fn fetch(
        mesh: MeshId,
        recipient: PublicKey,
        after: Seq,
        urgency: Urgency,
        now: Millis,
        limit: usize,
    ) -> Vec<Stored>;

    /// Notes what recipients have. Only their own copies are touched. Returns how many copies went; one lost to a power cut
    /// is pushed again.
    Lazy [WithAll] Acked => queue::acked: pub fn acked(acks: Vec<Ack>) -> usize;

    Sync SetState => shared::set_state: pub fn set_state(mesh: MeshId, row: StateRow) -> Outcome;

    Read GetState => shared::get_state: pub fn get_state(mesh: MeshId, key: String) -> Option<StateRow>;

    /// Values of a mesh by key.
    Read ListState => shared::list_state: pub fn list_state(mesh: MeshId, limit: usize) -> Vec<StateRow>;

    Sync Remember => shared::remember: pub fn remember(mesh: MeshId, author: Author, row: MemoryRow) -> Outcome;

    /// Texts with all words of `query`, best first; without words, the latest.
    Read Recall => shared::recall: pub fn recall(mesh: MeshId, query: String) -> Vec<MemoryRow>;

    /// Whoever stored it may remove it, and an admin.
    Sync Forget => shared::forget: pub fn forget(mesh: MeshId, id: String, by: Author) -> Outcome;

    /// Whoever shared it may change it, and an admin.
    Sync ShareSkill => shared::share_skill: pub fn share_skill(mesh: MeshId, author: Author, row: SkillRow) -> Outcome;

    /// Skills by name; with `query`, those that have it in name, description or tags.
    Read Skills => shared::skills: pub fn skills(mesh: MeshId, query: Option<String>) -> Vec<SkillRow>;

    Read FindSkill => shared::skill: pub fn skill(mesh: MeshId, name: String) -> Option<SkillRow>;

    Sync RemoveSkill => shared::remove_skill: pub fn remove_skill(mesh: MeshId, name: String, by: Author) -> Outcome;

    /// Other names for a mesh. False if there is none that stands.
    Sync RenameMesh => invites::rename_mesh: pub fn rename_mesh(mesh: MeshId, slug: Slug, name: String) -> bool;

    /// Closes a mesh for good: nobody may come in, and what it kept goes. False if there is none that stands.
    Sync ArchiveMesh => invites::archive_mesh: pub fn archive_mesh(mesh: MeshId, now: Millis) -> bool;

    /// Keeps an invite, if no other has its token.
    Sync AddInvite => invites::add: pub fn add_invite(invite: NewInvite) -> AddedInvite;

    Read FindInvite => invites::find: pub fn invite(id: String) -> Option<Invite>;

    Read InviteByCode => invites::by_code: pub fn invite_by_code(code: String) -> Option<Invite>;

    /// The invites of a mesh, the latest first.
    Read Invites => invites::list: pub fn invites(mesh: MeshId) -> Vec<Invite>;

    /// False if there is none, or it was done before.
    Sync RevokeInvite => invites::revoke: pub fn revoke_invite(id: String, by: Actor, now: Millis) -> bool;

    /// Adds a member by an invite, which is used up by one; or says why not. A member that stands uses nothing up.
    Sync Redeem => invites::redeem: pub fn redeem(redeem: Redeem) -> Redeemed;
    Sync CreateTopic => topics::create: pub fn create_topic(mesh: MeshId, new: TopicRow, by: Author) -> TopicMade;
    Read FindTopic => topics::find: pub fn topic(mesh: MeshId, topic: String, member: MemberId) -> Option<TopicRow>;
    Read Topics => topics::list: pub fn topics(mesh: MeshId, member: MemberId) -> Vec<TopicRow>;
    Sync JoinTopic => topics::join: pub fn join_topic(topic: String, member: MemberId, role: TopicRole, now: Millis) -> ();
    Sync LeaveTopic => topics::leave: pub fn leave_topic(topic: String, member: MemberId) -> bool;
    Lazy ReadTopic => topics::mark_read: pub fn read_topic(topic: String, member: MemberId, now: Millis) -> bool;
    Read TopicMembers => topics::members: pub fn topic_members(topic: String) -> Vec<TopicMemberRow>;
    Read TopicHistory => topics::history: pub fn topic_history(topic: String, before: Option<String>, limit: usize) -> Vec<TopicMessageRow>;
    Read TopicNews => topics::news: pub fn topic_news(topic: String, from: NewsFrom, limit: usize) -> (Seq, Vec<TopicMessageRow>);
    Read TopicMessage => topics::message: pub fn topic_message(topic: String, id: String) -> Option<String>;

    Read Grants => allowed::grants: pub fn grants() -> Vec<GrantRow>;
    Sync SetGrant => allowed::set_grant: pub fn set_grant(row: GrantRow, reset: bool, now: Millis) -> bool;
    Read Kicks => allowed::kicks: pub fn kicks(now: Millis) -> Vec<KickRow>;
    Sync Kick => allowed::kick: pub fn kick(kicks: Vec<KickRow>, by: Actor, now: Millis) -> ();
    Sync Unrevoke => allowed::unrevoke: pub fn unrevoke(mesh: MeshId, key: MemberKey, by: Actor, now: Millis) -> bool;
    Read Bans => allowed::bans: pub fn bans(mesh: MeshId) -> Vec<BanRow>;
    Sync AddScheduled => schedule::add: pub fn add_scheduled(row: Box<ScheduledRow>) -> Scheduling;
    Read Scheduled => schedule::list: pub fn scheduled(mesh: MeshId, member: MemberId) -> Vec<ScheduledRow>;
    Sync CancelScheduled => schedule::cancel: pub fn cancel_scheduled(mesh: MeshId, member: MemberId, id: String) -> bool;
    Read Due => schedule::due: pub fn due(now: Millis, limit: usize) -> (Vec<ScheduledRow>, Option<Millis>);
    Sync Fire => schedule::fire: pub fn fire(row: Box<ScheduledRow>, firing: Firing, next: Option<Millis>) -> Option<Enqueued>;
    Sync CreateTask => tasks::create: pub fn create_task(mesh: MeshId, task: Task, by: Author, now: Millis) -> bool;
    Sync ClaimTask => tasks::claim: pub fn claim_task(mesh: MeshId, id: String, by: Author) -> TaskChanged;
    Sync CompleteTask => tasks::complete: pub fn complete_task(mesh: MeshId, id: String, result: Option<String>, by: Author) -> TaskChanged;
    Read Tasks => tasks::list: pub fn tasks(mesh: MeshId, status: Option<String>, assignee: Option<String>) -> Vec<Task>;

    Read KeyState => keys::state: pub fn key_state(mesh: MeshId, scope: Scope, member: MemberId, epoch: Option<u32>, renew: bool) -> Option<KeyRow>;
    Sync PublishKey => keys::publish: pub fn publish_key(new: NewKey) -> KeyInUse;
    Sync AddCopies => keys::add_copies: pub fn add_copies(mesh: MeshId, scope: Scope, epoch: u32, by: MemberId, copies: Vec<KeyCopy>) -> KeyInUse;
    Read KeyHolders => keys::holders: pub fn key_holders(mesh: MeshId, scope: Scope) -> Vec<MemberKey>;
    Read KeysNeeded => keys::needed: pub fn keys_needed(mesh: MeshId, member: MemberId, limit: usize) -> Vec<Scope>;
    Read Unable => keys::unable: pub fn unable(mesh: MeshId) -> Vec<(PublicKey, String)>;
    Lazy MemberOpens => keys::member_opens: pub fn member_opens(mesh: MeshId, member: MemberKey, opens: bool) -> ();
    /// Keeps a key under the hash of its secret. False if the member has as many as it may.
    Sync AddApiKey => api_keys::add: pub fn add_api_key(row: ApiKeyRow, hash: String) -> bool;
    Read ApiKeys => api_keys::list: pub fn api_keys(mesh: MeshId, member: Option<MemberId>) -> Vec<ApiKeyRow>;
    Sync RevokeApiKey => api_keys::revoke: pub fn revoke_api_key(mesh: MeshId, id: String, by: Author, now: Millis) -> KeyRevoked;
    Read FindApiKey => api_keys::in_force: pub fn api_key(hash: String, now: Millis) -> Option<(ApiKeyRow, Member)>;
    Lazy UseApiKey => api_keys::used: pub fn use_api_key(id: String, now: Millis) -> ();
    /// For each topic that a member is in: what others have said there since it was last read, up to 100.
    Read Unread => topics::unread: pub fn unread(mesh: MeshId, member: MemberId) -> Vec<(String, usize)>;

    /// How many copies wait, over all meshes.
    Read Depth => status::depth: pub fn depth() -> usize;

    /// Deletes up to `limit` messages that have expired at `now`, delivered or not. Call again while there are any.
    Lazy Expire => status::expire: pub fn expire(now: Millis, limit: usize) -> Expired;

    /// Keeps what a recipient says of messages that were for it. On return it survives a power cut.
    Sync HandIn => receipts::hand_in: pub fn hand_in(handed: Box<HandedIn>) -> Kept;

    /// What was said of a member's messages and is not taken yet, behind number `after`.
    Read Receipts => receipts::receipts: pub fn receipts(member: MemberId, after: u64, limit: usize) -> Vec<Forwarded>;

    /// A daemon of the member has these on its disk.
    Lazy ReceiptsTaken => receipts::taken: pub fn receipts_taken(member: MemberId, numbers: Vec<u64>) -> usize;

    /// Forgets receipts from before `before`, of the `limit` oldest. Call again while it returns more than 0.
    Lazy ForgetReceipts => receipts::forget: pub fn forget_receipts(before: Millis, limit: usize) -> usize;

    /// What is allowed from now on.
    Sync SetPolicy => room::set: pub fn set_policy(policy: Policy) -> ();

    /// Adds to the audit logs.
    Lazy Audit => audit::append: pub fn audit(entries: Vec<Entry>) -> ();

    /// Removes up to `limit` of a mesh's oldest audit entries from before `before`. Call again while it returns more than 0.
    Lazy PruneAudit => audit::prune: pub fn prune_audit(mesh: MeshId, before: Millis, limit: usize) -> usize;

    /// How much there is of what.
    Read Totals => admin::totals: pub fn totals() -> Totals;

    /// The message of a mesh with this id, or the only one whose id begins with it.
    Read Status => status::message_status: pub fn message_status(mesh: MeshId, id: String) -> MessageLookup;
}

impl Hub {
    /// Opens the database and starts its thread.
    pub fn open(path: &Path) -> Result<(Hub, Running), Error> {
        let kind =
            Kind { thread: "store-hub", cache_kib: 2048, steps: members::STEPS, recover: |_| Ok(()), sum_up: room::sum_up };
        let (caller, running) = owner::start(path, &kind)?;
        Ok((Hub(caller), running))
    }
}

#[cfg(test)]
mod receipt_tests;
#[cfg(test)]
mod tests;
