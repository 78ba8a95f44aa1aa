//! What a route answers: a status and a JSON body.

use serde::Serialize;

use crate::store;
use crate::wire::ipc::Problem;
use crate::wire::json::{self, Value};

/// One answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) body: String,
}

impl Reply {
    pub(super) fn ok<T: Serialize>(body: &T) -> Reply {
        Reply::with(200, body)
    }

    pub(super) fn with<T: Serialize>(status: u16, body: &T) -> Reply {
        Reply { status, body: json::encode(body) }
    }

    /// A refusal that carries nothing but the reference's word for it; more can be added.
    pub(super) fn error(status: u16, error: &str) -> Refusal {
        Refusal { status, problem: Problem { error: error.to_owned(), ..Problem::default() } }
    }

    /// The store could not serve the request.
    pub(super) fn store(err: &store::Error) -> Reply {
        log::error!("store: {err}");
        Reply::error(503, "store_unavailable")
            .detail(&err.to_string())
            .hint("nothing was accepted; try again, and see `claudemesh status`")
            .into()
    }
}

/// A refusal in the making.
#[derive(Debug, Clone)]
pub(super) struct Refusal {
    status: u16,
    problem: Problem,
}

impl Refusal {
    pub(super) fn detail(mut self, detail: &str) -> Refusal {
        self.problem.detail = Some(detail.to_owned());
        self
    }

    pub(super) fn hint(mut self, hint: &str) -> Refusal {
        self.problem.hint = Some(hint.to_owned());
        self
    }

    pub(super) fn and(mut self, key: &str, value: impl Into<Value>) -> Refusal {
        self.problem.rest.insert(key.to_owned(), value.into());
        self
    }
}

impl From<Refusal> for Reply {
    fn from(refusal: Refusal) -> Reply {
        Reply::with(refusal.status, &refusal.problem)
    }
}
