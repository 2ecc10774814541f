//! First access without a console: `polyphase user add` and `polyphase api-key create`, straight on the database.
//!
//! Through the same stores as the API, so that the same rules hold and the audit has a row (actor `cli`).

use crate::api::password::{self, PasswordError};
use crate::api::token::{NoRandomness, Token};
use crate::api::users::check_email;
use crate::base::clock::Clock;
use crate::base::ids::{AccountId, UserId};
use crate::domain::access::Role;
use crate::domain::scope::{KeyScope, NoScope};
use crate::port::accounts::{Account, AccountStore, NewAccount};
use crate::port::api_keys::{ApiKeyStore, NewApiKey};
use crate::port::auth::{AuthStore, TokenKind};
use crate::port::scope::{AcrossAccounts, Actor, InAccount, Scope, StoreError};
use crate::port::second_factor::SecondFactorStore;
use crate::port::users::{NewUser, User, UserStore};
use crate::store::{Database, PgAuth, PgStores};

/// Name of the account that is made when a server has none and `--account` is left out.
pub const FIRST_ACCOUNT: &str = "Main";
const PAGE: u32 = 1000;

/// Why access was not given.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// Not an e-mail address.
    #[error("{email:?} {cause}")]
    Email {
        /// What was given.
        email: String,
        /// What is wrong.
        cause: &'static str,
    },
    /// A scope of a key.
    #[error(transparent)]
    Scope(#[from] NoScope),
    /// The password does not do.
    #[error("the password {0}")]
    Password(#[from] PasswordError),
    /// Several accounts, none named.
    #[error("this server has several accounts: name one with --account")]
    WhichAccount,
    /// None of this name.
    #[error("there is no account {0:?}")]
    NoAccount(String),
    /// None at all.
    #[error("this server has no account yet; make one with `polyphase user add`")]
    NoAccountYet,
    /// No account name.
    #[error("an account's name has 1 to 200 characters")]
    AccountName,
    /// No key name.
    #[error("a key's name has 1 to 200 characters")]
    KeyName,
    /// Nobody enabled has this address.
    #[error("there is no enabled user {0}; make one with `polyphase user add`")]
    NoUser(String),
    /// No randomness.
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
    /// The store said no.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Makes a person; their account too, if it is new. Without `account`: the server's only one, or the first one; for
/// role `platform` none at all.
///
/// # Errors
/// [`AccessError`] says what to do.
pub async fn add_user(
    database: &Database,
    clock: &dyn Clock,
    email: &str,
    role: Role,
    account: Option<&str>,
    password: &str,
) -> Result<User, AccessError> {
    let email = email.trim();
    check_email(email).map_err(|cause| AccessError::Email {
        email: email.to_owned(),
        cause,
    })?;
    let stores = PgStores::new(database.clone());
    let everyone: Box<dyn UserStore> = stores.across_accounts(Actor::command_line());
    // before an account is made for somebody who cannot be
    refuse_taken(&*everyone, email).await?;
    let user = NewUser {
        email: email.to_owned(),
        name: String::new(),
        roles: vec![role],
        password_hash: password::hash_blocking(password, &[email])?,
    };
    let now = clock.now();
    if role == Role::Platform && account.is_none() {
        return Ok(everyone.create(&user, now).await?);
    }
    let account = resolve_account(&stores, clock, account).await?;
    let scope = Scope {
        account,
        actor: Actor::command_line(),
    };
    let users: Box<dyn UserStore> = stores.in_account(scope);
    Ok(users.create(&user, now).await?)
}

async fn refuse_taken(users: &dyn UserStore, email: &str) -> Result<(), AccessError> {
    let mut after: Option<UserId> = None;
    loop {
        let page = users.list(Some(email), after, PAGE).await?;
        if page.iter().any(|user| user.email.eq_ignore_ascii_case(email)) {
            return Err(AccessError::Store(StoreError::Conflict {
                field: Some("email"),
                message: format!("there is a user {email} already"),
            }));
        }
        match page.last() {
            Some(last) => after = Some(last.id),
            None => return Ok(()),
        }
    }
}

async fn resolve_account(stores: &PgStores, clock: &dyn Clock, name: Option<&str>) -> Result<AccountId, AccessError> {
    let accounts: Box<dyn AccountStore> = stores.across_accounts(Actor::command_line());
    let name = match name.map(str::trim) {
        Some(name) => name,
        None => match accounts.list(None, None, 2).await?.as_slice() {
            [] => FIRST_ACCOUNT,
            [only] => return Ok(only.id),
            _ => return Err(AccessError::WhichAccount),
        },
    };
    if name.is_empty() || name.chars().count() > 200 || name.chars().any(char::is_control) {
        return Err(AccessError::AccountName);
    }
    if let Some(account) = named_account(&*accounts, name).await? {
        return Ok(account);
    }
    let new = NewAccount {
        name: name.to_owned(),
        time_zone: "UTC".to_owned(),
        currency: "EUR".to_owned(),
    };
    Ok(accounts.create(&new, clock.now()).await?.id)
}

async fn named_account(accounts: &dyn AccountStore, name: &str) -> Result<Option<AccountId>, AccessError> {
    let mut after: Option<AccountId> = None;
    loop {
        let page: Vec<Account> = accounts.list(Some(name), after, PAGE).await?;
        if let Some(account) = page.iter().find(|account| account.name == name) {
            return Ok(Some(account.id));
        }
        match page.last() {
            Some(last) => after = Some(last.id),
            None => return Ok(None),
        }
    }
}

/// The account of this name; without one the server's only one. Never makes one.
///
/// # Errors
/// [`AccessError`] says what to do.
pub async fn existing_account(database: &Database, name: Option<&str>) -> Result<AccountId, AccessError> {
    let stores = PgStores::new(database.clone());
    let accounts: Box<dyn AccountStore> = stores.across_accounts(Actor::command_line());
    match name.map(str::trim) {
        Some(name) => named_account(&*accounts, name)
            .await?
            .ok_or_else(|| AccessError::NoAccount(name.to_owned())),
        None => match accounts.list(None, None, 2).await?.as_slice() {
            [only] => Ok(only.id),
            [] => Err(AccessError::NoAccountYet),
            _ => Err(AccessError::WhichAccount),
        },
    }
}

/// The enabled person with this address.
async fn person(database: &Database, clock: &dyn Clock, email: &str) -> Result<UserId, AccessError> {
    let found = PgAuth::new(database.clone())
        .sign_in_record(email, None, clock.now())
        .await?;
    let found = found.ok_or_else(|| AccessError::NoUser(email.to_owned()))?;
    Ok(found.user)
}

/// Takes a person's second factor away, for whom no admin can; false: there was none.
///
/// # Errors
/// [`AccessError`] says what to do.
pub async fn reset_second_factor(database: &Database, clock: &dyn Clock, email: &str) -> Result<bool, AccessError> {
    let user = person(database, clock, email.trim()).await?;
    let factors: Box<dyn SecondFactorStore> = PgStores::new(database.clone()).across_accounts(Actor::command_line());
    Ok(factors.remove(user, true, clock.now()).await?)
}

/// Makes an API key that may whatever its person may, and gives its secret, which nobody can show again.
///
/// # Errors
/// [`AccessError`] says what to do.
pub async fn create_api_key(
    database: &Database,
    clock: &dyn Clock,
    email: &str,
    name: &str,
) -> Result<String, AccessError> {
    create_scoped_key(database, clock, email, name, &[]).await
}

/// Makes an API key with scopes (none: it may whatever its person may).
///
/// # Errors
/// [`AccessError`] says what to do.
pub async fn create_scoped_key(
    database: &Database,
    clock: &dyn Clock,
    email: &str,
    name: &str,
    scopes: &[String],
) -> Result<String, AccessError> {
    let scopes = scopes
        .iter()
        .map(|scope| scope.parse())
        .collect::<Result<Vec<KeyScope>, NoScope>>()?;
    let user = person(database, clock, email.trim()).await?;
    let name = name.trim();
    if name.is_empty() || name.chars().count() > 200 || name.chars().any(char::is_control) {
        return Err(AccessError::KeyName);
    }
    let token = Token::generate(TokenKind::ApiKey)?;
    let key = NewApiKey {
        user,
        name: name.to_owned(),
        hash: token.hash,
        prefix: token.prefix(),
        expires_at: None,
        scopes: (!scopes.is_empty()).then_some(scopes),
    };
    let keys: Box<dyn ApiKeyStore> = PgStores::new(database.clone()).across_accounts(Actor::command_line());
    keys.create(&key, clock.now()).await?;
    Ok(token.secret)
}
