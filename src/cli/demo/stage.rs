//! The demo's processes: started here, heard through their pipes, ended by their pids, and nobody else's.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use crate::base::atomic_file;
use crate::base::paths::Paths;
use crate::base::thread;
use crate::base::time::{Millis, now_millis, parse_iso};
use crate::client::spawn::NO_AUTOSPAWN;
use crate::client::{Client, host, token};
use crate::crypto::random;
use crate::wire::ipc::{InboxItem, PeerOnMesh};
use crate::wire::json;
use crate::wire::peer::PeerRole;

use super::life::Life;
use super::trouble::Trouble;

/// Lines from all processes together that wait to be read. When full, the processes wait.
const HEARD: usize = 64;

/// Between two looks at what no pipe tells: the roster, the outbox.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// For a process that was told to end, beyond the demo's own deadline.
const GRACE: Duration = Duration::from_secs(10);

const STACK: usize = 64 * 1024;

/// Variables that would lead a child to other files, another session or another mood.
const FOREIGN: [&str; 8] = [
    "CLAUDEMESH_CONFIG_DIR",
    "CLAUDEMESH_DAEMON_DIR",
    "CLAUDEMESH_SESSIONS_DIR",
    "CLAUDEMESH_SESSION_ID",
    "CLAUDEMESH_APPROVAL_MODE",
    "NOTIFY_SOCKET",
    token::TOKEN,
    token::TOKEN_FILE,
];

/// What the pipes bring.
enum Heard {
    Line { pid: u32, text: String, at: Millis },
    Ended { pid: u32 },
    Interrupted,
}

/// A message that a session's process printed.
struct Shown {
    who: &'static str,
    item: InboxItem,
    at: Millis,
}

/// A running process and the name it plays under.
struct Player {
    name: &'static str,
    child: Child,
}

pub(super) struct Stage {
    me: PathBuf,
    root: PathBuf,
    paths: Paths,
    deadline: Instant,
    heard: Receiver<Heard>,
    voice: Sender<Heard>,
    players: Vec<Player>,
    /// Ids of the sessions by name: the same one when a session comes back.
    ids: BTreeMap<&'static str, String>,
    /// Output of processes that are no sessions.
    lines: BTreeMap<u32, Vec<String>>,
    /// Processes whose output has ended.
    silent: BTreeSet<u32>,
    shown: Vec<Shown>,
    interrupted: bool,
    /// While it is there, being told to end is heard as [`Heard::Interrupted`].
    watch: Option<host::OnEnd>,
}

const DAEMON: &str = "the daemon";

impl Stage {
    pub(super) fn set(deadline: Instant) -> io::Result<Stage> {
        let me = std::env::current_exe()?;
        let root = std::env::temp_dir().join(format!("claudemesh-demo-{}", &random::uuid_v4()[..8]));
        atomic_file::private_dir(&root)?;
        let (voice, heard) = bounded(HEARD);
        let paths = Paths::under(&root);
        atomic_file::private_dir(paths.daemon_dir())?;
        Ok(Stage {
            me,
            root,
            paths,
            deadline,
            heard,
            voice,
            players: Vec::new(),
            ids: BTreeMap::new(),
            lines: BTreeMap::new(),
            silent: BTreeSet::new(),
            shown: Vec::new(),
            interrupted: false,
            watch: None,
        })
    }

    /// Starts the daemon and waits for its word that it answers.
    pub(super) fn start_daemon(&mut self) -> Result<u32, Trouble> {
        let voice = self.voice.clone();
        // Without the watch an interruption still ends it, and leaves the directory behind.
        self.watch = host::on_end(move || drop(voice.try_send(Heard::Interrupted))).ok();
        let pid = self.start(DAEMON, &["daemon", "up", "--foreground"], None)?;
        self.wait("the daemon's start", |stage| Ok(stage.lines.get(&pid).map(|_| pid)))
    }

    /// Starts a session whose program prints what comes. Under a name that was there before, it is the same session.
    pub(super) fn start_session(&mut self, name: &'static str) -> Result<(), Trouble> {
        let id = self.ids.entry(name).or_insert_with(random::uuid_v4).clone();
        let me = self.me.to_string_lossy().into_owned();
        let args = ["launch", "--quiet", "--name", name, "--resume", &id, "--", &me, "inbox", "--follow", "--json"];
        self.start(name, &args, None).map(drop)
    }

    /// Waits until each of these can be found by its name.
    pub(super) fn wait_online(&mut self, names: &[&str]) -> Result<(), Trouble> {
        self.wait("the sessions' arrival on the mesh", |stage| {
            let peers = stage.client().peers(None)?.peers;
            let online = |name: &&str| peers.iter().any(|row| row.peer.online && is_called(row, name));
            Ok(names.iter().all(online).then_some(()))
        })
    }

