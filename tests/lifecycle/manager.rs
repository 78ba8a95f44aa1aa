//! What a service manager is told, over a real notification socket.

use std::os::unix::net::UnixDatagram;
use std::sync::mpsc::{Receiver, channel};

use super::*;

/// The manager's side of `NOTIFY_SOCKET`.
struct Manager {
    path: std::path::PathBuf,
    heard: Receiver<String>,
}

impl Manager {
    fn new(home: &Home) -> Manager {
        let path = home.join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        let (sender, heard) = channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 512];
            while let Ok(count) = socket.recv(&mut buffer) {
                if sender.send(String::from_utf8_lossy(&buffer[..count]).into_owned()).is_err() {
                    return;
                }
            }
        });
        Manager { path, heard }
    }

    fn service(&self, home: &Home) -> Command {
        let mut command = home.command(&["daemon", "up", "--foreground"]);
        command.env("NOTIFY_SOCKET", &self.path);
        command
    }

    /// Reads on until something begins so.
    #[track_caller]
    fn await_word(&self, word: &str) -> String {
        loop {
            let heard = self.heard.recv_timeout(PATIENCE).unwrap_or_else(|err| panic!("{word}: {err}"));
            if heard.starts_with(word) {
                return heard;
            }
        }
    }
}

#[test]
fn the_manager_hears_of_every_change() {
    let home = Home::new();
    let manager = Manager::new(&home);
    let daemon = Process::spawn(manager.service(&home));
    assert_eq!(manager.heard.recv_timeout(PATIENCE).unwrap(), "READY=1");
    assert!(daemon.line().is_some());
    // Ready means that it answers.
    UnixStream::connect(home.socket()).unwrap();

    daemon.signal(rustix::process::Signal::HUP);
    let reloading = manager.heard.recv_timeout(PATIENCE).unwrap();
    assert!(reloading.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{reloading}");
    assert_eq!(manager.heard.recv_timeout(PATIENCE).unwrap(), "READY=1");

    daemon.signal(rustix::process::Signal::TERM);
    assert_eq!(manager.heard.recv_timeout(PATIENCE).unwrap(), "STOPPING=1");
    let ended = daemon.finish();
    assert!(ended.status.success(), "{ended:?}");
    // No watchdog was asked for, so none was fed.
    assert!(manager.heard.try_recv().is_err());
}

#[test]
fn the_watchdog_is_fed_while_the_databases_answer() {
    let home = Home::new();
    let manager = Manager::new(&home);
    let mut service = manager.service(&home);
    service.env("WATCHDOG_USEC", "100000");
    let daemon = Process::spawn(service);
    for _ in 0..3 {
        manager.await_word("WATCHDOG=1");
    }
    daemon.signal(rustix::process::Signal::TERM);
    assert!(daemon.finish().status.success());
    // Meant for another process, which left its environment behind.
    let mut service = manager.service(&home);
    service.env("WATCHDOG_USEC", "100000").env("WATCHDOG_PID", "1");
    let daemon = Process::spawn(service);
    manager.await_word("READY=1");
    daemon.signal(rustix::process::Signal::TERM);
    assert!(daemon.finish().status.success());
    assert_eq!(manager.heard.try_iter().filter(|heard| heard.starts_with("WATCHDOG")).count(), 0);
}

#[test]
fn a_start_that_fails_again_and_again_is_tried_ever_less_often() {
    let home = Home::new();
    let _quiet = Quiet(&home);
    let manager = Manager::new(&home);
    settings(&home, "{");
    let failing = || {
        let mut service = manager.service(&home);
        service.env("INVOCATION_ID", "0");
        service.env_remove("SYSTEMD_EXEC_PID");
        Process::spawn(service)
    };
    for (spared, delay) in [(33, 3), (36, 6), (42, 12)] {
        let daemon = failing();
        let said = manager.heard.recv_timeout(PATIENCE).unwrap();
        assert!(said.starts_with(&format!("EXTEND_TIMEOUT_USEC={spared}000000\nSTATUS=")), "{said}");
        assert!(said.contains(&format!("in {delay} s")), "{said}");
        // It does not outstay being told to end, and its status says that it never started.
        daemon.signal(rustix::process::Signal::TERM);
        let ended = daemon.finish();
        assert_eq!(ended.status.code(), Some(1), "{ended:?}");
        assert!(ended.err.lines().last().is_some_and(|line| line.contains("settings.json is not")), "{ended:?}");
    }
    let daemon = failing();
    manager.await_word("EXTEND_TIMEOUT_USEC=54000000");
    // What is put right by hand need not wait for it, and ends the count.
    settings(&home, "{}");
    up(&home, &[]);
    assert!(!home.join("daemon/.start-failures").exists());
    assert!(run(&home, &["down"]).status.success());
    daemon.signal(rustix::process::Signal::TERM);
    assert!(!daemon.finish().status.success());
    // Without a manager nobody waits.
    settings(&home, "{");
    assert_eq!(run(&home, &["daemon", "up", "--foreground"]).status.code(), Some(1));
    assert!(!home.join("daemon/.start-failures").exists() && manager.heard.try_recv().is_err());
}

#[test]
fn a_daemon_that_starts_and_can_not_go_on_is_started_ever_less_often_as_well() {
    let home = Home::new();
    let manager = Manager::new(&home);
    for delay in [3, 6, 12] {
        let mut service = manager.service(&home);
        service.env("INVOCATION_ID", "0").env_remove("SYSTEMD_EXEC_PID");
        let daemon = Process::spawn(service);
        manager.await_word("READY=1");
        std::fs::remove_file(home.join("daemon/outbox.db")).unwrap();
        let said = manager.await_word("EXTEND_TIMEOUT_USEC");
        assert!(said.contains(&format!("in {delay} s")), "{said}");
        daemon.signal(rustix::process::Signal::TERM);
        let ended = daemon.finish();
        assert!(!ended.status.success(), "{ended:?}");
        assert!(ended.err.contains("were taken away"), "{ended:?}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn what_holds_off_the_next_start_holds_nothing_else() {
    let home = Home::new();
    let manager = Manager::new(&home);
    // Everything is up by the time the socket can not be made.
    std::fs::create_dir_all(home.join("daemon/daemon.sock/in-the-way")).unwrap();
    let mut service = manager.service(&home);
    service.env("INVOCATION_ID", "0").env_remove("SYSTEMD_EXEC_PID");
    let daemon = Process::spawn(service);
    manager.await_word("EXTEND_TIMEOUT_USEC");
    until("the daemon to say why", || daemon.errors().contains("ipc listen failed").then_some(()));
    until("its threads to end", || {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", daemon.pid())).unwrap();
        let names = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
        let mut left = names.filter(|name| name.trim() != "signals" && !name.starts_with("claudemesh"));
        left.next().is_none().then_some(())
    });
    assert!(claudemesh::sys::lock::acquire(&home.join("daemon/daemon.pid"), &claudemesh::sys::lock::Beside::Nobody).is_ok());
    daemon.signal(rustix::process::Signal::TERM);
    assert_eq!(daemon.finish().status.code(), Some(1));
}
