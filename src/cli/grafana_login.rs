//! `polyphase grafana-login`: a read-only PostgreSQL login that sees one account, for a data source of Grafana.

use super::people::{closing, read_password};
use super::{ConfigArgs, access, block_on, configured_quietly};
use crate::app::database::{self, Opened};
use crate::base::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::store::grafana::{self, GrafanaLogin};
use clap::Args;
use secrecy::ExposeSecret;
use std::process::ExitCode;

/// Arguments.
#[derive(Args, Clone, Debug)]
pub struct GrafanaLoginArgs {
    /// Account; may be left out when the server has one
    #[arg(long, value_name = "NAME")]
    account: Option<String>,
    /// Name of the login; else polyphase_grafana_ and the account's number
    #[arg(long, value_name = "NAME")]
    login: Option<String>,
    /// Read the password from standard input (its first line) instead of making one
    #[arg(long)]
    password_stdin: bool,
    /// A statement is ended after so many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 15, value_parser = clap::value_parser!(u32).range(1..=i64::from(grafana::STATEMENT_TIMEOUT_MAX_S)))]
    statement_timeout: u32,
    /// So many connections at once
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=100))]
    connections: u32,
    /// Take the login away
    #[arg(long, conflicts_with_all = ["password_stdin", "statement_timeout", "connections"])]
    remove: bool,
    #[command(flatten)]
    config: ConfigArgs,
}

/// Makes, changes or removes the login. The password stands alone on standard output when it was made here.
pub fn run(args: GrafanaLoginArgs) -> ExitCode {
    let config = match configured_quietly(&args.config) {
        Ok(config) => config,
        Err(code) => return code,
    };
    block_on(async {
        let opened = database::open(&config).await?;
        let done = work(&args, &config, &opened).await;
        closing(done, opened).await?;
        Ok(ExitCode::SUCCESS)
    })
}

#[expect(
    clippy::print_stdout,
    reason = "the password on standard output is what the command is for"
)]
async fn work(args: &GrafanaLoginArgs, config: &Config, opened: &Opened) -> anyhow::Result<()> {
    let account = access::existing_account(&opened.database, args.account.as_deref()).await?;
    let login = args.login.clone().unwrap_or_else(|| grafana::default_name(account));
    let url = opened.role_maker(config);
    let now = SystemClock.now();
    if args.remove {
        grafana::remove(&url, account, &login, now).await?;
        eprintln!("removed {login}");
        return Ok(());
    }
    let password = if args.password_stdin {
        read_password()?.into()
    } else {
        grafana::random_password()?
    };
    let wanted = GrafanaLogin {
        login,
        password,
        account,
        statement_timeout_s: args.statement_timeout,
        connections: args.connections,
    };
    let address = grafana::make(&url, &wanted, now).await?;
    eprintln!(
        "login {} of account {account} at {}:{}, database {}",
        wanted.login, address.host, address.port, address.database
    );
    if !args.password_stdin {
        println!("{}", wanted.password.expose_secret());
    }
    Ok(())
}
