//! The long-lived processes: a daemon and a broker that can be killed and started again where they were.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::home::command_in;
use super::http::{self, Reply};
use super::process::{Ended, Process};
use super::sandbox::Sandbox;
use super::wait::Gate;

/// A child that says one line of JSON when it is ready.
#[derive(Debug)]
struct Server {
    process: Option<Process>,
    /// Opened at every start, so that clients need not guess when to try again.
    up: Gate,
}

impl Server {
    fn new() -> Server {
        Server { process: None, up: Gate::default() }
    }

    #[track_caller]
    fn run(&mut self, command: Command, args: &[&str]) -> Value {
        self.try_run(command).unwrap_or_else(|ended| panic!("{args:?} ended at once:\n{}", ended.err))
    }

    /// How it ended, if it did before it was ready.
    #[track_caller]
    fn try_run(&mut self, command: Command) -> Result<Value, Ended> {
        assert!(self.process.is_none(), "it runs already");
        let process = Process::spawn(command);
        let Some(line) = process.line() else { return Err(process.finish()) };
        let ready = serde_json::from_str(&line).unwrap_or_else(|err| panic!("{err} in {line:?}"));
        self.process = Some(process);
        self.up.open();
        Ok(ready)
    }

    fn running(&self) -> &Process {
        self.process.as_ref().expect("it runs")
    }

    fn kill(&mut self) {
        self.process.take().expect("it runs").kill();
    }

    fn terminate(&mut self) -> Ended {
        let process = self.process.take().expect("it runs");
        process.signal(rustix::process::Signal::TERM);
        process.finish()
    }
}

/// A daemon of one home.
#[derive(Debug)]
pub(crate) struct Daemon {
    home: PathBuf,
    server: Server,
    /// What it said when it was ready.
    pub(crate) ready: Value,
    /// What it is started through, and where its socket is seen from here, when it runs in a sandbox.
    sandboxed: Option<(Vec<String>, PathBuf)>,
}

/// The command that is a daemon.
const UP: [&str; 3] = ["daemon", "up", "--foreground"];

impl Daemon {
    #[track_caller]
    pub(crate) fn start(home: &Path) -> Daemon {
        let mut daemon = Daemon { home: home.to_owned(), server: Server::new(), ready: Value::Null, sandboxed: None };
        daemon.restart();
        daemon
    }

    /// A daemon that sees the file systems of a sandbox.
    #[track_caller]
    pub(crate) fn start_in(sandbox: &Sandbox, home: &Path) -> Daemon {
        let sandboxed = Some((sandbox.prefix(), sandbox.path(&home.join("daemon/daemon.sock"))));
        let mut daemon = Daemon { home: home.to_owned(), server: Server::new(), ready: Value::Null, sandboxed };
        daemon.restart();
        daemon
    }

    #[track_caller]
    pub(crate) fn restart(&mut self) {
        let command = Daemon::command(&self.home, self.sandboxed.as_ref().map(|(prefix, _)| prefix.as_slice()));
        self.ready = self.server.run(command, &UP);
    }

    fn command(home: &Path, prefix: Option<&[String]>) -> Command {
        prefixed(command_in(home, &UP), home, prefix)
    }

    /// A daemon that may refuse to start: then how it ended.
    pub(crate) fn try_start(home: &Path) -> Result<Daemon, Ended> {
        let mut daemon = Daemon { home: home.to_owned(), server: Server::new(), ready: Value::Null, sandboxed: None };
        daemon.try_restart().map(|()| daemon)
    }

    /// As [`Daemon::restart`], for one that may refuse to start: then how it ended.
    pub(crate) fn try_restart(&mut self) -> Result<(), Ended> {
        let command = Daemon::command(&self.home, self.sandboxed.as_ref().map(|(prefix, _)| prefix.as_slice()));
        self.ready = self.server.try_run(command)?;
        Ok(())
    }

    /// Starts it, if it does not run.
    #[track_caller]
    pub(crate) fn ensure(&mut self) {
        if self.server.process.is_none() {
            self.restart();
        }
    }

