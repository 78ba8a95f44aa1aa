//! A TCP relay between a daemon and its broker that misbehaves when it is told to.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::random::Random;
use super::wait::PATIENCE;

/// Connections at once; one more is closed as it comes.
const MAX_CONNECTIONS: usize = 512;

/// Which way bytes travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    ToBroker,
    ToDaemon,
}

const BOTH: [Way; 2] = [Way::ToBroker, Way::ToDaemon];

/// How a connection is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    /// FIN: everything before it still arrives.
    Fin,
    /// RST: what is on its way may be lost.
    Reset,
}

/// What is done, once on each connection, to the next bytes that go one way.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Mangle {
    /// Random bytes stand among them.
    Garbage(u64),
    /// A part of them arrives, and then the connection is cut.
    Truncate(Cut),
    /// They are held back for this long.
    Delay(Duration),
}

/// The relay. Its connections end when it is dropped.
#[derive(Debug)]
pub(crate) struct Proxy {
    /// `127.0.0.1:PORT`
    pub(crate) address: String,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    broker: SocketAddr,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    stopped: bool,
    /// Connections with a lower number than this forward nothing that way.
    stalled: [u64; 2],
    /// The latest order for each way, with its number.
    orders: [(u64, Option<Mangle>); 2],
    /// How many connections were made so far.
    made: u64,
    open: Vec<Pair>,
}

#[derive(Debug)]
struct Pair {
    number: u64,
    daemon: TcpStream,
    broker: TcpStream,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }
}

impl Proxy {
    /// A relay to `broker` (`127.0.0.1:PORT`), which need not run yet.
    pub(crate) fn start(broker: &str) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let broker = broker.parse().expect("an address");
        let shared = Arc::new(Shared { broker, state: Mutex::default(), changed: Condvar::new() });
        let accepting = std::thread::spawn({
            let shared = shared.clone();
            move || accept(&shared, &listener)
        });
        Proxy { address, shared, accepting: Some(accepting) }
    }

    pub(crate) fn url(&self) -> String {
        format!("ws://{}/ws", self.address)
    }

    /// How many connections were made so far.
    pub(crate) fn made(&self) -> u64 {
        self.shared.lock().made
    }

    /// Cuts every connection that is open.
    pub(crate) fn cut(&self, how: Cut) {
        self.shared.change(|state| state.open.drain(..).for_each(|pair| pair.cut(how)));
    }

    /// From now on, the connections that are open now forward nothing this way; new ones do.
    pub(crate) fn stall(&self, way: Way) {
        self.shared.change(|state| state.stalled[way as usize] = state.made + 1);
    }

    /// Stalled connections go on.
    pub(crate) fn resume(&self) {
        self.shared.change(|state| state.stalled = [0, 0]);
    }

    /// Has this done to the next bytes of every connection that is open now.
    pub(crate) fn mangle(&self, way: Way, mangle: Mangle) {
        self.shared.change(|state| state.orders[way as usize] = (state.orders[way as usize].0 + 1, Some(mangle)));
    }

    /// One fault of any kind but a stall that lasts.
    pub(crate) fn misbehave(&self, random: &mut Random) {
        let way = random.choose(&BOTH);
        match random.below(8) {
            0 => self.cut(Cut::Fin),
            1 => self.cut(Cut::Reset),
            2 | 3 => self.mangle(way, Mangle::Garbage(random.next())),
            4 => self.mangle(way, Mangle::Truncate(random.choose(&[Cut::Fin, Cut::Reset]))),
            5 => self.mangle(way, Mangle::Delay(Duration::from_millis(random.below(100)))),
            6 => {
                self.stall(way);
                self.wait(Duration::from_millis(random.below(100)));
                self.resume();
            }
            _ => {
                BOTH.into_iter().for_each(|way| self.stall(way));
                self.wait(Duration::from_millis(random.below(100)));
                self.cut(random.choose(&[Cut::Fin, Cut::Reset]));
                self.resume();
            }
        }
    }

    /// How long a fault lasts is part of it: nothing is waited for.
    fn wait(&self, time: Duration) {
        let state = self.shared.lock();
        let wait = self.shared.changed.wait_timeout_while(state, time, |state| !state.stopped);
        drop(wait.unwrap_or_else(PoisonError::into_inner));
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.change(|state| {
            state.stopped = true;
            state.open.drain(..).for_each(|pair| pair.cut(Cut::Reset));
        });
        // Wakes the accepting thread, which looks whether it should stop.
        let _ = TcpStream::connect(&self.address);
        if let Some(thread) = self.accepting.take() {
            let _ = thread.join();
        }
    }
}

impl Pair {
    /// The pumps meet the end of what they read, and let go of the sockets. Either may be gone already.
    fn cut(self, how: Cut) {
        for stream in [&self.daemon, &self.broker] {
            if how == Cut::Reset {
                // Without time to linger, the last close resets; a shutdown for writing would send a FIN before that.
                let _ = rustix::net::sockopt::set_socket_linger(stream, Some(Duration::ZERO));
                let _ = stream.shutdown(Shutdown::Read);
            } else {
                let _ = stream.shutdown(Shutdown::Both);
            }
        }
    }
}

