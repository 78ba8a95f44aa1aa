//! `invite` and what belongs to it. The invitation is signed here, with the key that is here; the broker keeps it.

use serde::Serialize;

use crate::base::config::{Config, Mesh};
use crate::base::exit::Exit;
use crate::base::names::is_slug;
use crate::base::time::{Millis, iso, now_millis};
use crate::cli::broker_http::{Broker, Call};
use crate::cli::context::one_mesh;
use crate::cli::error::CliError;
use crate::cli::link::{signed_part, token};
use crate::cli::membership::{files, secret};
use crate::cli::parse::Parsed;
use crate::cli::qr;
use crate::cli::render::{Line, Out, Style};
use crate::cli::spec::{Effect, Example, Flag, Group, MESH, Operand, Verb};
use crate::crypto::keys::SecretKey;
use crate::crypto::{base64, random};
use crate::wire::json::Value;
use crate::wire::mesh_api::{CreateInvite, CreatedInvite, InviteList, InvitePayload, InviteRow, Verdict};

const ROLE: Flag = Flag {
    choices: &["member", "admin"],
    ..Flag::valued("--role", "ROLE", "What they become; admins may invite others. Default member.")
};
const EXPIRES: Flag = Flag::valued("--expires", "DURATION", "How long it is good, as in 30m, 12h, 7d or 4w. Default 7d.");
const USES: Flag = Flag::valued("--uses", "N", "How many people may use it. Default 1.");
const BROKER: Flag = Flag::valued("--broker", "URL", "The broker as those invited reach it, if that is not as you do.");
const NO_QR: Flag = Flag::switch("--no-qr", "No QR code.");

/// What an invitation is good for unless somebody says otherwise, as in the reference.
const DEFAULT_LIFE: Millis = 7 * 86_400_000;

/// How often another end is tried for an invite that there is already.
const MAX_ALIKE: u32 = 20;

/// The longest life that a broker takes, a day short of it for clocks that differ.
const MAX_LIFE: Millis = 365 * 86_400_000;

pub(in crate::cli) const VERB: Verb = Verb {
    name: "invite",
    aliases: &["share", "invite create"],
    group: Group::Servers,
    about: "Make a link by which somebody joins a mesh.",
    long: "For its owner and its admins. Whoever has the link can use it, as often as --uses says and until it expires. It is shown as \
           text and as a QR code; --json has the long form too, which the TypeScript claudemesh takes.",
    operands: &[],
    tail: None,
    flags: &[MESH, ROLE, EXPIRES, USES, BROKER, NO_QR],
    effect: Effect::Write,
    examples: &[
        Example { command: "claudemesh invite", about: "for one person, for a week" },
        Example { command: "claudemesh invite --mesh team --uses 10 --expires 24h", about: "for a group, for a day" },
    ],
    run,
};

pub(in crate::cli) const LIST: Verb = Verb {
    name: "invite list",
    aliases: &["invites"],
    group: Group::Servers,
    about: "Show the invitations of a mesh.",
    long: "",
    operands: &[],
    tail: None,
    flags: &[MESH],
    effect: Effect::Read,
    examples: &[Example { command: "claudemesh invite list --mesh team", about: "with what each was used for" }],
    run: list,
};

pub(in crate::cli) const REVOKE: Verb = Verb {
    name: "invite revoke",
    aliases: &[],
    group: Group::Servers,
    about: "Take an invitation back.",
    long: "Nobody joins by it any more. Who has joined stays.",
    operands: &[Operand::one("ID", "Its id, its code, or its link.")],
    tail: None,
    flags: &[MESH],
    effect: Effect::Write,
    examples: &[Example { command: "claudemesh invite revoke K3FJ7Q2MXPWA", about: "by its code" }],
    run: revoke,
};

/// `30m`, `12h`, `7d`, `4w`.
fn duration(text: &str) -> Option<Millis> {
    let unit = match text.chars().last()? {
        'm' => 60_000,
        'h' => 3_600_000,
        'd' => 86_400_000,
        'w' => 7 * 86_400_000,
        _ => return None,
    };
    let digits = &text[..text.len() - 1];
    let count: Millis = digits.parse().ok().filter(|_| digits.bytes().all(|byte| byte.is_ascii_digit()))?;
    count.checked_mul(unit).filter(|life| (60_000..=MAX_LIFE).contains(life))
}

