//! Without the feature `bundled`, links the system's libsodium; SQLite is linked by rusqlite's own build script.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if std::env::var_os("CARGO_FEATURE_BUNDLED").is_some() {
        return; // libsodium-sys-stable builds and links the library it carries
    }
    if let Err(err) = pkg_config::Config::new().atleast_version("1.0.18").probe("libsodium") {
        println!("cargo:warning=libsodium was not found: {err}");
        println!(
            "cargo:warning=install its development package (Debian: libsodium-dev), or build with the default feature `bundled`"
        );
        std::process::exit(1);
    }
}
