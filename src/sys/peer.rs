//! Who is at the other end of a Unix socket, as the kernel tells it.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

/// The user at the other end of a connection that came through the socket file at `socket`. Where the kernel's word can not be
/// had, the file's directory decides: through one that is ours and closed to everybody else, nobody else came.
pub fn user(stream: &UnixStream, socket: &Path) -> io::Result<u32> {
    match credentials(stream) {
        Ok(uid) => Ok(uid),
        Err(err) => by_directory(socket)?.ok_or(err),
    }
}

/// A peer in another pid namespace has no pid here, which rustix's type has no room for: it comes back as some error.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn credentials(stream: &UnixStream) -> io::Result<u32> {
    Ok(rustix::net::sockopt::socket_peercred(stream)?.uid.as_raw())
}

/// rustix knows no way to ask elsewhere.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn credentials(_stream: &UnixStream) -> io::Result<u32> {
    Err(io::ErrorKind::Unsupported.into())
}

/// The process that listens at the other end of a connection, or that made it. `None` where the system does not tell, or
/// the process is in another pid namespace.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub fn pid(stream: &UnixStream) -> Option<u32> {
    let found = rustix::net::sockopt::socket_peercred(stream).ok()?;
    u32::try_from(rustix::process::Pid::as_raw(Some(found.pid))).ok().filter(|pid| *pid != 0)
}

/// rustix knows no way to ask elsewhere.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub fn pid(_stream: &UnixStream) -> Option<u32> {
    None
}

fn by_directory(socket: &Path) -> io::Result<Option<u32>> {
    let dir = std::fs::metadata(socket.parent().ok_or(io::ErrorKind::InvalidInput)?)?;
    Ok((dir.is_dir() && dir.mode() & 0o077 == 0 && dir.uid() == effective_uid()).then_some(dir.uid()))
}

/// The user this process acts as.
pub fn effective_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use tempfile::tempdir;

    use super::*;

    #[test]
    fn a_pair_belongs_to_this_user() {
        let (near, _far) = UnixStream::pair().unwrap();
        let temp = tempdir().unwrap();
        let dir = &temp.path().join("dir");
        std::fs::create_dir(dir).unwrap();
        let socket = dir.join("socket");
        std::fs::set_permissions(dir, PermissionsExt::from_mode(0o755)).unwrap();
        assert_eq!(by_directory(&socket).unwrap(), None, "anybody could have come through here");
        std::fs::set_permissions(dir, PermissionsExt::from_mode(0o700)).unwrap();
        assert_eq!(by_directory(&socket).unwrap(), Some(effective_uid()));
        assert_eq!(user(&near, &socket).unwrap(), effective_uid());
        assert!(!cfg!(target_os = "linux") || pid(&near) == Some(std::process::id()));
        std::fs::remove_dir_all(dir).unwrap();
        assert!(by_directory(&socket).is_err());
    }
}
