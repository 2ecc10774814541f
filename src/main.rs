//! The `polyphase` binary: parses the command line and hands over to [`polyphase::cli`].

use std::process::ExitCode;

/// A poll makes and drops some hundred small things on three threads; the allocator of the C library took about a tenth
/// of the server's time for that (docs/BENCHMARKS.md).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    polyphase::cli::main()
}
