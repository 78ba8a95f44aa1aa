//! Telling the service manager how we are: sd_notify(3), the datagrams to `$NOTIFY_SOCKET`.

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// What the manager is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Ready,
    /// Configuration is being read again; `Ready` follows. The manager wants CLOCK_MONOTONIC with it.
    Reloading,
    Stopping,
    /// Still alive.
    Watchdog,
    /// The start has failed, and this process ends only after so long: the manager would start the next at once.
    HoldingOff(Duration),
}

/// A manager that is told to wait waits this much longer than that.
const SPARE: Duration = Duration::from_secs(30);

/// Tells the manager. `Ok(false)`: there is none. Never blocks: a manager that does not read is an error.
pub fn notify(state: State) -> io::Result<bool> {
    match env::var_os("NOTIFY_SOCKET") {
        Some(socket) if !socket.is_empty() => send(&socket, state).map(|()| true),
        _ => Ok(false),
    }
}

fn send(socket: &OsStr, state: State) -> io::Result<()> {
    let sender = UnixDatagram::unbound()?;
    sender.set_nonblocking(true)?;
    sender.send_to_addr(message(state).as_bytes(), &address(socket)?)?;
    Ok(())
}

fn address(socket: &OsStr) -> io::Result<SocketAddr> {
    match socket.as_bytes() {
        [b'/', ..] => SocketAddr::from_pathname(socket),
        #[cfg(any(target_os = "linux", target_os = "android"))]
        [b'@', name @ ..] => {
            use std::os::linux::net::SocketAddrExt;
            SocketAddr::from_abstract_name(name)
        }
        _ => Err(io::Error::new(io::ErrorKind::Unsupported, "NOTIFY_SOCKET is neither a path nor an abstract name")),
    }
}

fn message(state: State) -> String {
    match state {
        State::Ready => "READY=1".to_owned(),
        State::Reloading => {
            let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
            format!("RELOADING=1\nMONOTONIC_USEC={}", now.tv_sec * 1_000_000 + now.tv_nsec / 1000)
        }
        State::Stopping => "STOPPING=1".to_owned(),
        State::Watchdog => "WATCHDOG=1".to_owned(),
        State::HoldingOff(delay) => format!(
            "EXTEND_TIMEOUT_USEC={}\nSTATUS=The start failed, as the log says; the next attempt is in {} s.",
            (delay + SPARE).as_micros(),
            delay.as_secs()
        ),
    }
}

/// How often the manager wants to hear `Watchdog`, if it does: half of what it allows, as sd_watchdog_enabled(3)
/// recommends.
pub fn watchdog_interval() -> Option<Duration> {
    let text = |name| env::var(name).ok();
    interval(text("WATCHDOG_USEC").as_deref(), text("WATCHDOG_PID").as_deref(), std::process::id())
}

fn interval(usec: Option<&str>, pid: Option<&str>, me: u32) -> Option<Duration> {
    if pid.is_some_and(|pid| pid.parse() != Ok(me)) {
        return None; // meant for another process that left us its environment
    }
    let usec: u64 = usec?.parse().ok()?;
    (1 < usec).then(|| Duration::from_micros(usec / 2))
}

#[cfg(test)]
mod tests {
    use tempfile::tempdir;

    use super::*;

    #[test]
    fn reaches_a_path() {
        let dir = tempdir().unwrap();
        let path = dir.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        send(path.as_os_str(), State::Ready).unwrap();
        send(path.as_os_str(), State::Reloading).unwrap();
        let mut buf = [0; 128];
        let read = manager.recv(&mut buf).unwrap();
        assert_eq!(&buf[..read], b"READY=1");
        let read = manager.recv(&mut buf).unwrap();
        let text = std::str::from_utf8(&buf[..read]).unwrap();
        assert!(text.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").is_some_and(|usec| usec.parse::<u64>().is_ok()), "{text}");
        std::fs::remove_file(&path).unwrap();
        assert!(send(path.as_os_str(), State::Ready).is_err());
        assert!(send(OsStr::new("vsock:2:1"), State::Ready).is_err());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn reaches_an_abstract_name() {
        use std::os::linux::net::SocketAddrExt;
        let name = format!("claudemesh-notify-{}", std::process::id());
        let manager = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        send(OsStr::new(&format!("@{name}")), State::Stopping).unwrap();
        let mut buf = [0; 128];
        let read = manager.recv(&mut buf).unwrap();
        assert_eq!(&buf[..read], b"STOPPING=1");
    }

    #[test]
    fn the_watchdog_is_ours_or_not_at_all() {
        let second = Some(Duration::from_millis(500));
        for (usec, pid, expect) in [
            (Some("1000000"), None, second),
            (Some("1000000"), Some("7"), second),
            (Some("1000000"), Some("8"), None),
            (Some("1000000"), Some("x"), None),
            (Some("0"), None, None),
            (Some("soon"), None, None),
            (None, Some("7"), None),
        ] {
            assert_eq!(interval(usec, pid, 7), expect, "{usec:?} {pid:?}");
        }
    }
}
