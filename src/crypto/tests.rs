//! Vectors computed outside this program and verified with the reference's own code: what these functions must give, byte
//! for byte, to be understood by every other peer.

use super::fingerprint::{Kind, Request, destination, sha256};
use super::hello::{Attestation, ClaimedAttestation, Hello, SessionHello};
use super::keys::{KeyPair, SecretKey};
use super::scope_key::{ScopeKey, SealedKey};
use super::sealed::{self, Channel};
use super::sign::{Signature, sign, verify};
use super::{base64, ffi};
use crate::base::hex;
use crate::base::ids::{MemberId, MemberKey, MeshId, PublicKey, SessionKey};
use crate::base::time::Millis;

const OWNER: (u8, &str) = (1, "8a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c");
const MEMBER_A: (u8, &str) = (2, "8139770ea87d175f56a35466c34c7ecccb8d8a91b4ee37a25df60f5b8fc9b394");
const MEMBER_B: (u8, &str) = (3, "ed4928c628d1c2c6eae90338905995612959273a5c63f93636c14614ac8737d1");
const SESSION: (u8, &str) = (4, "ca93ac1705187071d67b83c7ff0efe8108e8ec4530575d7726879333dbdabe7c");

const MESH_ID: &str = "meshTEST000000000000000000000001";
const MEMBER_ID: &str = "memA0000000000000000000000000001";
const NOW: Millis = 1_760_000_000_000;
const BODY: &str = "hello mesh ✓";

fn pair((seed, public): (u8, &str)) -> KeyPair {
    let pair = KeyPair::from_seed([seed; 32]);
    assert_eq!(pair.public.to_hex(), public);
    pair
}

fn counting_nonce() -> [u8; 24] {
    std::array::from_fn(|at| u8::try_from(at).unwrap())
}

#[test]
fn seeds_derive_the_keys_everyone_derives() {
    for who in [OWNER, MEMBER_A, MEMBER_B, SESSION] {
        let text = format!("{}{}", hex::encode(&[who.0; 32]), who.1);
        assert_eq!(pair(who).secret.to_secret_text().reveal(), text);
        assert_eq!(SecretKey::parse_hex(&text).map(|key| key.public()), PublicKey::parse(who.1));
    }
}

#[test]
fn signing_keys_convert_to_box_keys() {
    for (who, public, secret) in [
        (
            MEMBER_A,
            "60346e7c911a5f6ba154129174cafe75b294ac3bbd5549632f48cec6266f8410",
            "a83c626bc9c38c8c201878ebb1d5b0b50ac40e8986c78793db1d4ef369fca14e",
        ),
        (
            MEMBER_B,
            "75e270df2952c57ba8367ba8618c178f9fe50db2799d304e74e918d985686146",
            "98aebbb178a551876bfaf8e1e530dac6aaf6c2ea1c8f8406a3ab37dfb40fbc65",
        ),
        (
            SESSION,
            "edd03cade80d29de6ea313a74ab369f4732ecb36649066b78b5b2dd664cb0417",
            "483e3c145d7e680a16676925fc045183d2f510cb2f660a1fc517c73762185d43",
        ),
    ] {
        assert_eq!(converted(&pair(who)), (public.to_owned(), secret.to_owned()));
    }
    let (_, secret) = converted(&pair(OWNER));
    assert_eq!(secret, "58e86efb75fa4e2c410f46e16de9f6acae1a1703528651b69bc176c088bef36e");
}

fn converted(pair: &KeyPair) -> (String, String) {
    let mut secret = [0; ffi::KEY];
    ffi::secret_to_curve(&mut secret, pair.secret.bytes());
    (hex::encode(&ffi::public_to_curve(pair.public.as_bytes()).unwrap()), hex::encode(&secret))
}

