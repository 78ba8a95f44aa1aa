//! How many files this process may have open.

/// Raises the limit to what the system allows without asking: shells start programs with a low one, and every connection
/// is a file.
pub fn raise_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum
        && let Err(err) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })
    {
        log::warn!("the limit of open files stays at {:?}: {err}", limit.current);
    }
}
