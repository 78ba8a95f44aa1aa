//! The frames of the larger families, each to its handler.

use crate::broker::Shared;
use crate::broker::conn::Seat;
use crate::net::ws::Outbox;
use crate::wire::client::ClientFrame;

use super::{admin, apikey, grant, keys, memory, receipts, schedule, skill, state, status, task, topic};

/// Serves one request of a family.
pub(in crate::broker) fn serve(shared: &Shared, seat: &Seat, frame: ClientFrame, out: &mut Outbox) {
    match frame {
        ClientFrame::SetState(ask) => state::set(shared, seat, ask, out),
        ClientFrame::GetState(ask) => state::get(shared, seat, ask, out),
        ClientFrame::ListState(ask) => state::list(shared, seat, ask, out),
        ClientFrame::Remember(ask) => memory::remember(shared, seat, ask, out),
        ClientFrame::Recall(ask) => memory::recall(shared, seat, ask, out),
        ClientFrame::Forget(ask) => memory::forget(shared, seat, ask, out),
        ClientFrame::ShareSkill(ask) => skill::share(shared, seat, ask, out),
        ClientFrame::ListSkills(ask) => skill::list(shared, seat, ask, out),
        ClientFrame::GetSkill(ask) => skill::get(shared, seat, ask, out),
        ClientFrame::RemoveSkill(ask) => skill::remove(shared, seat, ask, out),
        ClientFrame::TopicCreate(ask) => topic::create(shared, seat, ask, out),
        ClientFrame::TopicList(ask) => topic::list(shared, seat, ask, out),
        ClientFrame::TopicJoin(ask) => topic::join(shared, seat, ask, out),
        ClientFrame::TopicLeave(ask) => topic::leave(shared, seat, ask, out),
        ClientFrame::TopicMembers(ask) => topic::members(shared, seat, ask, out),
        ClientFrame::TopicHistory(ask) => topic::history(shared, seat, ask, out),
        ClientFrame::TopicMarkRead(ask) => topic::mark_read(shared, seat, ask, out),
        ClientFrame::SetGrants(ask) => grant::set(shared, seat, ask, out),
        ClientFrame::ListGrants(ask) => grant::list(shared, seat, ask, out),
        ClientFrame::Kick(ask) => admin::kick(shared, seat, ask, out),
        ClientFrame::Disconnect(ask) => admin::disconnect(shared, seat, ask, out),
        ClientFrame::Ban(ask) => admin::ban(shared, seat, ask, out),
        ClientFrame::Unban(ask) => admin::unban(shared, seat, ask, out),
        ClientFrame::ListBans(ask) => admin::list_bans(shared, seat, ask, out),
        ClientFrame::Schedule(ask) => schedule::add(shared, seat, ask, out),
        ClientFrame::ListScheduled(ask) => schedule::list(shared, seat, ask, out),
        ClientFrame::CancelScheduled(ask) => schedule::cancel(shared, seat, ask, out),
        ClientFrame::MessageStatus(ask) => status::status(shared, seat, ask, out),
        ClientFrame::CreateTask(ask) => task::create(shared, seat, ask, out),
        ClientFrame::ClaimTask(ask) => task::claim(shared, seat, ask, out),
        ClientFrame::CompleteTask(ask) => task::complete(shared, seat, ask, out),
        ClientFrame::ListTasks(ask) => task::list(shared, seat, ask, out),
        ClientFrame::KeyGet(ask) => keys::get(shared, seat, ask, out),
        ClientFrame::KeyPublish(ask) => keys::publish(shared, seat, ask, out),
        ClientFrame::KeySeal(ask) => keys::seal(shared, seat, ask, out),
        ClientFrame::KeyCheck(ask) => keys::check(shared, seat, ask, out),
        ClientFrame::Receipts(ask) => receipts::hand_in(shared, seat, ask, out),
        ClientFrame::ApikeyCreate(ask) => apikey::create(shared, seat, ask, out),
        ClientFrame::ApikeyList(ask) => apikey::list(shared, seat, ask, out),
        ClientFrame::ApikeyRevoke(ask) => apikey::revoke(shared, seat, ask, out),
        // The others have been served before.
        _ => {}
    }
}
