//! A stand-in for the Messages API on loopback, so that the real client runs without a network. What a model would have seen
//! is what was asked of it here.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};

use super::home::Home;
use super::wait::until;

/// The real client, if this machine has it.
pub(crate) fn claude() -> Option<PathBuf> {
    let named = std::env::var_os("CLAUDEMESH_TEST_CLAUDE").map(PathBuf::from);
    let installed = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/claude-code/node_modules/.bin/claude");
    let found = named.unwrap_or(installed);
    if found.is_file() {
        return Some(found);
    }
    let required = std::env::var_os("CLAUDEMESH_REQUIRE_CLAUDE").is_some_and(|value| value == "1");
    assert!(!required, "there is no claude at {}, and it must be tested", found.display());
    eprintln!("there is no claude at {}: what needs the real client is left out (make test-deps)", found.display());
    None
}

/// What a turn of the model does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Says something, and the turn is over.
    Say,
    /// Runs `true` in the shell first.
    UseTool,
    /// Runs this in the shell first.
    Run(String),
}

type Script = Box<dyn Fn(usize) -> Turn + Send + Sync>;

/// A running stand-in.
pub(crate) struct Model {
    port: u16,
    asked: Arc<Mutex<Vec<Value>>>,
}

impl Model {
    /// `script` is called with the number of each question, from 0, before it is answered.
    pub(crate) fn start(script: impl Fn(usize) -> Turn + Send + Sync + 'static) -> Model {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (log, script): (_, Arc<Script>) = (asked.clone(), Arc::new(Box::new(script)));
        // It ends with the test's process: it holds nothing but the port.
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (log, script) = (log.clone(), script.clone());
                std::thread::spawn(move || serve(stream, &log, &script));
            }
        });
        Model { port, asked }
    }

    /// Everything that the question of this number, from 0, put before the model, as one text. Waits for it.
    #[track_caller]
    pub(crate) fn saw(&self, number: usize) -> String {
        let body =
            until("the model to be asked", || self.asked.lock().unwrap_or_else(PoisonError::into_inner).get(number).cloned());
        let mut text = String::new();
        gather(&body["messages"], &mut text);
        text
    }

    /// Waits until a question has this text in it.
    #[track_caller]
    pub(crate) fn hears(&self, text: &str) -> String {
        until(text, || {
            let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
            let mut texts = asked.iter().map(|body| {
                let mut all = String::new();
                gather(&body["messages"], &mut all);
                all
            });
            texts.find(|all| all.contains(text))
        })
    }

    pub(crate) fn count(&self) -> usize {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// A command of this home that runs the client on this model.
    pub(crate) fn command(&self, home: &Home, claude: &Path, args: &[&str]) -> Command {
        let mut command = home.command(args);
        let path = std::env::join_paths(
            [claude.parent().unwrap().to_owned()].into_iter().chain(std::env::split_paths(&std::env::var_os("PATH").unwrap())),
        );
        command
            .env("PATH", path.unwrap())
            .env("ANTHROPIC_BASE_URL", format!("http://127.0.0.1:{}", self.port))
            .env("ANTHROPIC_API_KEY", "sk-ant-test")
            .env("IS_SANDBOX", "1")
            // A busy machine is no reason to miss what is tested.
            .env("CLAUDEMESH_HOOK_MS", "5000")
            .env("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1");
        command
    }
}

/// Every text within, in order.
fn gather(value: &Value, text: &mut String) {
    match value {
        Value::String(one) => text.extend([one.as_str(), "\n"]),
        Value::Array(all) => all.iter().for_each(|one| gather(one, text)),
        Value::Object(all) => all.values().for_each(|one| gather(one, text)),
        _ => {}
    }
}

fn serve(stream: TcpStream, log: &Mutex<Vec<Value>>, script: &Script) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut stream = stream;
    while let Some((path, body)) = request(&mut reader) {
        let reply = answer(&path, &body, log, script);
        let kind = if body["stream"] == true { "text/event-stream" } else { "application/json" };
        let head = format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n", reply.len());
        if stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(reply.as_bytes())).is_err() {
            return;
        }
    }
}

fn request(reader: &mut impl BufRead) -> Option<(String, Value)> {
    let mut first = String::new();
    reader.read_line(&mut first).ok().filter(|count| *count != 0)?;
    let path = first.split(' ').nth(1)?.to_owned();
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|count| *count != 0)?;
        match line.trim().to_ascii_lowercase().split_once(':') {
            Some(("content-length", value)) => length = value.trim().parse().ok()?,
            Some(_) => {}
            None => break,
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some((path, serde_json::from_slice(&body).unwrap_or_default()))
}

fn answer(path: &str, body: &Value, log: &Mutex<Vec<Value>>, script: &Script) -> String {
    if !path.contains("/messages") || path.contains("count_tokens") {
        return r#"{"input_tokens":10}"#.to_owned();
    }
    // Questions without tools are the client's own: titles and the like.
    let is_turn = body["tools"].as_array().is_some_and(|tools| !tools.is_empty());
    let turn = if is_turn {
        let number = log.lock().unwrap_or_else(PoisonError::into_inner).len();
        let turn = script(number);
        log.lock().unwrap_or_else(PoisonError::into_inner).push(body.clone());
        turn
    } else {
        Turn::Say
    };
    let message = |content: Value, stop: Value| {
        json!({ "id": "msg_1", "type": "message", "role": "assistant", "model": body["model"], "content": content,
                "stop_reason": stop, "stop_sequence": null, "usage": { "input_tokens": 10, "output_tokens": 5 } })
    };
    if body["stream"] != true {
        return message(json!([{ "type": "text", "text": "ok" }]), json!("end_turn")).to_string();
    }
    let run = |command: &str| {
        let input = json!({ "command": command, "description": "nothing" }).to_string();
        (
            json!({ "type": "tool_use", "id": "toolu_1", "name": "Bash", "input": {} }),
            json!({ "type": "input_json_delta", "partial_json": input }),
            "tool_use",
        )
    };
    let (block, delta, stop) = match turn {
        Turn::Say => (json!({ "type": "text", "text": "" }), json!({ "type": "text_delta", "text": "ok" }), "end_turn"),
        Turn::UseTool => run("true"),
        Turn::Run(command) => run(&command),
    };
    let events = [
        json!({ "type": "message_start", "message": message(json!([]), Value::Null) }),
        json!({ "type": "content_block_start", "index": 0, "content_block": block }),
        json!({ "type": "content_block_delta", "index": 0, "delta": delta }),
        json!({ "type": "content_block_stop", "index": 0 }),
        json!({ "type": "message_delta", "delta": { "stop_reason": stop, "stop_sequence": null }, "usage": { "output_tokens": 5 } }),
        json!({ "type": "message_stop" }),
    ];
    events.iter().map(|event| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap_or_default())).collect()
}
