//! What the members of a mesh share, show and allow each other, as somebody types it: real commands, daemons and a broker.

mod later;
mod order;
mod scripts;
mod shared;
mod topics;

use serde_json::Value;

use crate::support::home::Home;
use crate::support::process::{Ended, Process};
use crate::support::session::Session;

/// Whoever types: in which home, and in which session if in any.
#[derive(Clone, Copy)]
pub(crate) struct Typist<'a> {
    pub(crate) home: &'a Home,
    pub(crate) session: Option<&'a Session>,
}

impl Typist<'_> {
    pub(crate) fn run(&self, args: &[&str]) -> Ended {
        let mut command = self.home.command(args);
        command.env("CLAUDEMESH_INTERNAL_NO_AUTOSPAWN", "1");
        if let Some(session) = self.session {
            command.env("CLAUDEMESH_IPC_TOKEN", &session.token);
        }
        Process::run(command)
    }

    /// What it prints, if it ends well.
    #[track_caller]
    pub(crate) fn says(&self, args: &[&str]) -> String {
        let ended = self.run(args);
        assert!(ended.status.success(), "{args:?}: {ended:?}");
        ended.out
    }

    /// As [`Typist::says`], in JSON.
    #[track_caller]
    pub(crate) fn json(&self, args: &[&str]) -> Value {
        let mut all = args.to_vec();
        all.push("--json");
        let text = self.says(&all);
        serde_json::from_str(&text).unwrap_or_else(|err| panic!("{args:?}: {err}: {text}"))
    }

    /// Ends with this status, and says this on standard error.
    #[track_caller]
    pub(crate) fn fails(&self, args: &[&str], status: i32, part: &str) {
        let ended = self.run(args);
        assert_eq!(ended.status.code(), Some(status), "{args:?}: {ended:?}");
        assert!(ended.err.contains(part), "{args:?}: {ended:?}");
    }
}
