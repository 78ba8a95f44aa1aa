//! A real broker, and a client for each peer of the model, made to do what the model does.

use std::time::Instant;

use super::super::*;
use super::model::{self, GROUPS, MEMBERS, Model, PEERS, SESSIONS, Said, TOPICS, is_session, member_of};
use super::op::{Op, To, Way};
use crate::broker::handle::events;
use crate::store::hub::{Author, TopicRow};
use crate::wire::limits::LEASE;
use crate::wire::topic::Visibility;

type Outcome = Result<(), String>;

/// A real broker with a client for each peer that is here.
pub(super) struct Real {
    world: World,
    clients: Vec<Option<Client>>,
    topics: Vec<String>,
    /// The broker's name for each message of the model's, and its sender's.
    messages: Vec<(String, String)>,
    /// What came to whom while something else was waited for.
    early: Vec<Vec<Value>>,
}

fn ensure(holds: bool, why: impl FnOnce() -> String) -> Outcome {
    if holds { Ok(()) } else { Err(why()) }
}

fn small(number: usize) -> u8 {
    u8::try_from(number).unwrap()
}

fn key(peer: usize) -> KeyPair {
    KeyPair::from_seed([small(if is_session(peer) { 100 + peer } else { 1 + member_of(peer) }); 32])
}

fn name(peer: usize) -> String {
    if is_session(peer) { format!("s{peer}") } else { format!("m{}", member_of(peer) + 1) }
}

/// The members that the world has not made.
fn add_members(world: &mut World) {
    for n in world.members.len()..MEMBERS {
        let (id, key) = (MemberId::new(format!("m{}", n + 1)), key(SESSIONS + n));
        let row = NewMember {
            id: id.clone(),
            mesh: world.mesh.clone(),
            key: MemberKey(key.public),
            display_name: id.to_string(),
            role: Role::Member,
            now: now_millis(),
        };
        world.running().hub().add_member(row).unwrap();
        world.members.push((id, key));
    }
}

/// A topic for everyone, which the first member leads.
fn make_topic(world: &World, name: &str) -> String {
    let id = crate::crypto::random::id32();
    let row = TopicRow {
        id: id.clone(),
        name: name.to_owned(),
        description: None,
        visibility: Visibility::Public,
        created_at: now_millis(),
        members: 0,
        role: None,
    };
    let author = Author { member: world.members[0].0.clone(), name: "m1".to_owned(), admin: true };
    world.running().hub().create_topic(world.mesh.clone(), row, author).unwrap();
    id
}

impl Real {
    pub(super) fn new() -> Real {
        let mut world = World::new();
        add_members(&mut world);
        let topics = TOPICS.iter().map(|name| make_topic(&world, name)).collect();
        let clients = (0..PEERS).map(|_| None).collect();
        Real { world, clients, topics, messages: Vec::new(), early: vec![Vec::new(); PEERS] }
    }

    fn client(&self, peer: usize) -> &Client {
        self.clients[peer].as_ref().expect("the model says that it is here")
    }

    /// Does what the model did, and holds what the broker says against it. `pushed` is what each connection had not
    /// acknowledged before.
    pub(super) fn act(&mut self, op: &Op, said: &Said, pushed: &[Vec<usize>]) -> Outcome {
        if *said == Said::Nothing {
            return Ok(());
        }
        match *op {
            Op::Connect(peer, groups) => self.connect(peer, groups, said)?,
            Op::Close(peer, way) => self.close(peer, way),
            Op::Expire => {
                let shared = &self.world.running().shared;
                for (mesh, gone) in shared.router.expire(Instant::now() + LEASE) {
                    events::left(shared, &mesh, &gone);
                }
            }
            Op::Restart => {
                self.world.broker.take().unwrap().stop();
                self.clients.fill_with(|| None);
                self.world.broker = Some(start(options(self.world.dir.path())).unwrap());
            }
            Op::Send { from, to, id, text, urgent } => {
                self.send((from, to), (id, text, urgent));
                self.answered(from, id, said)?;
            }
            Op::Burst { from, to, id, count } => {
                (id..id + count).for_each(|id| self.send((from, to), (id, 0, false)));
                let Said::Each(each) = said else { return Err(format!("{said:?} is no answer to several")) };
                for (id, said) in (id..).zip(each) {
                    self.answered(from, id, said)?;
                }
            }
            Op::Ack(peer, nth) => self.ack(peer, "brokerMessageId", &self.messages[pushed[peer][nth]].0),
            Op::AckForeign(peer, message) => self.ack(peer, "brokerMessageId", &self.messages[message].0),
            Op::AckById(peer, nth) => self.ack(peer, "clientMessageId", &self.messages[pushed[peer][nth]].1),
            _ => self.ask(op, said)?,
        }
        self.settle()
    }

