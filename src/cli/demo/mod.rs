//! `claudemesh demo`: a daemon, a broker and two sessions, all real processes in a home of their own. What is printed is what
//! the daemon's own records and the sessions' own output say.

mod life;
mod stage;
mod trouble;

use std::time::{Duration, Instant};

use crate::base::exit::Exit;

use self::life::{Life, Verdict};
use self::stage::Stage;
use self::trouble::Trouble;
use super::error::CliError;
use super::render::Out;

/// For everything together; what has not happened by then does not happen.
const DEADLINE: Duration = Duration::from_secs(30);

const ALICE: &str = "alice";
const BOB: &str = "bob";

/// Plays the whole piece, prints it, and takes everything away again.
pub(super) fn run(out: &mut Out) -> Result<Exit, CliError> {
    let began = Instant::now();
    let mut stage = Stage::set(began + DEADLINE).map_err(|err| CliError::io("the demo's directory can not be made", err))?;
    if !out.is_json() {
        out.section("demo: two sessions, a daemon and a broker, on this machine")?;
    }
    let played = play(&mut stage, out)?;
    let took = began.elapsed();
    let cleared = stage.clear();
    let lives = match played {
        Ok(lives) => lives,
        Err(trouble) => return Err(failed(&trouble)),
    };
    let good = lives.iter().all(|life| life.verdict() == Verdict::ReadOnce) && stage.strays(&lives) == 0;
    if out.is_json() {
        out.json_pretty(&life::Report::new(good, &lives))?;
    } else {
        life::table(&lives, out)?;
        end(good, &stage, &lives, took, out)?;
    }
    cleared.map_err(|trouble| failed(&trouble))?;
    Ok(if good { Exit::Success } else { Exit::Failure })
}

fn end(good: bool, stage: &Stage, lives: &[Life], took: Duration, out: &mut Out) -> Result<(), CliError> {
    out.blank()?;
    for life in lives.iter().filter(|life| life.verdict() != Verdict::ReadOnce) {
        out.bad(&format!("{}: {}", life.title(), life.verdict().sentence()))?;
    }
    match stage.strays(lives) {
        0 => {}
        strays => out.bad(&format!("{strays} messages were read that nobody sent"))?,
    }
    if good {
        let took = took.as_millis();
        out.ok(
            &format!("{} messages, each opened and read by the right session, exactly once", lives.len()),
            Some(&format!("{took} ms")),
        )?;
        out.hint("start your own: claudemesh launch --name alice")?;
    }
    Ok(())
}

fn failed(trouble: &Trouble) -> CliError {
    CliError::refused(trouble.exit(), format!("the demo stopped: {trouble}"))
}

/// The acts. The outer error is that the output can not be written.
fn play(stage: &mut Stage, out: &mut Out) -> Result<Result<Vec<Life>, Trouble>, CliError> {
    macro_rules! attempt {
        ($act:expr) => {
            match $act {
                Ok(value) => value,
                Err(trouble) => return Ok(Err(trouble)),
            }
        };
    }
    let mut lives = Vec::new();
    let pid = attempt!(stage.start_daemon());
    say(out, &format!("a daemon with a broker of its own runs (pid {pid})"))?;
    attempt!(stage.start_session(ALICE));
    attempt!(stage.start_session(BOB));
    attempt!(stage.wait_online(&[ALICE, BOB]));
    say(out, "alice and bob are on the mesh \"home\", each with a key of its own")?;

    lives.push(attempt!(stage.send(ALICE, BOB, "Can you look at the parser? The fuzzer found something.")));
    lives.push(attempt!(stage.send(BOB, ALICE, "On it. Which input?")));
    attempt!(stage.wait_read(&lives));
    say(out, "they wrote to each other, and both have read it")?;

    attempt!(stage.end_session(BOB));
    say(out, "bob's session has ended")?;
    lives.push(attempt!(stage.send(ALICE, BOB, "tests/fuzz/crash-1. Read it when you are back.").map(Life::while_away)));
    attempt!(stage.wait_relayed(&lives));
    say(out, "alice wrote to bob all the same; the message waits at the broker")?;
    attempt!(stage.start_session(BOB));
    attempt!(stage.wait_read(&lives));
    say(out, "bob's session came back under the same id, and the message was there")?;

    // To the end of their output: what was shown twice has been heard then.
    attempt!(stage.end_session(ALICE));
    attempt!(stage.end_session(BOB));
    attempt!(stage.complete(&mut lives));
    Ok(Ok(lives))
}

/// One step, shown as it is done.
fn say(out: &mut Out, text: &str) -> Result<(), CliError> {
    if out.is_json() {
        return Ok(());
    }
    out.ok(text, None)?;
    out.flush()
}
