//! `daemon.log`, which whoever starts the daemon opens for it: it is put aside when it has grown large, and begun anew.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::sys::stdio;

/// Puts the log aside as `daemon.log.1` once it has more than `limit` bytes, if standard error goes there. The one of the
/// last time is replaced: there are never more than two.
pub(super) fn keep_small(path: &Path, limit: u64) {
    match stdio::errors_in(path) {
        Ok(Some(size)) if limit < size => match rotate(path) {
            Ok(()) => log::info!("the log had {size} bytes and was put aside as {}.1", path.display()),
            Err(err) => log::warn!("the log has {size} bytes and could not be put aside: {err}"),
        },
        Ok(_) => {}
        Err(err) => log::warn!("the log's size is not known: {err}"),
    }
}

fn rotate(path: &Path) -> io::Result<()> {
    let mut aside = path.as_os_str().to_owned();
    aside.push(".1");
    fs::rename(path, &aside)?;
    let begun =
        OpenOptions::new().append(true).create_new(true).mode(0o600).open(path).and_then(|file| stdio::move_errors(&file));
    if begun.is_err() {
        // What is written goes on to where it went before; under its old name it is tried again.
        fs::rename(&aside, path)?;
    }
    begun
}
