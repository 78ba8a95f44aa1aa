//! Reading the inbox with a command, as one more path into the model.

use crate::wire::ipc::{Claim, Path as DeliveryPath};

use super::{Client, Error};

impl Client {
    /// Takes these for a command that is about to show them, so that no hook does meanwhile. Returns which it got: the others
    /// were offered before, or another path has them. A daemon that knows no claims gives none.
    pub fn claim_for_tool(&self, ids: Vec<String>, watched: bool) -> Result<Vec<String>, Error> {
        match self.claim(&Claim { ids: Some(ids), watched, ..Claim::of(DeliveryPath::Tool) }) {
            Ok(claimed) => Ok(claimed.items.into_iter().map(|item| item.id).collect()),
            Err(Error::Refused { status: 404, .. }) => Ok(Vec::new()),
            Err(err) => Err(err),
        }
    }

    /// Notes that the session read these with a command, `claimed` among them.
    pub fn read_by_tool(&self, ids: &[String], claimed: &[String]) -> Result<(), Error> {
        if !claimed.is_empty() {
            self.offered(DeliveryPath::Tool, claimed)?;
        }
        let rest: Vec<String> = ids.iter().filter(|id| !claimed.contains(id)).cloned().collect();
        if rest.is_empty() { Ok(()) } else { self.mark_seen(&rest).map(drop) }
    }
}
