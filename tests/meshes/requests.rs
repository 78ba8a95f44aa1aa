//! The broker's HTTP routes spoken to by hand: the reference's body for joining, and signatures that should not count.

use claudemesh::base::ids::{MemberId, MemberKey, MeshId, Slug};
use claudemesh::base::thread::Joined;
use claudemesh::base::time::now_millis;
use claudemesh::crypto::base64;
use claudemesh::crypto::invite::Invite;
use claudemesh::crypto::keys::KeyPair;
use claudemesh::crypto::random;
use claudemesh::crypto::request::Request;
use claudemesh::store::hub::invites::NewInvite;
use claudemesh::store::hub::{Hub, NewMember, NewMesh, Role};
use serde_json::{Value, json};

use super::{Server, config, ok};
use crate::support::home::Home;
use crate::support::http::{self, Reply};
use crate::support::mesh::HUB;

/// A mesh whose owner is this test.
struct Mesh {
    server: Server,
    owner: KeyPair,
}

const MESH: &str = "meshTEST000000000000000000000001";

impl Mesh {
    /// With these invites: a token's payload, how long the broker's row is good for, and how often.
    fn new(invites: &[(&Value, i64, u32)]) -> Mesh {
        let (home, owner) = (Home::new(), KeyPair::from_seed([1; 32]));
        std::fs::create_dir(home.join("data")).unwrap();
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        std::fs::set_permissions(home.join("data"), private).unwrap();
        let (hub, thread) = Hub::open(&home.join("data").join(HUB)).unwrap();
        for id in [MESH, "other"] {
            let (mesh, key, now) = (MeshId::new(id), MemberKey(owner.public), now_millis());
            let by = NewMember {
                id: MemberId::new(format!("owner-{id}")),
                mesh,
                key,
                display_name: "o".into(),
                role: Role::Admin,
                now,
            };
            hub.create_mesh(NewMesh { id: MeshId::new(id), slug: Slug::new("acme"), name: "acme".into(), owner: key, now }, by)
                .unwrap();
        }
        for (n, (payload, life, uses)) in invites.iter().enumerate() {
            let new = NewInvite {
                id: format!("id{n}"),
                mesh: MeshId::new(MESH),
                code: format!("CODE{n}"),
                token: token(payload),
                role: Role::Member,
                by: MemberId::new(format!("owner-{MESH}")),
                now: now_millis(),
                expires_at: now_millis() + life,
                uses: *uses,
            };
            hub.add_invite(new).unwrap();
        }
        drop(hub);
        let ended = thread.join_by(std::time::Instant::now() + crate::support::wait::PATIENCE);
        assert_eq!(ended, Joined::Ended(()));
        Mesh { server: Server::start_in(home, &[]), owner }
    }

    #[track_caller]
    fn join(&self, payload: &Value, key: &str) -> (u16, Value) {
        join(self.server.address(), payload, key)
    }
}

#[track_caller]
fn join(address: &str, payload: &Value, key: &str) -> (u16, Value) {
    let body =
        json!({"invite_token": token(payload), "invite_payload": payload, "peer_pubkey": key, "display_name": "host-4711"});
    let reply = http::request_tcp(address, "POST", "/join", &[], Some(body.to_string().as_bytes())).unwrap();
    (reply.status, reply.json())
}

fn token(payload: &Value) -> String {
    base64::encode_url(payload.to_string().as_bytes())
}

/// What the reference puts into a link, signed by `owner`.
fn payload(owner: &KeyPair, mesh: &str, role: &str) -> Value {
    let (root_key, key) = (base64::encode_url(&[9; 32]), owner.public.to_hex());
    let invite = Invite {
        mesh_id: mesh,
        mesh_slug: "acme",
        broker_url: "wss://broker.example/ws",
        expires_at: 4_000_000_000,
        mesh_root_key: &root_key,
        role,
        owner_pubkey: &key,
    };
    json!({
        "v": 1, "mesh_id": mesh, "mesh_slug": "acme", "broker_url": "wss://broker.example/ws", "expires_at": 4_000_000_000_i64,
        "mesh_root_key": root_key, "role": role, "owner_pubkey": key, "signature": invite.sign(&owner.secret).to_string(),
    })
}

