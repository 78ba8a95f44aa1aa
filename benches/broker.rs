//! A broker that stands alone, spoken to without a daemon: what it passes on, and what it holds.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use claudemesh::base::time::now_millis;
use claudemesh::crypto::keys::KeyPair;
use claudemesh::crypto::random;
use claudemesh::net::dial;
use claudemesh::net::ws::{self, Flow, Handle, Outbox};
use claudemesh::sys::files;
use serde_json::{Value, json};

use crate::commands::megabytes;
use crate::sizes::status;
use crate::support::home::Home;
use crate::support::raw::{Raw, RawMesh};
use crate::support::servers::Broker;
use crate::support::wait::{PATIENCE, until_within};
use crate::table::{Measured, Scale};

const MS: Duration = Duration::from_millis(1);

/// Meshes that many connections are spread over: a hundred to each, as the reference allows.
const MESHES: usize = 50;

/// The body of a message to each of them; brokers take base64 alone.
const EACH: &str = "dG8gZWFjaCBvZiB0aGVt";

/// What all peers write to.
struct Ring {
    epoch: Instant,
    times: Mutex<Vec<Duration>>,
    passed: AtomicUsize,
    /// Nobody passes on what comes now.
    over: AtomicBool,
}

/// One peer of a ring: whatever it is sent it acknowledges, and passes on to the next.
struct Link {
    ring: Arc<Ring>,
    next: String,
    body: String,
    heard: Sender<()>,
    times: Vec<Duration>,
}

impl Link {
    fn send(&mut self, out: &mut Outbox) {
        // As a daemon names it.
        let id = random::uuid_v7(now_millis());
        // The moment stands where a message's text would, so that whoever gets it knows how long it took.
        let at = self.ring.epoch.elapsed().as_nanos();
        out.text(format!(
            r#"{{"type":"send","id":"{id}","client_message_id":"{id}","request_fingerprint":"{id}","targetSpec":"{}","priority":"next","nonce":"{at}","ciphertext":"{}"}}"#,
            self.next, self.body
        ));
    }
}

/// The text of one string field.
fn field<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    let at = text.find(&format!("\"{name}\":\""))? + name.len() + 4;
    text[at..].split('"').next()
}

impl ws::Peer for Link {
    /// Begin a message.
    type Cmd = ();

