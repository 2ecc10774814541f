//! `polyphase serve`: the head end.

use super::{ConfigArgs, complain, configured};
use crate::app::Running;
use crate::config::Config;
use clap::Args;
use std::process::ExitCode;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// Arguments of `serve`.
#[derive(Args, Clone, Debug)]
pub struct ServeArgs {
    #[command(flatten)]
    config: ConfigArgs,
}

/// Orderly stop as a whole takes no longer; what is acknowledged is on disk in any case.
const STOP_LIMIT: Duration = Duration::from_secs(55);

/// Runs until SIGTERM or SIGINT.
pub fn run(args: &ServeArgs) -> ExitCode {
    let config = match configured(&args.config) {
        Ok(config) => config,
        Err(code) => return code,
    };
    run_system(&config, |_running| std::future::ready(Ok(())))
}

/// Runs the server in an actix system; `begun` is called once when it is up.
pub fn run_system<F>(config: &Config, begun: impl FnOnce(&Running) -> F) -> ExitCode
where
    F: Future<Output = anyhow::Result<()>>,
{
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        tracing::debug!("a TLS provider is installed already");
    }
    crate::app::block_on(async {
        match run_server(config, begun).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                complain(super::causes(&error));
                ExitCode::FAILURE
            }
        }
    })
}

async fn run_server<F>(config: &Config, begun: impl FnOnce(&Running) -> F) -> anyhow::Result<()>
where
    F: Future<Output = anyhow::Result<()>>,
{
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let told = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    let Some(running) = crate::app::start(config, told).await? else {
        return Ok(());
    };
    for device in &running.devices {
        tracing::info!(address = %device, "DTUs dial in here");
    }
    tracing::info!(address = %running.http, "API listens");
    // whatever ends it, the server is stopped while its runtime is still there
    let ended = match begun(&running).await {
        Err(error) => Err(error),
        Ok(()) => tokio::select! {
            _ = terminate.recv() => Ok(()),
            _ = interrupt.recv() => Ok(()),
            () = running.broken() => Err(anyhow::anyhow!(
                "a part of the server that cannot be rebuilt in place died; start it again"
            )),
        },
    };
    if tokio::time::timeout(STOP_LIMIT, running.stop()).await.is_err() {
        tracing::error!("the stop took too long and is cut short");
    }
    ended
}