    fn connect(&mut self, peer: usize, groups: u8, said: &Said) -> Outcome {
        let member = member_of(peer);
        let mut hello = match is_session(peer) {
            true => self.world.session_hello(member, &key(peer), &name(peer)),
            false => self.world.hello(member),
        };
        if !is_session(peer) {
            // A member's second daemon is on another machine.
            hello["hostname"] = json!(format!("host-{peer}"));
        } else {
            let inside = GROUPS.iter().enumerate().filter(|(at, _)| groups & (1 << at) != 0);
            hello["groups"] = inside.map(|(_, name)| json!({"name": name})).collect();
        }
        let client = self.world.connect();
        client.say(&hello);
        let answer = client.heard.recv_timeout(PATIENCE).map_err(|_| "a hello is not answered".to_owned())?;
        if let Said::Refused(code) = said {
            client.closed();
            return ensure(answer["type"] == "error" && answer["code"] == *code, || format!("not {code}: {answer}"));
        }
        ensure(answer["type"] == "hello_ack", || format!("not let in: {answer}"))?;
        if let Some(old) = self.clients[peer].replace(client) {
            let end = old.closed();
            ensure(end == (1000, "session_replaced".to_owned()), || format!("replaced, and closed with {end:?}"))?;
        }
        Ok(())
    }

    fn close(&mut self, peer: usize, way: Way) {
        let client = self.clients[peer].take().expect("the model says that it is here");
        client.say_text(if way == Way::Cut { "close:" } else { "close:session_ended" });
        client.ended.recv_timeout(PATIENCE).unwrap();
    }

    /// Whoever is gone is gone for the broker, too.
    fn settle(&self) -> Outcome {
        let here = self.clients.iter().flatten().count();
        let end = Instant::now() + PATIENCE;
        while self.world.running().shared.connections.get() != here {
            ensure(Instant::now() < end, || "a connection that is closed goes on".to_owned())?;
            std::thread::yield_now();
        }
        Ok(())
    }

    /// The next frame that is no push; pushes are kept for later.
    fn answer(&mut self, peer: usize) -> Result<Value, String> {
        loop {
            let client = self.clients[peer].as_ref().expect("it is here");
            let frame = client.heard.recv_timeout(PATIENCE).map_err(|_| format!("{} hears nothing", name(peer)))?;
            if frame["type"] != "push" {
                return Ok(frame);
            }
            if frame["subtype"] != "system" {
                self.early[peer].push(frame);
            }
        }
    }

    fn target(&self, to: To) -> String {
        match to {
            To::Key(peer) => key(peer).public.to_hex(),
            To::Group(group) => format!("@{}", GROUPS[group]),
            To::Topic(topic) => format!("#{}", self.topics[topic]),
            To::Everyone => "*".to_owned(),
        }
    }

    fn send(&self, (from, to): (usize, To), (id, text, urgent): (u16, u8, bool)) {
        let (id, text) = (format!("c{id}"), format!("text{text}"));
        self.client(from).send(&id, &self.target(to), &text, if urgent { "now" } else { "next" });
    }

    /// The answer to a message is what the model says.
    fn answered(&mut self, from: usize, id: u16, said: &Said) -> Outcome {
        let id = format!("c{id}");
        let ack = self.answer(from)?;
        let message = ack["messageId"].as_str().unwrap_or_default().to_owned();
        ensure(ack["type"] == "ack" && ack["id"] == *id, || format!("no answer to {id}: {ack}"))?;
        match *said {
            Said::New(number) => {
                let fresh = !self.messages.iter().any(|(known, _)| *known == message);
                self.messages.push((message, id));
                ensure(ack["queued"] == true && fresh && number + 1 == self.messages.len(), || format!("not new: {ack}"))
            }
            Said::Same(number) => {
                ensure(ack["queued"] == true && self.messages[number].0 == message, || format!("not the same: {ack}"))
            }
            Said::Refused(why) => {
                let so = ack["error"].as_str().is_some_and(|error| error.starts_with(why));
                ensure(ack["queued"] == false && so, || format!("not refused with {why}: {ack}"))
            }
            _ => Err(format!("{said:?} is no answer to a message")),
        }
    }

