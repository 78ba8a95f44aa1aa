//! `status-line`: one line for the client's own status line.

use std::time::Duration;

use crate::base::exit::Exit;
use crate::cli::context::paths;
use crate::cli::error::CliError;
use crate::cli::hook;
use crate::cli::parse::Parsed;
use crate::cli::render::Out;
use crate::cli::spec::{Effect, Example, Group, Verb};
use crate::client::Client;
use crate::wire::ipc::Line;

/// The client waits for it, and often.
const PATIENCE: Duration = Duration::from_millis(50);

pub(in crate::cli) const VERB: Verb = Verb {
    long: "Run by the client, not by hand: reads the client's JSON on standard input, which names its session. Takes 50 ms at most; \
           says nothing, with status 0, where no daemon answers. `claudemesh install --status-line` tells claude of it.",
    examples: &[Example { command: "claudemesh status-line", about: "as an entry of settings.json runs it" }],
    ..Verb::new(Group::Servers, Effect::Read, "status-line", "Print mesh, peers and unread mail in one line.", run)
};

fn run(_: &Parsed, out: &mut Out) -> Result<Exit, CliError> {
    // Without a home there is no daemon either.
    let Ok(paths) = paths() else { return Ok(Exit::Success) };
    let token = hook::session_token(&paths);
    if let Ok(line) = Client::new(&paths).with_token(token).with_deadline(PATIENCE).line() {
        if out.is_json() {
            out.json(&line)?;
        } else {
            out.bare(&text(&line))?;
        }
    }
    Ok(Exit::Success)
}

fn text(line: &Line) -> String {
    let mesh = match (&line.mesh, line.meshes) {
        (Some(mesh), _) => mesh.to_string(),
        (None, 0) => "no mesh".to_owned(),
        (None, count) => format!("{count} meshes"),
    };
    let mut text = format!("◇ {mesh}");
    if !line.connected {
        text.push_str(" (not connected)");
    }
    if let Some(online) = line.online {
        text.push_str(&format!(" · {online} online"));
    }
    if line.unread != 0 {
        text.push_str(&format!(" · {} unread", line.unread));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::Slug;

    #[test]
    fn what_is_not_known_is_not_said() {
        let line = |mesh: Option<&str>, meshes, connected, online, unread| Line {
            mesh: mesh.map(Slug::new),
            meshes,
            connected,
            online,
            unread,
        };
        for (line, expected) in [
            (line(Some("home"), 1, true, Some(2), 3), "◇ home · 2 online · 3 unread"),
            (line(Some("home"), 1, true, Some(0), 0), "◇ home · 0 online"),
            (line(Some("home"), 1, false, None, 1), "◇ home (not connected) · 1 unread"),
            (line(None, 2, true, Some(4), 0), "◇ 2 meshes · 4 online"),
            (line(None, 0, false, None, 0), "◇ no mesh (not connected)"),
        ] {
            assert_eq!(text(&line), expected);
        }
    }
}
