//! A command at a terminal, with somebody there who types.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::process::{Command, ExitStatus};
use std::sync::mpsc::channel;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::support::wait::PATIENCE;

/// Runs the command to its end at a terminal where `typed` has been typed ahead, and says what was to be read there.
#[track_caller]
pub(super) fn run_at_terminal(mut command: Command, typed: &str) -> (ExitStatus, String) {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
    let terminal = OpenOptions::new().read(true).write(true).open(name).unwrap();
    let mut master = File::from(master);
    master.write_all(typed.as_bytes()).unwrap();
    command.stdin(terminal.try_clone().unwrap()).stdout(terminal.try_clone().unwrap()).stderr(terminal);
    let mut child = command.spawn().unwrap();
    // Its copies of the terminal: with the last one the reading ends.
    drop(command);
    let (sender, whole) = channel();
    std::thread::spawn(move || {
        let (mut seen, mut piece) = (Vec::new(), [0; 1024]);
        // The end is an error here, not an empty read.
        while let Ok(count @ 1..) = master.read(&mut piece) {
            seen.extend_from_slice(&piece[..count]);
        }
        sender.send(String::from_utf8_lossy(&seen).into_owned())
    });
    let seen = whole.recv_timeout(PATIENCE).expect("the command ends and leaves the terminal");
    (child.wait().unwrap(), seen)
}
