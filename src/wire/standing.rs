//! Where a message stands, from what is known of it: the sender's own outbox, and what its recipients said. Nothing here is
//! ever assumed: what nobody said is not known.

use serde::{Deserialize, Serialize};

use crate::base::time::Millis;

use super::receipt::Stage;

/// Where a message stands with one recipient, or as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// On this machine's disk.
    Queued,
    /// On the broker's disk.
    Relayed,
    /// On the recipient's disk.
    Arrived,
    /// Before the recipient's model.
    Offered,
    /// With the recipient or for it, and kept from the model.
    Held,
    /// The broker gave up keeping it.
    Expired,
    /// It was given up here.
    Dead,
}

impl State {
    pub fn as_str(self) -> &'static str {
        match self {
            State::Queued => "queued",
            State::Relayed => "relayed",
            State::Arrived => "arrived",
            State::Offered => "offered",
            State::Held => "held",
            State::Expired => "expired",
            State::Dead => "dead",
        }
    }

    pub fn parse(text: &str) -> Option<State> {
        use State::{Arrived, Dead, Expired, Held, Offered, Queued, Relayed};
        [Queued, Relayed, Arrived, Offered, Held, Expired, Dead].into_iter().find(|state| state.as_str() == text)
    }

    /// How far on its way; what is over or held has got no farther than it says elsewhere.
    fn steps(self) -> u8 {
        match self {
            State::Dead | State::Expired => 0,
            State::Queued => 1,
            State::Relayed => 2,
            State::Arrived | State::Held => 3,
            State::Offered => 4,
        }
    }

    /// Nothing follows any more.
    pub fn is_final(self) -> bool {
        matches!(self, State::Offered | State::Expired | State::Dead)
    }
}

/// What is known of a message at one recipient.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    pub arrived_at: Option<Millis>,
    /// When it was put before the model, and by which path.
    pub offered: Option<(Millis, String)>,
    /// Since when it is kept from the model, and why.
    pub held: Option<(Millis, String)>,
    pub expired_at: Option<Millis>,
}

impl Known {
    /// Takes another word of the recipient (or, of expiry, of the broker). False if it says nothing new: words may come
    /// twice, late and out of order.
    pub fn learn(&mut self, stage: Stage, detail: &str, at: Millis) -> bool {
        match stage {
            Stage::Offered if self.offered.is_none() => self.offered = Some((at, detail.to_owned())),
            Stage::Held if self.offered.is_none() && self.held.as_ref().is_none_or(|(since, _)| *since < at) => {
                self.held = Some((at, detail.to_owned()));
            }
            // What could not be opened at first, and then could: it is held no longer.
            Stage::Arrived if self.held.as_ref().is_some_and(|(since, _)| *since < at) => {
                self.held = None;
                self.arrived_at = Some(at);
            }
            Stage::Arrived if self.arrived_at.is_none() => self.arrived_at = Some(at),
            Stage::Expired if *self == Known::default() => self.expired_at = Some(at),
            _ => return false,
        }
        true
    }

    /// Where the message stands with this recipient, since when, and by which path or for which reason.
    pub fn state(&self) -> (State, Option<Millis>, Option<&str>) {
        if let Some((at, path)) = &self.offered {
            return (State::Offered, Some(*at), Some(path));
        }
        if let Some((at, why)) = &self.held {
            return (State::Held, Some(*at), Some(why));
        }
        match (self.arrived_at, self.expired_at) {
            (Some(at), _) => (State::Arrived, Some(at), None),
            (None, Some(at)) => (State::Expired, Some(at), None),
            (None, None) => (State::Relayed, None, None),
        }
    }
}

/// Where a message to several stands as a whole: as far as it came with all of them. Those that said nothing do not have it,
/// as far as anybody knows; `of` is how many there are, where that is known.
pub fn of_all(states: &[State], of: Option<usize>) -> State {
    let silent = of.is_some_and(|of| states.len() < of);
    let all = states.iter().copied().chain(silent.then_some(State::Relayed));
    all.min_by_key(|state| state.steps()).unwrap_or(State::Relayed)
}

/// What somebody who waits for a state is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    Reached,
    /// It may still come.
    On,
    /// It will not come.
    Over,
    /// Nobody will say whether it comes.
    NotKnown,
}

