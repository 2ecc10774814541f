//! `polyphase check-config`: configuration, profiles and meter models; every fault with file and line.

use super::{ConfigArgs, checked, complain};
use crate::config::Config;
use std::process::ExitCode;

/// Runs. 0: sound; 2: every fault was printed.
pub fn run(args: &ConfigArgs) -> ExitCode {
    match checked(args, true) {
        Ok(_sound) => {
            eprintln!("configuration and meter models are sound");
            ExitCode::SUCCESS
        }
        Err(faults) => {
            faults.iter().for_each(complain);
            complain(format_args!("{} fault(s)", faults.len()));
            ExitCode::from(2)
        }
    }
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
