//! The skills of the session's mesh, fetched from the daemon by a thread of its own, so that the main loop waits for nobody.

use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use crate::base::config::Config;
use crate::base::ids::Token;
use crate::base::paths::Paths;
use crate::base::thread::{self, Running};
use crate::client::{Client, Error};
use crate::wire::json::{Value, json};
use crate::wire::rpc::{Failure, INTERNAL_ERROR, INVALID_PARAMS, RESOURCE_NOT_FOUND};
use crate::wire::skill::Skill;

use super::pending::Ticket;
use super::skill_text;

/// Questions that wait for the daemon. One too many is refused at once.
const QUESTIONS: usize = 32;

/// One call to the daemon, which itself gives up sooner.
const CALL: Duration = Duration::from_secs(4);

/// A question that waited this long for others is not asked any more: its client has given up, or is about to.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often the list that the client has is compared with what is there. Changes are announced, and this is for when they
/// are not: the reference's broker never does, and without a session nobody follows the daemon's events.
const COMPARE_EVERY: Duration = Duration::from_secs(120);

/// How often, and how many times, a session that registers itself is looked for: it does so when its client has started, and
/// the client lists prompts at about the same time.
const LOOK_EVERY: Duration = Duration::from_secs(2);
const LOOKS: u32 = 15;

/// A whole list of skills is taken apart here.
const STACK: usize = 512 * 1024;

/// Where a session's skills are.
#[derive(Debug, Clone)]
pub(super) struct Source {
    pub(super) paths: Paths,
    pub(super) token: Option<Token>,
    /// Holds the token of a session that registers itself once its client runs.
    pub(super) own: Option<PathBuf>,
    /// The mesh that was named for whoever has no session.
    pub(super) mesh: Option<String>,
}

impl Source {
    /// The session's token, as far as one is known by now.
    pub(super) fn session(&self) -> Option<Token> {
        let own = || Token::parse(std::fs::read_to_string(self.own.as_ref()?).ok()?.trim());
        self.token.clone().or_else(own)
    }

    /// A client and the mesh to ask for: the session's own; else the named one, or the only one there is.
    fn client(&self) -> Option<(Client, Option<String>)> {
        let client = Client::new(&self.paths).with_deadline(CALL);
        if let Some(token) = self.session() {
            return Some((client.with_token(Some(token)), None));
        }
        if let Some(mesh) = &self.mesh {
            return Some((client, Some(mesh.clone())));
        }
        match Config::load(&self.paths.config_file()).ok()?.meshes.as_slice() {
            [only] => Some((client, Some(only.slug.to_string()))),
            _ => None,
        }
    }
}

/// What only the daemon can answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Question {
    Prompts,
    Prompt(String),
    Resources,
    /// By its address.
    Resource(String),
}

/// What the thread is told.
#[derive(Debug)]
pub(super) enum Job {
    Answer {
        ticket: Ticket,
        question: Question,
        asked: Instant,
    },
    /// Something may have changed.
    Compare,
}

/// What the main loop is told.
#[derive(Debug)]
pub(super) enum News {
    Answer(Ticket, Result<Value, Failure>),
    /// There are other skills than those the client has listed.
    Changed,
    /// There is a session now, whose events can be followed.
    Registered,
}

/// The running thread. It ends when this is dropped, at the end of its call.
#[derive(Debug)]
pub(super) struct Skills {
    jobs: Sender<Job>,
    news: Receiver<News>,
    running: Running,
}

impl Skills {
    pub(super) fn start(source: Source) -> io::Result<Skills> {
        let (jobs, queue) = bounded(QUESTIONS);
        // Bounded to nothing: while the client reads nothing, nothing is fetched for it.
        let (sender, news) = bounded(0);
        let registered = source.session().is_some();
        let mut worker = Worker { source, news: sender, shown: None, registered, looks: 0 };
        let running = thread::spawn("skills", STACK, move || worker.run(&queue))?;
        Ok(Skills { jobs, news, running })
    }

    pub(super) fn news(&self) -> &Receiver<News> {
        &self.news
    }

    /// Never waits. False where too much waits already.
    pub(super) fn tell(&self, job: Job) -> bool {
        self.jobs.try_send(job).is_ok()
    }

    pub(super) fn stop(self, deadline: Instant) {
        drop((self.jobs, self.news));
        self.running.join_by(deadline);
    }
}

struct Worker {
    source: Source,
    news: Sender<News>,
    /// What the client was shown last, if it asked for a list at all.
    shown: Option<Vec<Skill>>,
    registered: bool,
    looks: u32,
}

/// The main loop takes no more.
struct Ended;

