//! Agreed keys between one of our identities and a peer. Agreeing costs a hundred times what sealing does, and a session
//! writes to the same few peers.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::base::ids::PublicKey;
use crate::crypto::keys::SecretKey;
use crate::crypto::sealed::{Channel, SealError};

/// Agreed keys kept at once; when full, all are wiped and agreed again as needed.
const CAPACITY: usize = 1024;

/// The cache. Guards only the map; agreeing happens outside.
#[derive(Default)]
pub(super) struct Channels {
    agreed: Mutex<HashMap<(PublicKey, PublicKey), Arc<Channel>>>,
}

impl std::fmt::Debug for Channels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Channels({})", self.lock().len())
    }
}

impl Channels {
    /// The channel between `ours` and `theirs`.
    pub(super) fn between(&self, ours: &SecretKey, theirs: &PublicKey) -> Result<Arc<Channel>, SealError> {
        let pair = (ours.public(), *theirs);
        if let Some(channel) = self.lock().get(&pair) {
            return Ok(channel.clone());
        }
        let channel = Arc::new(Channel::new(theirs, ours)?);
        let mut agreed = self.lock();
        if CAPACITY <= agreed.len() {
            agreed.clear();
        }
        agreed.insert(pair, channel.clone());
        Ok(channel)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(PublicKey, PublicKey), Arc<Channel>>> {
        self.agreed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
