//! What would keep a daemon from starting, and whose the files are.

use std::os::unix::fs::{chown, symlink};

use super::*;

#[test]
fn what_would_keep_a_daemon_from_starting_is_named_and_not_that_it_does_not_run() {
    let home = Home::new();
    let _quiet = Quiet(&home);
    let patient = Patient::new(&home);
    fs::create_dir(home.join("elsewhere")).unwrap();
    mode(&home, "elsewhere", 0o700);
    symlink("elsewhere", home.join("daemon")).unwrap();
    patient.fix("daemon", "would not start");
    let (daemon, to) = (home.join("daemon"), home.join("elsewhere"));
    let (daemon, to) = (daemon.display(), to.display());
    patient.is_cured("permissions", "is a link to", &format!("rm {daemon} && mv {to} {daemon}"));

    fs::write(home.join("daemon/settings.json"), "{").unwrap();
    patient.fix("daemon", "would not start");
    fs::remove_file(home.join("daemon/settings.json")).unwrap();

    let record = r#"{"schema_version":2,"fingerprint":"0","host_id":"linux:elsewhere","stable_mac":"","written_at":""}"#;
    fs::write(home.join("daemon/host_fingerprint.json"), record).unwrap();
    let refused = patient.shell("claudemesh up");
    if refused.status.code() == Some(4) {
        let accept = patient.fix("daemon", "its files belong to another host");
        assert_eq!(accept, "claudemesh daemon accept-host");
        assert!(patient.shell(&accept).status.success());
        patient.is_cured("daemon", "does not run", "claudemesh up");
        assert!(patient.shell("claudemesh down").status.success());
    }

    let long = home.join(&"d".repeat(120));
    let long = format!("CLAUDEMESH_DAEMON_DIR={}", long.display());
    let up = patient.shell(&format!("{long} claudemesh up"));
    assert!(up.status.code() == Some(10) && up.err.contains("with CLAUDEMESH_DAEMON_DIR"), "{up:?}");
    let report = patient.shell(&format!("{long} claudemesh doctor"));
    assert!(report.out.contains("run: export CLAUDEMESH_DAEMON_DIR="), "{report:?}");
    assert!(!report.out.contains("claudemesh daemon restart"), "{report:?}");
}

#[test]
fn files_of_another_user_are_not_said_to_be_ones_own() {
    let home = Home::new();
    let patient = Patient::new(&home);
    fs::create_dir(home.join("daemon")).unwrap();
    if chown(home.join("daemon"), Some(65_534), None).is_err() {
        return; // only root can give files away
    }
    let daemon = home.join("daemon").display().to_string();
    for rights in [0o700, 0o755] {
        mode(&home, "daemon", rights);
        let fix = patient.fix("permissions", "another user owns");
        assert_eq!(fix, format!("sudo chown {} {daemon}", rustix::process::geteuid().as_raw()));
        patient.fix("daemon", "would not start");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_service_whose_program_is_gone_is_named() {
    let home = Home::new();
    let patient = Patient::new(&home);
    assert!(patient.is_well("service"), "none is no fault");
    script(&home, "systemctl", "exit 0");
    let _quiet = Quiet(&home);
    let unit = home.join("xdg/systemd/user/claudemesh-daemon.service");
    assert!(patient.shell("claudemesh daemon install-service").status.success());
    let whole = fs::read_to_string(&unit).unwrap();
    fs::write(&unit, whole.replace(CLAUDEMESH, "/gone/claudemesh")).unwrap();
    patient.is_cured("service", "/gone/claudemesh, which is not there", "claudemesh daemon install-service --now");
}
