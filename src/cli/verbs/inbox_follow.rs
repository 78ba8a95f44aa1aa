//! `inbox --follow`: unread messages, then each new one. Events only say that something came; what is shown is what the
//! inbox holds as unread, so that a message which another way has shown already is not shown again.

use std::collections::BTreeSet;

use crate::base::exit::Exit;
use crate::cli::error::CliError;
use crate::cli::render::Out;
use crate::client::events::{self, Item, Lost};
use crate::client::{self, Client, InboxQuery, host};
use crate::wire::event::Event;
use crate::wire::ipc::InboxItem;

/// Rows of one listing; the most that the daemon gives.
const PAGE: u32 = 1000;

/// Shows what is like this.
pub(super) fn run(client: &Client, like: InboxQuery, out: &mut Out) -> Result<Exit, CliError> {
    let (events, stop) = events::subscribe(client, None);
    let _watch = host::on_end(move || stop.stop()).map_err(|err| CliError::io("signals can not be watched", err))?;
    let query = InboxQuery { limit: Some(PAGE), unread_only: true, mark_seen: false, ..like };
    let mut follower = Follower { client, query, shown: BTreeSet::new(), claimed: Vec::new(), lost: false };
    for item in events {
        match item {
            Item::Connected => follower.show_unread(out)?,
            Item::Event { event, .. } => {
                if let Event::Message(_) = *event {
                    follower.show_unread(out)?;
                }
            }
            Item::Lost(Lost::Failed(err @ client::Error::Refused { status: 401, .. })) => return Err(err.into()),
            Item::Lost(lost) => follower.note_loss(&lost, out)?,
        }
    }
    Ok(Exit::Success)
}

struct Follower<'a> {
    client: &'a Client,
    query: InboxQuery,
    /// Rows that were shown and that the daemon may still hold as unread: one page at most.
    shown: BTreeSet<String>,
    /// Those of them that are this command's alone.
    claimed: Vec<String>,
    /// The daemon is away, and that was said.
    lost: bool,
}

impl Follower<'_> {
    fn show_unread(&mut self, out: &mut Out) -> Result<(), CliError> {
        loop {
            let page = match self.client.inbox(&self.query) {
                Ok(page) => page,
                // The stream notices as well, and there is a next time once it is open again.
                Err(err) if is_passing(&err) => return Ok(()),
                Err(err) => return Err(err.into()),
            };
            let full = page.more || page.items.len() == usize::try_from(PAGE).unwrap_or(usize::MAX);
            let unread: BTreeSet<String> = page.items.iter().map(|item| item.id.clone()).collect();
            self.shown.retain(|id| unread.contains(id));
            let fresh: Vec<_> = page.items.into_iter().rev().filter(|item| !self.shown.contains(&item.id)).collect();
            if !self.claim(&fresh)? {
                return Ok(());
            }
            for item in &fresh {
                if out.is_json() {
                    out.json(item)?;
                } else {
                    super::inbox::show(item, self.query.mesh.is_none(), out)?;
                }
            }
            out.flush()?;
            self.lost = false;
            let any = !fresh.is_empty();
            self.shown.extend(fresh.into_iter().map(|item| item.id));
            if !self.mark()? || !full || !any {
                return Ok(());
            }
        }
    }

    /// Takes them for this command, so that no hook shows them meanwhile. False if the daemon can not be asked now.
    fn claim(&mut self, items: &[InboxItem]) -> Result<bool, CliError> {
        if items.is_empty() || self.client.token().is_none() {
            return Ok(true);
        }
        match self.client.claim_for_tool(items.iter().map(|item| item.id.clone()).collect(), false) {
            Ok(claimed) => self.claimed.extend(claimed),
            Err(err) if is_passing(&err) => return Ok(false),
            Err(err) => return Err(err.into()),
        }
        Ok(true)
    }

    /// Tells the daemon what was shown to its session. False when it could not be told now.
    fn mark(&mut self) -> Result<bool, CliError> {
        // From outside of any session the mail is only looked at: each session has still to see its own.
        if self.shown.is_empty() || self.client.token().is_none() {
            return Ok(true);
        }
        let ids: Vec<String> = self.shown.iter().cloned().collect();
        match self.client.read_by_tool(&ids, &self.claimed) {
            Ok(_) => {
                self.shown.clear();
                self.claimed.clear();
                Ok(true)
            }
            Err(err) if is_passing(&err) => Ok(false),
            Err(err) => Err(err.into()),
        }
    }

    fn note_loss(&mut self, lost: &Lost, out: &mut Out) -> Result<(), CliError> {
        if std::mem::replace(&mut self.lost, true) { Ok(()) } else { say_lost(lost, out) }
    }
}

/// Says why nothing comes for a while.
pub(super) fn say_lost(lost: &Lost, out: &mut Out) -> Result<(), CliError> {
    match lost {
        Lost::Lagged => Ok(()),
        Lost::Ended => out.remark("info the daemon stopped; waiting for it to return"),
        Lost::Failed(err) => out.remark(&format!("info {err}; waiting for the daemon")),
    }
}

/// Whether the same call may succeed later.
pub(super) fn is_passing(err: &client::Error) -> bool {
    match err {
        client::Error::NoDaemon(_)
        | client::Error::Gone { .. }
        | client::Error::Spawn(_)
        | client::Error::Timeout
        | client::Error::Io(_)
        | client::Error::Protocol(_) => true,
        client::Error::Refused { status, .. } => *status == 429 || 500 <= *status,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_asks_too_often_may_ask_again_and_whoever_asks_wrongly_may_not() {
        let refused = |status| client::Error::Refused { status, problem: Box::default() };
        assert_eq!([429, 502, 400, 403, 404].map(|status| is_passing(&refused(status))), [true, true, false, false, false]);
    }
}