    fn on_text(&mut self, text: &str, _: Instant, out: &mut Outbox) -> Flow {
        if text.starts_with(r#"{"type":"hello_ack""#) {
            let _ = self.heard.send(());
        } else if text.starts_with(r#"{"type":"error""#) || text.contains(r#""queued":false"#) {
            eprintln!("refused, and the figure is of less than was meant: {text}");
        } else if text.starts_with(r#"{"type":"push""#)
            && let Some(at) = field(text, "nonce").and_then(|at| at.parse().ok())
            && let Some(message) = field(text, "messageId")
        {
            self.times.push(self.ring.epoch.elapsed().saturating_sub(Duration::from_nanos(at)));
            self.ring.passed.fetch_add(1, Ordering::Relaxed);
            out.text(format!(r#"{{"type":"client_ack","brokerMessageId":"{message}"}}"#));
            if !self.ring.over.load(Ordering::Relaxed) {
                self.send(out);
            }
        }
        Flow::Go
    }

    fn on_cmd(&mut self, (): (), _: Instant, out: &mut Outbox) -> Flow {
        self.send(out);
        Flow::Go
    }

    fn deadline(&self) -> Option<Instant> {
        None
    }

    fn on_deadline(&mut self, _: Instant, _: &mut Outbox) -> Flow {
        Flow::Go
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.ring.times.lock().unwrap_or_else(PoisonError::into_inner).append(&mut self.times);
    }
}

/// Connects a peer that is told its hello as its first command would be.
fn join(address: &str, hello: &Value, mut link: Link, welcome: &Receiver<()>) -> (Handle<()>, std::thread::JoinHandle<()>) {
    let url = dial::Url::parse(&format!("ws://{address}/ws")).unwrap();
    let limits = ws::Limits { max_message: 1 << 22, read_buffer: 4096 };
    let mut socket = dial::connect(&url, limits, Instant::now() + PATIENCE).unwrap();
    let (handle, inbox) = ws::channel(256).unwrap();
    let hello = hello.to_string();
    let thread = std::thread::spawn(move || {
        let mut first = Hello { text: Some(hello), link: &mut link };
        ws::run(&mut socket, &mut first, &inbox);
    });
    welcome.recv_timeout(PATIENCE).expect("the broker lets a peer in");
    (handle, thread)
}

/// A link that begins with a hello.
struct Hello<'l> {
    text: Option<String>,
    link: &'l mut Link,
}

impl ws::Peer for Hello<'_> {
    type Cmd = ();

    fn on_start(&mut self, _: Instant, out: &mut Outbox) -> Flow {
        self.text.take().into_iter().for_each(|text| out.text(text));
        Flow::Go
    }

    fn on_text(&mut self, text: &str, now: Instant, out: &mut Outbox) -> Flow {
        self.link.on_text(text, now, out)
    }

    fn on_cmd(&mut self, cmd: (), now: Instant, out: &mut Outbox) -> Flow {
        self.link.on_cmd(cmd, now, out)
    }

    fn deadline(&self) -> Option<Instant> {
        None
    }

    fn on_deadline(&mut self, _: Instant, _: &mut Outbox) -> Flow {
        Flow::Go
    }
}

/// Peers in a ring with so many messages of each under way at once. Returns the times and how many a second went through.
fn circulate(address: &str, mesh: &RawMesh, peers: usize, under_way: usize, messages: usize) -> (Vec<Duration>, f64) {
    let keys: Vec<KeyPair> = (0..peers).map(|_| KeyPair::generate()).collect();
    let ring = Arc::new(Ring {
        epoch: Instant::now(),
        times: Mutex::default(),
        passed: AtomicUsize::new(0),
        over: AtomicBool::new(false),
    });
    let (heard, welcome) = channel();
    let links: Vec<_> = (0..peers)
        .map(|me| {
            let link = Link {
                ring: ring.clone(),
                next: keys[(me + 1) % peers].public.to_hex(),
                body: "x".repeat(400),
                heard: heard.clone(),
                times: Vec::new(),
            };
            join(address, &mesh.hello(me, &keys[me]), link, &welcome)
        })
        .collect();
    let start = Instant::now();
    for (handle, _) in &links {
        (0..under_way).for_each(|_| handle.try_send(()).unwrap());
    }
    until_within(Duration::from_secs(120), "the messages to go round", || {
        (messages <= ring.passed.load(Ordering::Relaxed)).then_some(())
    });
    let rate = ring.passed.load(Ordering::Relaxed) as f64 / start.elapsed().as_secs_f64();
    ring.over.store(true, Ordering::Relaxed);
    for (handle, thread) in links {
        drop(handle);
        let _ = thread.join();
    }
    let times = std::mem::take(&mut *ring.times.lock().unwrap_or_else(PoisonError::into_inner));
    (times, rate)
}

/// Row 11.
pub(crate) fn messages(scale: Scale) -> Vec<Measured> {
    const PEERS: usize = 50;
    let (times, rate) = pass_on(scale, PEERS, false);
    let (audited, audited_rate) = pass_on(scale, PEERS, true);
    vec![
        Measured::times("direct, 50 peers, one under way from each, durable", times, 3 * MS, Some(15 * MS)),
        Measured::at_least("the same, 8 under way from each", "/s", rate.round(), 10_000.0),
        Measured::times("with an audit entry for each: one under way", audited, 3 * MS, Some(15 * MS)),
        Measured::at_least("the same, 8 under way from each", "/s", audited_rate.round(), 10_000.0),
    ]
}

fn pass_on(scale: Scale, peers: usize, audited: bool) -> (Vec<Duration>, f64) {
    let home = Home::new();
    let mesh = RawMesh::create(home.path());
    std::fs::write(home.join("broker.json"), json!({"auditMessages": audited}).to_string()).unwrap();
    let broker = Broker::start(home.path());
    circulate(&broker.address, &mesh, peers, 1, 2000);
    let (times, _) = circulate(&broker.address, &mesh, peers, 1, scale.rounds(50_000));
    let (_, rate) = circulate(&broker.address, &mesh, peers, 8, scale.rounds(100_000));
    (times, rate)
}

/// Row 12.
pub(crate) fn memory(scale: Scale) -> Vec<Measured> {
    files::raise_limit();
    let home = Home::new();
    let meshes: Vec<RawMesh> = (0..MESHES).map(|_| RawMesh::create(home.path())).collect();
    let broker = Broker::start(home.path());
    broker.assert_healthy();
    let resident = || status(broker.pid(), "VmRSS").unwrap();
    let base = resident();
    let count = scale.rounds(5000);
    let mut keys = Vec::new();
    let mut join = |n: usize| {
        let key = KeyPair::generate();
        let idle = Raw::connect(&broker.address, &meshes[n % MESHES].hello(n, &key));
        keys.push(key);
        idle
    };
    let mut held: Vec<Raw> = (0..MESHES).map(&mut join).collect();
    let before = resident();
    held.extend((MESHES..count).map(&mut join));
    let after = resident();
    let (times, _) = circulate(&broker.address, &meshes[0], 50, 1, scale.rounds(20_000));
    // One message to each of them, from the first of its mesh: all are held, and not only their sockets.
    let (senders, to) = held.split_at_mut(MESHES);
    for (n, key) in keys[MESHES..].iter().enumerate() {
        let from = &mut senders[n % MESHES];
        from.send(key, &format!("to-{n}"), EACH);
    }
    let heard = MESHES + to.iter_mut().map(|idle| idle.read_until(EACH.as_bytes())).count();
    let (threads, peak) = (status(broker.pid(), "Threads").unwrap(), resident());
    vec![
        Measured::at_most("broker, idle, no connection: memory", "MB", megabytes(base), 10.0),
        Measured::at_most("each further connection", "KB", after.saturating_sub(before) / ((count - MESHES) as u64), 32),
        Measured::at_least("held at once, each reached by a message", "", heard, count),
        Measured::times("direct among 50 others meanwhile", times, 3 * MS, Some(15 * MS)),
        Measured::at_most("threads meanwhile", "", threads, 5200),
        Measured::at_most("memory meanwhile", "MB", megabytes(peak), 170.0),
    ]
}