impl Worker {
    fn run(&mut self, jobs: &Receiver<Job>) {
        loop {
            let job = if self.shown.is_some() {
                jobs.recv_timeout(self.pause())
            } else {
                jobs.recv().map_err(|_| RecvTimeoutError::Disconnected)
            };
            let done = match job {
                Ok(Job::Answer { ticket, question, asked }) => self.answer(ticket, &question, asked),
                Ok(Job::Compare) => self.compare(),
                Err(RecvTimeoutError::Timeout) => self.look(),
                Err(RecvTimeoutError::Disconnected) => return,
            };
            if done.is_err() {
                return;
            }
        }
    }

    fn answer(&mut self, ticket: Ticket, question: &Question, asked: Instant) -> Result<(), Ended> {
        if PATIENCE <= asked.elapsed() {
            return self.say(News::Answer(ticket, Err(Failure::new(INTERNAL_ERROR, "the daemon is too slow"))));
        }
        let result = match question {
            Question::Prompt(name) => self.one(name).map(|skill| skill_text::prompt(&skill)).map_err(|err| match err {
                Missing::None => Failure::new(INVALID_PARAMS, format!("Skill \"{name}\" not found in the mesh")),
                Missing::Failed(failure) => failure,
            }),
            Question::Resource(uri) => self.resource(uri),
            Question::Prompts | Question::Resources => return self.list(ticket, question),
        };
        self.say(News::Answer(ticket, result))
    }

    /// A list that can not be had is answered as empty, and announced as changed once it can: a client asks once.
    fn list(&mut self, ticket: Ticket, question: &Question) -> Result<(), Ended> {
        let skills = self.fetch().unwrap_or_default();
        let text = if *question == Question::Prompts { skill_text::prompts(&skills) } else { skill_text::resources(&skills) };
        self.say(News::Answer(ticket, Ok(text)))?;
        self.show(skills)
    }

    fn pause(&self) -> Duration {
        let is_awaited = self.source.own.is_some() && !self.registered && self.looks < LOOKS;
        if is_awaited { LOOK_EVERY } else { COMPARE_EVERY }
    }

    /// Nobody has asked for a while.
    fn look(&mut self) -> Result<(), Ended> {
        self.looks = self.looks.saturating_add(1);
        if !self.registered && self.source.session().is_some() {
            self.registered = true;
            self.say(News::Registered)?;
        }
        self.compare()
    }

    fn compare(&mut self) -> Result<(), Ended> {
        if self.shown.is_none() {
            return Ok(());
        }
        match self.fetch() {
            Some(skills) => self.show(skills),
            None => Ok(()),
        }
    }

    /// Prompts and resources are listed apart: what changed in between is news for the one that came first.
    fn show(&mut self, skills: Vec<Skill>) -> Result<(), Ended> {
        match self.shown.replace(skills) {
            Some(before) if self.shown.as_ref() != Some(&before) => self.say(News::Changed),
            _ => Ok(()),
        }
    }

    fn fetch(&self) -> Option<Vec<Skill>> {
        let (client, mesh) = self.source.client()?;
        match client.skills(None, mesh.as_deref()) {
            Ok(skills) if skills.unanswered.is_empty() => Some(skills.skills.into_iter().map(|skill| skill.row).collect()),
            Ok(_) => None,
            Err(err) => {
                log::debug!("skills can not be listed: {err}");
                None
            }
        }
    }

    fn one(&self, name: &str) -> Result<Skill, Missing> {
        let Some((client, mesh)) = self.source.client() else {
            let text = "several meshes are joined, and this session is on none of them: start it with claudemesh launch --mesh";
            return Err(Missing::Failed(Failure::new(INTERNAL_ERROR, text)));
        };
        client.skill(name, mesh.as_deref()).map(|found| found.skill.row).map_err(|err| match err {
            // A mesh that did not answer may well have it.
            Error::Refused { status: 404, problem } if !problem.rest.contains_key("unanswered") => Missing::None,
            Error::Refused { status: 404, .. } => Missing::Failed(Failure::new(INTERNAL_ERROR, "the broker does not answer now")),
            err => {
                let failure = Failure::new(INTERNAL_ERROR, err.to_string());
                Missing::Failed(err.hint().map_or(failure.clone(), |hint| failure.with(json!({ "hint": hint }))))
            }
        })
    }

    fn resource(&self, uri: &str) -> Result<Value, Failure> {
        let missing = |text: String| Failure::new(RESOURCE_NOT_FOUND, text).with(json!({ "uri": uri }));
        let name = skill_text::name_at(uri).ok_or_else(|| missing(format!("Unknown resource URI: {uri}")))?;
        match self.one(&name) {
            Ok(skill) => Ok(skill_text::resource(uri, &skill)),
            Err(Missing::None) => Err(missing(format!("Skill \"{name}\" not found"))),
            Err(Missing::Failed(failure)) => Err(failure),
        }
    }

    fn say(&self, news: News) -> Result<(), Ended> {
        self.news.send(news).map_err(|_| Ended)
    }
}

/// Why there is no skill to show.
enum Missing {
    /// The mesh has none of this name.
    None,
    Failed(Failure),
}
