//! Promise E: any bytes to any parser end in a value or an error, never in a panic. Seeds are mutated by a seeded
//! generator, so that a failure can be repeated; `CLAUDEMESH_FUZZ_ROUNDS` runs more. `fuzz/` holds the same targets for
//! cargo-fuzz.

use std::io::{Cursor, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use claudemesh::base::config::Config;
use claudemesh::base::exit::Exit;
use claudemesh::base::paths::Paths;
use claudemesh::base::{hex, names, time};
use claudemesh::crypto::invite::Invite;
use claudemesh::crypto::{api_key, base64, sealed};
use claudemesh::mcp;
use claudemesh::net::{http1, sse, target};
use claudemesh::wire::address::Address;
use claudemesh::wire::client::ClientFrame;
use claudemesh::wire::json::{self, Value};
use claudemesh::wire::mesh_api::{InvitePayload, SignedBy};
use claudemesh::wire::server::ServerFrame;
use claudemesh::wire::target::Target;
use claudemesh::wire::{apikey, event, http_api, ipc, rpc};

use crate::support::home::Home;

/// Mutations of each target in the suite.
const ROUNDS: u32 = 4000;

/// Mutations of what a hook reads: each is a process.
const HOOK_ROUNDS: u32 = 60;

/// xorshift64*: small, seeded, and good enough to choose mutations.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound.max(1) as u64).unwrap()
    }
}

/// Pieces that parsers stumble over.
const PIECES: [&[u8]; 22] = [
    b"\0",
    b"\xff\xfe",
    b"\xf0\x9f\x98\x80",
    b"\xe2\x80\xae",
    b"\r\n",
    b"\n\n",
    b"\r",
    b": ",
    b"{",
    b"}",
    b"[",
    b"\"",
    b"\\u0000",
    b"\\ud800",
    b"null",
    b"-1",
    b"1e999",
    b"99999999999999999999",
    b"%00",
    b"%",
    b"data:",
    b"Content-Length: 5\r\n",
];

fn mutate(seed: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len() + 1);
        match random.below(6) {
            0 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            1 => bytes.truncate(at),
            2 => drop(bytes.splice(at..at, PIECES[random.below(PIECES.len())].iter().copied())),
            3 if at < bytes.len() => drop(bytes.remove(at)),
            4 => {
                let end = (at + random.below(24)).min(bytes.len());
                let piece = bytes[at..end].to_vec();
                let to = random.below(bytes.len() + 1);
                bytes.splice(to..to, piece);
            }
            _ => bytes.extend(std::iter::repeat_n(bytes.get(at).copied().unwrap_or(b'['), random.below(300))),
        }
    }
    bytes
}

fn storm(name: &str, seeds: &[&[u8]], parse: impl Fn(&[u8])) {
    let rounds = std::env::var("CLAUDEMESH_FUZZ_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(ROUNDS);
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    // The seeds that cargo-fuzz begins with, where a target of this name has some.
    let kept = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/seeds").to_owned() + "/" + name);
    let mut kept: Vec<_> = kept.into_iter().flatten().map(|entry| entry.unwrap().path()).collect();
    kept.sort();
    let kept: Vec<Vec<u8>> = kept.iter().map(|path| std::fs::read(path).unwrap()).collect();
    let seeds: Vec<&[u8]> = seeds.iter().copied().chain(kept.iter().map(Vec::as_slice)).collect();
    for seed in &seeds {
        parse(seed);
    }
    for round in 0..rounds {
        let input = mutate(seeds[random.below(seeds.len())], &mut random);
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| parse(&input)));
        assert!(outcome.is_ok(), "{name}: round {round} panicked on {:?}", String::from_utf8_lossy(&input));
    }
}

fn text(parse: impl Fn(&str)) -> impl Fn(&[u8]) {
    move |bytes| parse(&String::from_utf8_lossy(bytes))
}

#[test]
fn every_fuzz_target_has_seeds() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz");
    let names = |dir: &str| -> Vec<String> {
        let entries = std::fs::read_dir(format!("{root}/{dir}")).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    };
    assert_eq!(names("fuzz_targets"), names("seeds"));
}

#[test]
fn frames() {
    let seeds: [&[u8]; 5] = [
        br#"{"type":"send","id":"c1","client_message_id":"c1","targetSpec":"*","priority":"now","nonce":"n","ciphertext":"c"}"#,
        br#"{"type":"session_hello","meshId":"m","parentMemberPubkey":"p","sessionPubkey":"s","parentAttestation":{"sessionPubkey":"s","parentMemberPubkey":"p","expiresAt":1,"signature":"x"},"sessionId":"u","pid":7,"cwd":"/","timestamp":1,"signature":"y","groups":[{"name":"a"}]}"#,
        br#"{"type":"list_peers","_reqId":"r"}"#,
        br#"{"type":"push","messageId":"M","senderPubkey":"ab","priority":"next","nonce":"n","ciphertext":"c","subtype":"system","event":"peer_joined","eventData":{"pubkey":"x"}}"#,
        br#"{"type":"peers_list","peers":[{"pubkey":"8a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c","memberPubkey":"8a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c","displayName":"a"}]}"#,
    ];
    storm(
        "frames",
        &seeds,
        text(|text| {
            if let Err(refused) = ClientFrame::decode(text) {
                assert!(refused.message.len() < 1000, "a refusal must not repeat what it refuses");
            }
            let _ = ServerFrame::decode(text);
        }),
    );
}