#[derive(Serialize)]
struct Invited<'a> {
    schema_version: &'static str,
    url: &'a str,
    code: &'a str,
    id: &'a str,
    token: &'a str,
    role: &'a str,
    uses: u32,
    expires_at: &'a str,
}

/// The mesh that is meant. The name `--mesh` has here counts, not in the session's overlay.
fn mesh(parsed: &Parsed) -> Result<Mesh, CliError> {
    let config = Config::load(&files()?.config_file())?;
    one_mesh(&config, parsed.value(&MESH)).cloned()
}

fn run(parsed: &Parsed, out: &mut Out) -> Result<Exit, CliError> {
    let life = match parsed.value(&EXPIRES) {
        None => DEFAULT_LIFE,
        Some(text) => duration(text).ok_or_else(|| {
            CliError::usage(format!("--expires: \"{text}\" is no time from a minute to a year"))
                .with_hint("as in 30m, 12h, 7d, 4w")
        })?,
    };
    let uses = parsed.number(&USES, 1..=10_000)?.unwrap_or(1);
    let mesh = mesh(parsed)?;
    let key = secret(&mesh)?;
    let shown = Broker::at(parsed.value(&BROKER).unwrap_or(&mesh.broker_url))?;
    let root_key = mesh.rest.get("rootKey").and_then(Value::as_str).map(str::to_owned);
    let payload = InvitePayload {
        v: 1,
        mesh_id: mesh.mesh_id.to_string(),
        mesh_slug: if is_slug(&mesh.name) { mesh.name.clone() } else { mesh.slug.to_string() },
        broker_url: shown.ws_url(),
        expires_at: (now_millis() + life) / 1000,
        mesh_root_key: root_key.unwrap_or_else(|| base64::encode_url(&random::bytes::<32>())),
        role: parsed.value(&ROLE).unwrap_or("member").to_owned(),
        owner_pubkey: mesh.pubkey.to_string(),
        signature: String::new(),
    };
    let (token, invite) = keep(&Broker::at(&mesh.broker_url)?, &key, payload, uses, life)?;
    let url = format!("{}/i/{}", shown.origin(), invite.code);
    if out.is_json() {
        let InviteRow { code, id, role, expires_at, uses, .. } = &invite;
        out.json(&Invited { schema_version: "1.0", url: &url, code, id, token: &token, role, uses: *uses, expires_at })?;
        return Ok(Exit::Success);
    }
    show(&mesh, &invite, &url, !parsed.is_set(&NO_QR), out)?;
    if shown.is_loopback() {
        out.warn("only this machine reaches that address", Some("give the one that others reach with --broker URL"))?;
    }
    Ok(Exit::Success)
}

/// Signs the invite and has the broker keep it; its token and its row. Two that are alike to the second would be one and
/// the same token, so that another one ends a little earlier.
fn keep(
    broker: &Broker,
    key: &SecretKey,
    mut payload: InvitePayload,
    uses: u32,
    life: Millis,
) -> Result<(String, InviteRow), CliError> {
    let most = u32::try_from(life / 100_000).unwrap_or(1).max(1);
    for left in (0..MAX_ALIKE).rev() {
        payload.signature = signed_part(&payload).sign(key).to_string();
        let invite_token = token(&payload);
        let body = CreateInvite { invite_token: invite_token.clone(), uses };
        match broker.call(&Call::new("POST", "/invite").with_body(&body).signed_by(key)) {
            Ok(CreatedInvite { invite, .. }) => return Ok((invite_token, invite)),
            Err(err) if err.exit() == Exit::AlreadyExists && left != 0 => {
                payload.expires_at -= i64::from(1 + u32::from_le_bytes(random::bytes()) % most);
            }
            Err(err) => return Err(err),
        }
    }
    Err(CliError::refused(Exit::Internal, "no invitation could be made"))
}