    /// Starts a daemon that is expected to refuse; how it ended.
    #[track_caller]
    pub(crate) fn refused(home: &Path, sandbox: Option<&Sandbox>) -> Ended {
        let prefix = sandbox.map(Sandbox::prefix);
        let ended = Process::run(Daemon::command(home, prefix.as_deref()));
        assert!(!ended.status.success() && ended.out.is_empty(), "it started: {ended:?}");
        ended
    }

    /// Waits for it to end by itself.
    #[track_caller]
    pub(crate) fn ended(&mut self) -> Ended {
        self.server.process.take().expect("it runs").finish()
    }

    pub(crate) fn kill(&mut self) {
        self.server.kill();
    }

    /// SIGTERM, and waits.
    pub(crate) fn terminate(&mut self) -> Ended {
        self.server.terminate()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.server.running().pid()
    }

    pub(crate) fn up(&self) -> Gate {
        self.server.up.clone()
    }

    pub(crate) fn socket(&self) -> PathBuf {
        match &self.sandboxed {
            Some((_, socket)) => socket.clone(),
            None => self.home.join("daemon/daemon.sock"),
        }
    }

    #[track_caller]
    pub(crate) fn get(&self, path: &str) -> Reply {
        self.try_get(path).expect("the daemon answers")
    }

    /// As [`Daemon::get`], for one that may have ended.
    pub(crate) fn try_get(&self, path: &str) -> io::Result<Reply> {
        http::request(&self.socket(), "GET", path, &[], None)
    }

    #[track_caller]
    pub(crate) fn assert_healthy(&self) {
        let health = self.get("/v1/health");
        assert_eq!((health.status, health.json()["ok"].as_bool()), (200, Some(true)), "{health:?}");
    }

    /// What it logged since it was started.
    pub(crate) fn log(&self) -> String {
        self.server.running().errors()
    }
}

/// `plain`, started through another program.
fn prefixed(plain: Command, dir: &Path, prefix: Option<&[String]>) -> Command {
    let Some([first, rest @ ..]) = prefix else { return plain };
    let mut command = Command::new(first);
    command.args(rest).arg(plain.get_program()).args(plain.get_args()).current_dir(dir);
    for (name, value) in plain.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command
}

/// A broker that stands alone.
#[derive(Debug)]
pub(crate) struct Broker {
    data: PathBuf,
    server: Server,
    prefix: Option<Vec<String>>,
    /// `127.0.0.1:PORT`, the same after a restart.
    pub(crate) address: String,
}

impl Broker {
    #[track_caller]
    pub(crate) fn start(data: &Path) -> Broker {
        Broker::start_through(data, None)
    }

    /// A broker that sees the file systems of a sandbox.
    #[track_caller]
    pub(crate) fn start_in(sandbox: &Sandbox, data: &Path) -> Broker {
        Broker::start_through(data, Some(sandbox.prefix()))
    }

    #[track_caller]
    fn start_through(data: &Path, prefix: Option<Vec<String>>) -> Broker {
        let mut broker = Broker { data: data.to_owned(), server: Server::new(), prefix, address: "127.0.0.1:0".to_owned() };
        broker.restart();
        broker
    }

    #[track_caller]
    pub(crate) fn restart(&mut self) {
        let data = self.data.to_str().expect("a scratch path is text");
        let args = ["broker", "--listen", &self.address, "--data", data];
        let ready = self.server.run(prefixed(command_in(&self.data, &args), &self.data, self.prefix.as_deref()), &args);
        ready["listen"].as_str().expect("the broker says where it listens").clone_into(&mut self.address);
    }

    pub(crate) fn kill(&mut self) {
        self.server.kill();
    }

    /// SIGTERM, and waits.
    pub(crate) fn terminate(&mut self) -> Ended {
        self.server.terminate()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.server.running().pid()
    }

    pub(crate) fn url(&self) -> String {
        format!("ws://{}/ws", self.address)
    }

    #[track_caller]
    pub(crate) fn assert_healthy(&self) {
        let health = http::get_tcp(&self.address, "/health").expect("the broker answers");
        assert_eq!(health.status, 200, "{health:?}");
    }

    /// What it logged since it was started.
    pub(crate) fn log(&self) -> String {
        self.server.running().errors()
    }
}
