//! Files of another host, and directories of another user.

use std::os::unix::fs::{PermissionsExt, chown, symlink};

use super::*;

/// A home whose files another host wrote.
fn cloned() -> Home {
    let home = Home::new();
    std::fs::create_dir_all(home.join("daemon")).unwrap();
    let record = r#"{"schema_version":2,"fingerprint":"0","host_id":"linux:elsewhere","stable_mac":"","written_at":""}"#;
    std::fs::write(home.join("daemon/host_fingerprint.json"), record).unwrap();
    home
}

/// Without an id nothing tells one machine from another, and there is nothing to test.
fn has_host_id() -> bool {
    ["/etc/machine-id", "/var/lib/dbus/machine-id"]
        .into_iter()
        .any(|path| std::fs::read_to_string(path).is_ok_and(|id| !id.trim().is_empty()))
}

#[test]
fn what_a_foreign_host_means_is_the_users_choice() {
    if !has_host_id() {
        return;
    }
    let home = cloned();
    let _quiet = Quiet(&home);
    let refused = run(&home, &["daemon", "up", "--foreground"]);
    assert_eq!(refused.status.code(), Some(4), "{refused:?}");
    assert!(refused.err.contains("linux:elsewhere") && refused.err.contains("daemon accept-host"), "{refused:?}");
    assert!(!home.join("config.json").exists(), "nothing is made on a host that the files are not for");
    for args in [&["up"][..], &["daemon", "restart"], &["up", "--clone-policy=refuse"]] {
        let refused = run(&home, args);
        assert_eq!(refused.status.code(), Some(4), "{args:?}: {refused:?}");
        assert!(refused.err.contains("different host"), "{args:?}: {refused:?}");
    }

    // The flag wins over the file, in both directions, and a detached start passes it on.
    settings(&home, r#"{"clonePolicy":"allow"}"#);
    let refused = run(&home, &["daemon", "up", "--foreground", "--clone-policy", "refuse"]);
    assert_eq!(refused.status.code(), Some(4), "{refused:?}");
    settings(&home, r#"{"clonePolicy":"refuse"}"#);
    up(&home, &["--clone-policy", "warn"]);
    assert!(log(&home).contains("continuing per [clone] policy=warn"), "{}", log(&home));
    assert!(run(&home, &["down"]).status.success());
    settings(&home, r#"{"clonePolicy":"allow"}"#);
    up(&home, &[]);
    assert!(run(&home, &["down"]).status.success());

    settings(&home, "{}");
    assert!(run(&home, &["daemon", "accept-host"]).status.success());
    up(&home, &[]);
    let wrong = run(&home, &["up", "--clone-policy", "perhaps"]);
    assert_eq!(wrong.status.code(), Some(3), "{wrong:?}");
}

#[test]
fn a_directory_that_is_a_link_is_refused() {
    let home = Home::new();
    std::fs::create_dir(home.join("elsewhere")).unwrap();
    symlink(home.join("elsewhere"), home.join("daemon")).unwrap();
    for args in [&["daemon", "up", "--foreground"][..], &["up"], &["peers"]] {
        let ended = run(&home, args);
        assert!(!ended.status.success() && ended.err.contains("is a symbolic link"), "{args:?}: {ended:?}");
    }
    assert_eq!(std::fs::read_dir(home.join("elsewhere")).unwrap().count(), 0, "nothing was put there");
}

#[test]
fn a_directory_of_another_user_is_refused() {
    let home = Home::new();
    std::fs::create_dir(home.join("daemon")).unwrap();
    if chown(home.join("daemon"), Some(65_534), None).is_err() {
        return; // only root can give files away
    }
    for args in [&["daemon", "up", "--foreground"][..], &["up"]] {
        let ended = run(&home, args);
        assert!(!ended.status.success() && ended.err.contains("belongs to another user (uid 65534)"), "{args:?}: {ended:?}");
    }
}

#[test]
fn what_others_could_read_is_closed_to_them() {
    let home = Home::new();
    let _quiet = Quiet(&home);
    settings(&home, "{}");
    for name in ["daemon", "sessions"] {
        std::fs::create_dir_all(home.join(name)).unwrap();
        std::fs::set_permissions(home.join(name), PermissionsExt::from_mode(0o755)).unwrap();
    }
    for name in ["config.json", "daemon/local-token", "daemon/settings.json"] {
        std::fs::write(home.join(name), if name == "config.json" { r#"{"version":1,"meshes":[]}"# } else { "{}" }).unwrap();
        std::fs::set_permissions(home.join(name), PermissionsExt::from_mode(0o644)).unwrap();
    }
    up(&home, &[]);
    for name in ["config.json", "daemon/local-token", "daemon/settings.json", "daemon/daemon.log", "daemon/daemon.pid"] {
        assert_eq!(mode(&home.join(name)), 0o600, "{name}");
    }
    assert_eq!((mode(&home.join("daemon")), mode(&home.join("sessions"))), (0o700, 0o700));
    assert!(log(&home).contains("others could read"), "{}", log(&home));
}

#[test]
fn the_place_of_the_keys_is_closed_to_others_and_its_readers_are_left_alone() {
    let home = Home::new();
    let _quiet = Quiet(&home);
    std::fs::set_permissions(home.path(), PermissionsExt::from_mode(0o777)).unwrap();
    // As a dotfile manager has it.
    std::fs::create_dir(home.join("dotfiles")).unwrap();
    let target = home.join("dotfiles/config.json");
    std::fs::write(&target, r#"{"version":1,"meshes":[]}"#).unwrap();
    std::fs::set_permissions(&target, PermissionsExt::from_mode(0o644)).unwrap();
    symlink(&target, home.join("config.json")).unwrap();
    settings(&home, r#"{"logMib":1}"#);
    up(&home, &[]);
    assert_eq!((mode(home.path()), mode(&target)), (0o755, 0o600));
    for text in ["others could write in", "others could read"] {
        assert!(log(&home).contains(text), "{text}: {}", log(&home));
    }
}

#[test]
fn keys_of_another_user_are_refused() {
    let refused = |home: &Home, part: &Path| {
        for args in [&["daemon", "up", "--foreground"][..], &["up"]] {
            let ended = run(home, args);
            assert!(!ended.status.success(), "{args:?}: {ended:?}");
            for text in [&format!("{} belongs to another user (uid 65534)", part.display()), "chown", "CLAUDEMESH_HOME"] {
                assert!(ended.err.contains(text), "{text}: {args:?}: {ended:?}");
            }
        }
    };
    let home = Home::new();
    if chown(home.path(), Some(65_534), None).is_err() {
        return; // only root can give files away
    }
    refused(&home, home.path());
    chown(home.path(), Some(rustix::process::geteuid().as_raw()), None).unwrap();
    let (config, target) = (home.join("config.json"), home.join("theirs"));
    for is_link in [false, true] {
        let file = if is_link { &target } else { &config };
        std::fs::write(file, r#"{"version":1,"meshes":[]}"#).unwrap();
        chown(file, Some(65_534), None).unwrap();
        if is_link {
            std::fs::remove_file(&config).unwrap();
            symlink(&target, &config).unwrap();
        }
        refused(&home, &config);
    }
}
