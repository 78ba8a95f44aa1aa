#![no_main]
//! When something is to come again.

use claudemesh::base::cron::Cron;

libfuzzer_sys::fuzz_target!(|input: (i64, &str)| {
    if let Some(next) = Cron::parse(input.1).and_then(|cron| cron.next(input.0)) {
        assert!(input.0 < next);
    }
});
