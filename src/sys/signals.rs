//! Signals as values: one thread, one callback, no handler code of our own.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread::{Builder, JoinHandle};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::{Handle, Signals};

/// A shell reports a process that a signal ended as 128 and the signal's number; so does a second signal here.
const KILLED: i32 = 128;

const STACK: usize = 64 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    Terminate,
    Interrupt,
    Hangup,
}

/// Delivers signals while it lives; dropping it ends the thread (the signals then do nothing).
#[derive(Debug)]
pub struct Watch {
    handle: Handle,
    thread: Option<JoinHandle<()>>,
}

/// Whether this process was started with SIGHUP ignored, as `nohup` does it. Where the system does not say, it was not. Asked
/// before [`watch`], which changes that.
pub fn outlives_terminal() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 == 1)
}

/// From here on SIGTERM, SIGINT and SIGHUP call `deliver` on a thread named `signals`. A second SIGTERM or SIGINT ends
/// the process at once with 128 and the signal's number. SIGPIPE stays ignored, as Rust starts every program.
pub fn watch(mut deliver: impl FnMut(Signal) + Send + 'static) -> io::Result<Watch> {
    let asked = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT] {
        // This order arms the exit on the first signal and takes it on the second.
        signal_hook::flag::register_conditional_shutdown(signal, KILLED + signal, asked.clone())?;
        signal_hook::flag::register(signal, asked.clone())?;
    }
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
    let handle = signals.handle();
    let thread = Builder::new().name("signals".to_owned()).stack_size(STACK).spawn(move || {
        for signal in signals.forever() {
            deliver(match signal {
                SIGTERM => Signal::Terminate,
                SIGINT => Signal::Interrupt,
                _ => Signal::Hangup,
            });
        }
    })?;
    Ok(Watch { handle, thread: Some(thread) })
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.handle.close();
        if let Some(thread) = self.thread.take() {
            // Its panic, if any, has been reported by the panic hook.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::sys::process::{Order, kill};

    #[test]
    fn delivers_what_the_process_is_sent() {
        let (tx, rx) = std::sync::mpsc::channel();
        let watch = watch(move |signal| tx.send(signal).unwrap()).unwrap();
        kill(std::process::id(), Order::Hangup).unwrap();
        assert_eq!(rx.recv_timeout(Duration::from_secs(5)), Ok(Signal::Hangup));
        kill(std::process::id(), Order::Terminate).unwrap();
        assert_eq!(rx.recv_timeout(Duration::from_secs(5)), Ok(Signal::Terminate));
        drop(watch);
        assert!(rx.recv_timeout(Duration::from_secs(5)).is_err(), "the thread is gone and with it the sender");
    }
}
