//! TLS through rustls, on blocking and non-blocking sockets alike.

#[cfg(test)]
mod tests;

use std::fmt;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, Connection, RootCertStore, ServerConfig, ServerConnection};

use super::stream::Timeouts;

/// Names a PEM file with certificate authorities to trust beside the system's.
pub const CA_FILE: &str = "CLAUDEMESH_CA_FILE";

/// A TLS connection past its handshake.
///
/// The rustls connection is driven here rather than through its `StreamOwned`, which is made for blocking sockets: there
/// a write may read, and when the 64 KiB send buffer is full, the socket blocked and that read made progress, it answers
/// `Ok(0)`, which a WebSocket codec takes for a reset. Here a write only writes and a read only reads, and both say
/// `WouldBlock` when nothing moved.
pub struct Tls {
    conn: Connection,
    socket: TcpStream,
}

/// Why TLS cannot be set up.
#[derive(Debug)]
pub enum TlsError {
    /// A PEM file is missing or is not what it should be.
    Pem {
        path: PathBuf,
        what: String,
    },
    /// The system has no certificate authorities that could be read.
    NoRoots(String),
    Config(rustls::Error),
    /// Not a host name or an address.
    Name(String),
    Handshake(io::Error),
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TlsError::Pem { path, what } => write!(f, "{}: {what}", path.display()),
            TlsError::NoRoots(what) => write!(f, "no certificate authorities: {what}"),
            TlsError::Config(err) => write!(f, "TLS set-up: {err}"),
            TlsError::Name(name) => write!(f, "not a host name: {name}"),
            TlsError::Handshake(err) => write!(f, "TLS handshake: {err}"),
        }
    }
}

impl std::error::Error for TlsError {}

/// What a client trusts. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Trust(Arc<ClientConfig>);

impl Trust {
    /// The system's certificate authorities and those in `$CLAUDEMESH_CA_FILE`, read once per process: the first call
    /// reads files, and a failure is tried again by the next.
    pub fn system() -> Result<Trust, TlsError> {
        static SYSTEM: OnceLock<Trust> = OnceLock::new();
        if let Some(trust) = SYSTEM.get() {
            return Ok(trust.clone());
        }
        let found = rustls_native_certs::load_native_certs();
        let mut roots = RootCertStore::empty();
        // Stores carry certificates that are of no use here; those that remain count.
        roots.add_parsable_certificates(found.certs);
        if let Some(path) = std::env::var_os(CA_FILE).filter(|path| !path.is_empty()) {
            add(&mut roots, Path::new(&path))?;
        }
        if roots.is_empty() {
            let what = found.errors.first().map_or_else(|| "none found".to_owned(), ToString::to_string);
            return Err(TlsError::NoRoots(what));
        }
        let trust = Trust::roots(roots)?;
        Ok(SYSTEM.get_or_init(|| trust).clone())
    }

    /// Only the authorities in one PEM file.
    pub fn file(path: &Path) -> Result<Trust, TlsError> {
        let mut roots = RootCertStore::empty();
        add(&mut roots, path)?;
        Trust::roots(roots)
    }

    fn roots(roots: RootCertStore) -> Result<Trust, TlsError> {
        let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Config)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Trust(Arc::new(config)))
    }
}

fn add(roots: &mut RootCertStore, path: &Path) -> Result<(), TlsError> {
    for cert in certificates(path)? {
        roots.add(cert).map_err(|err| TlsError::Pem { path: path.to_owned(), what: err.to_string() })?;
    }
    Ok(())
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let wrong = |what: String| TlsError::Pem { path: path.to_owned(), what };
    let certs: Vec<_> =
        CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<_, _>>).map_err(|err| wrong(err.to_string()))?;
    if certs.is_empty() { Err(wrong("no certificate in it".to_owned())) } else { Ok(certs) }
}

/// A server's certificate and key. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Identity(Arc<ServerConfig>);

