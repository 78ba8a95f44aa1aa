//! What the members of a mesh share and show, and what they may do, as typed calls. Each waits as long as a broker may take.

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{CALL_DEADLINE, Client, Error, Route};
use crate::base::ids::SessionId;
use crate::net::target::percent_encode;
use crate::sys::process;
use crate::wire::admin::{Ban, BanAck, Expel, Expelled, ListBansResult, UnbanAck};
use crate::wire::apikey::{ApiKeyCreated, ApiKeyList, ApiKeyRevoked, CreateApiKey};
use crate::wire::grant::{Capability, GrantsList, GrantsSet};
use crate::wire::ipc::{
    Done, Forgotten, Memories, OnMesh, ProfileSet, RememberRequest, Remembered, SessionView, SkillFound, Skills, Standing,
    StateEntries, StateFound, StateSet, StateWrite,
};
use crate::wire::json::{self, Map, Value};
use crate::wire::limits::MAX_CLAIM_WAIT;
use crate::wire::schedule::{CancelScheduledAck, ScheduledAck, ScheduledList};
use crate::wire::skill::{ShareSkill, SkillAck};
use crate::wire::standing::State;
use crate::wire::task::{CreateTask, OnTask, TaskCreated, TaskList};
use crate::wire::topic::{
    OfTopic, TopicCreate, TopicCreated, TopicHistory, TopicHistoryResponse, TopicJoin, TopicLeave, TopicListResponse,
    TopicMembersResponse,
};

/// A request's own fields, and the mesh it is for.
#[derive(Serialize)]
struct For<'a, T> {
    #[serde(flatten)]
    ask: &'a T,
    #[serde(skip_serializing_if = "Option::is_none")]
    mesh: Option<&'a str>,
}

/// What `POST /v1/grants` changes; `peer` is an address.
#[derive(Debug, Clone, Default, Serialize)]
pub struct GrantChange {
    pub peer: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub grant: Vec<Capability>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub revoke: Vec<Capability>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub reset: bool,
}

/// What `POST /v1/schedule` is to send; without `to`, to the caller itself.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Later {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    pub message: String,
    /// Milliseconds since the epoch; not looked at with `cron`.
    pub deliver_at: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cron: Option<String>,
    /// What is for many is sent in clear.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub plaintext: bool,
}

impl Client {
    /// The session of this id, if its process runs. What the daemon has not noticed yet is looked at here.
    pub fn running(&self, id: &SessionId) -> Result<Option<SessionView>, Error> {
        let is_it = |session: &SessionView| session.session_id.eq_ignore_ascii_case(id.as_str());
        Ok(self.sessions()?.sessions.into_iter().find(|session| is_it(session) && process::alive(session.pid)))
    }

    /// `GET /v1/state?key=`.
    pub fn state(&self, key: &str, mesh: Option<&str>) -> Result<StateFound, Error> {
        self.fetch(Route::new("/v1/state").with("key", Some(key)).with("mesh", mesh))
    }

    /// `GET /v1/state`.
    pub fn states(&self, mesh: Option<&str>) -> Result<StateEntries, Error> {
        self.fetch(Route::new("/v1/state").with("mesh", mesh))
    }

    /// `POST /v1/state`.
    pub fn set_state(&self, write: &StateWrite) -> Result<StateSet, Error> {
        self.tell("/v1/state", write, None)
    }

    /// `POST /v1/memory`.
    pub fn remember(&self, request: &RememberRequest) -> Result<Remembered, Error> {
        self.tell("/v1/memory", request, None)
    }

    /// `GET /v1/memory`.
    pub fn recall(&self, query: &str, mesh: Option<&str>) -> Result<Memories, Error> {
        self.fetch(Route::new("/v1/memory").with("q", Some(query)).with("mesh", mesh))
    }

    /// `DELETE /v1/memory/<id>`.
    pub fn forget(&self, id: &str, mesh: Option<&str>) -> Result<Forgotten, Error> {
        self.discard("/v1/memory", id, mesh)
    }

    /// `GET /v1/skills`.
    pub fn skills(&self, query: Option<&str>, mesh: Option<&str>) -> Result<Skills, Error> {
        self.fetch(Route::new("/v1/skills").with("query", query).with("mesh", mesh))
    }

    /// `GET /v1/skills/<name>`.
    pub fn skill(&self, name: &str, mesh: Option<&str>) -> Result<SkillFound, Error> {
        self.fetch(Route::new(&format!("/v1/skills/{}", percent_encode(name))).with("mesh", mesh))
    }

