//! One connection to a broker, frame by frame: it says what a test says, and hears everything in order.

use std::net::TcpStream;
use std::time::Instant;

use serde_json::{Value, json};
use tungstenite::{Message, WebSocket};

use super::wait::PATIENCE;

#[derive(Debug)]
pub(crate) struct Peer(WebSocket<TcpStream>);

impl Peer {
    /// A WebSocket that has said nothing.
    #[track_caller]
    pub(crate) fn open(address: &str) -> Peer {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Peer(tungstenite::client(format!("ws://{address}/ws"), stream).unwrap().0)
    }

    /// One that has been let in. Nothing comes before it is told so.
    #[track_caller]
    pub(crate) fn enter(address: &str, hello: &Value) -> Peer {
        let mut peer = Peer::open(address);
        peer.say(hello);
        let first = peer.hear();
        assert_eq!(first["type"], "hello_ack", "{first}");
        peer
    }

    pub(crate) fn say(&mut self, frame: &Value) {
        self.0.send(Message::text(frame.to_string())).unwrap();
    }

    /// Whatever comes next. A close is `{"type":"close","code":…,"reason":…}`.
    #[track_caller]
    pub(crate) fn hear(&mut self) -> Value {
        // A broker that only pings keeps every read from running out of time.
        let end = Instant::now() + PATIENCE;
        loop {
            assert!(Instant::now() < end, "nothing was said for {PATIENCE:?}");
            match self.0.read().expect("something comes") {
                Message::Text(text) => return serde_json::from_str(&text).unwrap(),
                Message::Close(close) => {
                    let close = close.map(|close| (u16::from(close.code), close.reason.to_string()));
                    let (code, reason) = close.unwrap_or_default();
                    return json!({"type": "close", "code": code, "reason": reason});
                }
                _ => {}
            }
        }
    }

    /// The next frame that tells of nobody's coming and going and of no skill; it must be of this type.
    #[track_caller]
    pub(crate) fn next(&mut self, kind: &str) -> Value {
        loop {
            let frame = self.hear();
            if frame["subtype"] != "system" && frame["type"] != "skill_change" {
                assert_eq!(frame["type"], kind, "{frame}");
                return frame;
            }
        }
    }

    /// What the next event of this name says; others are passed over.
    #[track_caller]
    pub(crate) fn event(&mut self, name: &str) -> Value {
        loop {
            let frame = self.hear();
            assert_ne!(frame["type"], "close", "waiting for {name}: {frame}");
            if frame["event"] == name {
                return frame["eventData"].clone();
            }
        }
    }

    /// Asks, and takes the answer, which must be of this type and carry the question's id.
    #[track_caller]
    pub(crate) fn ask(&mut self, mut frame: Value, kind: &str) -> Value {
        frame["_reqId"] = json!("q");
        self.say(&frame);
        let answer = self.next(kind);
        assert_eq!(answer["_reqId"], "q", "{answer}");
        answer
    }

    /// Asks, and is refused with this code.
    #[track_caller]
    pub(crate) fn refused(&mut self, frame: Value, code: &str) -> Value {
        let answer = self.ask(frame, "error");
        assert_eq!(answer["code"], code, "{answer}");
        answer
    }

    /// A message, and what the broker says to it.
    #[track_caller]
    pub(crate) fn send(&mut self, id: &str, to: &str, text: &str) -> Value {
        self.say(&json!({"type": "send", "id": id, "client_message_id": id, "targetSpec": to, "priority": "next", "nonce": "",
                         "ciphertext": text}));
        let ack = self.next("ack");
        assert_eq!(ack["id"], id, "{ack}");
        ack
    }

    /// A message that is taken; the broker's id for it.
    #[track_caller]
    pub(crate) fn sent(&mut self, id: &str, to: &str, text: &str) -> String {
        let ack = self.send(id, to, text);
        assert_eq!((&ack["queued"], &ack["error"]), (&json!(true), &Value::Null), "{ack}");
        ack["messageId"].as_str().unwrap().to_owned()
    }

    /// The next message, acknowledged; its sender's id for it.
    #[track_caller]
    pub(crate) fn takes(&mut self) -> Value {
        let push = self.next("push");
        let ids =
            json!({"type": "client_ack", "clientMessageId": push["client_message_id"], "brokerMessageId": push["messageId"]});
        self.say(&ids);
        push
    }

    /// Nothing has been said that was not heard. Mail goes out behind the first answer, so that it stands before the second.
    #[track_caller]
    pub(crate) fn is_quiet(&mut self) {
        for _ in 0..2 {
            self.ask(json!({"type": "set_summary", "summary": "s"}), "ack");
        }
    }

    /// The code and the reason with which the broker closes.
    #[track_caller]
    pub(crate) fn closed(&mut self) -> (u64, String) {
        loop {
            let frame = self.hear();
            if frame["type"] == "close" {
                return (frame["code"].as_u64().unwrap(), frame["reason"].as_str().unwrap().to_owned());
            }
        }
    }

    /// Those who are here as this peer sees them.
    #[track_caller]
    pub(crate) fn peers(&mut self) -> Vec<Value> {
        self.ask(json!({"type": "list_peers"}), "peers_list")["peers"].as_array().unwrap().clone()
    }
}