/// Whether a wait for `wanted` is over. `told`: the broker passes on what recipients say.
pub fn waited(state: State, wanted: State, told: bool) -> Wait {
    match state {
        // It was on the broker's disk, for as long as it was.
        State::Expired if wanted.steps() <= State::Relayed.steps() => Wait::Reached,
        State::Dead | State::Expired => Wait::Over,
        _ if wanted.steps() <= state.steps() => Wait::Reached,
        State::Queued => Wait::On,
        _ if !told => Wait::NotKnown,
        _ => Wait::On,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `a3`: arrived at 3.
    fn after(words: &str) -> (State, Option<Millis>, Option<String>, Vec<bool>) {
        let mut known = Known::default();
        let mut news = Vec::new();
        for word in words.split_whitespace() {
            let (stage, detail) = match &word[..1] {
                "a" => (Stage::Arrived, ""),
                "h" => (Stage::Held, "repeat"),
                "o" => (Stage::Offered, "prompt"),
                "x" => (Stage::Expired, ""),
                other => panic!("{other}"),
            };
            news.push(known.learn(stage, detail, word[1..].parse().unwrap()));
        }
        let (state, at, detail) = known.state();
        (state, at, detail.map(str::to_owned), news)
    }

    #[test]
    fn a_recipients_words_in_any_order() {
        use State::{Arrived, Expired, Held, Offered, Relayed};
        for (words, state, at, detail, news) in [
            ("", Relayed, None, None, &[][..]),
            ("a1", Arrived, Some(1), None, &[true]),
            ("a1 a2", Arrived, Some(1), None, &[true, false]),
            ("a1 o2", Offered, Some(2), Some("prompt"), &[true, true]),
            ("o2", Offered, Some(2), Some("prompt"), &[true]),
            ("o2 a1", Offered, Some(2), Some("prompt"), &[true, true]),
            ("o2 o3", Offered, Some(2), Some("prompt"), &[true, false]),
            ("o2 h3", Offered, Some(2), Some("prompt"), &[true, false]),
            ("a1 h2", Held, Some(2), Some("repeat"), &[true, true]),
            ("h2", Held, Some(2), Some("repeat"), &[true]),
            ("h2 h2", Held, Some(2), Some("repeat"), &[true, false]),
            ("h2 h4", Held, Some(4), Some("repeat"), &[true, true]),
            ("h2 o5", Offered, Some(5), Some("prompt"), &[true, true]),
            ("h2 a1", Held, Some(2), Some("repeat"), &[true, true]),
            ("h2 a3", Arrived, Some(3), None, &[true, true]),
            ("x1", Expired, Some(1), None, &[true]),
            ("x1 x2", Expired, Some(1), None, &[true, false]),
            ("x1 a2", Arrived, Some(2), None, &[true, true]),
            ("a1 x2", Arrived, Some(1), None, &[true, false]),
            ("o1 x2", Offered, Some(1), Some("prompt"), &[true, false]),
        ] {
            let expected = (state, at, detail.map(str::to_owned), news.to_vec());
            assert_eq!(after(words), expected, "{words}");
        }
    }

    #[test]
    fn several_stand_where_the_last_of_them_stands() {
        use State::{Arrived, Expired, Held, Offered, Relayed};
        for (states, of, expected) in [
            (&[][..], None, Relayed),
            (&[], Some(3), Relayed),
            (&[Offered], None, Offered),
            (&[Offered], Some(1), Offered),
            (&[Offered], Some(2), Relayed),
            (&[Offered, Arrived], Some(2), Arrived),
            (&[Offered, Held], Some(2), Held),
            (&[Offered, Expired], Some(2), Expired),
        ] {
            assert_eq!(of_all(states, of), expected, "{states:?} of {of:?}");
        }
    }

    #[test]
    fn a_wait_ends_with_what_is_known_and_never_with_a_guess() {
        use State::{Arrived, Dead, Expired, Held, Offered, Queued, Relayed};
        for (state, wanted, told, expected) in [
            (Queued, Queued, false, Wait::Reached),
            (Queued, Relayed, false, Wait::On),
            (Queued, Offered, true, Wait::On),
            (Queued, Offered, false, Wait::On),
            (Relayed, Relayed, false, Wait::Reached),
            (Relayed, Arrived, false, Wait::NotKnown),
            (Relayed, Offered, false, Wait::NotKnown),
            (Relayed, Arrived, true, Wait::On),
            (Arrived, Arrived, true, Wait::Reached),
            (Arrived, Offered, true, Wait::On),
            (Held, Arrived, true, Wait::Reached),
            (Held, Offered, true, Wait::On),
            (Offered, Arrived, true, Wait::Reached),
            (Offered, Offered, true, Wait::Reached),
            (Expired, Relayed, true, Wait::Reached),
            (Expired, Arrived, true, Wait::Over),
            (Dead, Queued, true, Wait::Over),
            (Dead, Offered, false, Wait::Over),
        ] {
            assert_eq!(waited(state, wanted, told), expected, "{state:?} for {wanted:?}, told {told}");
        }
    }
}
