//! What a route says, and what it was asked.

use std::io;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::page;
use crate::base::time::now_millis;
use crate::net::http1::{self, Head, Method};
use crate::net::stream::{Stream, write_all_by};
use crate::store;
use crate::wire::json;
use crate::wire::mesh_api::Verdict;

/// How long an answer may take to be taken.
const REPLY_DEADLINE: Duration = Duration::from_secs(5);

/// A request, read as a whole.
#[derive(Debug)]
pub(super) struct Ask<'a> {
    pub(super) head: &'a Head,
    pub(super) body: &'a [u8],
    /// Who connected, and on whose behalf if that is the trusted proxy.
    pub(super) peer: IpAddr,
    pub(super) origin: IpAddr,
}

impl Ask<'_> {
    pub(super) fn method(&self) -> &'static str {
        match self.head.method {
            Method::Get => "GET",
            Method::Post => "POST",
            Method::Put => "PUT",
            Method::Patch => "PATCH",
            Method::Delete => "DELETE",
            Method::Other => "",
        }
    }

    /// From a program of this very machine: not passed on by a proxy, as far as one can see, and not by a web page.
    pub(super) fn is_local(&self) -> bool {
        let passed_on =
            ["x-forwarded-for", "forwarded", "x-real-ip", "via", "origin"].iter().any(|name| self.head.header(name).is_some());
        self.peer.to_canonical().is_loopback() && !passed_on
    }
}

/// An answer. As an error it is a refusal, so that `?` ends a route with it.
#[derive(Debug)]
pub(super) struct Answer {
    status: u16,
    kind: &'static str,
    body: String,
}

impl Answer {
    pub(super) fn json<T: Serialize>(status: u16, body: &T) -> Answer {
        Answer { status, kind: "application/json", body: json::encode(body) }
    }

    pub(super) fn html(status: u16, body: String) -> Answer {
        Answer { status, kind: "text/html; charset=utf-8", body }
    }

    pub(super) fn metrics(body: String) -> Answer {
        Answer { status: 200, kind: "text/plain; version=0.0.4; charset=utf-8", body }
    }

    pub(super) fn ok() -> Answer {
        Answer::json(200, &Verdict { ok: true, ..Verdict::default() })
    }

    pub(super) fn refused(status: u16, error: &str) -> Answer {
        Answer::json(status, &Verdict { error: Some(error.to_owned()), ..Verdict::default() })
    }

    pub(super) fn explained(status: u16, error: &str, detail: &str) -> Answer {
        let detail = Some(detail.to_owned());
        Answer::json(status, &Verdict { error: Some(error.to_owned()), detail, ..Verdict::default() })
    }

    pub(super) fn status(&self) -> u16 {
        self.status
    }

    pub(super) fn body(&self) -> &str {
        &self.body
    }

    /// The request's time is not ours: here is ours.
    pub(super) fn skewed() -> Answer {
        let server_time = Some(now_millis());
        Answer::json(401, &Verdict { error: Some("timestamp_skew".to_owned()), server_time, ..Verdict::default() })
    }

    pub(super) fn not_found() -> Answer {
        Answer { status: 404, kind: "text/plain", body: "not found".to_owned() }
    }

    /// What the program serves is small, private and changes: nobody keeps it, and pages load nothing.
    pub(super) fn send(&self, stream: &mut Stream) -> io::Result<()> {
        let policy = page::content_policy();
        let headers = [
            ("Content-Type", self.kind),
            ("Cache-Control", "no-store"),
            ("Content-Security-Policy", policy.as_str()),
            ("Referrer-Policy", "no-referrer"),
            ("X-Content-Type-Options", "nosniff"),
        ];
        let bytes = http1::response(self.status, &headers, self.body.as_bytes())?;
        write_all_by(stream, &bytes, Instant::now() + REPLY_DEADLINE)
    }
}

impl From<store::Error> for Answer {
    fn from(err: store::Error) -> Answer {
        if let store::Error::Limit(reached) = err {
            return Answer::explained(403, "full", reached);
        }
        log::error!("hub: {err}");
        Answer::refused(503, "unavailable")
    }
}

/// A short answer in plain text.
pub(super) fn plain(stream: &mut Stream, status: u16, text: &str) -> io::Result<()> {
    let bytes = http1::response(status, &[("Content-Type", "text/plain")], text.as_bytes())?;
    write_all_by(stream, &bytes, Instant::now() + REPLY_DEADLINE)
}
