//! Topics: `/v1/topics` and what is below it; and the id behind a topic's name.

use std::collections::HashMap;
use std::time::Instant;

use crate::base::ids::Slug;
use crate::crypto::base64;
use crate::daemon::resolve::{Error, Resolved};
use crate::daemon::rpc;
use crate::daemon::scoped::{self, Came};
use crate::wire::client::ClientFrame;
use crate::wire::code::Code;
use crate::wire::limits::AGGREGATE_DEADLINE;
use crate::wire::server::ServerFrame;
use crate::wire::target::Target;
use crate::wire::topic::TopicList;

use super::keys;
use super::mesh::own_route;
use super::pass;
use super::reply::Reply;
use super::routes::Call;

pub(super) fn list(call: &Call<'_>) -> Reply {
    pass::question(call, "topic_list", &[])
}

pub(super) fn create(call: &Call<'_>) -> Reply {
    pass::change(call, "topic_create")
}

pub(super) fn join(call: &Call<'_>) -> Reply {
    pass::change(call, "topic_join")
}

pub(super) fn leave(call: &Call<'_>) -> Reply {
    pass::change(call, "topic_leave")
}

pub(super) fn mark_read(call: &Call<'_>) -> Reply {
    pass::change(call, "topic_mark_read")
}

pub(super) fn members(call: &Call<'_>) -> Reply {
    pass::question(call, "topic_members", &[("topic", "topic")])
}

pub(super) fn history(call: &Call<'_>) -> Reply {
    said(call).unwrap_or_else(|refused| refused)
}

/// What was said, opened as far as this member has the keys.
fn said(call: &Call<'_>) -> Result<Reply, Reply> {
    let keys = [("topic", "topic"), ("limit", "limit"), ("before", "beforeId")];
    let (slug, mut answer) = pass::exchange(call, "topic_history", pass::queried(call, &keys))?;
    if let (Some(ServerFrame::TopicHistoryResponse(page)), Some(membership)) = (&mut answer, call.ctx.meshes.get(&slug)) {
        let patience = keys::Patience::from(Instant::now());
        let target = page.topic_id.as_ref().map(|id| format!("#{id}")).unwrap_or_default();
        // Why a key can not be had is asked once, and not for each message under it.
        let mut without: HashMap<u32, &'static str> = HashMap::new();
        for message in &mut page.messages {
            match &message.seal {
                None => message.body = base64::decode(&message.ciphertext).and_then(|bytes| String::from_utf8(bytes).ok()),
                Some(seal) if without.contains_key(&seal.epoch) => {
                    message.unreadable = without.get(&seal.epoch).map(|why| (*why).to_owned());
                }
                Some(seal) => {
                    let came = Came {
                        mesh: &membership.mesh,
                        target: &target,
                        client_id: message.client_message_id.as_ref().map(|id| id.as_str()).unwrap_or_default(),
                        mentions: &message.mentions,
                        sender: &message.sender_pubkey,
                        seal,
                        nonce: &message.nonce,
                        ciphertext: &message.ciphertext,
                    };
                    match keys::open(call, &membership, came, patience) {
                        Ok(text) => message.body = Some(text),
                        Err(why) => {
                            if [scoped::NO_COPY, scoped::NOT_YET].contains(&why) {
                                without.insert(seal.epoch, why);
                            }
                            message.unreadable = Some(why.to_owned());
                        }
                    }
                }
            }
        }
    }
    Ok(Reply::ok(&pass::shown(&slug, answer)))
}

/// The topic of this name: a broker knows it by its id.
pub(super) fn by_name(call: &Call<'_>, mesh: &Slug, name: &str) -> Result<Resolved, Error> {
    let asking = rpc::ask(&call.ctx.links, &own_route(call, mesh), |id| ClientFrame::TopicList(TopicList { req_id: Some(id) }));
    let answer =
        asking.and_then(|asking| asking.answer(Instant::now() + AGGREGATE_DEADLINE)).map_err(Error::TopicsUnavailable)?;
    let Some(ServerFrame::TopicListResponse(list)) = answer else { return Err(Error::TopicsUnavailable(Code::Malformed)) };
    let topic = list.topics.into_iter().find(|topic| topic.name == name).ok_or_else(|| Error::TopicByName(name.to_owned()))?;
    let target = Target::parse(&format!("#{}", topic.id)).ok_or(Error::TopicsUnavailable(Code::Malformed))?;
    Ok(Resolved { target, name: Some(format!("#{name}")), online: None })
}
