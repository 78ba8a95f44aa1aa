//! What the members of a mesh share and show, and what they may do, as typed calls. Each waits as long as a broker may take.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Client, Error, PEERS_DEADLINE, Route};
use crate::net::target::percent_encode;
use crate::wire::ipc::{
    Done, Forgotten, Memories, OnMesh, ProfileSet, RememberRequest, Remembered, SkillFound, Skills, StateEntries, StateFound,
    StateSet, StateWrite,
};
use crate::wire::json::{self, Map, Value};
use crate::wire::skill::{ShareSkill, SkillAck};
use crate::wire::topic::{
    OfTopic, TopicCreate, TopicCreated, TopicHistory, TopicHistoryResponse, TopicJoin, TopicListResponse, TopicMembersResponse,
};

/// A request's own fields, and the mesh it is for.
#[derive(Serialize)]
struct For<'a, T> {
    #[serde(flatten)]
    ask: &'a T,
    #[serde(skip_serializing_if = "Option::is_none")]
    mesh: Option<&'a str>,
}

impl Client {
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
    pub fn leave_topic(&self, topic: &OfTopic, mesh: Option<&str>) -> Result<Done, Error> {
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

    fn fetch<R: DeserializeOwned>(&self, route: Route) -> Result<R, Error> {
        self.call("GET", &route.0, None, PEERS_DEADLINE)
    }

    fn tell<B: Serialize, R: DeserializeOwned>(&self, path: &str, ask: &B, mesh: Option<&str>) -> Result<R, Error> {
        self.call("POST", path, Some(json::encode(&For { ask, mesh })), PEERS_DEADLINE)
    }

    fn discard<R: DeserializeOwned>(&self, path: &str, item: &str, mesh: Option<&str>) -> Result<R, Error> {
        let route = Route::new(&format!("{path}/{}", percent_encode(item))).with("mesh", mesh);
        self.call("DELETE", &route.0, None, PEERS_DEADLINE)
    }
}
