#![no_main]
//! `config.json`, `settings.json`, and the canonical form of JSON.

use claudemesh::base::config::Config;
use claudemesh::base::settings::Settings;
use claudemesh::wire::json::{self, Value};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = Config::parse(bytes);
    let _ = json::decode::<Settings>(bytes);
    if let Ok(value) = json::decode::<Value>(bytes) {
        let _ = json::canonical(&value);
    }
});
