//! A child process that is talked to in lines.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use super::wait::PATIENCE;

/// A running child: its output arrives line by line, and it is killed when this is dropped.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    /// Disconnected when standard error has been read to its end.
    errors_end: Receiver<()>,
    errors: Arc<Mutex<Vec<u8>>>,
}

/// How a command ended and what it wrote.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Process {
    #[track_caller]
    pub(crate) fn spawn(mut command: Command) -> Process {
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts");
        let (sender, lines) = channel();
        let out = BufReader::new(child.stdout.take().expect("stdout is a pipe"));
        std::thread::spawn(move || out.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        let errors = Arc::new(Mutex::new(Vec::new()));
        let mut err = child.stderr.take().expect("stderr is a pipe");
        let kept = errors.clone();
        let (reading, errors_end) = channel();
        std::thread::spawn(move || {
            let _reading = reading;
            let mut piece = [0; 4096];
            while let Ok(count @ 1..) = err.read(&mut piece) {
                kept.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&piece[..count]);
            }
        });
        Process { stdin: child.stdin.take(), child, lines, errors_end, errors }
    }

    /// Runs a command to its end.
    #[track_caller]
    pub(crate) fn run(command: Command) -> Ended {
        Process::spawn(command).finish()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The next line of output; `None` at its end.
    #[track_caller]
    pub(crate) fn line(&self) -> Option<String> {
        match self.lines.recv_timeout(PATIENCE) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("no line within {PATIENCE:?}; standard error:\n{}", self.errors()),
        }
    }

    pub(crate) fn say(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().expect("standard input is open");
        writeln!(stdin, "{line}").and_then(|()| stdin.flush()).expect("the program reads");
    }

    /// There is nothing more to say.
    pub(crate) fn close_input(&mut self) {
        self.stdin = None;
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        // It has not been waited for, so the number is still its own.
        let pid = rustix::process::Pid::from_raw(self.pid().cast_signed()).expect("a child's pid is positive");
        rustix::process::kill_process(pid, signal).expect("a child can be signalled");
    }

    /// SIGKILL, and gone when this returns.
    pub(crate) fn kill(mut self) {
        self.reap();
    }

    /// Closes its input and waits for its end.
    #[track_caller]
    pub(crate) fn finish(mut self) -> Ended {
        self.stdin = None;
        let end = Instant::now() + PATIENCE;
        let mut out = String::new();
        loop {
            match self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) => out.extend([line.as_str(), "\n"]),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("still running; it wrote {out:?} and {:?}", self.errors()),
            }
        }
        let status = self.child.wait().expect("a child can be waited for");
        // Something it started may hold its standard error; what was written by then is what counts.
        let _ = self.errors_end.recv_timeout(end.saturating_duration_since(Instant::now()));
        Ended { status, out, err: self.errors() }
    }

    pub(crate) fn errors(&self) -> String {
        String::from_utf8_lossy(&self.errors.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }

    fn reap(&mut self) {
        // Both fail only when it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.reap();
        if std::thread::panicking() {
            let errors = self.errors();
            let tail: Vec<&str> = errors.lines().rev().take(20).collect();
            eprintln!("-- last words of process {}:", self.pid());
            tail.iter().rev().for_each(|line| eprintln!("{line}"));
        }
    }
}

/// The memory that a process holds, in bytes, where the system tells.
pub(crate) fn resident(pid: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let kib: u64 = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib * 1024)
}
