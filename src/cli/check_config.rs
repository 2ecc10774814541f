//! `polyphase check-config`: configuration, profiles and meter models; every fault with file and line. With `--lines` also
//! whether the schedules in the database fit into the time of their lines.

use super::{ConfigArgs, block_on, checked, complain};
use crate::config::Config;
use clap::Args;
use std::process::ExitCode;

/// Arguments.
#[derive(Args, Clone, Debug)]
pub struct CheckConfigArgs {
    /// Also look into the database (which is only read): can each DTU's line carry what its schedules ask of it?
    #[arg(long)]
    lines: bool,
    #[command(flatten)]
    config: ConfigArgs,
}

/// Runs. 0: sound; 1: a line cannot carry its schedules; 2: the configuration is at fault, and every fault was printed.
pub fn run(args: &CheckConfigArgs) -> ExitCode {
    match checked(&args.config, true) {
        Ok((sound, _)) => {
            eprintln!("configuration and meter models are sound");
            if args.lines { lines(&sound) } else { ExitCode::SUCCESS }
        }
        Err(faults) => {
            faults.iter().for_each(complain);
            complain(format_args!("{} fault(s)", faults.len()));
            ExitCode::from(2)
        }
    }
}

/// Judges the lines.
fn lines(config: &Config) -> ExitCode {
    block_on(async {
        let found = crate::app::lines::check(config).await?;
        found.overfull.iter().for_each(complain);
        if found.overfull.is_empty() {
            eprintln!("every line has the time for its schedules: {} looked at", found.lines);
            return Ok(ExitCode::SUCCESS);
        }
        complain(format_args!(
            "{} of {} lines cannot carry their schedules",
            found.overfull.len(),
            found.lines
        ));
        Ok(ExitCode::FAILURE)
    })
}

/// Registration profiles that are none.
pub(super) fn profiles(config: &Config) -> Vec<String> {
    let listeners = config.listeners.iter().enumerate();
    listeners
        .filter_map(|(index, listener)| {
            let error = crate::protocol::dtu::Profile::parse(&listener.profile).err()?;
            Some(format!("listener[{index}].profile: {error}"))
        })
        .collect()
}

/// The folder of the user's own meter models, when it is named and not there.
pub(super) fn models_folder(config: &Config) -> Option<String> {
    let own = &config.data.meter_models;
    let missing = !own.as_os_str().is_empty() && !own.is_dir();
    missing.then(|| {
        format!(
            "data.meter_models: there is no folder {}; make it or leave it empty",
            own.display()
        )
    })
}

/// Every fault of the user's own meter models.
pub(super) fn models(config: &Config) -> Vec<String> {
    let own = &config.data.meter_models;
    if own.as_os_str().is_empty() {
        return Vec::new();
    }
    let faults = crate::device::check::check_folder(own);
    faults.iter().map(ToString::to_string).collect()
}