    /// Sends with the command line, as the session `from`.
    pub(super) fn send(&mut self, from: &'static str, to: &'static str, text: &str) -> Result<Life, Trouble> {
        let client_id = random::uuid_v4();
        let address = self.address(to)?;
        let pid = self.start("a send", &["send", &address, text, "--id", &client_id, "--json"], Some(from))?;
        self.wait("a send", |stage| Ok(stage.silent.contains(&pid).then_some(())))?;
        let status = self.reap(pid).map_err(|err| Trouble::Io("a send", err))?;
        if status != Some(0) {
            let said = self.lines.get(&pid).map(|lines| lines.join(" "));
            return Err(Trouble::Ended { who: format!("the command that sends to {to}"), said });
        }
        Ok(Life {
            from,
            to,
            text: text.to_owned(),
            client_id,
            away: false,
            queued: None,
            relayed: None,
            arrived: None,
            shown: Vec::new(),
            intact: false,
        })
    }

    /// A session's name; its key where the roster does not list it while it is away.
    fn address(&self, name: &'static str) -> Result<String, Trouble> {
        let client = self.client();
        if client.peers(None)?.peers.iter().any(|row| is_called(row, name)) {
            return Ok(name.to_owned());
        }
        let id = self.ids.get(name).cloned().unwrap_or_default();
        let mesh = crate::base::ids::Slug::new(super::super::home::SLUG);
        let kept = crate::store::session_keys::load(&self.paths, &mesh, &crate::base::ids::SessionId::new(id));
        Ok(kept.map_or_else(|| name.to_owned(), |file| file.public_key))
    }

    /// Waits until a session's program has printed each of these.
    pub(super) fn wait_read(&mut self, lives: &[Life]) -> Result<(), Trouble> {
        self.wait("the reading of a message", |stage| {
            let read = |life: &Life| stage.shown.iter().any(|shown| shown.item.client_message_id.as_str() == life.client_id);
            Ok(lives.iter().all(read).then_some(()))
        })
    }

    /// Waits until the broker has acknowledged each of these.
    pub(super) fn wait_relayed(&mut self, lives: &[Life]) -> Result<(), Trouble> {
        self.wait("the broker's word that it has a message", |stage| {
            let items = stage.client().outbox(None, None)?.items;
            let relayed = |life: &Life| {
                items.iter().any(|item| item.client_message_id.as_str() == life.client_id && item.delivered_at.is_some())
            };
            Ok(lives.iter().all(relayed).then_some(()))
        })
    }

    /// Ends a session, hears its output to the end, and waits until the mesh knows.
    pub(super) fn end_session(&mut self, name: &'static str) -> Result<(), Trouble> {
        let Some(pid) = self.players.iter().find(|player| player.name == name).map(|player| player.child.id()) else {
            return Ok(());
        };
        host::terminate(pid).map_err(|err| Trouble::Io("a session can not be ended", err))?;
        self.wait("a session's end", |stage| Ok(stage.silent.contains(&pid).then_some(())))?;
        self.reap(pid).map_err(|err| Trouble::Io("a session's end", err))?;
        self.wait("a session's departure from the mesh", |stage| {
            let peers = stage.client().peers(None)?.peers;
            let online = peers.iter().any(|row| row.peer.online && is_called(row, name));
            Ok((!online).then_some(()))
        })
    }

    /// Fills in what the records say.
    pub(super) fn complete(&mut self, lives: &mut [Life]) -> Result<(), Trouble> {
        self.wait_relayed(lives)?;
        let items = self.client().outbox(None, None)?.items;
        for life in lives {
            let row = items.iter().find(|item| item.client_message_id.as_str() == life.client_id);
            life.queued = row.and_then(|row| parse_iso(&row.enqueued_at));
            life.relayed = row.and_then(|row| parse_iso(row.delivered_at.as_deref()?));
            let shown: Vec<&Shown> =
                self.shown.iter().filter(|shown| shown.item.client_message_id.as_str() == life.client_id).collect();
            life.arrived = shown.first().and_then(|shown| parse_iso(&shown.item.received_at));
            life.intact = shown.iter().all(|shown| shown.item.body.as_deref() == Some(&life.text) && !shown.item.plain);
            life.shown = shown.iter().map(|shown| (shown.who, shown.at)).collect();
        }
        Ok(())
    }

    /// How many messages were printed that are none of these.
    pub(super) fn strays(&self, lives: &[Life]) -> usize {
        let known = |shown: &&Shown| lives.iter().any(|life| life.client_id == shown.item.client_message_id.as_str());
        self.shown.iter().filter(|shown| !known(shown)).count()
    }

    /// Ends whatever still runs and removes the directory.
    pub(super) fn clear(&mut self) -> Result<(), Trouble> {
        self.deadline = Instant::now() + GRACE;
        self.interrupted = false;
        // Sessions first, then the daemon they speak to.
        while let Some(player) = self.players.pop() {
            let pid = player.child.id();
            let asked = host::terminate(pid);
            let heard = asked.is_ok()
                && self.wait("an end", |stage| Ok((stage.interrupted || stage.silent.contains(&pid)).then_some(()))).is_ok();
            end(player.child, heard).map_err(|err| Trouble::Io("a process can not be ended", err))?;
        }
        fs::remove_dir_all(&self.root).map_err(|err| Trouble::Io("the demo's directory can not be removed", err))
    }