impl Identity {
    /// The certificate chain, leaf first, and its private key, from PEM files.
    pub fn files(certs: &Path, key: &Path) -> Result<Identity, TlsError> {
        let chain = certificates(certs)?;
        let key =
            PrivateKeyDer::from_pem_file(key).map_err(|err| TlsError::Pem { path: key.to_owned(), what: err.to_string() })?;
        let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
            .map_err(TlsError::Config)?;
        Ok(Identity(Arc::new(config)))
    }
}

impl Tls {
    /// The client's handshake, on a blocking socket.
    pub fn connect(trust: &Trust, host: &str, socket: TcpStream, deadline: Instant) -> Result<Tls, TlsError> {
        let name = ServerName::try_from(host.to_owned()).map_err(|_| TlsError::Name(host.to_owned()))?;
        let conn = ClientConnection::new(trust.0.clone(), name).map_err(TlsError::Config)?;
        Tls { conn: conn.into(), socket }.handshake(deadline)
    }

    /// The server's handshake, on a blocking socket.
    pub fn accept(identity: &Identity, socket: TcpStream, deadline: Instant) -> Result<Tls, TlsError> {
        let conn = ServerConnection::new(identity.0.clone()).map_err(TlsError::Config)?;
        Tls { conn: conn.into(), socket }.handshake(deadline)
    }

    fn handshake(mut self, deadline: Instant) -> Result<Tls, TlsError> {
        while self.conn.is_handshaking() || self.conn.wants_write() {
            self.handshake_step(deadline).map_err(TlsError::Handshake)?;
        }
        Ok(self)
    }

    fn handshake_step(&mut self, deadline: Instant) -> io::Result<()> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let moved = if self.conn.wants_write() {
            Timeouts::set_write_timeout(&self.socket, Some(left))?;
            self.conn.write_tls(&mut self.socket).map(|_| ())
        } else {
            Timeouts::set_read_timeout(&self.socket, Some(left))?;
            self.take_in().and_then(|read| if read == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) })
        };
        match moved {
            Err(err) if matches!(err.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) => Ok(()),
            other => other,
        }
    }

    pub fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// Ciphertext from the socket, once. `Ok(0)`: the peer has ended.
    fn take_in(&mut self) -> io::Result<usize> {
        let read = self.conn.read_tls(&mut self.socket)?;
        if let Err(err) = self.conn.process_new_packets() {
            // The alert that says why, if the socket takes it.
            let _ = self.conn.write_tls(&mut self.socket);
            return Err(io::Error::new(io::ErrorKind::InvalidData, err));
        }
        Ok(read)
    }

    /// Ciphertext to the socket until it takes no more.
    fn give_out(&mut self) -> io::Result<()> {
        while self.conn.wants_write() {
            if self.conn.write_tls(&mut self.socket)? == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
        }
        Ok(())
    }
}

impl Read for Tls {
    /// `UnexpectedEof`: the peer's socket ended without the alert that says it meant to.
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.conn.reader().read(buf) {
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => {}
                other => return other,
            }
            self.take_in()?;
        }
    }
}

impl Write for Tls {
    /// Takes what the send buffer has room for; `WouldBlock` if that is nothing.
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let mut taken = self.conn.writer().write(buf)?;
        match self.give_out() {
            Ok(()) => {}
            // What was taken is sent by a later write or flush; to report it as refused would send it twice.
            Err(err) if 0 < taken && matches!(err.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(err) => return Err(err),
        }
        if taken == 0 && !buf.is_empty() {
            taken = self.conn.writer().write(buf)?;
        }
        if taken == 0 && !buf.is_empty() { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(taken) }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.give_out()
    }
}

impl Drop for Tls {
    /// Says goodbye if the socket takes it at once.
    fn drop(&mut self) {
        self.conn.send_close_notify();
        if self.socket.set_nonblocking(true).is_ok() {
            let _ = self.give_out();
        }
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tls({:?})", self.socket)
    }
}

impl std::os::fd::AsFd for Tls {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
