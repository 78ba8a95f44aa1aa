//! libsodium, declared by hand: only the functions this program calls, each behind a safe wrapper that fixes the sizes.
//! The declarations are those of libsodium 1.0.18, whose ABI has been stable since.

#![allow(unsafe_code, reason = "the one file that calls C; every other file in the tree is safe Rust")]

use std::ffi::{c_int, c_uchar, c_ulonglong, c_void};
use std::ptr;
use std::sync::OnceLock;

// Linked for its library alone; without the feature, build.rs links the system's.
#[cfg(feature = "bundled")]
use libsodium_sys as _;

/// An ed25519 secret key: the seed, then the public key.
pub(super) const SECRET: usize = 64;
pub(super) const SIGNATURE: usize = 64;
/// A curve point, a curve scalar, an ed25519 seed, the key of a box of either kind and a SHA-256 are all this long.
pub(super) const KEY: usize = 32;
pub(super) const NONCE: usize = 24;
/// What a box adds to its plaintext.
pub(super) const MAC: usize = 16;

unsafe extern "C" {
    fn sodium_init() -> c_int;
    fn sodium_memzero(bytes: *mut c_void, len: usize);
    fn sodium_memcmp(a: *const c_void, b: *const c_void, len: usize) -> c_int;
    fn randombytes_buf(bytes: *mut c_void, len: usize);

    fn crypto_hash_sha256(out: *mut c_uchar, bytes: *const c_uchar, len: c_ulonglong) -> c_int;

    fn crypto_sign_keypair(public: *mut c_uchar, secret: *mut c_uchar) -> c_int;
    fn crypto_sign_seed_keypair(public: *mut c_uchar, secret: *mut c_uchar, seed: *const c_uchar) -> c_int;
    fn crypto_sign_detached(
        signature: *mut c_uchar,
        signature_len: *mut c_ulonglong,
        message: *const c_uchar,
        len: c_ulonglong,
        secret: *const c_uchar,
    ) -> c_int;
    fn crypto_sign_verify_detached(
        signature: *const c_uchar,
        message: *const c_uchar,
        len: c_ulonglong,
        public: *const c_uchar,
    ) -> c_int;
    fn crypto_sign_ed25519_pk_to_curve25519(curve: *mut c_uchar, public: *const c_uchar) -> c_int;
    fn crypto_sign_ed25519_sk_to_curve25519(curve: *mut c_uchar, secret: *const c_uchar) -> c_int;

    fn crypto_box_beforenm(shared: *mut c_uchar, public: *const c_uchar, secret: *const c_uchar) -> c_int;
    fn crypto_box_easy_afternm(
        sealed: *mut c_uchar,
        message: *const c_uchar,
        len: c_ulonglong,
        nonce: *const c_uchar,
        shared: *const c_uchar,
    ) -> c_int;
    fn crypto_box_open_easy_afternm(
        message: *mut c_uchar,
        sealed: *const c_uchar,
        len: c_ulonglong,
        nonce: *const c_uchar,
        shared: *const c_uchar,
    ) -> c_int;

    fn crypto_secretbox_easy(
        sealed: *mut c_uchar,
        message: *const c_uchar,
        len: c_ulonglong,
        nonce: *const c_uchar,
        key: *const c_uchar,
    ) -> c_int;
    fn crypto_secretbox_open_easy(
        message: *mut c_uchar,
        sealed: *const c_uchar,
        len: c_ulonglong,
        nonce: *const c_uchar,
        key: *const c_uchar,
    ) -> c_int;
}

/// Lets libsodium choose its implementations and open its source of randomness, once per process.
fn ready() {
    static READY: OnceLock<()> = OnceLock::new();
    READY.get_or_init(|| {
        // SAFETY: no arguments; may be called from any thread, any number of times.
        let status = unsafe { sodium_init() };
        assert!(0 <= status, "libsodium found no source of randomness");
    });
}

/// Overwrites `bytes` with zeroes in a way the optimiser keeps.
pub(super) fn wipe(bytes: &mut [u8]) {
    // SAFETY: the pointer and the length are those of one exclusive slice.
    unsafe { sodium_memzero(bytes.as_mut_ptr().cast(), bytes.len()) }
}

/// Compares in a time that depends on the lengths only.
pub(super) fn equal(a: &[u8], b: &[u8]) -> bool {
    // SAFETY: both slices are as long as the length given.
    a.len() == b.len() && unsafe { sodium_memcmp(a.as_ptr().cast(), b.as_ptr().cast(), a.len()) } == 0
}