    fn client(&self) -> Client {
        Client::new(&self.paths)
    }

    /// Starts this program with `args`, in the demo's home, acting for a session if one is named.
    fn start(&mut self, name: &'static str, args: &[&str], session: Option<&'static str>) -> Result<u32, Trouble> {
        let io = |err| Trouble::Io("a process can not be started", err);
        let log = if name == DAEMON { self.paths.log_file() } else { self.root.join(format!("{name}.err")) };
        let mut command = Command::new(&self.me);
        command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(append(&log).map_err(io)?);
        for name in FOREIGN {
            command.env_remove(name);
        }
        command.env("CLAUDEMESH_HOME", &self.root).env(NO_AUTOSPAWN, "1");
        if let Some(id) = session.and_then(|session| self.ids.get(session)) {
            command.env(token::TOKEN_FILE, self.paths.session_token(id));
        }
        let mut child = command.spawn().map_err(io)?;
        let pid = child.id();
        let output = child.stdout.take();
        self.players.push(Player { name, child });
        let voice = self.voice.clone();
        if let Some(output) = output {
            thread::spawn("demo-ear", STACK, move || listen(pid, output, &voice)).map_err(io)?;
        }
        Ok(pid)
    }

    /// Waits for the exit status of a process whose output has ended. `None` if a signal ended it.
    fn reap(&mut self, pid: u32) -> io::Result<Option<i32>> {
        let Some(at) = self.players.iter().position(|player| player.child.id() == pid) else { return Ok(None) };
        let mut player = self.players.remove(at);
        Ok(player.child.wait()?.code())
    }

    /// Hears everything until `done` has a value. It is asked after each thing that was heard, and every now and then for
    /// what can not be heard.
    fn wait<T>(&mut self, what: &str, mut done: impl FnMut(&Stage) -> Result<Option<T>, Trouble>) -> Result<T, Trouble> {
        loop {
            if let Some(value) = done(self)? {
                return Ok(value);
            }
            if self.interrupted {
                return Err(Trouble::Interrupted);
            }
            let left = self.deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Trouble::Late { what: what.to_owned(), log: last_line(&self.paths.log_file()) });
            }
            match self.heard.recv_timeout(left.min(LOOK_AGAIN)) {
                Ok(heard) => self.note(heard)?,
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
            }
            self.check_daemon()?;
        }
    }

    fn note(&mut self, heard: Heard) -> Result<(), Trouble> {
        match heard {
            Heard::Interrupted => self.interrupted = true,
            Heard::Ended { pid } => drop(self.silent.insert(pid)),
            Heard::Line { pid, text, at } => {
                let name = self.players.iter().find(|player| player.child.id() == pid).map(|player| player.name);
                match name.filter(|name| self.ids.contains_key(name)) {
                    None => self.lines.entry(pid).or_default().push(text),
                    Some(who) => match json::decode::<InboxItem>(text.as_bytes()) {
                        Ok(item) => self.shown.push(Shown { who, item, at }),
                        Err(_) => return Err(Trouble::Ended { who: format!("the session {who}"), said: Some(text) }),
                    },
                }
            }
        }
        Ok(())
    }

    /// Nothing more will happen once the daemon is gone.
    fn check_daemon(&self) -> Result<(), Trouble> {
        let gone =
            self.players.iter().find(|player| player.name == DAEMON).filter(|player| self.silent.contains(&player.child.id()));
        match gone {
            // While everything is being cleared away its end is what is waited for; then it is no longer among the players.
            Some(_) => Err(Trouble::Ended { who: DAEMON.to_owned(), said: last_line(&self.paths.log_file()) }),
            None => Ok(()),
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if self.root.exists()
            && let Err(err) = self.clear()
        {
            log::warn!("the demo left something behind at {}: {err}", self.root.display());
        }
    }
}

/// Waits for a process that has ended, or ends it.
fn end(mut child: Child, has_ended: bool) -> io::Result<()> {
    if !has_ended && child.try_wait()?.is_none() {
        child.kill()?;
    }
    child.wait().map(drop)
}

fn append(path: &std::path::Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

/// Passes on what a process prints, line by line, with the time at which it was read.
fn listen(pid: u32, output: impl io::Read, voice: &Sender<Heard>) {
    for line in BufReader::new(output).lines() {
        let Ok(text) = line else { break };
        if voice.send(Heard::Line { pid, text, at: now_millis() }).is_err() {
            return;
        }
    }
    // Nobody listens any more when the demo is over.
    let _ = voice.send(Heard::Ended { pid });
}

fn last_line(log: &std::path::Path) -> Option<String> {
    let text = fs::read_to_string(log).ok()?;
    text.lines().rev().find(|line| !line.trim().is_empty()).map(str::to_owned)
}

/// Whether it is a session of this name. Whoever runs the demonstration may be called so, too.
fn is_called(row: &PeerOnMesh, name: &str) -> bool {
    row.peer.peer_role != PeerRole::ControlPlane && row.peer.display_name == name
}
