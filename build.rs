//! Links what Cargo does not: without the feature `bundled` the system's libsodium (SQLite is linked by rusqlite's own build
//! script), and where the linker can do it, the functions of a resident process side by side.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// Which functions those are; `contrib/link/trace` writes it.
const LAYOUT: &str = "contrib/link/resident.ld";

fn main() -> ExitCode {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed={LAYOUT}");
    // With the feature, libsodium-sys-stable builds and links the library it carries.
    if env::var_os("CARGO_FEATURE_BUNDLED").is_none() && !link_libsodium() {
        return ExitCode::FAILURE;
    }
    if env::var("PROFILE").is_ok_and(|profile| profile == "release") {
        lay_out();
    }
    ExitCode::SUCCESS
}

fn link_libsodium() -> bool {
    let found = pkg_config::Config::new().atleast_version("1.0.18").probe("libsodium");
    if let Err(err) = &found {
        println!("cargo:warning=libsodium was not found: {err}");
        println!(
            "cargo:warning=install its development package (Debian: libsodium-dev), or build with the default feature `bundled`"
        );
    }
    found.is_ok()
}

/// Costs nothing but memory where it is left out, so a linker that does not understand the script is no error.
fn lay_out() {
    let layout = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default()).join(LAYOUT);
    let argument = format!("-Wl,-T,{}", layout.display());
    if env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "linux") && links(&argument) {
        println!("cargo:rustc-link-arg-bins={argument}");
    }
}

/// Whether a program of nothing can be linked with `argument`, by the compiler, linker and flags of this build.
fn links(argument: &str) -> bool {
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    let source = out.join("nothing.rs");
    if std::fs::write(&source, "fn main() {}\n").is_err() {
        return false;
    }
    let Some(mut rustc) = env::var_os("RUSTC").map(Command::new) else { return false };
    let flags = env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
    rustc.args(flags.split('\x1f').filter(|flag| !flag.is_empty()));
    if let Some(linker) = env::var_os("RUSTC_LINKER") {
        rustc.arg("-C").arg(joined("linker=", Path::new(&linker)));
    }
    if let Some(target) = env::var_os("TARGET") {
        rustc.arg("--target").arg(target);
    }
    rustc.arg(format!("-Clink-arg={argument}")).arg("-o").arg(out.join("nothing")).arg(&source);
    rustc.output().is_ok_and(|done| done.status.success())
}

fn joined(key: &str, value: &Path) -> std::ffi::OsString {
    let mut text = std::ffi::OsString::from(key);
    text.push(value);
    text
}