#[test]
fn the_references_join() {
    let owner = KeyPair::from_seed([1; 32]);
    let good = payload(&owner, MESH, "member");
    let expired = payload(&owner, MESH, "admin");
    let elsewhere = payload(&owner, "other", "member");
    let mesh = Mesh::new(&[(&good, 60_000, 2), (&expired, -1, 2), (&elsewhere, 60_000, 2)]);
    let key = |n: u8| KeyPair::from_seed([n; 32]).public.to_hex();
    let refused = |payload: &Value, n: u8| {
        let (status, body) = mesh.join(payload, &key(n));
        assert_eq!((status, &body["ok"]), (400, &false.into()), "{body}");
        body["error"].as_str().unwrap().to_owned()
    };

    let (status, first) = mesh.join(&good, &key(11));
    assert_eq!((status, &first["ok"], first.get("alreadyMember")), (200, &true.into(), None), "{first}");
    let (status, again) = mesh.join(&good, &key(11).to_uppercase());
    assert_eq!((status, &again["alreadyMember"], &again["memberId"]), (200, &true.into(), &first["memberId"]));
    assert_eq!(mesh.join(&good, &key(12)).0, 200);
    assert_eq!(refused(&good, 13), "invite_exhausted");
    assert_eq!(mesh.join(&good, &key(12)).0, 200, "a member is one for all that");
    assert_eq!(refused(&expired, 13), "invite_expired");
    assert_eq!(refused(&elsewhere, 13), "invite_mesh_mismatch");
    assert_eq!(refused(&payload(&owner, "nowhere", "member"), 13), "mesh_not_found");
    assert_eq!(refused(&payload(&KeyPair::from_seed([7; 32]), MESH, "member"), 13), "invite_owner_mismatch");
    assert_eq!(refused(&payload(&KeyPair::from_seed([11; 32]), MESH, "member"), 13), "invite_owner_mismatch", "a member's own");
    let mut promoted = good.clone();
    promoted["role"] = "admin".into();
    assert_eq!(refused(&promoted, 13), "invite_bad_signature");
    assert_eq!(refused(&payload(&owner, MESH, "member\u{200b}"), 13), "invite_not_found");

    for (body, error) in [
        (json!({}), "invite_token, invite_payload, peer_pubkey, display_name required"),
        (
            json!({"invite_token": "x", "invite_payload": good, "peer_pubkey": "ab", "display_name": "x"}),
            "peer_pubkey must be 64 hex chars (32 bytes)",
        ),
        (
            json!({"invite_token": "x", "invite_payload": {"v": "one"}, "peer_pubkey": key(13), "display_name": "x"}),
            "invite_bad_signature",
        ),
    ] {
        let reply = mesh.server.post("/join", &body);
        assert_eq!((reply.status, reply.json()["error"].as_str()), (400, Some(error)), "{body}");
    }
    let large = mesh.server.post("/join", &json!({"x": "y".repeat(70_000)}));
    assert_eq!((large.status, large.json()["error"].as_str()), (413, Some("payload too large")));
}

