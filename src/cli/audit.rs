//! `polyphase audit verify`: whether the audit is what it was.

use super::people::closing;
use super::{ConfigArgs, block_on, configured_quietly};
use crate::app::{audit, database};
use crate::store::audit_chain::AuditChain;
use std::process::ExitCode;

/// Checks every entry and every checkpoint; says the first fault. Works with the server running or stopped.
#[expect(clippy::print_stdout, reason = "the verdict is what the command is for")]
pub fn verify(args: &ConfigArgs) -> ExitCode {
    let config = match configured_quietly(args) {
        Ok(config) => config,
        Err(code) => return code,
    };
    block_on(async {
        let path = audit::file(&config.data.folder);
        let checkpoints = audit::read(&path)?;
        let opened = database::open(&config).await?;
        let checked = AuditChain::new(&opened.database).verify(&checkpoints).await;
        match closing(checked, opened).await? {
            Ok(head) => {
                let (entries, hash) = head.map_or((0, "-".to_owned()), |head| (head.id, head.hash));
                println!(
                    "audit holds: {entries} entries, {} checkpoints, head {hash}",
                    checkpoints.len()
                );
                if checkpoints.is_empty() && entries > 0 {
                    eprintln!(
                        "there is no checkpoint in {}: whether the end was cut off cannot be told",
                        path.display()
                    );
                }
                Ok(ExitCode::SUCCESS)
            }
            Err(fault) => {
                println!("audit does not hold: {fault}");
                Ok(ExitCode::FAILURE)
            }
        }
    })
}