impl State {
    fn cut(&mut self, number: u64, how: Cut) {
        if let Some(at) = self.open.iter().position(|pair| pair.number == number) {
            self.open.swap_remove(at).cut(how);
        }
    }
}

fn accept(shared: &Arc<Shared>, listener: &TcpListener) {
    let mut pumps: Vec<JoinHandle<()>> = Vec::new();
    for daemon in listener.incoming() {
        pumps.retain(|pump| !pump.is_finished());
        let mut state = shared.lock();
        if state.stopped {
            break;
        }
        let Ok(daemon) = daemon else { continue };
        if MAX_CONNECTIONS <= state.open.len() {
            continue;
        }
        // A broker that is down refuses at once.
        let Ok(broker) = TcpStream::connect_timeout(&shared.broker, Duration::from_secs(1)) else { continue };
        let Ok(pair) = daemon.try_clone().and_then(|daemon| Ok((daemon, broker.try_clone()?))) else { continue };
        // Small frames one by one, as the daemon and the broker send them.
        let _ = daemon.set_nodelay(true).and_then(|()| broker.set_nodelay(true));
        // Nothing else would end a pump whose other side reads no more and keeps its socket.
        [&daemon, &broker].into_iter().for_each(|stream| drop(stream.set_write_timeout(Some(PATIENCE))));
        state.made += 1;
        let number = state.made;
        state.open.push(Pair { number, daemon: pair.0, broker: pair.1 });
        let seen = state.orders.map(|(order, _)| order);
        drop(state);
        let streams = daemon.try_clone().and_then(|daemon| Ok((daemon, broker.try_clone()?)));
        let Ok((from_daemon, from_broker)) = streams else { continue };
        for (way, from, to) in [(Way::ToBroker, from_daemon, broker), (Way::ToDaemon, from_broker, daemon)] {
            let pump = Pump { shared: shared.clone(), number, way, from, to, seen: seen[way as usize] };
            pumps.push(std::thread::spawn(move || pump.run()));
        }
    }
    // Their sockets are shut down.
    pumps.into_iter().for_each(|pump| drop(pump.join()));
}

/// One direction of one connection.
struct Pump {
    shared: Arc<Shared>,
    number: u64,
    way: Way,
    from: TcpStream,
    to: TcpStream,
    /// The number of the last order that was obeyed.
    seen: u64,
}

impl Pump {
    fn run(mut self) {
        let mut piece = [0; 16 * 1024];
        while let Ok(count @ 1..) = self.from.read(&mut piece) {
            if self.forward(&piece[..count]).is_none() {
                break;
            }
        }
        // A FIN is passed on, and no half of a connection is kept: the other pump meets the end of its socket.
        self.shared.change(|state| state.cut(self.number, Cut::Fin));
    }

    fn forward(&mut self, bytes: &[u8]) -> Option<()> {
        let order = self.pass(Duration::ZERO)?;
        match order {
            None => self.to.write_all(bytes).ok(),
            Some(Mangle::Delay(time)) => {
                self.pass(time)?;
                self.to.write_all(bytes).ok()
            }
            Some(Mangle::Garbage(seed)) => {
                let mut random = Random::new(seed ^ self.number);
                let (front, back) = bytes.split_at(index(&mut random, bytes.len()));
                let garbage: Vec<u8> = (0..=random.below(64)).map(|_| random.next().to_le_bytes()[0]).collect();
                self.to.write_all(front).and_then(|()| self.to.write_all(&garbage)).and_then(|()| self.to.write_all(back)).ok()
            }
            Some(Mangle::Truncate(how)) => {
                let part = index(&mut Random::new(self.number), bytes.len());
                let _ = self.to.write_all(&bytes[..part]);
                self.shared.change(|state| state.cut(self.number, how));
                None
            }
        }
    }

    /// Waits out a delay and a stall; then the order that these bytes fall under. `None` when the connection is over.
    fn pass(&mut self, delay: Duration) -> Option<Option<Mangle>> {
        let way = self.way as usize;
        let (until, end) = (Instant::now() + delay, Instant::now() + 4 * PATIENCE);
        let mut state = self.shared.lock();
        loop {
            let now = Instant::now();
            let over = state.stopped || end <= now || !state.open.iter().any(|pair| pair.number == self.number);
            if over {
                return None;
            }
            if until <= now && state.stalled[way] <= self.number {
                let (order, mangle) = state.orders[way];
                return Some(if std::mem::replace(&mut self.seen, order) == order { None } else { mangle });
            }
            let left = if now < until { until - now } else { end - now };
            state = self.shared.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

fn index(random: &mut Random, len: usize) -> usize {
    usize::try_from(random.below(len as u64 + 1)).expect("an index")
}
