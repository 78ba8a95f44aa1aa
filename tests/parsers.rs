//! Promise E: any bytes to any parser end in a value or an error, never in a panic. Seeds are mutated by a seeded
//! generator, so that a failure can be repeated; `CLAUDEMESH_FUZZ_ROUNDS` runs more. `fuzz/` holds the same targets for
//! cargo-fuzz.

use std::io::{Cursor, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use claudemesh::base::config::Config;
use claudemesh::base::cron::Cron;
use claudemesh::base::exit::Exit;
use claudemesh::base::paths::Paths;
use claudemesh::base::settings::Settings;
use claudemesh::base::{hex, names, time};
use claudemesh::crypto::invite::Invite;
use claudemesh::crypto::{api_key, base64, sealed};
use claudemesh::mcp;
use claudemesh::net::{http1, sse, target};
use claudemesh::wire::address::Address;
use claudemesh::wire::client::ClientFrame;
use claudemesh::wire::hook::HookInput;
use claudemesh::wire::json::{self, Value};
use claudemesh::wire::mesh_api::{InvitePayload, SignedBy};
use claudemesh::wire::server::ServerFrame;
use claudemesh::wire::target::Target;
use claudemesh::wire::{apikey, event, http_api, ipc, mesh_api, receipt, rpc};

use crate::support::home::Home;
use crate::support::mutate;
use crate::support::random::Random;

/// Mutations of each target in the suite.
const ROUNDS: u32 = 4000;

/// Mutations of what a hook reads: each is a process.
const HOOK_ROUNDS: u32 = 60;

fn storm(name: &str, seeds: &[&[u8]], parse: impl Fn(&[u8])) {
    let rounds = std::env::var("CLAUDEMESH_FUZZ_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(ROUNDS);
    let mut random = Random::new(0x9e37_79b9_7f4a_7c15);
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
        let input = mutate::bytes(seeds[random.index(seeds.len())], &mut random);
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

/// The words in `type` of an enum of frames, as its source lists them.
fn kinds(source: &str, name: &str) -> Vec<String> {
    let (_, body) = source.split_once(&format!("pub enum {name} {{")).expect("the enum");
    let (body, _) = body.split_once("\n}").expect("its end");
    let variants = body.lines().filter_map(|line| line.trim().split_once('(')).map(|(variant, _)| variant);
    let snake = |variant: &str| {
        let parts =
            variant.chars().map(|c| if c.is_ascii_uppercase() { format!("_{}", c.to_ascii_lowercase()) } else { c.into() });
        parts.collect::<String>().trim_start_matches('_').to_owned()
    };
    variants.filter(|variant| variant.chars().all(char::is_alphanumeric)).map(snake).collect()
}

#[test]
fn every_frame_is_a_seed_that_reads() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/seeds/frames");
    let client = kinds(include_str!("../src/wire/client.rs"), "ClientFrame");
    let server = kinds(include_str!("../src/wire/server.rs"), "ServerFrame");
    assert!(50 < client.len() && 35 < server.len(), "{client:?} {server:?}");
    let seed = |name: String| std::fs::read_to_string(format!("{root}/{name}")).unwrap_or_else(|err| panic!("{name}: {err}"));
    for kind in client {
        let read = ClientFrame::decode(&seed(format!("client-{kind}"))).unwrap_or_else(|err| panic!("{kind}: {err:?}"));
        assert!(read.encode().contains(&format!("\"type\":\"{kind}\"")), "{kind}");
    }
    for kind in server {
        let read = ServerFrame::decode(&seed(format!("server-{kind}"))).unwrap_or_else(|| panic!("{kind}"));
        assert!(read.encode().contains(&format!("\"type\":\"{kind}\"")), "{kind}");
    }
}

#[test]
fn frames() {
    // The seeds are those of the fuzz target: one of each kind.
    storm(
        "frames",
        &[],
        text(|text| {
            if let Err(refused) = ClientFrame::decode(text) {
                assert!(refused.message.len() < 1000, "a refusal must not repeat what it refuses");
            }
            let _ = ServerFrame::decode(text);
        }),
    );
}

#[test]
fn times_that_come_again() {
    storm(
        "cron",
        &[],
        text(|text| {
            let Some(cron) = Cron::parse(text) else { return };
            for after in [i64::MIN, -1, 0, 1_760_000_000_000, 4_102_444_800_000, i64::MAX] {
                if let Some(next) = cron.next(after) {
                    assert!(after < next, "{text} after {after} is {next}");
                }
            }
        }),
    );
}

#[test]
fn requests_for_a_broker() {
    storm("requests", &[], |bytes| {
        let _ = json::decode::<mesh_api::JoinRequest>(bytes);
        let _ = json::decode::<mesh_api::CreateMesh>(bytes);
        let _ = json::decode::<mesh_api::RenameMesh>(bytes);
        let _ = json::decode::<mesh_api::CreateInvite>(bytes);
        let _ = json::decode::<http_api::PostMessage>(bytes);
        let _ = json::decode::<receipt::Receipt>(bytes);
        let text = String::from_utf8_lossy(bytes);
        if let Some(signed) = SignedBy::parse(&text) {
            assert_eq!(SignedBy::parse(&signed.header()), Some(signed));
        }
    });
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
        let _ = json::decode::<Settings>(bytes);
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
        let _ = json::decode::<ipc::Seen>(bytes);
        let _ = json::decode::<ipc::TurnEnd>(bytes);
        let _ = json::decode::<ipc::CanaryRequest>(bytes);
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

#[test]
fn what_hooks_read() {
    // The seeds are those of the fuzz target.
    storm("hooks", &[], |bytes| {
        let input = HookInput::parse(bytes);
        assert!(input.session_id.is_none_or(|id| names::is_uuid(&id)), "it becomes the name of a file");
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
    let mut random = Random::new(0x9e37_79b9_7f4a_7c15);
    for round in 0..HOOK_ROUNDS {
        let event = ["UserPromptSubmit", "PostToolUse", "Stop", "SessionEnd", "SessionStart"][random.index(5)];
        let input = mutate::bytes(seeds[random.index(seeds.len())], &mut random);
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
