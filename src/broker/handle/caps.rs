//! What a session may do that was launched with some rights only. A session that said nothing has all of them.

use crate::broker::seat::Seat;
use crate::wire::client::ClientFrame;
use crate::wire::grant::Capability;
use crate::wire::target::Target;

/// What a frame takes of a session.
enum Need {
    Nothing,
    These(&'static [Capability]),
    /// One of them is enough.
    AnyOf(&'static [Capability]),
    /// No list of rights has it: what it changes outlives the session, and is others'.
    Everything,
}

/// The rights of a hello, of those that there are: one that is not known here allows nothing.
pub(in crate::broker) fn read(words: &[String]) -> Vec<Capability> {
    words.iter().filter_map(|word| Capability::parse(word)).collect()
}

/// Why the session may not send there, if it may not.
pub(super) fn may_send(seat: &Seat, target: &Target) -> Result<(), String> {
    let need = if target.is_direct() { Capability::Dm } else { Capability::Broadcast };
    check(seat, &[need])
}

/// Why the session may not ask this, if it may not. Sends are looked at where they are addressed.
pub(in crate::broker) fn may_ask(seat: &Seat, frame: &ClientFrame) -> Result<(), String> {
    match need(frame) {
        Need::Nothing => Ok(()),
        Need::These(all) => check(seat, all),
        Need::AnyOf(some) => check_any(seat, some),
        Need::Everything if seat.caps.is_none() => Ok(()),
        Need::Everything => Err("this session was launched with some rights only, and none of them is for this".to_owned()),
    }
}

fn check(seat: &Seat, all: &[Capability]) -> Result<(), String> {
    let Some(caps) = &seat.caps else { return Ok(()) };
    match all.iter().find(|need| !caps.contains(need)) {
        None => Ok(()),
        Some(missing) => Err(format!("this session was launched without the right to {}", missing.as_str())),
    }
}

fn check_any(seat: &Seat, some: &[Capability]) -> Result<(), String> {
    if seat.caps.as_ref().is_none_or(|caps| some.iter().any(|one| caps.contains(one))) {
        return Ok(());
    }
    let some: Vec<&str> = some.iter().map(|one| one.as_str()).collect();
    Err(format!("this session was launched without the right to {}", some.join(" or ")))
}

/// Every frame has its place here, so that a new one is not allowed by being forgotten.
fn need(frame: &ClientFrame) -> Need {
    match frame {
        // To be connected, to be seen, and to take and open one's own mail. Sends are looked at where they are addressed.
        ClientFrame::Hello(_)
        | ClientFrame::SessionHello(_)
        | ClientFrame::Send(_)
        | ClientFrame::ClientAck(_)
        | ClientFrame::Receipts(_)
        | ClientFrame::TakeReceipts(_)
        | ClientFrame::MessageStatus(_)
        | ClientFrame::ListPeers(_)
        | ClientFrame::SetStatus(_)
        | ClientFrame::SetSummary(_)
        | ClientFrame::SetVisible(_)
        | ClientFrame::SetProfile(_)
        | ClientFrame::SetStats(_)
        | ClientFrame::SetReach(_)
        | ClientFrame::JoinGroup(_)
        | ClientFrame::LeaveGroup(_)
        | ClientFrame::KeyGet(_)
        | ClientFrame::KeyPublish(_)
        | ClientFrame::KeySeal(_)
        | ClientFrame::KeyCheck(_) => Need::Nothing,
        ClientFrame::GetState(_)
        | ClientFrame::ListState(_)
        | ClientFrame::Recall(_)
        | ClientFrame::ListSkills(_)
        | ClientFrame::GetSkill(_)
        | ClientFrame::ListTasks(_)
        | ClientFrame::ListScheduled(_)
        | ClientFrame::ListGrants(_)
        | ClientFrame::ListBans(_)
        | ClientFrame::TopicMembers(_)
        | ClientFrame::TopicHistory(_) => Need::These(&[Capability::StateRead]),
        // Whoever writes to a topic by its name looks for it here.
        ClientFrame::TopicList(_) => Need::AnyOf(&[Capability::StateRead, Capability::Broadcast]),
        // Whom it lets in or takes out outlives the session.
        ClientFrame::TopicJoin(ask) if ask.member.is_some() => Need::Everything,
        ClientFrame::TopicLeave(ask) if ask.member.is_some() => Need::Everything,
        ClientFrame::SetState(_)
        | ClientFrame::Remember(_)
        | ClientFrame::Forget(_)
        | ClientFrame::ShareSkill(_)
        | ClientFrame::RemoveSkill(_)
        | ClientFrame::CreateTask(_)
        | ClientFrame::ClaimTask(_)
        | ClientFrame::CompleteTask(_)
        | ClientFrame::TopicCreate(_)
        | ClientFrame::TopicJoin(_)
        | ClientFrame::TopicLeave(_)
        | ClientFrame::TopicMarkRead(_) => Need::These(&[Capability::StateWrite]),
        // It is sent in the member's name when its time has come, whatever became of the session.
        ClientFrame::Schedule(_) | ClientFrame::CancelScheduled(_) => Need::These(&[Capability::Dm, Capability::Broadcast]),
        // A key speaks for the member, with rights of its own: it would be a way around those of the session.
        ClientFrame::ApikeyCreate(_) | ClientFrame::ApikeyList(_) | ClientFrame::ApikeyRevoke(_) => Need::Everything,
        ClientFrame::SetGrants(_)
        | ClientFrame::Kick(_)
        | ClientFrame::Disconnect(_)
        | ClientFrame::Ban(_)
        | ClientFrame::Unban(_) => Need::Everything,
    }
}
