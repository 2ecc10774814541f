//! `polyphase check-config`: configuration, profiles and meter models; every fault with file and line.

use super::{ConfigArgs, complain};
use crate::config::Config;
use std::process::ExitCode;

/// Runs. 0: sound; 2: every fault was printed.
pub fn run(args: &ConfigArgs) -> ExitCode {
    let config = match crate::config::load(args.config.as_deref()) {
        Ok(config) => config,
        Err(error) => {
            complain(error);
            return ExitCode::from(2);
        }
    };
    let mut faults = crate::config::problems(&config);
    faults.extend(profiles(&config));
    faults.extend(models(&config));
    if faults.is_empty() {
        eprintln!("configuration and meter models are sound");
        return ExitCode::SUCCESS;
    }
    faults.iter().for_each(complain);
    complain(format_args!("{} fault(s)", faults.len()));
    ExitCode::from(2)
}

fn profiles(config: &Config) -> Vec<String> {
    config
        .listeners
        .iter()
        .filter_map(|listener| {
            let error = crate::protocol::dtu::Profile::parse(&listener.profile).err()?;
            Some(format!(
                "listener {}: profile {:?}: {error}",
                listener.bind, listener.profile
            ))
        })
        .collect()
}

fn models(config: &Config) -> Vec<String> {
    let own = &config.data.meter_models;
    if own.as_os_str().is_empty() {
        return Vec::new();
    }
    if !own.is_dir() {
        return vec![format!("data.meter_models: there is no folder {}", own.display())];
    }
    crate::device::check::check_folder(own)
        .iter()
        .map(ToString::to_string)
        .collect()
}
