//! The log keeps within its size, and settings are read again when the daemon is told to.

use super::*;

#[test]
fn a_large_log_is_put_aside() {
    let home = Home::new();
    let _quiet = Quiet(&home);
    settings(&home, r#"{"logMib":1}"#);
    let (log_file, aside) = (home.join("daemon/daemon.log"), home.join("daemon/daemon.log.1"));
    let large = "old\n".repeat(300_000);
    std::fs::write(&log_file, &large).unwrap();
    let pid = up(&home, &[]);
    assert!(std::fs::read_to_string(&aside).unwrap().starts_with(&large), "at the start");
    assert!(log(&home).contains("was put aside"), "{}", log(&home));

    // While it runs, too; one generation is kept.
    std::fs::OpenOptions::new().append(true).open(&log_file).unwrap().write_all("new\n".repeat(300_000).as_bytes()).unwrap();
    until("the log is put aside again", || std::fs::read_to_string(&aside).unwrap().contains("new\n").then_some(()));
    assert!(!std::fs::read_to_string(&aside).unwrap().contains("old\n"));
    signal(pid, rustix::process::Signal::HUP);
    await_log(&home, "are read again");
    assert_eq!((mode(&log_file), mode(&aside)), (0o600, 0o600));
}

#[test]
fn a_log_that_is_not_the_daemons_own_is_left_alone() {
    let home = Home::new();
    settings(&home, r#"{"logMib":1}"#);
    let large = "old\n".repeat(300_000);
    std::fs::write(home.join("daemon/daemon.log"), &large).unwrap();
    let daemon = Process::spawn(home.command(&["daemon", "up", "--foreground"]));
    assert!(daemon.line().is_some(), "{}", daemon.errors());
    assert_eq!(log(&home), large);
    assert!(!home.join("daemon/daemon.log.1").exists());
}

#[test]
fn settings_are_read_again_and_mistakes_change_nothing() {
    let home = Home::new();
    let _quiet = Quiet(&home);
    settings(&home, r#"{"logMib":1}"#);
    let pid = up(&home, &[]);
    settings(&home, r#"{"logMib":0}"#);
    signal(pid, rustix::process::Signal::HUP);
    await_log(&home, "logMib must be at least 1; the settings stay as they were");
    // The old limit still holds.
    let log_file = home.join("daemon/daemon.log");
    std::fs::OpenOptions::new().append(true).open(&log_file).unwrap().write_all(&vec![b'\n'; 1 << 20]).unwrap();
    until("the log is put aside", || home.join("daemon/daemon.log.1").exists().then_some(()));

    settings(&home, r#"{"logMib":2}"#);
    signal(pid, rustix::process::Signal::HUP);
    await_log(&home, "are read again");
    // A broken settings file found at the start is another matter: nothing holds that could go on holding.
    assert!(run(&home, &["down"]).status.success());
    settings(&home, "{");
    let ended = run(&home, &["up"]);
    assert!(!ended.status.success() && ended.err.contains("settings.json is not what settings look like"), "{ended:?}");
}