fn show(mesh: &Mesh, invite: &InviteRow, url: &str, with_qr: bool, out: &mut Out) -> Result<(), CliError> {
    out.ok(&format!("whoever runs this joins \"{}\" as {}:", mesh.slug, invite.role), None)?;
    out.blank()?;
    out.line(&Line::new().and(Style::Bold, format!("claudemesh join {url}")))?;
    out.blank()?;
    for line in if with_qr { qr::lines(url) } else { Vec::new() } {
        out.line(&Line::plain(line))?;
    }
    let people = if invite.uses == 1 { "one person".to_owned() } else { format!("{} people", invite.uses) };
    out.hint(&format!("for {people}, until {}", invite.expires_at))?;
    out.hint(&format!("take it back with: claudemesh invite revoke {} --mesh {}", invite.code, mesh.slug))
}

fn invites(mesh: &Mesh) -> Result<Vec<InviteRow>, CliError> {
    let key = secret(mesh)?;
    let call = Call::new("GET", format!("/mesh/{}/invites", mesh.mesh_id)).signed_by(&key);
    Ok(Broker::at(&mesh.broker_url)?.call::<InviteList>(&call)?.invites)
}

#[derive(Serialize)]
struct Listed<'a> {
    schema_version: &'static str,
    mesh: &'a str,
    invites: &'a [InviteRow],
}

fn list(parsed: &Parsed, out: &mut Out) -> Result<Exit, CliError> {
    let mesh = mesh(parsed)?;
    let invites = invites(&mesh)?;
    if out.is_json() {
        out.json(&Listed { schema_version: "1.0", mesh: mesh.slug.as_str(), invites: &invites })?;
        return Ok(Exit::Success);
    }
    out.section(&format!("invitations to {} ({})", mesh.slug, invites.len()))?;
    for invite in &invites {
        let style = if invite.state == "open" { Style::Green } else { Style::Dim };
        out.line(
            &Line::new()
                .and(Style::Bold, invite.code.clone())
                .and(style, format!("  {}", invite.state.replace('_', " ")))
                .and(Style::Plain, format!("  {}  {} of {} used", invite.role, invite.used, invite.uses))
                .and(Style::Dim, format!("  until {}", invite.expires_at)),
        )?;
    }
    Ok(Exit::Success)
}

#[derive(Serialize)]
struct Revoked<'a> {
    schema_version: &'static str,
    ok: bool,
    id: &'a str,
}

fn revoke(parsed: &Parsed, out: &mut Out) -> Result<Exit, CliError> {
    let wanted = parsed.first().trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    let mesh = mesh(parsed)?;
    let invites = invites(&mesh)?;
    let found = invites.iter().find(|invite| invite.id == wanted || invite.code.eq_ignore_ascii_case(wanted));
    let invite = found.ok_or_else(|| {
        CliError::refused(Exit::NotFound, format!("\"{}\" has no invitation \"{wanted}\"", mesh.slug))
            .with_hint(format!("see: claudemesh invite list --mesh {}", mesh.slug))
    })?;
    let key = secret(&mesh)?;
    let call = Call::new("DELETE", format!("/invite/{}", invite.id)).signed_by(&key);
    Broker::at(&mesh.broker_url)?.call::<Verdict>(&call)?;
    if out.is_json() {
        out.json(&Revoked { schema_version: "1.0", ok: true, id: &invite.id })?;
    } else {
        out.ok(&format!("nobody joins \"{}\" by {} any more", mesh.slug, invite.code), Some(&iso(now_millis())))?;
    }
    Ok(Exit::Success)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, expected) in [
            ("30m", Some(1_800_000)),
            ("12h", Some(43_200_000)),
            ("7d", Some(604_800_000)),
            ("4w", Some(2_419_200_000)),
            ("365d", Some(MAX_LIFE)),
            ("366d", None),
            ("0d", None),
            ("7", None),
            ("d", None),
            ("+7d", None),
            ("-7d", None),
            ("9223372036854775807w", None),
            ("7é", None),
            ("", None),
        ] {
            assert_eq!(duration(text), expected, "{text}");
        }
    }
}
