//! Random courses of events on a real broker, held against a model of it after each step: what was accepted is given to
//! those whom it is for, in order, until they acknowledge it, and to nobody else. `CLAUDEMESH_SEED` is another course,
//! `CLAUDEMESH_ROUNDS` are more. What fails is shown as the shortest course that still fails.

mod model;
mod op;
mod reach;
mod real;

use std::panic::{AssertUnwindSafe, catch_unwind};

use self::model::Model;
use self::op::{Op, Random, course};
use self::real::Real;

/// Courses of one run, and the length of each.
const ROUNDS: u64 = 16;
const LENGTH: usize = 70;

/// How often a course that fails is tried with something left out.
const TRIES: usize = 200;

/// Where a course went wrong, and how.
#[derive(Debug)]
struct Wrong {
    at: usize,
    why: String,
}

fn run(ops: &[Op]) -> Result<(), Wrong> {
    let (mut model, mut real) = (Model::new(), Real::new());
    for (at, op) in ops.iter().enumerate() {
        let step = || {
            let before: Vec<Vec<usize>> = (0..model::PEERS).map(|peer| model.pushed(peer).to_vec()).collect();
            let said = model.apply(op);
            real.act(op, &said, &before)?;
            real.compare(&model.deliver(), &model)
        };
        let outcome = catch_unwind(AssertUnwindSafe(step));
        let outcome = outcome.unwrap_or_else(|panic| Err(panic.downcast_ref::<String>().cloned().unwrap_or_default()));
        outcome.map_err(|why| Wrong { at, why })?;
    }
    Ok(())
}

/// The course up to where it fails, without whatever it fails without.
fn shortest(mut ops: Vec<Op>, mut wrong: Wrong) -> (Vec<Op>, Wrong) {
    ops.truncate(wrong.at + 1);
    let (mut size, mut tries) = (ops.len() / 2, 0);
    while 0 < size {
        let mut from = 0;
        while from < ops.len() && tries < TRIES {
            let mut fewer = ops.clone();
            drop(fewer.drain(from..(from + size).min(ops.len())));
            tries += 1;
            match run(&fewer) {
                Ok(()) => from += size,
                Err(still) => {
                    fewer.truncate(still.at + 1);
                    (ops, wrong) = (fewer, still);
                }
            }
        }
        size /= 2;
    }
    (ops, wrong)
}

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

#[test]
fn whatever_happens_mail_reaches_whom_it_is_for_in_order_and_once_acknowledged_never_again() {
    let seed = number("CLAUDEMESH_SEED", 0x636d);
    for round in 0..number("CLAUDEMESH_ROUNDS", ROUNDS) {
        let ops = course(&mut Random::new(seed.wrapping_add(round)), LENGTH);
        if let Err(wrong) = run(&ops) {
            let (ops, wrong) = shortest(ops, wrong);
            let course: Vec<String> = ops.iter().map(|op| format!("  {op:?}\n")).collect();
            panic!("seed {} after {} steps: {}\n{}", seed.wrapping_add(round), ops.len(), wrong.why, course.concat());
        }
    }
}
