//! The pages that a broker shows: the one behind a short link, and its own state. They load nothing and run nothing.

use crate::base::names::neutralise_line;
use crate::base::time::iso;
use crate::crypto::{base64, fingerprint};
use crate::store::hub::Mesh;
use crate::store::hub::invites::Invite;

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:40em;margin:3em auto;padding:0 1em;color:#222;background:#fff}\
code,pre{font-family:ui-monospace,monospace;background:#f3f1ee;border-radius:4px}pre{padding:1em;overflow-wrap:anywhere;\
white-space:pre-wrap}code{padding:.1em .3em}small{color:#666}\
table{border-collapse:collapse;width:100%}td{padding:.3em 0;border-bottom:1px solid #ddd}\
td+td{text-align:right;font-variant-numeric:tabular-nums}\
@media(prefers-color-scheme:dark){body{color:#ddd;background:#1b1b1b}pre,code{background:#2b2a28}td{border-color:#444}}";

/// What a browser may load for a page: its one style sheet.
pub(super) fn content_policy() -> String {
    let hash = base64::encode(&fingerprint::sha256(STYLE.as_bytes()));
    format!("default-src 'none'; style-src 'sha256-{hash}'; frame-ancestors 'none'")
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in neutralise_line(text).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

fn page(title: &str, body: &str) -> String {
    page_with("", title, body)
}

fn page_with(head: &str, title: &str, body: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <meta name=\"robots\" content=\"noindex\">{head}<title>{title}</title><style>{STYLE}</style></head><body>{body}</body></html>\n"
    )
}

/// Something is wrong with the link; `text` is our own.
pub(super) fn sorry(text: &str) -> String {
    page("claudemesh", &format!("<h1>No invitation</h1><p>{}</p>", escape(text)))
}

pub(super) fn invitation(mesh: &Mesh, invite: &Invite, broker_url: &str) -> String {
    let origin = broker_url.replacen("ws", "http", 1);
    let origin = origin.split('/').take(3).collect::<Vec<_>>().join("/");
    let link = escape(&format!("{origin}/i/{}", invite.code));
    let title = format!("Join {} on claudemesh", escape(&mesh.name));
    let body = format!(
        "<h1>Join “{}”</h1><p>You are invited to a mesh of coding sessions, as {}. With <code>claudemesh</code> installed, type:</p>\
         <pre>claudemesh join {link}</pre><p>and then <code>claudemesh launch --mesh {}</code>.</p>\
         <p><small>Valid until {}, for {} of {} uses. Whoever has this link can use it.</small></p>\
         <p><small>The TypeScript claudemesh takes the long form:</small></p><pre>claudemesh join ic://join/{}</pre>",
        escape(&mesh.name),
        if invite.role.as_str() == "admin" { "an admin" } else { "a member" },
        escape(mesh.slug.as_str()),
        escape(&iso(invite.expires_at)),
        invite.uses.saturating_sub(invite.used),
        invite.uses,
        escape(&invite.token),
    );
    page(&title, &body)
}

/// What a broker tells of itself, as names and values. The browser asks again by itself.
pub(super) fn status(rows: &[(&str, String)]) -> String {
    let rows: String = rows.iter().map(|(name, value)| format!("<tr><td>{name}</td><td>{}</td></tr>", escape(value))).collect();
    let body = format!("<h1>claudemesh broker</h1><table>{rows}</table>");
    page_with("<meta http-equiv=\"refresh\" content=\"5\">", "claudemesh broker", &body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_text_and_nothing_else() {
        let page = page("t", &escape("<script>alert('&\"')</script>\u{202e}"));
        assert!(page.contains("&lt;script&gt;alert(&#39;&amp;&quot;&#39;)&lt;/script&gt;\u{fffd}"), "{page}");
    }
}
