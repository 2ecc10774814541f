//! The command line (interface contract): one sub-command a file. 0 done, 1 failed, 2 wrong usage or configuration.

pub mod access;
pub mod audit;
pub mod backup;
pub mod check_config;
pub mod decode;
pub mod demo;
pub mod grafana_login;
pub mod migrate;
pub mod people;
pub mod serve;
pub mod simulate;
pub mod virtual_dtu;

use crate::config::{Config, Source};
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;
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

/// The option of every command that needs the configuration.
#[derive(Args, Clone, Debug, Default)]
pub struct ConfigArgs {
    /// Configuration file; what it does not say is as in config/default.toml
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Run the head end
    Serve(serve::ServeArgs),
    /// Run the head end with a seeded account and a simulated fleet
    Demo(demo::DemoArgs),
    /// Run virtual DTUs and meters against any head end
    Simulate(simulate::SimulateArgs),
    /// Turn a local serial port or TCP device into a DTU that dials a head end
    VirtualDtu(virtual_dtu::VirtualDtuArgs),
    /// Explain frames given as hex
    Decode(decode::DecodeArgs),
    /// Bring the database's schema up to date
    Migrate(ConfigArgs),
    /// Check configuration and meter models; every fault with file and line
    CheckConfig(check_config::CheckConfigArgs),
    /// People who log in
    #[command(subcommand)]
    User(UserCommand),
    /// Keys of programs
    #[command(subcommand)]
    ApiKey(ApiKeyCommand),
    /// Write everything into one file; the server may run
    Backup(backup::BackupArgs),
    /// Restore a backup to an empty database and a fresh data folder, and verify it there
    Restore(backup::BackupArgs),
    /// The audit trail
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Make a read-only PostgreSQL login that sees one account, for Grafana; prints its password, alone, once
    GrafanaLogin(grafana_login::GrafanaLoginArgs),
}

#[derive(Subcommand, Debug)]
enum UserCommand {
    /// Add a person; makes the account if it is new
    Add(people::UserAddArgs),
    /// Take a person's second factor away, when telephone and recovery codes are lost; ends their sessions
    ResetSecondFactor(people::ResetSecondFactorArgs),
}

#[derive(Subcommand, Debug)]
enum AuditCommand {
    /// Check every entry against its hash, its neighbour and the checkpoints outside the database
    Verify(ConfigArgs),
}

#[derive(Subcommand, Debug)]
enum ApiKeyCommand {
    /// Make a key and print it, alone, once
    Create(people::ApiKeyCreateArgs),
}

/// Parses arguments and runs the sub-command.
pub fn main() -> ExitCode {
    // clap exits with 2 by itself on wrong usage and with 0 after --help
    match Cli::parse().command {
        Command::Serve(args) => serve::run(&args),
        Command::Demo(args) => demo::run(args),
        Command::Simulate(args) => simulate::run(args),
        Command::VirtualDtu(args) => virtual_dtu::run(args),
        Command::Decode(args) => decode::run(&args),
        Command::Migrate(args) => migrate::run(&args),
        Command::CheckConfig(args) => check_config::run(&args),
        Command::User(UserCommand::Add(args)) => people::add_user(args),
        Command::User(UserCommand::ResetSecondFactor(args)) => people::reset_second_factor(args),
        Command::ApiKey(ApiKeyCommand::Create(args)) => people::create_api_key(args),
        Command::Backup(args) => backup::make(&args),
        Command::Restore(args) => backup::restore(&args),
        Command::Audit(AuditCommand::Verify(args)) => audit::verify(&args),
        Command::GrafanaLogin(args) => grafana_login::run(args),
    }
}

/// Says an error on standard error.
fn complain(message: impl std::fmt::Display) {
    eprintln!("polyphase: {message}");
}

/// What went wrong, from the outside in; a cause that has been said already is not said again.
fn causes(error: &anyhow::Error) -> String {
    error
        .chain()
        .map(ToString::to_string)
        .fold(String::new(), |said, cause| {
            if said.contains(&cause) {
                said
            } else if said.is_empty() {
                cause
            } else {
                format!("{said}: {cause}")
            }
        })
}

/// Loads the configuration; else every fault of it, with its place. With `models` the meter models are checked as well.
fn checked(args: &ConfigArgs, models: bool) -> Result<(Config, Source), Vec<String>> {
    let (config, source) = crate::config::load(args.config.as_deref()).map_err(|faults| faults.0)?;
    let mut faults = crate::config::problems(&config);
    faults.extend(check_config::profiles(&config));
    faults.extend(crate::app::notices::faults(&config));
    faults.extend(crate::app::places::faults(&config));
    faults.extend(crate::app::backup::faults(&config));
    let own_folder = check_config::models_folder(&config);
    let has_folder = own_folder.is_none();
    faults.extend(own_folder);
    let mut faults: Vec<String> = faults.into_iter().map(|fault| source.placed(fault)).collect();
    if models && has_folder {
        faults.extend(check_config::models(&config));
    }
    if faults.is_empty() {
        Ok((config, source))
    } else {
        Err(faults)
    }
}

/// What a command that ends by itself logs, unless the configuration has a filter of its own: what it has to say, it says.
const QUIET: &str = "warn";

/// For a server: loads and checks the configuration and the meter models, and sets up logs; says every fault.
fn configured(args: &ConfigArgs) -> Result<Config, ExitCode> {
    let (config, _) = checked(args, true).map_err(faulty)?;
    logs(&config, &config.log.filter)?;
    Ok(config)
}

/// For a command that ends by itself: as [`configured`], without the meter models, and with warnings and errors alone in
/// its log unless somebody set `log.filter`.
fn configured_quietly(args: &ConfigArgs) -> Result<Config, ExitCode> {
    let (config, source) = checked(args, false).map_err(faulty)?;
    let filter = if source.sets("log", "filter") {
        config.log.filter.as_str()
    } else {
        QUIET
    };
    logs(&config, filter)?;
    Ok(config)
}

fn faulty(faults: Vec<String>) -> ExitCode {
    faults.iter().for_each(complain);
    ExitCode::from(2)
}

fn logs(config: &Config, filter: &str) -> Result<(), ExitCode> {
    crate::telemetry::logs::init(config.log.format, filter).map_err(|error| {
        complain(error);
        ExitCode::from(2)
    })
}

/// Sets up logs for the commands that have no configuration: text, on standard error.
fn plain_logs() {
    if let Err(error) = crate::telemetry::logs::init(crate::telemetry::logs::LogFormat::Text, "info") {
        complain(error);
    }
}

/// Resolves at Ctrl-C or SIGTERM.
async fn told_to_stop() {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminate.recv() => {}
        },
        // Ctrl-C alone, then
        Err(_) => drop(tokio::signal::ctrl_c().await),
    }
}

/// Runs a short command on a runtime of its own.
fn block_on(work: impl Future<Output = anyhow::Result<ExitCode>>) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(format_args!("cannot start: {error}"));
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(work) {
        Ok(code) => code,
        Err(error) => {
            complain(causes(&error));
            ExitCode::FAILURE
        }
    }
}