    fn ack(&self, peer: usize, by: &str, id: &str) {
        self.client(peer).say(&json!({"type": "client_ack", by: id}));
    }

    /// The question that an operation is.
    fn question(&self, op: &Op) -> (usize, Value) {
        match *op {
            Op::Status(peer, status) => (peer, json!({"type": "set_status", "status": status})),
            Op::Hide(peer, hidden) => (peer, json!({"type": "set_visible", "visible": !hidden})),
            Op::Group(peer, group, true) => (peer, json!({"type": "join_group", "name": GROUPS[group]})),
            Op::Group(peer, group, false) => (peer, json!({"type": "leave_group", "name": GROUPS[group]})),
            Op::Topic(peer, topic, true) => (peer, json!({"type": "topic_join", "topic": TOPICS[topic]})),
            Op::Topic(peer, topic, false) => (peer, json!({"type": "topic_leave", "topic": TOPICS[topic]})),
            Op::Grant(peer, other, capability, allowed) => {
                let change = if allowed { "grant" } else { "revoke" };
                (peer, json!({"type": "set_grants", "peer": key(SESSIONS + other).public, change: [capability]}))
            }
            Op::Expel(peer, target, sticks) => {
                let kind = if sticks { "kick" } else { "disconnect" };
                (peer, json!({"type": kind, "target": key(target).public}))
            }
            Op::Ban(peer, member, banned) => {
                let kind = if banned { "ban" } else { "unban" };
                (peer, json!({"type": kind, "target": key(SESSIONS + member).public}))
            }
            _ => unreachable!("{op:?} is no question"),
        }
    }

    fn ask(&mut self, op: &Op, said: &Said) -> Outcome {
        let (peer, mut question) = self.question(op);
        question["_reqId"] = json!("q");
        self.client(peer).say(&question);
        let answer = self.answer(peer)?;
        ensure(answer["_reqId"] == "q", || format!("no answer: {answer}"))?;
        match said {
            Said::Refused(code) => ensure(answer["code"] == *code, || format!("not refused with {code}: {answer}")),
            _ => ensure(answer["type"] != "error", || format!("refused: {answer}")),
        }?;
        let Said::Closed(closed, code) = said else { return Ok(()) };
        for peer in closed {
            let end = self.clients[*peer].take().expect("the model says that it was here").closed();
            ensure(end.0 == *code, || format!("closed with {end:?}"))?;
        }
        Ok(())
    }

    /// Holds what everybody was given against what the model gives.
    pub(super) fn compare(&mut self, given: &[Vec<usize>], model: &Model) -> Outcome {
        // An answer shows that what came before it was handled, the next one that what was due then has been said.
        for round in ["first", "second"] {
            let here: Vec<usize> = (0..PEERS).filter(|peer| self.clients[*peer].is_some()).collect();
            for peer in &here {
                self.client(*peer).say(&json!({"type": "is_all_said", "_reqId": round}));
            }
            for peer in here {
                let answer = self.answer(peer)?;
                ensure(answer["_reqId"] == round, || format!("{} hears {answer}", name(peer)))?;
            }
        }
        for (peer, expected) in given.iter().enumerate() {
            let came = std::mem::take(&mut self.early[peer]);
            let number = |push: &Value| self.messages.iter().position(|(id, _)| push["messageId"] == **id);
            let numbers: Vec<Option<usize>> = came.iter().map(number).collect();
            let expected: Vec<Option<usize>> = expected.iter().copied().map(Some).collect();
            ensure(numbers == expected, || format!("{} is given {numbers:?} and not {expected:?}", name(peer)))?;
            for (push, number) in came.iter().zip(numbers.into_iter().flatten()) {
                self.is_intact(push, &model.messages[number])?;
            }
        }
        let depth = self.world.running().hub().depth().map_err(|err| err.to_string())?;
        ensure(depth == model.depth(), || format!("{depth} copies wait and not {}", model.depth()))
    }

    fn is_intact(&self, push: &Value, message: &model::Message) -> Outcome {
        let same = push["ciphertext"] == format!("text{}", message.text)
            && push["client_message_id"] == format!("c{}", message.id)
            && push["senderPubkey"] == key(message.from).public.to_hex()
            && push["senderName"] == name(message.from)
            && push["targetSpec"] == self.target(message.to);
        ensure(same, || format!("{message:?} became {push}"))
    }
}
