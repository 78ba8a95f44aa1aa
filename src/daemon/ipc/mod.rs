//! The local API: HTTP on the private socket, a thread per connection, one request each.

mod apikeys;
mod auth;
mod canary;
mod delivery;
mod events;
mod inbox;
mod keys;
mod later;
mod line;
mod memory;
mod mesh;
mod ops;
mod order;
mod outbox;
mod pass;
mod peers;
mod profile;
mod reply;
mod routes;
mod send;
mod serve;
mod sessions;
mod skills;
mod standing;
mod state;
mod topics;

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use crate::base::thread::{self, Joined, Running};
use crate::daemon::ctx::Ctx;
use crate::daemon::local_token::LocalToken;
use crate::net::listen::{self, Count, Place};
use crate::sys::poll::{self, Ringer};
use crate::wire::ipc::TcpHealth;
use crate::wire::limits::{MAX_LOCAL_CONNECTIONS, MAX_TCP_CONNECTIONS};

use self::auth::TcpGate;

/// The answer to a connection too many.
const BUSY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nContent-Length: 43\r\nConnection: close\r\n\r\n{\"error\":\"too many connections; try again\"}";

/// The listening socket, its thread, and the connections that came through it.
#[derive(Debug, Clone)]
pub(super) struct Listener {
    ctx: Arc<Ctx>,
    path: PathBuf,
    connections: Count,
    /// Counted apart, so that nobody who may not even ask fills the private socket.
    tcp_connections: Count,
    current: Arc<Mutex<Option<Accepting>>>,
    /// On TCP, if that was asked for and the port was free.
    tcp: Arc<Mutex<Option<TcpAccepting>>>,
}

/// The thread that accepts on TCP.
#[derive(Debug)]
struct TcpAccepting {
    /// As it was asked for.
    port: u16,
    address: SocketAddr,
    stop: Ringer,
    thread: Running,
}

/// One thread that accepts on one socket file.
#[derive(Debug)]
struct Accepting {
    /// Device and inode of the socket file: how it is told from one that somebody else put there.
    file: (u64, u64),
    stop: Ringer,
    thread: Running,
}

/// Binds the socket and starts to accept. Whoever calls holds the daemon's lock, so that a file in the way is stale.
pub(super) fn listen(ctx: &Arc<Ctx>) -> io::Result<Listener> {
    let listener = Listener {
        ctx: ctx.clone(),
        path: ctx.paths.socket(),
        connections: Count::default(),
        tcp_connections: Count::default(),
        current: Arc::default(),
        tcp: Arc::default(),
    };
    listener.bind()?;
    listener.follow_settings();
    Ok(listener)
}

impl Listener {
    fn bind(&self) -> io::Result<()> {
        let socket = listen::Listener::unix(&self.path, true)?;
        let file = file_of(&self.path)?;
        let (stop, bell) = poll::bell()?;
        let (ctx, connections) = (self.ctx.clone(), self.connections.clone());
        let thread = thread::spawn("ipc-accept", thread::CONNECTION_STACK, move || {
            let options = listen::Options {
                name: "ipc",
                max_connections: MAX_LOCAL_CONNECTIONS,
                refusal: BUSY,
                stack: thread::CONNECTION_STACK,
            };
            let on_accept = move |stream, place: Place| serve::serve(&ctx, stream, &place, None);
            if let Err(err) = listen::serve(&[socket], &bell, &options, &connections, on_accept) {
                log::error!("the local socket: {err}");
            }
        })?;
        let old = self.lock().replace(Accepting { file, stop, thread });
        if let Some(old) = old {
            old.stop.ring();
        }
        Ok(())
    }

    /// Listens on TCP as the settings say: on their port, or no more. Who is connected may finish. A port that is taken is
    /// tried again whenever this is called.
    pub(super) fn follow_settings(&self) {
        let wanted = self.ctx.settings().tcp_port;
        let old = {
            let mut tcp = self.tcp.lock().unwrap_or_else(PoisonError::into_inner);
            if wanted.is_some() && tcp.as_ref().filter(|tcp| !tcp.thread.is_finished()).map(|tcp| tcp.port) == wanted {
                return;
            }
            tcp.take()
        };
        if let Some(old) = old {
            old.stop.ring();
            log::info!("the TCP listener on {} ends", old.address);
        }
        let bound = wanted.map(|port| (port, self.bind_tcp(port)));
        let health = bound.as_ref().map(|(port, bound)| TcpHealth {
            port: *port,
            address: bound.as_ref().ok().map(SocketAddr::to_string),
            error: bound.as_ref().err().map(io::Error::to_string),
            public_health: false,
        });
        match (self.ctx.note_tcp(health), bound) {
            // The private socket is what everything needs; this is an extra.
            (true, Some((port, Err(err)))) => log::error!("no TCP listener on 127.0.0.1:{port}: {err}"),
            (true, Some((_, Ok(address)))) => log::info!("listens on {address}"),
            (true, None) | (false, _) => {}
        }
    }

    fn bind_tcp(&self, port: u16) -> io::Result<SocketAddr> {
        let token = LocalToken::load_or_make(&self.ctx.paths)?;
        let socket = listen::Listener::tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
        let address = socket.tcp_address().ok_or(io::ErrorKind::AddrNotAvailable)?;
        let (stop, bell) = poll::bell()?;
        let (ctx, connections) = (self.ctx.clone(), self.tcp_connections.clone());
        let thread = thread::spawn("ipc-tcp", thread::CONNECTION_STACK, move || {
            let options = listen::Options {
                name: "ipc",
                max_connections: MAX_TCP_CONNECTIONS,
                refusal: BUSY,
                stack: thread::CONNECTION_STACK,
            };
            let on_accept = move |stream, place: Place| {
                let gate = TcpGate { token: token.clone(), public_health: ctx.settings().public_health };
                serve::serve(&ctx, stream, &place, Some(&gate));
            };
            if let Err(err) = listen::serve(&[socket], &bell, &options, &connections, on_accept) {
                log::error!("the TCP listener: {err}");
            }
        })?;
        *self.tcp.lock().unwrap_or_else(PoisonError::into_inner) = Some(TcpAccepting { port, address, stop, thread });
        Ok(address)
    }

    /// Where it listens on TCP, if it does.
    pub(super) fn tcp_address(&self) -> Option<SocketAddr> {
        self.tcp.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(|tcp| tcp.address)
    }

    /// Puts the socket back if its file is gone or is not ours any more.
    pub(super) fn check(&self) {
        let ours = self.lock().as_ref().map(|accepting| (accepting.file, accepting.thread.is_finished()));
        let Some((file, finished)) = ours else { return };
        if !finished && file_of(&self.path).ok() == Some(file) {
            return;
        }
        match self.bind() {
            Ok(()) => log::warn!("the local socket was replaced, and is bound again"),
            Err(err) => log::error!("the local socket can not be bound again: {err}"),
        }
    }

    /// Accepts no more, removes the socket file if it is still ours, ends the connections that have not asked for anything yet,
    /// and waits for those that are being answered.
    pub(super) fn stop(&self, until: Instant) {
        let Some(accepting) = self.lock().take() else { return };
        accepting.stop.ring();
        if let Some(tcp) = self.tcp.lock().unwrap_or_else(PoisonError::into_inner).take() {
            tcp.stop.ring();
            if tcp.thread.join_by(until) == Joined::Late {
                log::warn!("thread ipc-tcp is late and is left behind");
            }
        }
        if file_of(&self.path).ok() == Some(accepting.file) {
            // Somebody else may have removed it this instant; gone is gone.
            let _ = fs::remove_file(&self.path);
        }
        self.ctx.bus.close();
        self.ctx.watch.close();
        if accepting.thread.join_by(until) == Joined::Late {
            log::warn!("thread ipc-accept is late and is left behind");
        }
        // Whoever asks for something when nobody is left to answer may as well ask the next daemon.
        self.connections.hear_no_more();
        self.tcp_connections.hear_no_more();
        let left = self.connections.wait_idle(until) + self.tcp_connections.wait_idle(until);
        if 0 < left {
            log::warn!("{left} local connections are left behind");
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Accepting>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn file_of(path: &std::path::Path) -> io::Result<(u64, u64)> {
    let meta = fs::symlink_metadata(path)?;
    Ok((meta.dev(), meta.ino()))
}