#[test]
fn member_hellos() {
    let a_bytes = "6d657368544553543030303030303030303030303030303030303030303030317c6d656d4130303030303030303030303030303030\
        3030303030303030303030317c383133393737306561383764313735663536613335343636633334633765636363623864386139316234656533\
        376132356466363066356238666339623339347c31373630303030303030303030";
    for (who, mesh, member, timestamp, bytes, signature) in [
        (
            MEMBER_A,
            MESH_ID,
            MEMBER_ID,
            NOW,
            Some(a_bytes),
            "746fc3e2e3443fc59cdcad6bd3cd79e84cec9ec7d8102f01495c1ae572c51234c98124a211d20e23ceb405ad287bb2f1f2d4ef2dba8d83ff928ea8e2c5e07508",
        ),
        (
            OWNER,
            "mesh-x",
            "mem-x",
            1_700_000_000_000,
            None,
            "480e0e0c5cc0694accab11565171a27bc467eff629fa62d029f77d52b9b637241b9914da102a8d3fee8cb3ae5da89d2f325b0c27ccd7d2eed15b72305cd94803",
        ),
    ] {
        let (mesh_id, member_id) = (MeshId::new(mesh), MemberId::new(member));
        let hello = Hello { mesh_id: &mesh_id, member_id: &member_id, pubkey: who.1, timestamp };
        if let Some(bytes) = bytes {
            assert_eq!(hex::encode(hello.canonical().as_bytes()), bytes);
        }
        assert_eq!(hello.sign(&pair(who).secret).to_string(), signature);
        assert_eq!(hello.check(signature, timestamp), Ok(()));
    }
}

#[test]
fn attestations() {
    for (member, session, now, signature) in [
        (
            MEMBER_A,
            SESSION,
            NOW,
            "b0e98e1659e7cb7fcebeef8f38893e93740d3028b8ef1bd77ce277b62b87b2a503e3729692c2fd83236f21a68d88350b2104c0167baab274b9d0293f91c4bb0d",
        ),
        (
            OWNER,
            MEMBER_A,
            1_700_000_000_000,
            "d6237c82ab2a8bebc9d2e7ba83f8e89e629888b7cc12406a0f3dd10c4bd83699338b032262f85cb1e4aea3c367726ec89c1e0f2541e37775bedb50fd6a3a8409",
        ),
    ] {
        let minted = Attestation::mint(&pair(member).secret, SessionKey(pair(session).public), now);
        assert_eq!(minted.signature.to_string(), signature);
        let claimed = ClaimedAttestation {
            session_pubkey: session.1,
            parent_member_pubkey: member.1,
            expires_at: now + 43_200_000,
            signature,
        };
        let text = format!("claudemesh-session-attest|{}|{}|{}", member.1, session.1, now + 43_200_000);
        assert_eq!(claimed.canonical(), text);
        assert_eq!(claimed.check(now), Ok(minted));
        assert_eq!(claimed.binds(minted.session, minted.member), Ok(()));
    }
}

#[test]
fn session_hellos() {
    for (member, session, mesh, timestamp, signature) in [
        (
            MEMBER_A,
            SESSION,
            MESH_ID,
            NOW,
            "68718ad9658a59cda42ca132a439770cbd1a1d54eb0fa14b2168509060b978ea6c56304f94052fd7a2202f8815ad4efb733aa7b863d7c2ca0578690177555509",
        ),
        (
            OWNER,
            MEMBER_A,
            "mesh-x",
            1_700_000_000_000,
            "5ec30605bcb5624c2850b890acec1ee39134d1cf3983d920141affb2656e5aa46dac0a992c4dca0bad53f9f85d729e2cc6d97ea9ae322ed9232d8a79a47b9801",
        ),
    ] {
        let mesh_id = MeshId::new(mesh);
        let keys = pair(session);
        let hello = SessionHello {
            mesh_id: &mesh_id,
            member: MemberKey(pair(member).public),
            session: SessionKey(keys.public),
            timestamp,
        };
        let text = format!("claudemesh-session-hello|{mesh}|{}|{}|{timestamp}", member.1, session.1);
        assert_eq!(hello.canonical(), text);
        assert_eq!(hello.sign(&keys.secret).to_string(), signature);
        assert_eq!(hello.check(signature, timestamp), Ok(()));
    }
}

#[test]
fn invites_are_signed_with_the_same_key() {
    let owner = pair(OWNER);
    for (text, signature) in [
        (
            format!(
                "1|{MESH_ID}|acme|wss://broker.example/ws|1760600000|CQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQk|member|{}",
                OWNER.1
            ),
            "ae7bea5bb3cbf7b6c9e6d1bd5d04d4d9d7f6462b059ae4b9e5e6740100262e206cdf6e6c82a2e6e52c15d23718c9b019879c5f3714902af3a2a92b6b0170ed00",
        ),
        (
            format!("v=2|{MESH_ID}|invTEST0000000000000000000000001|1760600000|member|{}", OWNER.1),
            "410eb3f72e6adab3a298ebb47daa929ee4b26dedff7c1bc0f299fe79f7947d9405ce5c3a668c9d0a7414cc7195ee3a2080e866b17e052fbb15ae5b5e4a359900",
        ),
    ] {
        assert_eq!(sign(text.as_bytes(), &owner.secret).to_string(), signature);
        assert!(verify(&Signature::parse(signature).unwrap(), text.as_bytes(), &owner.public));
    }
    assert_eq!(base64::encode_url(&[9; 32]), "CQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQk");
}

