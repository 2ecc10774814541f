//! The `polyphase` binary: parses the command line and hands over to [`polyphase::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    polyphase::cli::main()
}