    /// `POST /v1/skills`.
    pub fn publish_skill(&self, skill: &ShareSkill, mesh: Option<&str>) -> Result<OnMesh<SkillAck>, Error> {
        self.tell("/v1/skills", skill, mesh)
    }

    /// `DELETE /v1/skills/<name>`.
    pub fn remove_skill(&self, name: &str, mesh: Option<&str>) -> Result<OnMesh<SkillAck>, Error> {
        self.discard("/v1/skills", name, mesh)
    }

    /// `POST /v1/profile`: the caller's own session, or its member on every mesh or the named one.
    pub fn show(&self, changes: &Map<String, Value>, mesh: Option<&str>) -> Result<ProfileSet, Error> {
        self.tell("/v1/profile", changes, mesh)
    }

    /// `GET /v1/topics`.
    pub fn topics(&self, mesh: Option<&str>) -> Result<OnMesh<TopicListResponse>, Error> {
        self.fetch(Route::new("/v1/topics").with("mesh", mesh))
    }

    /// `POST /v1/topics`.
    pub fn create_topic(&self, topic: &TopicCreate, mesh: Option<&str>) -> Result<OnMesh<TopicCreated>, Error> {
        self.tell("/v1/topics", topic, mesh)
    }

    /// `POST /v1/topics/join`.
    pub fn join_topic(&self, join: &TopicJoin, mesh: Option<&str>) -> Result<Done, Error> {
        self.tell("/v1/topics/join", join, mesh)
    }

    /// `POST /v1/topics/leave`.
    pub fn leave_topic(&self, topic: &TopicLeave, mesh: Option<&str>) -> Result<Done, Error> {
        self.tell("/v1/topics/leave", topic, mesh)
    }

    /// `POST /v1/topics/read`.
    pub fn read_topic(&self, topic: &OfTopic, mesh: Option<&str>) -> Result<Done, Error> {
        self.tell("/v1/topics/read", topic, mesh)
    }

    /// `GET /v1/topics/members`.
    pub fn topic_members(&self, topic: &str, mesh: Option<&str>) -> Result<OnMesh<TopicMembersResponse>, Error> {
        self.fetch(Route::new("/v1/topics/members").with("topic", Some(topic)).with("mesh", mesh))
    }

    /// `GET /v1/topics/history`: what was said, the latest first.
    pub fn topic_history(&self, ask: &TopicHistory, mesh: Option<&str>) -> Result<OnMesh<TopicHistoryResponse>, Error> {
        let route = Route::new("/v1/topics/history")
            .with("topic", Some(&ask.topic))
            .with("limit", ask.limit.map(|limit| limit.to_string()).as_deref())
            .with("before", ask.before_id.as_deref());
        self.fetch(route.with("mesh", mesh))
    }

    /// `GET /v1/grants`.
    pub fn grants(&self, mesh: Option<&str>) -> Result<OnMesh<GrantsList>, Error> {
        self.fetch(Route::new("/v1/grants").with("mesh", mesh))
    }

    /// `POST /v1/grants`.
    pub fn set_grants(&self, change: &GrantChange, mesh: Option<&str>) -> Result<OnMesh<GrantsSet>, Error> {
        self.tell("/v1/grants", change, mesh)
    }

    /// `POST /v1/admin/kick`.
    pub fn kick(&self, whom: &Expel, mesh: Option<&str>) -> Result<OnMesh<Expelled>, Error> {
        self.tell("/v1/admin/kick", whom, mesh)
    }

    /// `POST /v1/admin/disconnect`.
    pub fn disconnect(&self, whom: &Expel, mesh: Option<&str>) -> Result<OnMesh<Expelled>, Error> {
        self.tell("/v1/admin/disconnect", whom, mesh)
    }

    /// `POST /v1/admin/ban`.
    pub fn ban(&self, whom: &Ban, mesh: Option<&str>) -> Result<OnMesh<BanAck>, Error> {
        self.tell("/v1/admin/ban", whom, mesh)
    }

    /// `POST /v1/admin/unban`.
    pub fn unban(&self, whom: &Ban, mesh: Option<&str>) -> Result<OnMesh<UnbanAck>, Error> {
        self.tell("/v1/admin/unban", whom, mesh)
    }

    /// `GET /v1/admin/bans`.
    pub fn bans(&self, mesh: Option<&str>) -> Result<OnMesh<ListBansResult>, Error> {
        self.fetch(Route::new("/v1/admin/bans").with("mesh", mesh))
    }

