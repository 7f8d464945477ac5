//! The command `tokenswitch`.

/// Messages come and go by the thousand within a wake-up, all of a few sizes: what mimalloc is made for.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    tokenswitch::cli::run()
}
