//! The secret of a key for scripts: `cm_` and 32 random bytes. Whoever checks it keeps only its hash.

use super::fingerprint::sha256;
use super::{base64, random};
use crate::base::config::SecretText;
use crate::base::hex;

/// What every secret begins with.
const MARK: &str = "cm_";

/// Characters of a secret by which a person knows it again.
const PREFIX: usize = 11;

/// Such a secret. It does not print.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiSecret(SecretText);

impl ApiSecret {
    pub fn generate() -> ApiSecret {
        ApiSecret::of(random::bytes())
    }

    fn of(bytes: [u8; 32]) -> ApiSecret {
        ApiSecret(SecretText::new(format!("{MARK}{}", base64::encode_url(&bytes))))
    }

    /// Reads what a script presents; `None` for what can not be one.
    pub fn parse(text: &str) -> Option<ApiSecret> {
        let bytes: [u8; 32] = base64::decode_url(text.strip_prefix(MARK)?)?.try_into().ok()?;
        Some(ApiSecret::of(bytes))
    }

    /// The beginning, which lists show.
    pub fn prefix(&self) -> String {
        self.0.reveal().chars().take(PREFIX).collect()
    }

    /// What is kept: SHA-256 in hex. There are 256 random bits behind it, so that nothing slower is needed.
    pub fn hash(&self) -> String {
        hex::encode(&sha256(self.0.reveal().as_bytes()))
    }

    /// The secret itself, for the one answer that carries it.
    pub fn into_text(self) -> SecretText {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_what_the_reference_makes_and_keeps() {
        let secret = ApiSecret::of([11; 32]);
        assert_eq!(secret.clone().into_text().reveal(), "cm_CwsLCwsLCwsLCwsLCwsLCwsLCwsLCwsLCwsLCwsLCws");
        assert_eq!(secret.prefix(), "cm_CwsLCwsL");
        assert_eq!(secret.hash(), "681d570928ee19d23f2f3700b1918f7d11b0e72dae40388a61afb920852f0416");
        assert_eq!(ApiSecret::parse(secret.clone().into_text().reveal()), Some(secret.clone()));
        assert!(!format!("{secret:?}").contains("Cws"));
        assert_ne!(ApiSecret::generate(), ApiSecret::generate());
        for wrong in [
            "",
            "cm_",
            "CM_CwsLCwsLCwsLCwsLCwsLCwsLCwsLCwsLCwsLCwsLCws",
            "cm_CwsL",
            "cm_CwsLCwsLCwsLCwsLCwsLCwsLCwsLCwsLCwsLCwsLCwsL",
            "cm_\u{e9}",
        ] {
            assert_eq!(ApiSecret::parse(wrong), None, "{wrong}");
        }
    }
}