/// Fills `bytes` from the system's cryptographic generator.
pub(super) fn random(bytes: &mut [u8]) {
    ready();
    // SAFETY: the pointer and the length are those of one exclusive slice.
    unsafe { randombytes_buf(bytes.as_mut_ptr().cast(), bytes.len()) }
}

pub(super) fn sha256(bytes: &[u8]) -> [u8; KEY] {
    ready();
    let mut hash = [0; KEY];
    // SAFETY: writes 32 bytes to `hash`, reads `bytes.len()` bytes of `bytes`. It cannot fail.
    unsafe { crypto_hash_sha256(hash.as_mut_ptr(), bytes.as_ptr(), bytes.len() as c_ulonglong) };
    hash
}

/// Writes a new random secret key.
pub(super) fn generate(secret: &mut [u8; SECRET]) {
    ready();
    let mut public = [0; KEY];
    // SAFETY: writes 32 bytes to `public` and 64 to `secret`. It cannot fail.
    unsafe { crypto_sign_keypair(public.as_mut_ptr(), secret.as_mut_ptr()) };
}

/// Writes the secret key that `seed` derives.
pub(super) fn derive(secret: &mut [u8; SECRET], seed: &[u8; KEY]) {
    ready();
    let mut public = [0; KEY];
    // SAFETY: writes 32 bytes to `public` and 64 to `secret`, reads 32 of `seed`. It cannot fail.
    unsafe { crypto_sign_seed_keypair(public.as_mut_ptr(), secret.as_mut_ptr(), seed.as_ptr()) };
}

pub(super) fn sign(message: &[u8], secret: &[u8; SECRET]) -> [u8; SIGNATURE] {
    ready();
    let mut signature = [0; SIGNATURE];
    let len = message.len() as c_ulonglong;
    // SAFETY: writes 64 bytes to `signature` (its length may be null, as it is fixed), reads `len` bytes of `message` and
    // 64 of `secret`. It cannot fail.
    unsafe { crypto_sign_detached(signature.as_mut_ptr(), ptr::null_mut(), message.as_ptr(), len, secret.as_ptr()) };
    signature
}

pub(super) fn verify(signature: &[u8; SIGNATURE], message: &[u8], public: &[u8; KEY]) -> bool {
    ready();
    let len = message.len() as c_ulonglong;
    // SAFETY: reads 64 bytes of `signature`, `len` of `message` and 32 of `public`.
    unsafe { crypto_sign_verify_detached(signature.as_ptr(), message.as_ptr(), len, public.as_ptr()) == 0 }
}

/// The x25519 form of an ed25519 public key; `None` if it is not a point of the main subgroup.
pub(super) fn public_to_curve(public: &[u8; KEY]) -> Option<[u8; KEY]> {
    ready();
    let mut curve = [0; KEY];
    // SAFETY: writes 32 bytes to `curve`, reads 32 of `public`.
    let status = unsafe { crypto_sign_ed25519_pk_to_curve25519(curve.as_mut_ptr(), public.as_ptr()) };
    (status == 0).then_some(curve)
}

/// Writes the x25519 form of an ed25519 secret key.
pub(super) fn secret_to_curve(curve: &mut [u8; KEY], secret: &[u8; SECRET]) {
    ready();
    // SAFETY: writes 32 bytes to `curve`, reads 32 of the 64 of `secret`. It cannot fail.
    unsafe { crypto_sign_ed25519_sk_to_curve25519(curve.as_mut_ptr(), secret.as_ptr()) };
}

/// Writes the key that two x25519 keys share; false if `public` has a low order, and then `shared` is not to be used.
#[must_use]
pub(super) fn agree(shared: &mut [u8; KEY], public: &[u8; KEY], secret: &[u8; KEY]) -> bool {
    ready();
    // SAFETY: writes 32 bytes to `shared`, reads 32 each of `public` and `secret`.
    unsafe { crypto_box_beforenm(shared.as_mut_ptr(), public.as_ptr(), secret.as_ptr()) == 0 }
}

/// A box under a shared key: the authenticator, then the ciphertext.
pub(super) fn seal(message: &[u8], nonce: &[u8; NONCE], shared: &[u8; KEY]) -> Vec<u8> {
    ready();
    let mut sealed = vec![0; MAC + message.len()];
    let len = message.len() as c_ulonglong;
    // SAFETY: writes `len + 16` bytes to `sealed`, which has them; reads `len` of `message`, 24 of `nonce` and 32 of
    // `shared`. It fails only for a message of 2^64 - 17 bytes or more, which no slice is.
    unsafe { crypto_box_easy_afternm(sealed.as_mut_ptr(), message.as_ptr(), len, nonce.as_ptr(), shared.as_ptr()) };
    sealed
}

