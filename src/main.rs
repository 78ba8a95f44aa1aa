fn main() -> std::process::ExitCode {
    claudemesh::run(std::env::args_os())
}
