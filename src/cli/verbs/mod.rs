//! One file for each verb or small family: its row of the table, and what it does.

pub(super) mod broker;
pub(super) mod broker_admin;
pub(super) mod daemon;
pub(super) mod demo;
pub(super) mod down;
pub(super) mod generate;
pub(super) mod help;
pub(super) mod hook;
pub(super) mod inbox;
mod inbox_follow;
pub(super) mod inbox_remove;
pub(super) mod install;
pub(super) mod invite;
pub(super) mod join;
pub(super) mod launch;
pub(super) mod leave;
pub(super) mod list;
pub(super) mod mcp;
pub(super) mod mesh;
pub(super) mod memory;
pub(super) mod outbox;
pub(super) mod peers;
pub(super) mod profile;
mod refusal;
pub(super) mod send;
pub(super) mod service;
pub(super) mod skill;
pub(super) mod state;
pub(super) mod status;
pub(super) mod topic;
pub(super) mod up;
pub(super) mod version;
pub(super) mod whoami;

/// The words of a flag's value, which stand between commas.
fn words(value: Option<&str>) -> Vec<String> {
    value.into_iter().flat_map(|text| text.split(',')).map(str::trim).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}
