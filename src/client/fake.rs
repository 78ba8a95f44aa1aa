//! A daemon for tests: a real socket, real HTTP, and answers that the test chooses.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, unbounded};
use tempfile::{TempDir, tempdir};

use crate::base::paths::Paths;

/// What a client asked.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Asked {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

pub(crate) enum Answer {
    Json(u16, String),
    /// Exactly these bytes.
    Raw(Vec<u8>),
    /// A stream of events that ends with its sender.
    Stream(Receiver<String>),
    /// As `Stream`, in chunks, as the reference's daemon frames it.
    Chunked(Receiver<String>),
    /// Nothing, until the daemon stops.
    Silence,
}

/// A scratch directory, removed when dropped.
pub(crate) struct Scratch(pub(crate) TempDir);

impl Scratch {
    pub(crate) fn new() -> Scratch {
        let dir = tempdir().unwrap();
        std::fs::create_dir(dir.path().join("daemon")).unwrap();
        Scratch(dir)
    }

    pub(crate) fn paths(&self) -> Paths {
        Paths::under(self.0.path())
    }
}

pub(crate) struct FakeDaemon {
    socket: PathBuf,
    stop: Arc<AtomicBool>,
    live: Arc<Mutex<Vec<UnixStream>>>,
    accepting: Option<thread::JoinHandle<()>>,
    asked: Receiver<Asked>,
}

type Handler = Arc<dyn Fn(&Asked) -> Answer + Send + Sync>;

impl FakeDaemon {
    pub(crate) fn start(paths: &Paths, handler: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> FakeDaemon {
        let socket = paths.socket();
        let listener = UnixListener::bind(&socket).unwrap();
        let (stop, live) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let (log, asked) = unbounded();
        let handler: Handler = Arc::new(handler);
        let accepting = {
            let (stop, live) = (Arc::clone(&stop), Arc::clone(&live));
            thread::spawn(move || {
                for stream in listener.incoming() {
                    if stop.load(Ordering::SeqCst) {
                        return;
                    }
                    let stream = stream.unwrap();
                    live.lock().unwrap().push(stream.try_clone().unwrap());
                    let (handler, log) = (Arc::clone(&handler), log.clone());
                    thread::spawn(move || serve(stream, &handler, &log));
                }
            })
        };
        FakeDaemon { socket, stop, live, accepting: Some(accepting), asked }
    }

    /// The next request, which must come soon.
    pub(crate) fn asked(&self) -> Asked {
        self.asked.recv_timeout(Duration::from_secs(10)).expect("a request")
    }

    /// The next request for this path, others skipped.
    pub(crate) fn asked_for(&self, path: &str) -> Asked {
        loop {
            let asked = self.asked();
            if asked.path.starts_with(path) {
                return asked;
            }
        }
    }

    /// Every request that came and was not looked at yet.
    pub(crate) fn rest(&self) -> Vec<Asked> {
        self.asked.try_iter().collect()
    }
}

impl Drop for FakeDaemon {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = UnixStream::connect(&self.socket);
        self.accepting.take().unwrap().join().unwrap();
        let _ = std::fs::remove_file(&self.socket);
        for stream in self.live.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

fn serve(stream: UnixStream, handler: &Handler, log: &Sender<Asked>) {
    let mut input = BufReader::new(stream.try_clone().unwrap());
    let mut line = String::new();
    if input.read_line(&mut line).unwrap_or(0) == 0 {
        return;
    }
    let mut words = line.split(' ').map(str::to_owned);
    let (method, path) = (words.next().unwrap(), words.next().unwrap());
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        input.read_line(&mut line).unwrap();
        match line.trim_end().split_once(": ") {
            Some((name, value)) => headers.push((name.to_owned(), value.to_owned())),
            None => break,
        }
    }
    let mut asked = Asked { method, path, headers, body: String::new() };
    let length: usize = asked.header("content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    input.read_exact(&mut body).unwrap();
    asked.body = String::from_utf8(body).unwrap();
    let answer = handler(&asked);
    let _ = log.send(asked);
    reply(stream, input, answer);
}

fn reply(mut stream: UnixStream, mut input: BufReader<UnixStream>, answer: Answer) {
    // A client may have left already; that is its right.
    let _ = match answer {
        Answer::Json(status, body) => write!(
            stream,
            "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nX-ClaudeMesh-Version: 9.9.9\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ),
        Answer::Raw(bytes) => stream.write_all(&bytes),
        Answer::Stream(blocks) => {
            let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n: connected\n\n";
            let mut sent = stream.write_all(head.as_bytes());
            for block in blocks {
                sent = sent.and_then(|()| stream.write_all(block.as_bytes()));
            }
            sent
        }
        Answer::Chunked(blocks) => {
            let mut sent = stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
            for block in blocks {
                sent = sent.and_then(|()| write!(stream, "{:x}\r\n{block}\r\n", block.len()));
            }
            sent.and_then(|()| stream.write_all(b"0\r\n\r\n"))
        }
        Answer::Silence => input.read_to_end(&mut Vec::new()).map(|_| ()),
    };
    let _ = stream.shutdown(Shutdown::Both);
}
