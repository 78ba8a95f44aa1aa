//! The table: what a row is, and how figures are summed up and shown.

use std::fmt::Display;
use std::time::Duration;

/// One promise.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) number: u32,
    pub(crate) run: fn(Scale) -> Vec<Measured>,
}

/// How many rounds are run.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Scale {
    Full,
    Quick,
}

impl Scale {
    pub(crate) fn rounds(self, full: usize) -> usize {
        match self {
            Scale::Full => full,
            Scale::Quick => (full / 10).max(2),
        }
    }
}

/// One line of the table.
#[derive(Debug)]
pub(crate) struct Measured {
    promise: String,
    target: String,
    median: String,
    p99: String,
    kept: bool,
}

impl Measured {
    /// Times, against what the middle and the hundredth worst of them may be.
    pub(crate) fn times(promise: &str, mut times: Vec<Duration>, p50: Duration, p99: Option<Duration>) -> Measured {
        times.sort_unstable();
        let (median, worst) = (times[times.len() / 2], times[(times.len() * 99 / 100).min(times.len() - 1)]);
        let mut target = format!("≤ {}", show(p50));
        if let Some(p99) = p99 {
            target.push_str(&format!(", p99 ≤ {}", show(p99)));
        }
        Measured {
            promise: promise.to_owned(),
            target,
            median: show(median),
            p99: show(worst),
            kept: median <= p50 && p99.is_none_or(|p99| worst <= p99),
        }
    }

    /// Times, against what the middle and the worst of them may be.
    pub(crate) fn times_and_worst(promise: &str, times: Vec<Duration>, p50: Duration, most: Duration) -> Measured {
        let worst = times.iter().max().copied().unwrap_or_default();
        let mut measured = Measured::times(promise, times, p50, None);
        measured.target.push_str(&format!(", max ≤ {}", show(most)));
        measured.p99.push_str(&format!(", max {}", show(worst)));
        measured.kept &= worst <= most;
        measured
    }

    pub(crate) fn at_most<T: PartialOrd + Display>(promise: &str, unit: &str, figure: T, limit: T) -> Measured {
        let kept = figure <= limit;
        Measured::figure(promise, format!("≤ {limit} {unit}"), format!("{figure} {unit}"), kept)
    }

    pub(crate) fn at_least<T: PartialOrd + Display>(promise: &str, unit: &str, figure: T, limit: T) -> Measured {
        let kept = limit <= figure;
        Measured::figure(promise, format!("≥ {limit} {unit}"), format!("{figure} {unit}"), kept)
    }

    /// What something costs at each of several sizes, against how much more than at the first it may cost at any.
    pub(crate) fn flat(promise: &str, steps: &[(usize, Duration)], most: f64) -> Measured {
        let base = steps[0].1.as_secs_f64();
        let worst = steps.iter().map(|(_, cost)| cost.as_secs_f64() / base).fold(0.0, f64::max);
        let costs: Vec<String> = steps.iter().map(|(count, cost)| format!("{count}: {}", show(*cost))).collect();
        let promise = format!("{promise} ({})", costs.join(", "));
        Measured::figure(&promise, format!("≤ {most:.1} x"), format!("{worst:.2} x"), worst <= most)
    }

    fn figure(promise: &str, target: String, median: String, kept: bool) -> Measured {
        Measured { promise: promise.to_owned(), target, median, p99: String::new(), kept }
    }

    pub(crate) fn print(&self, number: u32) {
        let verdict = if self.kept { "pass" } else { "miss" };
        let Measured { promise, target, median, p99, .. } = self;
        println!("| {number:>2} | {promise:<58} | {target:<25} | {median:>12} | {p99:>9} | {verdict:<7} |");
    }
}

pub(crate) fn header() {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let cpu = read("/proc/cpuinfo");
    let cpu =
        cpu.lines().find_map(|line| line.strip_prefix("model name")).map_or("", |rest| rest.trim_start_matches([' ', '\t', ':']));
    println!(
        "claudemesh {}, {} cores ({cpu}), scratch files in {}\n",
        env!("CARGO_PKG_VERSION"),
        cores,
        std::env::temp_dir().display()
    );
    println!("|  # | {:<58} | {:<25} | {:>12} | {:>9} | {:<7} |", "promise", "target", "median", "p99", "verdict");
    println!("|---:|{0:-<60}|{0:-<27}|{0:->13}:|{0:->10}:|---------|", "");
}

/// The one in the middle.
pub(crate) fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn show(time: Duration) -> String {
    let micros = time.as_micros();
    match micros {
        0..1_000 => format!("{micros} µs"),
        1_000..1_000_000 => format!("{:.2} ms", time.as_secs_f64() * 1e3),
        _ => format!("{:.2} s", time.as_secs_f64()),
    }
}
