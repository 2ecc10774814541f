//! The command line (interface contract): one sub-command a file. 0 done, 1 failed, 2 wrong usage or configuration.

mod decode;
mod simulate;
mod virtual_dtu;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

#[derive(Parser, Debug)]
#[command(
    name = "polyphase",
    version,
    about = "Head-end system for electricity and water meters",
    propagate_version = true
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Explain frames given as hexadecimal digits
    Decode(decode::DecodeArgs),
    /// Turn a local serial port or TCP device into a DTU that dials a head end
    VirtualDtu(virtual_dtu::VirtualDtuArgs),
    /// Run virtual DTUs and meters against any head end
    Simulate(simulate::SimulateArgs),
}

/// Parses arguments and runs the sub-command.
pub fn main() -> ExitCode {
    // clap exits with 2 by itself on wrong usage and with 0 after --help
    match Cli::parse().command {
        Command::Decode(args) => decode::run(&args),
        Command::VirtualDtu(args) => virtual_dtu::run(args),
        Command::Simulate(args) => simulate::run(args),
    }
}
