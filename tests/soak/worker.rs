//! The threads that send.

use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;

use crate::support::random::{Random, seed};

use super::ledger::direct_id;
use super::{BURST, Field, LONG_TEXT, Place, SENDERS, TEXT};

/// A thread that sends one burst each time it is told to.
pub(super) struct Worker {
    pub(super) turn: Sender<()>,
    pub(super) thread: JoinHandle<()>,
}

impl Worker {
    pub(super) fn start(field: Arc<Field>, number: usize, progress: Sender<bool>) -> Worker {
        let (turn, turns) = channel::<()>();
        let thread = std::thread::spawn(move || {
            let mut random = Random::new(seed() ^ (number as u64) << 32);
            let own: Vec<usize> = (0..field.sessions.len()).filter(|session| session % SENDERS == number).collect();
            let mut next = std::collections::HashMap::<(usize, usize), u64>::new();
            let mut many = 0;
            for () in turns {
                for n in 0..BURST {
                    let from = random.choose(&own);
                    match random.below(40) {
                        0 => field.send_to_many(from, format!("g-{number}-{many}"), Some(Place(from).group()), false),
                        1 => field.send_to_many(from, format!("b-{number}-{many}"), None, false),
                        _ => {
                            let to = random.choose(&field.others(from, None));
                            let count = next.entry((from, to)).or_default();
                            let id = direct_id(from, to, *count);
                            let longest = if random.below(30) == 0 { LONG_TEXT } else { TEXT };
                            let text = format!("{id} {}", "x".repeat(usize::try_from(random.below(longest)).expect("a length")));
                            if field.send(from, &field.sessions[to].key, &text, &id) {
                                field.ledger().accepted(from, to);
                                *count += 1;
                            }
                        }
                    }
                    many += 1;
                    if progress.send(n + 1 == BURST).is_err() {
                        return; // the test has failed elsewhere
                    }
                }
            }
        });
        Worker { turn, thread }
    }
}
