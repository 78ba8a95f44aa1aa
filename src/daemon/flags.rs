//! What whoever started the daemon wants otherwise than its settings say: for as long as it runs, and when it is started again.

use crate::base::settings::{ClonePolicy, Settings};

/// The flags of `up`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Flags {
    pub clone_policy: Option<ClonePolicy>,
    pub tcp: Option<u16>,
    pub no_tcp: bool,
    pub public_health: bool,
}

impl Flags {
    /// The settings with these on top of them.
    pub(super) fn over(&self, mut settings: Settings) -> Settings {
        settings.clone_policy = self.clone_policy.unwrap_or(settings.clone_policy);
        settings.tcp_port = if self.no_tcp { None } else { self.tcp.or(settings.tcp_port) };
        settings.public_health |= self.public_health;
        settings
    }

    /// As they are typed.
    pub fn texts(&self) -> Vec<String> {
        let clone_policy = self.clone_policy.map(|policy| format!("--clone-policy={}", policy.as_str()));
        let tcp = self.tcp.map(|port| format!("--tcp={port}"));
        let no_tcp = self.no_tcp.then(|| "--no-tcp".to_owned());
        let public_health = self.public_health.then(|| "--public-health".to_owned());
        [clone_policy, tcp, no_tcp, public_health].into_iter().flatten().collect()
    }
}