#[test]
fn addresses_names_and_times() {
    let seeds: [&[u8]; 6] = [b"alice@home", b"#deploys", b"@eng/api", b"8a88e3dd7409f195", b"2025-10-09T08:53:20.000Z", b"*"];
    storm(
        "address",
        &seeds,
        text(|text| {
            if let Err(invalid) = Address::parse(text) {
                assert!(invalid.to_string().chars().all(|c| !c.is_control()), "an error must be fit for a terminal");
            }
            if let Some(target) = Target::parse(text) {
                assert_eq!(Target::parse(&target.to_string()), Some(target));
            }
            let _ = (time::parse_iso(text), hex::decode::<32>(text), names::is_slug(text));
            assert!(names::neutralise(text).chars().all(|c| !c.is_control() || c == '\n' || c == '\t'));
        }),
    );
}

#[test]
fn configuration_and_json() {
    let seeds: [&[u8]; 3] = [
        br#"{"version":1,"meshes":[{"meshId":"m","memberId":"i","slug":"acme","name":"Acme","pubkey":"8a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c","secretKey":"00","brokerUrl":"ws://127.0.0.1:7900/ws","joinedAt":""}]}"#,
        br#"{"a":[1,2.5e-7,-0,1e21],"10":null,"__proto__":{"x":1},"e":"\u00e9"}"#,
        br#"{"to":"alice","message":"hello","meta":{"a":1},"priority":"now"}"#,
    ];
    storm("config", &seeds, |bytes| {
        let _ = Config::parse(bytes);
        let _ = json::decode::<ipc::SendRequest>(bytes);
        let _ = json::decode::<ipc::Register>(bytes);
        let _ = json::decode::<rpc::Request>(bytes);
        let _ = event::Event::read("message", &String::from_utf8_lossy(bytes));
        if let Ok(value) = json::decode::<Value>(bytes) {
            let canonical = json::canonical(&value);
            let again: Value = json::decode(canonical.as_bytes()).expect("canonical JSON is JSON");
            assert_eq!(json::canonical(&again), canonical);
        }
    });
}

#[test]
fn bodies_of_the_local_api() {
    // The seeds are those of the fuzz target.
    storm("bodies", &[], |bytes| {
        let _ = json::decode::<ipc::Register>(bytes);
        let _ = json::decode::<ipc::SendRequest>(bytes);
        let _ = json::decode::<ipc::Claim>(bytes);
        let _ = json::decode::<ipc::Handled>(bytes);
        let _ = json::decode::<ipc::Abort>(bytes);
        let _ = json::decode::<ipc::Requeue>(bytes);
        let _ = json::decode::<ipc::Prune>(bytes);
        let _ = json::decode::<ipc::StateWrite>(bytes);
        let _ = json::decode::<ipc::RememberRequest>(bytes);
    });
}

#[test]
fn lines_of_an_agent() {
    storm("mcp", &[], |bytes| {
        let connection = mcp::Connection { input: Box::new(Cursor::new(bytes.to_vec())), output: Box::new(std::io::sink()) };
        let paths = Paths::under(Path::new("/nonexistent/claudemesh"));
        let start = mcp::Start::Wait;
        let options = mcp::Options { paths, token: None, own: None, mesh: None, start, channels: true };
        assert_eq!(mcp::run(connection, options), Exit::Success, "a client that ends is no failure");
    });
}

/// A hook is a program of its own, and what it reads is seen by nothing else: whatever that is, it neither fails nor speaks.
#[test]
fn what_a_client_tells_its_hooks() {
    let home = Home::new();
    let seeds: [&[u8]; 3] = [
        br#"{"session_id":"01234567-89ab-cdef-0123-456789abcdef","cwd":"/","hook_event_name":"SessionStart","source":"startup"}"#,
        br#"{"session_id":"01234567-89ab-cdef-0123-456789abcdef","prompt":"<task-notification>","cwd":"/tmp/\u00e9"}"#,
        br#"{"session_id":[1,{"a":null}],"cwd":7,"source":{},"prompt":false}"#,
    ];
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for round in 0..HOOK_ROUNDS {
        let event = ["UserPromptSubmit", "PostToolUse", "Stop", "SessionEnd", "SessionStart"][random.below(5)];
        let input = mutate(seeds[random.below(seeds.len())], &mut random);
        let mut command = home.command(&["hook", event]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut hook = command.spawn().unwrap();
        // It may have read enough and gone.
        let _ = hook.stdin.take().unwrap().write_all(&input);
        let ended = hook.wait_with_output().unwrap();
        let said = (ended.status.code(), String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr));
        assert_eq!(said, (Some(0), "".into(), "".into()), "round {round}: {event} on {:?}", String::from_utf8_lossy(&input));
    }
}

