//! `polyphase migrate`: brings the schema up to date and says so.

use super::{ConfigArgs, block_on, configured_quietly};
use std::process::ExitCode;

/// Runs.
pub fn run(args: &ConfigArgs) -> ExitCode {
    let config = match configured_quietly(args) {
        Ok(config) => config,
        Err(code) => return code,
    };
    block_on(async {
        crate::app::database::open(&config).await?.close().await;
        eprintln!("the schema is up to date");
        Ok(ExitCode::SUCCESS)
    })
}
