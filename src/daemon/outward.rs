//! What a session shows of itself on its mesh: status, summary, visibility, profile, groups. Kept here because a broker
//! forgets it with the connection; every new connection is told again.

use serde::{Deserialize, Serialize};

use crate::base::names::is_group_name;
use crate::wire::client::ClientFrame;
use crate::wire::peer::{Group, Reach, Status};
use crate::wire::profile::{JoinGroup, LeaveGroup, Profile, SetProfile, SetReach, SetStatus, SetSummary, SetVisible};

/// The whole of it. Absent parts were never set.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Outward {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) status: Option<Status>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) summary: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) visible: Option<bool>,
    #[serde(skip_serializing_if = "Profile::is_empty")]
    pub(super) profile: Profile,
    /// As it was seen; the next daemon sees for itself.
    #[serde(skip)]
    pub(super) reach: Option<Vec<Reach>>,
    /// Said in the hello; `sessions.json` keeps them in the reference's place for them.
    #[serde(skip)]
    pub(super) groups: Vec<Group>,
}

/// One thing a session wants to show otherwise from now on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Change {
    Status(Status),
    Summary(String),
    Visible(bool),
    Profile(Profile),
    Reach(Vec<Reach>),
    Join(Group),
    Leave(String),
}

impl Outward {
    /// Enters a group, or takes another role in it.
    fn join(&mut self, group: Group) {
        self.groups.retain(|known| known.name != group.name);
        self.groups.push(group);
    }

    pub(super) fn apply(&mut self, change: Change) {
        match change {
            Change::Status(status) => self.status = Some(status),
            Change::Summary(summary) => self.summary = Some(summary),
            Change::Visible(visible) => self.visible = Some(visible),
            Change::Profile(profile) => self.profile.update(profile),
            Change::Reach(reach) => self.reach = Some(reach),
            Change::Join(group) => self.join(group),
            Change::Leave(name) => self.groups.retain(|group| group.name != name),
        }
    }

    /// What is not said anew is as it was: a broker that knew this session before shows it so.
    pub(super) fn carry_over(&mut self, old: Outward) {
        self.status = self.status.or(old.status);
        self.summary = self.summary.take().or(old.summary);
        self.visible = self.visible.or(old.visible);
        let said = std::mem::replace(&mut self.profile, old.profile);
        self.profile.update(said);
    }

    /// What a connection must be told after its hello, which names the groups already.
    pub(super) fn frames(&self) -> Vec<ClientFrame> {
        let status = self.status.map(Change::Status);
        let summary = self.summary.clone().map(Change::Summary);
        let visible = self.visible.map(Change::Visible);
        let profile = Some(self.profile.clone()).filter(|profile| !profile.is_empty()).map(Change::Profile);
        let reach = self.reach.clone().map(Change::Reach);
        [status, summary, visible, profile, reach].into_iter().flatten().map(|change| change.frame(None)).collect()
    }
}

impl Change {
    /// The frame that tells a broker.
    pub(super) fn frame(self, req_id: Option<String>) -> ClientFrame {
        match self {
            Change::Status(status) => ClientFrame::SetStatus(SetStatus { status, req_id }),
            Change::Summary(summary) => ClientFrame::SetSummary(SetSummary { summary, req_id }),
            Change::Visible(visible) => ClientFrame::SetVisible(SetVisible { visible, req_id }),
            Change::Profile(profile) => ClientFrame::SetProfile(SetProfile { profile, req_id }),
            Change::Reach(reach) => ClientFrame::SetReach(SetReach { reach, req_id }),
            Change::Join(Group { name, role }) => ClientFrame::JoinGroup(JoinGroup { name, role, req_id }),
            Change::Leave(name) => ClientFrame::LeaveGroup(LeaveGroup { name, req_id }),
        }
    }
}

/// Longest role in a group, in bytes.
const MAX_ROLE: usize = 64;

/// Reads `@name` or `@name:role` (the `@` may be missing). `None` for a name that no group can have, or a role that does
/// not print.
pub(super) fn parse_group(text: &str) -> Option<Group> {
    let text = text.strip_prefix('@').unwrap_or(text);
    let (name, role) = match text.split_once(':') {
        Some((name, role)) => (name, Some(role.to_owned()).filter(|role| !role.is_empty())),
        None => (text, None),
    };
    let printable = role.as_deref().is_none_or(|role| role.len() <= MAX_ROLE && !role.contains(char::is_control));
    (is_group_name(name) && printable).then(|| Group { name: name.to_owned(), role })
}

/// A group as the local API spells it: `@name` or `@name:role`.
pub(super) fn group_text(group: &Group) -> String {
    match &group.role {
        Some(role) => format!("@{}:{role}", group.name),
        None => format!("@{}", group.name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_read_as_launch_writes_them() {
        let lead = Group { name: "eng".into(), role: Some("lead".into()) };
        assert_eq!(parse_group("@eng:lead"), Some(lead.clone()));
        assert_eq!(parse_group("eng"), Some(Group { name: "eng".into(), role: None }));
        assert_eq!(group_text(&lead), "@eng:lead");
        for bad in ["@o'neil", "", "@", "@eng:a\nb"] {
            assert_eq!(parse_group(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn what_is_not_said_anew_is_as_it_was() {
        let title = |title: &str| Profile { title: Some(title.into()), ..Profile::default() };
        let old = Outward {
            status: Some(Status::Dnd),
            summary: Some("parser".into()),
            visible: Some(false),
            profile: Profile { bio: Some("b".into()), ..title("a") },
            groups: vec![Group { name: "eng".into(), role: None }],
            ..Outward::default()
        };
        let mut new = Outward { summary: Some("lexer".into()), profile: title("c"), ..Outward::default() };
        new.carry_over(old);
        let said = (new.status, new.summary.as_deref(), new.visible, new.groups.len());
        assert_eq!(said, (Some(Status::Dnd), Some("lexer"), Some(false), 0), "groups come with each registration");
        assert_eq!(new.profile, Profile { bio: Some("b".into()), ..title("c") });
    }

    #[test]
    fn a_new_connection_is_told_what_was_set_and_nothing_else() {
        let mut outward = Outward::default();
        assert!(outward.frames().is_empty());
        let title = |title: &str| Profile { title: Some(title.into()), ..Profile::default() };
        for change in [
            Change::Summary("parser".into()),
            Change::Profile(title("a")),
            Change::Profile(Profile { bio: Some("b".into()), ..title("c") }),
            Change::Join(Group { name: "eng".into(), role: None }),
            Change::Join(Group { name: "eng".into(), role: Some("lead".into()) }),
            Change::Join(Group { name: "ops".into(), role: None }),
            Change::Leave("ops".into()),
            Change::Reach(vec![Reach::Turn]),
        ] {
            outward.apply(change);
        }
        assert_eq!(outward.groups, [Group { name: "eng".into(), role: Some("lead".into()) }]);
        let told: Vec<String> = outward.frames().iter().map(ClientFrame::encode).collect();
        let expected = [
            r#"{"type":"set_summary","summary":"parser"}"#,
            r#"{"type":"set_profile","title":"c","bio":"b"}"#,
            r#"{"type":"set_reach","reach":["turn"]}"#,
        ];
        assert_eq!(told, expected);
    }
}
