//! One file for each verb or small family: its row of the table, and what it does.

use super::error::CliError;
use super::spec::Flag;

pub(super) mod apikey;
pub(super) mod broker;
pub(super) mod broker_admin;
pub(super) mod daemon;
pub(super) mod demo;
pub(super) mod doctor;
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
pub(super) mod later;
pub(super) mod launch;
pub(super) mod leave;
pub(super) mod list;
pub(super) mod mcp;
pub(super) mod memory;
pub(super) mod mesh;
pub(super) mod message;
pub(super) mod order;
pub(super) mod outbox;
pub(super) mod peers;
pub(super) mod profile;
mod refusal;
pub(super) mod send;
pub(super) mod service;
pub(super) mod skill;
pub(super) mod state;
pub(super) mod status;
pub(super) mod status_line;
pub(super) mod topic;
pub(super) mod topic_tail;
pub(super) mod up;
pub(super) mod version;
pub(super) mod whoami;

/// The words of a flag's value, which stand between commas.
fn words(value: Option<&str>) -> Vec<String> {
    value.into_iter().flat_map(|text| text.split(',')).map(str::trim).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// A flag's length of time, as in `90s`, `30m`, `2h` or `1d`, in milliseconds.
fn millis(flag: &Flag, text: &str) -> Result<u64, CliError> {
    let units = [('s', 1_000), ('m', 60_000), ('h', 3_600_000), ('d', 86_400_000)];
    let read = || {
        let unit = units.iter().find(|(unit, _)| text.ends_with(*unit))?.1;
        text[..text.len() - 1].parse::<u64>().ok()?.checked_mul(unit).filter(|millis| 0 < *millis)
    };
    read().ok_or_else(|| CliError::usage(format!("{}: \"{text}\" is no length of time, as in 30m or 2h", flag.long)))
}