#[test]
fn sealed_messages_and_base64() {
    let key = claudemesh::crypto::keys::KeyPair::from_seed([2; 32]);
    let seeds: [&[u8]; 2] = [b"AAECAwQFBgcICQoLDA0ODxAREhMUFRYX", b"IXNxG/dEMGP9Il79T52mNF1u2YGDaYmIc0RHxKrJ"];
    storm(
        "sealed",
        &seeds,
        text(|text| {
            if let Some(bytes) = base64::decode(text) {
                assert_eq!(base64::encode(&bytes), text);
            }
            assert!(sealed::open(text, text, &key.public, &key.secret).is_err());
        }),
    );
}

#[test]
fn http_heads_and_bodies() {
    let seeds: [&[u8]; 4] = [
        b"GET /v1/inbox?limit=5&mesh=a%20b HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"POST /v1/send HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello",
        b"POST /v1/send HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    ];
    storm("http", &seeds, |bytes| {
        let (mut ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(&bytes[..bytes.len().min(60_000)]).unwrap();
        drop(theirs);
        let deadline = Instant::now() + Duration::from_secs(5);
        if let Ok(request) = http1::read_request(&mut ours, deadline, 1024) {
            assert!(request.body.len() <= 1024);
            let _ = target::percent_decode(&request.head.target.path);
        }
    });
}

#[test]
fn invitations_and_signatures() {
    let seeds: [&[u8]; 2] = [
        br#"{"v":1,"mesh_id":"m","mesh_slug":"acme","broker_url":"wss://b/ws","expires_at":1760600000,"mesh_root_key":"CQk","role":"member","owner_pubkey":"8a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c","signature":"00"}"#,
        b"key=8a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c,ts=1760000000000,nonce=0123456789abcdef,sig=00",
    ];
    storm(
        "invitations",
        &seeds,
        text(|text| {
            if let Some(signed) = SignedBy::parse(text) {
                assert_eq!(SignedBy::parse(&signed.header()), Some(signed));
            }
            let Ok(payload) = json::decode::<InvitePayload>(text.as_bytes()) else { return };
            let invite = Invite {
                mesh_id: &payload.mesh_id,
                mesh_slug: &payload.mesh_slug,
                broker_url: &payload.broker_url,
                expires_at: payload.expires_at,
                mesh_root_key: &payload.mesh_root_key,
                role: &payload.role,
                owner_pubkey: &payload.owner_pubkey,
            };
            assert!(!invite.is_signed(&payload.signature));
        }),
    );
}

#[test]
fn what_scripts_send() {
    let seeds: [&[u8]; 4] = [
        br##"{"topic":"#deploys","message":"it is out","priority":"now","mentions":["bob"],"replyToId":"x","bodyVersion":1}"##,
        br#"{"to":"@eng","ciphertext":"aGVsbG8=","nonce":"bg=="}"#,
        br#"{"label":"ci","capabilities":["send","read","state_write","admin"],"topicScopes":["deploys"],"expiresAt":"2030-01-01T00:00:00Z"}"#,
        b"cm_CwsLCwsLCwsLCwsLCwsLCwsLCwsLCwsLCwsLCwsLCws",
    ];
    storm(
        "scripts",
        &seeds,
        text(|text| {
            if let Err(refused) = json::decode::<http_api::PostMessage>(text.as_bytes()) {
                assert!(refused.to_string().len() < 1000, "a refusal must not repeat what it refuses");
            }
            let _ = json::decode::<apikey::CreateApiKey>(text.as_bytes());
            if let Some(secret) = api_key::ApiSecret::parse(text) {
                assert!(secret.hash().len() == 64 && secret.prefix().len() == 11 && secret.into_text().reveal() == text);
            }
        }),
    );
}

#[test]
fn event_streams() {
    let seeds: [&[u8]; 3] = [
        b": connected\n\nid: 1\nevent: message\ndata: {\"a\":1}\n\n",
        b"id: 2\r\nevent: x\r\ndata: a\r\ndata: b\r\n\r\n: keepalive\r\n\r\n",
        b"\xef\xbb\xbfdata: x\n\nretry: 10\n\ndata\n\n",
    ];
    storm("sse", &seeds, |bytes| {
        let mut parser = sse::Parser::new(4096);
        let mut items = Vec::new();
        for piece in bytes.chunks(7) {
            if parser.push(piece, &mut items).is_err() {
                break;
            }
        }
    });
}
