//! The command `tokenswitch`.

fn main() -> std::process::ExitCode {
    tokenswitch::cli::run()
}
