//! The command line (interface contract): one sub-command a file.

use std::process::ExitCode;

/// Parses arguments and runs the sub-command. 0 done, 1 failed, 2 wrong usage or invalid configuration.
pub fn main() -> ExitCode {
    ExitCode::from(2)
}
