//! `polyphase user add` and `polyphase api-key create`: the arguments around [`super::access`], and the database they
//! work on, with the server running or stopped.

use super::{ConfigArgs, access, block_on, configured_quietly};
use crate::app::database::{self, Opened};
use crate::base::clock::SystemClock;
use crate::domain::access::Role;
use clap::Args;
use std::io::Read;
use std::process::ExitCode;

/// Arguments of `user add`.
#[derive(Args, Clone, Debug)]
pub struct UserAddArgs {
    /// E-mail address
    email: String,
    /// admin, operator, billing, viewer, or platform (across accounts)
    #[arg(long, value_parser = role)]
    role: Role,
    /// Account; made if it is new
    #[arg(long, value_name = "NAME")]
    account: Option<String>,
    /// Read the password from standard input (its first line); there is no other way to give it
    #[arg(long, required = true)]
    password_stdin: bool,
    #[command(flatten)]
    config: ConfigArgs,
}

/// Arguments of `api-key create`.
#[derive(Args, Clone, Debug)]
pub struct ApiKeyCreateArgs {
    /// The person that the key acts for
    #[arg(long, value_name = "EMAIL")]
    user: String,
    /// What it is for
    #[arg(long)]
    name: String,
    /// What it may of what the person may: read, or GROUP:read, GROUP:write; several times for several. Left out: all of it
    #[arg(long, value_name = "SCOPE")]
    scope: Vec<String>,
    #[command(flatten)]
    config: ConfigArgs,
}

const PASSWORD_MAX_BYTES: u64 = 4096;

fn role(text: &str) -> Result<Role, String> {
    Role::by_name(text).ok_or_else(|| "roles are admin, operator, billing, viewer and platform".into())
}

/// Adds a person.
pub fn add_user(args: UserAddArgs) -> ExitCode {
    let config = match configured_quietly(&args.config) {
        Ok(config) => config,
        Err(code) => return code,
    };
    block_on(async {
        let password = read_password()?;
        let opened = database::open(&config).await?;
        let added = access::add_user(
            &opened.database,
            &SystemClock,
            &args.email,
            args.role,
            args.account.as_deref(),
            &password,
        );
        let user = closing(added.await, opened).await?;
        eprintln!("added {}", user.email);
        Ok(ExitCode::SUCCESS)
    })
}

/// Arguments of `user reset-second-factor`.
#[derive(Args, Clone, Debug)]
pub struct ResetSecondFactorArgs {
    /// E-mail address
    email: String,
    #[command(flatten)]
    config: ConfigArgs,
}

/// Takes a person's second factor away.
pub fn reset_second_factor(args: ResetSecondFactorArgs) -> ExitCode {
    let config = match configured_quietly(&args.config) {
        Ok(config) => config,
        Err(code) => return code,
    };
    block_on(async {
        let opened = database::open(&config).await?;
        let reset = access::reset_second_factor(&opened.database, &SystemClock, &args.email).await;
        if closing(reset, opened).await? {
            eprintln!("{} signs in with the password alone, and can enrol anew", args.email);
        } else {
            eprintln!("{} has no second factor", args.email);
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// Makes a key; prints it alone on standard output.
#[expect(
    clippy::print_stdout,
    reason = "the key on standard output is what the command is for"
)]
pub fn create_api_key(args: ApiKeyCreateArgs) -> ExitCode {
    let config = match configured_quietly(&args.config) {
        Ok(config) => config,
        Err(code) => return code,
    };
    block_on(async {
        let opened = database::open(&config).await?;
        let made = access::create_scoped_key(&opened.database, &SystemClock, &args.user, &args.name, &args.scope).await;
        println!("{}", closing(made, opened).await?);
        Ok(ExitCode::SUCCESS)
    })
}

pub(super) async fn closing<T, E: Into<anyhow::Error>>(result: Result<T, E>, opened: Opened) -> anyhow::Result<T> {
    opened.close().await;
    result.map_err(Into::into)
}

pub(super) fn read_password() -> anyhow::Result<String> {
    let mut text = String::new();
    std::io::stdin()
        .lock()
        .take(PASSWORD_MAX_BYTES)
        .read_to_string(&mut text)?;
    let password = text.lines().next().unwrap_or_default().to_owned();
    anyhow::ensure!(!password.is_empty(), "no password on standard input");
    Ok(password)
}
