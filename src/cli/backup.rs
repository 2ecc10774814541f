//! `polyphase backup FILE` and `polyphase restore FILE`.

use super::{ConfigArgs, block_on, configured_quietly};
use crate::app::{backup, database};
use crate::base::clock::{Clock, SystemClock};
use clap::Args;
use std::path::PathBuf;
use std::process::ExitCode;

/// Arguments of both.
#[derive(Args, Clone, Debug)]
pub struct BackupArgs {
    /// The backup
    file: PathBuf,
    /// A file whose first line is the key: at least 16 characters. `backup` encrypts with it, `restore` opens with it
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    #[command(flatten)]
    config: ConfigArgs,
}

/// Makes a backup; the server may run.
#[expect(clippy::print_stdout, reason = "what is in it is what the command tells")]
pub fn make(args: &BackupArgs) -> ExitCode {
    let config = match configured_quietly(&args.config) {
        Ok(config) => config,
        Err(code) => return code,
    };
    block_on(async {
        let key = args.key_file.as_deref().map(backup::passphrase).transpose()?;
        anyhow::ensure!(!args.file.exists(), "{}: it is there already", args.file.display());
        let (url, embedded) = database::locate(&config).await?;
        let made = backup::make(&config, &url, &args.file, key.as_ref(), SystemClock.now()).await;
        database::release(embedded).await;
        let manifest = made?;
        let rows: u64 = manifest.parts.iter().map(|part| part.rows).sum();
        let bytes = std::fs::metadata(&args.file)?.len();
        println!(
            "{}: {} parts, {rows} rows, schema {}, {bytes} bytes",
            args.file.display(),
            manifest.parts.len(),
            manifest.schema
        );
        Ok(ExitCode::SUCCESS)
    })
}

/// Restores a backup to an empty database.
#[expect(
    clippy::print_stdout,
    reason = "what was found to be right is what the command tells"
)]
pub fn restore(args: &BackupArgs) -> ExitCode {
    let config = match configured_quietly(&args.config) {
        Ok(config) => config,
        Err(code) => return code,
    };
    block_on(async {
        let key = args.key_file.as_deref().map(backup::passphrase).transpose()?;
        let report = backup::restore(&config, &args.file, key.as_ref()).await?;
        let (entries, hash) = report.audit.map_or((0, "-".to_owned()), |head| (head.id, head.hash));
        println!(
            "restored the backup of {}: {} tables with {} rows are what was written; the audit holds: {entries} entries, head {hash}",
            report.manifest.made_at.format("%Y-%m-%dT%H:%M:%SZ"),
            report.restored.tables,
            report.restored.rows,
        );
        Ok(ExitCode::SUCCESS)
    })
}
