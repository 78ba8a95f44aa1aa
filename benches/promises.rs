//! `make bench`: the promises of speed and size, measured on this machine against real processes, as one table.
//!
//! Arguments: `--quick` for a tenth of the rounds, and numbers of the rows to run. It asserts nothing: a miss is printed.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a measurement that can not go on should stop"
)]

#[path = "../tests/support/mod.rs"]
mod support;

mod broker;
mod commands;
mod flow;
mod growth;
mod shim;
mod sizes;
mod table;
mod wake;

use table::{Row, Scale};

/// The rows of the table, by the numbers under which the promises are known.
const ROWS: &[Row] = &[
    Row { number: 1, run: commands::verbs },
    Row { number: 2, run: commands::version },
    Row { number: 3, run: commands::hook },
    Row { number: 4, run: commands::daemon_start },
    Row { number: 5, run: sizes::daemon_memory },
    Row { number: 6, run: sizes::idle },
    Row { number: 7, run: flow::requests },
    Row { number: 8, run: flow::sends },
    Row { number: 9, run: flow::end_to_end },
    Row { number: 10, run: flow::burst },
    Row { number: 11, run: broker::messages },
    Row { number: 12, run: broker::memory },
    Row { number: 13, run: growth::growth },
    Row { number: 14, run: shim::binary },
    Row { number: 15, run: shim::shim },
    Row { number: 16, run: wake::wake },
];

fn main() {
    let (mut scale, mut wanted) = (Scale::Full, Vec::new());
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            "--quick" => scale = Scale::Quick,
            "--bench" => {} // what `cargo bench` itself adds
            number => match number.parse::<u32>() {
                Ok(number) if ROWS.iter().any(|row| row.number == number) => wanted.push(number),
                _ => {
                    let numbers: Vec<String> = ROWS.iter().map(|row| row.number.to_string()).collect();
                    eprintln!("usage: make bench BENCH=\"[--quick] [ROW]...\" with rows {}", numbers.join(" "));
                    return;
                }
            },
        }
    }
    table::header();
    for row in ROWS.iter().filter(|row| wanted.is_empty() || wanted.contains(&row.number)) {
        for measured in (row.run)(scale) {
            measured.print(row.number);
        }
    }
}