#[test]
fn one_key_that_joins_many_times_at_once_is_one_member() {
    let good = payload(&KeyPair::from_seed([1; 32]), MESH, "member");
    let mesh = Mesh::new(&[(&good, 60_000, 2)]);
    let key = KeyPair::from_seed([11; 32]).public.to_hex();
    let address = mesh.server.address();
    let answers: Vec<(u16, Value)> = std::thread::scope(|scope| {
        let joining: Vec<_> = (0..8).map(|_| scope.spawn(|| join(address, &good, &key))).collect();
        joining.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(answers.iter().all(|(status, body)| *status == 200 && body["memberId"] == answers[0].1["memberId"]), "{answers:?}");
    assert_eq!(answers.iter().filter(|(_, body)| body.get("alreadyMember").is_none()).count(), 1, "{answers:?}");
    let another = KeyPair::from_seed([12; 32]).public.to_hex();
    assert_eq!(mesh.join(&good, &another).0, 200, "one use is left");
}

/// A request's parts, so that a test can bend one.
struct Signed {
    method: &'static str,
    path: String,
    body: String,
    header: String,
}

fn signed(key: &KeyPair, method: &'static str, path: &str, body: &str, timestamp: i64) -> Signed {
    let nonce = random::id32();
    let request = Request { method, path, body: body.as_bytes(), key: key.public, timestamp, nonce: &nonce };
    let header = format!("key={},ts={timestamp},nonce={nonce},sig={}", key.public, request.sign(&key.secret));
    Signed { method, path: path.to_owned(), body: body.to_owned(), header }
}

#[track_caller]
fn send(server: &Server, request: &Signed) -> Reply {
    let headers = [("X-ClaudeMesh-Signature", request.header.as_str())];
    http::request_tcp(server.address(), request.method, &request.path, &headers, Some(request.body.as_bytes())).unwrap()
}

#[test]
fn a_signature_counts_once_for_what_was_signed_and_not_for_long() {
    let mesh = Mesh::new(&[]);
    let (path, body) = (format!("/mesh/{MESH}"), r#"{"slug":"one","name":"One"}"#);
    let error = |request: &Signed| {
        let reply = send(&mesh.server, request);
        (reply.status, reply.json()["error"].as_str().unwrap_or_default().to_owned())
    };
    let unauthorized = http::request_tcp(mesh.server.address(), "PATCH", &path, &[], Some(body.as_bytes())).unwrap();
    assert_eq!(unauthorized.status, 401);

    let good = signed(&mesh.owner, "PATCH", &path, body, now_millis());
    assert_eq!(send(&mesh.server, &good).status, 200);
    assert_eq!(error(&good), (409, "replayed".into()));
    let fresh = || signed(&mesh.owner, "PATCH", &path, body, now_millis());
    let bent = Signed { body: body.replace("one", "two"), ..fresh() };
    assert_eq!(error(&bent), (401, "bad_signature".into()));
    assert_eq!(error(&Signed { path: "/mesh/other".into(), ..fresh() }), (401, "bad_signature".into()));
    assert_eq!(error(&Signed { path: format!("{path}?x=1"), ..fresh() }), (401, "bad_signature".into()));
    assert_eq!(error(&Signed { method: "DELETE", ..fresh() }), (401, "bad_signature".into()));
    assert_eq!(error(&Signed { header: "key=".into(), ..fresh() }), (401, "bad_signature".into()));
    let stranger = signed(&KeyPair::from_seed([9; 32]), "PATCH", &path, body, now_millis());
    assert_eq!(error(&stranger), (403, "forbidden".into()));
    for off in [-61_000, 62_000] {
        let reply = send(&mesh.server, &signed(&mesh.owner, "PATCH", &path, body, now_millis() + off));
        let said = reply.json();
        assert_eq!((reply.status, said["error"].as_str()), (401, Some("timestamp_skew")), "{said}");
        assert!((said["server_time"].as_i64().unwrap() - now_millis()).abs() < 60_000, "{said}");
    }
    assert_eq!(send(&mesh.server, &fresh()).status, 200, "none of these has spoiled anything");
}

#[test]
fn the_admin_token_manages_any_mesh_but_signs_for_nobody() {
    let (alice, server) = (Home::new(), Server::start(&[]));
    ok(&alice, &["mesh", "create", "team", "--broker", &server.url()]);
    let invited = ok(&alice, &["invite"]);
    let id = config(alice.path())["meshes"][0]["meshId"].as_str().unwrap().to_owned();
    let bearer = format!("Bearer {}", server.ready["admin_token"].as_str().unwrap());
    let call = |method: &str, path: &str, body: &str, token: &str| {
        http::request_tcp(server.address(), method, path, &[("Authorization", token)], Some(body.as_bytes())).unwrap().status
    };
    let list = format!("/mesh/{id}/invites");
    assert_eq!(call("GET", &list, "", &format!("Bearer {}", "0".repeat(64))), 401);
    assert_eq!(call("GET", &list, "", &bearer), 200);
    let invite = json!({"invite_token": invited["token"], "uses": 9}).to_string();
    assert_eq!(call("POST", "/invite", &invite, &bearer), 401);
    assert_eq!(call("POST", &format!("/mesh/{id}/leave"), "", &bearer), 401);
    assert_eq!(call("DELETE", &format!("/invite/{}", invited["id"].as_str().unwrap()), "", &bearer), 200);
    assert_eq!(call("DELETE", &format!("/mesh/{id}"), "", &bearer), 200);
    assert_eq!(call("DELETE", &format!("/mesh/{id}"), "", &bearer), 404);
    assert_eq!(call("PUT", "/mesh", "", &bearer), 405);
}
