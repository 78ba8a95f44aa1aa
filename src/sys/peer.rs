//! Who is at the other end of a Unix socket, as the kernel tells it.

use std::io;
use std::os::unix::net::UnixStream;

/// The process that connected, as it was when it did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    pub uid: u32,
    /// None where the system does not tell, or where the peer lives in another pid namespace.
    pub pid: Option<u32>,
}

/// The credentials of the peer. `Unsupported` where the system has no way to tell that rustix offers.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub fn credentials(stream: &UnixStream) -> io::Result<Peer> {
    let found = rustix::net::sockopt::socket_peercred(stream)?;
    let pid = u32::try_from(rustix::process::Pid::as_raw(Some(found.pid))).ok().filter(|pid| *pid != 0);
    Ok(Peer { uid: found.uid.as_raw(), pid })
}

/// The credentials of the peer. `Unsupported` where the system has no way to tell that rustix offers.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub fn credentials(_stream: &UnixStream) -> io::Result<Peer> {
    Err(io::ErrorKind::Unsupported.into())
}

/// The user this process acts as.
pub fn effective_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_pair_belongs_to_this_process() {
        let (near, _far) = UnixStream::pair().unwrap();
        let peer = credentials(&near).unwrap();
        assert_eq!(peer, Peer { uid: effective_uid(), pid: Some(std::process::id()) });
    }
}