#[test]
fn direct_messages() {
    for (sender, recipient, nonce, nonce_b64, body, ciphertext_b64) in [
        (
            MEMBER_A,
            MEMBER_B,
            counting_nonce(),
            "AAECAwQFBgcICQoLDA0ODxAREhMUFRYX",
            BODY,
            "IXNxG/dEMGP9Il79T52mNF1u2YGDaYmIc0RHxKrJ",
        ),
        (
            SESSION,
            MEMBER_B,
            counting_nonce(),
            "AAECAwQFBgcICQoLDA0ODxAREhMUFRYX",
            BODY,
            "iUJTSaxBXQTKI9lFCpfLzdeD+2go2v0ctqNM6SMT",
        ),
        (MEMBER_A, MEMBER_B, counting_nonce(), "AAECAwQFBgcICQoLDA0ODxAREhMUFRYX", "", "j2lbDzkhX5Vn64RGmv0+TQ=="),
        (OWNER, MEMBER_A, [3; 24], "AwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMD", "hello", "AxYsLIuct/0FpfjQh3Ol53wd/8kW"),
    ] {
        let (sender, recipient) = (pair(sender), pair(recipient));
        let channel = Channel::new(&recipient.public, &sender.secret).unwrap();
        let sealed = channel.seal_with_nonce(body.as_bytes(), &nonce);
        assert_eq!((sealed.nonce_b64.as_str(), sealed.ciphertext_b64.as_str()), (nonce_b64, ciphertext_b64));
        let opened = sealed::open(nonce_b64, ciphertext_b64, &sender.public, &recipient.secret);
        assert_eq!(opened.as_deref(), Ok(body.as_bytes()));
    }
    let hex_form = "2173711bf7443063fd225efd4f9da6345d6ed98183698988734447c4aac9";
    assert_eq!(
        base64::decode("IXNxG/dEMGP9Il79T52mNF1u2YGDaYmIc0RHxKrJ").map(|bytes| hex::encode(&bytes)).as_deref(),
        Some(hex_form)
    );
    let hex_form = "89425349ac415d04ca23d9450a97cbcdd783fb6828dafd1cb6a34ce92313";
    assert_eq!(
        base64::decode("iUJTSaxBXQTKI9lFCpfLzdeD+2go2v0ctqNM6SMT").map(|bytes| hex::encode(&bytes)).as_deref(),
        Some(hex_form)
    );
}

#[test]
fn messages_to_many() {
    assert_eq!(sealed::plain(BODY.as_bytes()).ciphertext_b64, "aGVsbG8gbWVzaCDinJM=");
}

/// A topic key passed on by a member is a direct message behind the x25519 form of the sender's key.
#[test]
fn a_resealed_topic_key_is_a_box() {
    let blob = base64::decode(
        "YDRufJEaX2uhVBKRdMr+dbKUrDu9VUljL0jOxiZvhBDFovK5g0uiBgLFU+yHIA/2Mgyy6utO4+oHK2AhMV0pG7XXp7+8tJqfop8dyd0Zwc8=",
    )
    .unwrap();
    let (sender, boxed) = blob.split_at(32);
    let (a, b) = (pair(MEMBER_A), pair(MEMBER_B));
    assert_eq!(hex::encode(sender), converted(&a).0);
    let opened = sealed::open(&base64::encode(&counting_nonce()), &base64::encode(boxed), &a.public, &b.secret);
    assert_eq!(opened, Ok(vec![7; 32]));
}

