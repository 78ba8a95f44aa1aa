//! The shim as the public clients of its protocol drive it: the inspector, the TypeScript SDK and the Python SDK, against a
//! real daemon that has skills on two meshes.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::support::home::{CLAUDEMESH, Home};
use crate::support::mesh::{Mesh, configure};
use crate::support::model::{Model, Turn, claude};
use crate::support::process::Process;
use crate::support::servers::{Broker, Daemon};
use crate::support::session::Session;
use crate::support::wait::until;

/// A file of the clients that `make test-deps` installs. Says so where it is not there, and fails where it must be.
fn installed(file: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("target").join(file);
    if path.exists() {
        return Some(path);
    }
    let required = std::env::var_os("CLAUDEMESH_REQUIRE_CLAUDE").is_some_and(|value| value == "1");
    assert!(!required, "there is no {}, and it must be tested with", path.display());
    eprintln!("there is no {}: what needs it is left out (make test-deps)", path.display());
    None
}

/// A session on the mesh `acme` of a daemon that is on `beta`, too. Each mesh has a skill.
struct Scene {
    session: Session,
    home: Home,
    _daemon: Daemon,
    _broker: Broker,
    _data: Home,
}

impl Scene {
    #[track_caller]
    fn start() -> Scene {
        let (home, data) = (Home::new(), Home::new());
        let meshes = ["acme", "beta"].map(|slug| Mesh::create(data.path(), slug));
        let broker = Broker::start(data.path());
        configure(home.path(), &meshes.map(|mesh| mesh.entry(0, &broker.url())));
        let daemon = Daemon::start(home.path());
        let session = Session::open(&daemon, "acme", "alice");
        let scene = Scene { session, home, _daemon: daemon, _broker: broker, _data: data };
        scene.publish("acme", "code/review");
        scene.publish("beta", "other");
        scene
    }

    #[track_caller]
    fn publish(&self, mesh: &str, name: &str) {
        let skill = json!({
            "mesh": mesh, "name": name, "description": "How we \"review\"", "instructions": "Read it twice.\n", "tags": ["a: b"],
            "manifest": { "model": "opus: \"4\"" },
        });
        until("the mesh to take a skill", || {
            let reply = self.session.call("POST", "/v1/skills", Some(&skill)).ok()?;
            (reply.status == 200).then_some(())
        });
    }

    /// A client in the session's environment.
    fn client(&self, program: &Path, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        // What it gives on is what this program reads, and no more.
        for (name, value) in self.home.command(&[]).get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command
            .args(args)
            .env("CLAUDEMESH", CLAUDEMESH)
            .env("CLAUDEMESH_IPC_TOKEN", &self.session.token)
            .current_dir(self.home.path());
        command
    }
}

fn script(name: &str) -> String {
    format!("{}/tests/mcp/{name}", env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn the_typescript_sdk_drives_the_shim_in_every_revision_and_hears_of_changes() {
    let Some(sdk) = installed("mcp-js/node_modules/@modelcontextprotocol/sdk") else { return };
    let scene = Scene::start();
    let mut command = scene.client(Path::new("node"), &[&script("sdk.mjs")]);
    command.env("MCP_SDK", sdk);
    let client = Process::spawn(command);
    assert_eq!(client.line().as_deref(), Some("ready"), "{}", client.errors());
    scene.publish("beta", "elsewhere");
    scene.publish("acme", "deploy");
    assert_eq!(client.line().as_deref(), Some(r#"["code/review","deploy"]"#), "{}", client.errors());
    let ended = client.finish();
    assert!(ended.status.success(), "{ended:?}");
}

#[test]
fn the_python_sdk_drives_the_shim_in_every_revision() {
    let Some(python) = installed("mcp-py/bin/python") else { return };
    let scene = Scene::start();
    let ended = Process::run(scene.client(&python, &[&script("sdk.py")]));
    assert!(ended.status.success() && ended.out == "done\n", "{ended:?}");
}

#[test]
fn the_inspector_sees_prompts_and_resources() {
    let Some(inspector) = installed("mcp-js/node_modules/.bin/mcp-inspector") else { return };
    let scene = Scene::start();
    let inspect = |args: &[&str]| {
        let mut all = vec![inspector.to_str().unwrap(), "--cli", CLAUDEMESH, "mcp", "--transport", "stdio", "--method"];
        all.extend(args);
        let ended = Process::run(scene.client(Path::new("node"), &all));
        assert!(ended.status.success(), "{args:?}: {ended:?}");
        serde_json::from_str::<Value>(&ended.out).unwrap_or_else(|err| panic!("{err}: {ended:?}"))
    };
    assert_eq!(inspect(&["prompts/list"])["prompts"][0]["name"], "code/review");
    let uri = "skill://claudemesh/code%2Freview";
    assert_eq!(inspect(&["resources/read", "--uri", uri])["contents"][0]["uri"], uri);
}

#[test]
fn a_skill_of_the_mesh_is_a_command_of_the_real_client() {
    let Some(claude) = claude() else { return };
    let scene = Scene::start();
    let model = Model::start(|_| Turn::Say);
    // By this name it is typed in the client.
    let args = ["launch", "--name", "bob", "--mesh", "acme", "--quiet", "--", "-p", "/mcp__claudemesh__code/review"];
    let ended = Process::run(model.command(&scene.home, &claude, &args));
    assert!(ended.status.success(), "{ended:?}");
    let seen = model.saw(0);
    assert!(seen.contains("model: \"opus: \\\"4\\\"\"\n---\nRead it twice.\n"), "{seen}");
}
