//! The long-lived processes: a daemon and a broker that can be killed and started again where they were.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::home::command_in;
use super::http::{self, Reply};
use super::process::{Ended, Process};
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
    fn start(&mut self, home: &Path, args: &[&str]) -> Value {
        assert!(self.process.is_none(), "it runs already");
        let process = Process::spawn(command_in(home, args));
        let Some(line) = process.line() else { panic!("{args:?} ended at once:\n{}", process.errors()) };
        let ready = serde_json::from_str(&line).unwrap_or_else(|err| panic!("{err} in {line:?}"));
        self.process = Some(process);
        self.up.open();
        ready
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
}

impl Daemon {
    #[track_caller]
    pub(crate) fn start(home: &Path) -> Daemon {
        let mut daemon = Daemon { home: home.to_owned(), server: Server::new(), ready: Value::Null };
        daemon.restart();
        daemon
    }

    #[track_caller]
    pub(crate) fn restart(&mut self) {
        self.ready = self.server.start(&self.home, &["daemon", "up", "--foreground"]);
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
        self.home.join("daemon/daemon.sock")
    }

    #[track_caller]
    pub(crate) fn get(&self, path: &str) -> Reply {
        http::request(&self.socket(), "GET", path, &[], None).expect("the daemon answers")
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

/// A broker that stands alone.
#[derive(Debug)]
pub(crate) struct Broker {
    data: PathBuf,
    server: Server,
    /// `127.0.0.1:PORT`, the same after a restart.
    pub(crate) address: String,
}

impl Broker {
    #[track_caller]
    pub(crate) fn start(data: &Path) -> Broker {
        let mut broker = Broker { data: data.to_owned(), server: Server::new(), address: "127.0.0.1:0".to_owned() };
        broker.restart();
        broker
    }

    #[track_caller]
    pub(crate) fn restart(&mut self) {
        let data = self.data.to_str().expect("a scratch path is text");
        let ready = self.server.start(&self.data, &["broker", "--listen", &self.address, "--data", data]);
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
}