    /// `POST /v1/mesh/reconnect`.
    pub fn reconnect(&self, mesh: Option<&str>) -> Result<Done, Error> {
        self.tell("/v1/mesh/reconnect", &Map::new(), mesh)
    }

    /// `GET /v1/messages/<id>`: by the sender's own id, or the broker's.
    pub fn message_status(&self, id: &str, mesh: Option<&str>) -> Result<Standing, Error> {
        self.fetch(Route::new(&format!("/v1/messages/{}", percent_encode(id))).with("mesh", mesh))
    }

    /// As [`Client::message_status`], once the message got as far as `state`, or `patience` or what a daemon waits is over.
    pub fn await_message(&self, id: &str, mesh: Option<&str>, state: State, patience: Duration) -> Result<Standing, Error> {
        let patience = patience.min(MAX_CLAIM_WAIT);
        let route = Route::new(&format!("/v1/messages/{}", percent_encode(id)))
            .with("mesh", mesh)
            .with("wait", Some(state.as_str()))
            .with("timeout", Some(&patience.as_secs_f64().ceil().to_string()));
        self.call("GET", &route.0, None, patience + CALL_DEADLINE)
    }

    /// `POST /v1/schedule`.
    pub fn schedule(&self, later: &Later, mesh: Option<&str>) -> Result<OnMesh<ScheduledAck>, Error> {
        self.tell("/v1/schedule", later, mesh)
    }

    /// `GET /v1/schedule`.
    pub fn scheduled(&self, mesh: Option<&str>) -> Result<OnMesh<ScheduledList>, Error> {
        self.fetch(Route::new("/v1/schedule").with("mesh", mesh))
    }

    /// `DELETE /v1/schedule/<id>`.
    pub fn cancel_scheduled(&self, id: &str, mesh: Option<&str>) -> Result<OnMesh<CancelScheduledAck>, Error> {
        self.discard("/v1/schedule", id, mesh)
    }

    /// `GET /v1/tasks`.
    pub fn tasks(&self, status: Option<&str>, assignee: Option<&str>, mesh: Option<&str>) -> Result<OnMesh<TaskList>, Error> {
        self.fetch(Route::new("/v1/tasks").with("status", status).with("assignee", assignee).with("mesh", mesh))
    }

    /// `POST /v1/tasks`.
    pub fn create_task(&self, task: &CreateTask, mesh: Option<&str>) -> Result<OnMesh<TaskCreated>, Error> {
        self.tell("/v1/tasks", task, mesh)
    }

    /// `POST /v1/tasks/claim`.
    pub fn claim_task(&self, task: &OnTask, mesh: Option<&str>) -> Result<OnMesh<TaskList>, Error> {
        self.tell("/v1/tasks/claim", task, mesh)
    }

    /// `POST /v1/tasks/complete`.
    pub fn complete_task(&self, task: &OnTask, mesh: Option<&str>) -> Result<OnMesh<TaskList>, Error> {
        self.tell("/v1/tasks/complete", task, mesh)
    }

    /// `GET /v1/apikeys`.
    pub fn api_keys(&self, mesh: Option<&str>) -> Result<OnMesh<ApiKeyList>, Error> {
        self.fetch(Route::new("/v1/apikeys").with("mesh", mesh))
    }

    /// `POST /v1/apikeys`.
    pub fn create_api_key(&self, key: &CreateApiKey, mesh: Option<&str>) -> Result<OnMesh<ApiKeyCreated>, Error> {
        self.tell("/v1/apikeys", key, mesh)
    }

    /// `DELETE /v1/apikeys/<id>`.
    pub fn revoke_api_key(&self, id: &str, mesh: Option<&str>) -> Result<OnMesh<ApiKeyRevoked>, Error> {
        self.discard("/v1/apikeys", id, mesh)
    }

    fn fetch<R: DeserializeOwned>(&self, route: Route) -> Result<R, Error> {
        self.call("GET", &route.0, None, CALL_DEADLINE)
    }

    fn tell<B: Serialize, R: DeserializeOwned>(&self, path: &str, ask: &B, mesh: Option<&str>) -> Result<R, Error> {
        self.call("POST", path, Some(json::encode(&For { ask, mesh })), CALL_DEADLINE)
    }

    fn discard<R: DeserializeOwned>(&self, path: &str, item: &str, mesh: Option<&str>) -> Result<R, Error> {
        let route = Route::new(&format!("{path}/{}", percent_encode(item))).with("mesh", mesh);
        self.call("DELETE", &route.0, None, CALL_DEADLINE)
    }
}