#[test]
fn fingerprints() {
    let plain = ("next", None, None);
    for (to, (priority, reply_to, canonical_meta), body, expected) in [
        (MEMBER_B.1, plain, BODY, "bec66428635c917fb8c4c65216bdf940341f0142d52cec9d5bb8ae84d068b01a"),
        (
            "@eng",
            ("now", Some("R1"), Some(r#"{"a":{"x":"é","y":1},"b":2}"#)),
            BODY,
            "98bb730f8b4bdb4e538d2182f590a5b0aa6ecadb1cb8191a5de71c47e9f62613",
        ),
        ("alice", plain, "hello", "dc13f9d139b04e9886a09444fa269f46468843858070b13afee7889305c2aa09"),
        ("*", plain, "hi", "cdcdbd44fb611daebc4ca7d5802fde64dc74aa7486a5e9c5d51e3d26212868ed"),
        (
            "alice",
            ("next", None, Some(r#"{"a":2,"z":1}"#)),
            "hello",
            "b47e1e332d6d9438e9feabd8c96130971d4a7e9ac8c72f56b3302ebb41b20a00",
        ),
        ("alice", ("next", None, Some("{}")), "hello", "5f814667973c50b85127bfa4f955d94fbb6683602c097c643bed05401cddbe1b"),
        ("alice", ("now", Some("r-1"), None), "hello", "3610bca84aaf432fc482e5e5e5a86043fcb89ca73ffecbb6683473148f07a4e7"),
    ] {
        let (kind, reference) = destination(to);
        assert_eq!(kind == Kind::Topic, !to.starts_with(|c: char| c.is_ascii_alphanumeric()));
        let request = Request { kind, reference, reply_to, priority, canonical_meta, body: body.as_bytes() };
        assert_eq!(hex::encode(&request.fingerprint()), expected, "{request:?}");
    }
}

#[test]
fn hashes_that_others_compare() {
    let genesis = format!(
        r#"genesis|{MESH_ID}|peer_joined|{MEMBER_ID}|{{"groups":[],"pubkey":"{}","restored":false,"role":"control-plane"}}|2025-10-09T08:53:20.000Z"#,
        MEMBER_A.1
    );
    assert_eq!(hex::encode(&sha256(genesis.as_bytes())), "1979f07e4b000628e9d257e4fda2f194df119d08b097a3f8724bb50d19de3495");
    let api_key = format!("cm_{}", base64::encode_url(&[11; 32]));
    assert_eq!(api_key, "cm_CwsLCwsLCwsLCwsLCwsLCwsLCwsLCwsLCwsLCwsLCws");
    assert_eq!(hex::encode(&sha256(api_key.as_bytes())), "681d570928ee19d23f2f3700b1918f7d11b0e72dae40388a61afb920852f0416");
}

#[test]
fn topic_keys_and_what_is_said_under_them() {
    let (a, b) = (pair(MEMBER_A), pair(MEMBER_B));
    let key = ScopeKey::from_bytes([7; 32]);
    let nonce = counting_nonce();
    // What the reference's broker makes with a pair of the moment, and what a member that has the key makes with its own.
    let made = "9bLW5g+Ud+MQwpgtqqbJE2wQihd3xZR+RI+jfWgXRVescQCoXf1SgU9MRppkG0EHXUa+4kwyb/ILt5FYb6g3EYdUpAhikB9boEtLsESLlDU=";
    let again = "YDRufJEaX2uhVBKRdMr+dbKUrDu9VUljL0jOxiZvhBDFovK5g0uiBgLFU+yHIA/2Mgyy6utO4+oHK2AhMV0pG7XXp7+8tJqfop8dyd0Zwc8=";
    let sealed = key.seal_with_nonce(&b.public, &a.secret, &nonce).unwrap();
    assert_eq!((sealed.encrypted_key.as_str(), sealed.nonce.as_str()), (again, base64::encode(&nonce).as_str()));
    let said = key.seal_body_with_nonce(BODY.as_bytes(), &nonce);
    assert_eq!(said.ciphertext_b64, "kXU/XG8aKcZn2NayjghahPJ7hSPkVQ+glvhj6a1F");
    for encrypted_key in [made, again] {
        let copy = SealedKey { encrypted_key: encrypted_key.into(), nonce: base64::encode(&nonce) };
        let opened = ScopeKey::open(&copy, &b.secret).unwrap();
        assert_eq!(opened.open_body(&said.nonce_b64, &said.ciphertext_b64).as_deref(), Ok(BODY.as_bytes()));
        assert!(ScopeKey::open(&copy, &a.secret).is_err(), "it is for one member");
    }
}