/// Opens what [`seal`] made; `None` if it is too short or was not made with this key and nonce.
pub(super) fn open(sealed: &[u8], nonce: &[u8; NONCE], shared: &[u8; KEY]) -> Option<Vec<u8>> {
    ready();
    let mut message = vec![0; sealed.len().checked_sub(MAC)?];
    let len = sealed.len() as c_ulonglong;
    // SAFETY: reads `len` bytes of `sealed`, at least 16, 24 of `nonce` and 32 of `shared`; writes `len - 16` bytes to
    // `message`, which has them.
    let status =
        unsafe { crypto_box_open_easy_afternm(message.as_mut_ptr(), sealed.as_ptr(), len, nonce.as_ptr(), shared.as_ptr()) };
    (status == 0).then_some(message)
}

/// A box under a key that all who may open it have: the authenticator, then the ciphertext.
pub(super) fn lock(message: &[u8], nonce: &[u8; NONCE], key: &[u8; KEY]) -> Vec<u8> {
    ready();
    let mut sealed = vec![0; MAC + message.len()];
    let len = message.len() as c_ulonglong;
    // SAFETY: writes `len + 16` bytes to `sealed`, which has them; reads `len` of `message`, 24 of `nonce` and 32 of `key`.
    // It fails only for a message of 2^64 - 17 bytes or more, which no slice is.
    unsafe { crypto_secretbox_easy(sealed.as_mut_ptr(), message.as_ptr(), len, nonce.as_ptr(), key.as_ptr()) };
    sealed
}

/// Opens what [`lock`] made; `None` if it is too short or was not made with this key and nonce.
pub(super) fn unlock(sealed: &[u8], nonce: &[u8; NONCE], key: &[u8; KEY]) -> Option<Vec<u8>> {
    ready();
    let mut message = vec![0; sealed.len().checked_sub(MAC)?];
    let len = sealed.len() as c_ulonglong;
    // SAFETY: reads `len` bytes of `sealed`, at least 16, 24 of `nonce` and 32 of `key`; writes `len - 16` bytes to
    // `message`, which has them.
    let status = unsafe { crypto_secretbox_open_easy(message.as_mut_ptr(), sealed.as_ptr(), len, nonce.as_ptr(), key.as_ptr()) };
    (status == 0).then_some(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    unsafe extern "C" {
        fn crypto_secretbox_keybytes() -> usize;
        fn crypto_secretbox_noncebytes() -> usize;
        fn crypto_secretbox_macbytes() -> usize;
        fn crypto_sign_secretkeybytes() -> usize;
        fn crypto_sign_publickeybytes() -> usize;
        fn crypto_sign_seedbytes() -> usize;
        fn crypto_sign_bytes() -> usize;
        fn crypto_box_publickeybytes() -> usize;
        fn crypto_box_secretkeybytes() -> usize;
        fn crypto_box_beforenmbytes() -> usize;
        fn crypto_box_noncebytes() -> usize;
        fn crypto_box_macbytes() -> usize;
        fn crypto_hash_sha256_bytes() -> usize;
    }

    #[test]
    fn the_library_has_the_sizes_the_wrappers_rely_on() {
        // SAFETY: constants; no arguments, no state.
        let (in_library, in_wrappers) = unsafe {
            (
                [
                    crypto_sign_secretkeybytes(),
                    crypto_sign_bytes(),
                    crypto_box_noncebytes(),
                    crypto_box_macbytes(),
                    crypto_secretbox_noncebytes(),
                    crypto_secretbox_macbytes(),
                ],
                [SECRET, SIGNATURE, NONCE, MAC, NONCE, MAC],
            )
        };
        assert_eq!(in_library, in_wrappers);
        // SAFETY: as above.
        let keys = unsafe {
            [
                crypto_sign_publickeybytes(),
                crypto_sign_seedbytes(),
                crypto_box_publickeybytes(),
                crypto_box_secretkeybytes(),
                crypto_box_beforenmbytes(),
                crypto_hash_sha256_bytes(),
                crypto_secretbox_keybytes(),
            ]
        };
        assert_eq!(keys, [KEY; 7]);
    }

    #[test]
    fn wiping_and_comparing() {
        let mut bytes = [7; 5];
        assert!(equal(&bytes, &[7; 5]) && !equal(&bytes, &[7; 4]) && !equal(&bytes, &[7, 7, 7, 7, 8]) && equal(&[], &[]));
        wipe(&mut bytes);
        assert_eq!(bytes, [0; 5]);
    }
}
