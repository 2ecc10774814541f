//! The API on a real port over a real database, with a front end that does what the test says.

use super::db::TestDb;
use super::http::{self, Answer};
use chrono::{TimeZone, Utc};
use polyphase::actor::live::{LiveHub, LiveLimits};
use polyphase::api::imports::{ImportDesk, ImportSettings};
use polyphase::api::{self, ApiSettings, ApiState, HttpSettings, RunningServer, TlsFiles};
use polyphase::app::backup::Backups;
use polyphase::base::clock::{Clock, ManualClock};
use polyphase::base::ids::AccountId;
use polyphase::base::server_key::ServerKey;
use polyphase::cli::access;
use polyphase::device::catalogue::Catalogue;
use polyphase::domain::access::Role;
use polyphase::port::control::Control;
use polyphase::port::fake::{FakeExplainer, FakeFleet, FakeFrameLog};
use polyphase::port::places::Nowhere;
use polyphase::report::{ExportSettings, Exports, SheetBounds, Sheets};
use polyphase::store::{PgAuth, PgStores};
use serde_json::Value;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio_util::sync::{CancellationToken, DropGuard};

/// The password of everybody that the harness makes.
pub const PASSWORD: &str = "correct horse";

/// The server's key in tests.
pub fn key() -> ServerKey {
    ServerKey::new("a key of tests, as long as keys must be".to_owned().into())
}

/// A running API.
pub struct Api {
    /// Its database.
    pub db: TestDb,
    /// Its front end.
    pub fleet: Arc<FakeFleet>,
    /// Its frame recorder.
    pub frames: Arc<FakeFrameLog>,
    /// Its time.
    pub clock: Arc<ManualClock>,
    /// Its live feed.
    #[allow(dead_code, reason = "for the tests of the stream")]
    pub live: Arc<LiveHub>,
    /// Where its exports lie.
    #[allow(dead_code, reason = "for the tests of exports")]
    pub files: tempfile::TempDir,
    _stop: DropGuard,
    /// Where it listens.
    pub address: SocketAddr,
    server: RunningServer,
    settings: ApiSettings,
}

/// Somebody who calls, by API key.
#[derive(Clone, Debug)]
pub struct Someone {
    /// Their account.
    pub account: Option<AccountId>,
    /// Their id.
    pub user: i32,
    /// Their e-mail address.
    pub email: String,
    /// Their key.
    pub key: String,
}

/// Bounds of exports in tests.
fn export_settings(folder: std::path::PathBuf) -> ExportSettings {
    ExportSettings {
        folder,
        at_once: 2,
        account_open_max: 3,
        open_max: 10,
        rows_max: 100_000,
        bytes_max: 50 << 20,
        folder_bytes: 100 << 20,
        kept: chrono::TimeDelta::hours(72),
    }
}

/// Bounds of imports in tests: small files, so that their limits can be met.
fn import_settings() -> ImportSettings {
    ImportSettings {
        bytes_max: 2 << 20,
        arrival: std::time::Duration::from_secs(60),
        faults_max: 50,
        at_once: 2,
        open_max: 3,
    }
}

/// Bounds of files in tests.
fn sheet_bounds() -> SheetBounds {
    SheetBounds {
        unpacked_max: 16 << 20,
        rows_max: 6_000,
        columns_max: 40,
        cell_chars_max: 4_000,
    }
}

impl Api {
    /// With the shipped settings.
    pub async fn start() -> Self {
        Self::start_with(ApiSettings::default()).await
    }

    /// With these settings.
    pub async fn start_with(settings: ApiSettings) -> Self {
        Self::start_as(settings, |_| {}).await
    }

    /// With these settings and the control desk that is made for the database, the clock and the live feed.
    pub async fn start_controlled(
        settings: ApiSettings,
        desk: impl AsyncFnOnce(&TestDb, &Arc<ManualClock>, &Arc<LiveHub>) -> Arc<dyn Control>,
    ) -> Self {
        let db = TestDb::new().await;
        let clock = Self::noon();
        let live = Arc::new(LiveHub::new(&*clock, LiveLimits::default()));
        let control = desk(&db, &clock, &live).await;
        let told = live.clone();
        let api = Self::over(db, clock, settings, None, |state| {
            state.control = control;
            state.live = told.clone();
            state.feed = told;
        });
        Self { live, ..api.await }
    }

    /// With these settings, after a change of what handlers work with.
    pub async fn start_as(settings: ApiSettings, change: impl FnOnce(&mut ApiState)) -> Self {
        Self::over(TestDb::new().await, Self::noon(), settings, None, change).await
    }

    fn noon() -> Arc<ManualClock> {
        Arc::new(ManualClock::new(
            Utc.with_ymd_and_hms(2026, 3, 1, 12, 0, 0).single().expect("an instant"),
        ))
    }

    /// Over TLS, with a look at the certificate's files twenty times a second.
    pub async fn start_over_tls(settings: ApiSettings, files: TlsFiles) -> Self {
        let clock = Arc::new(ManualClock::new(
            Utc.with_ymd_and_hms(2026, 3, 1, 12, 0, 0).single().expect("an instant"),
        ));
        Self::over(TestDb::new().await, clock, settings, Some(files), |_| {}).await
    }

    /// Stops the server and starts another over the same database, which knows nothing else.
    pub async fn restart(self) -> Self {
        let Self {
            db,
            clock,
            server,
            settings,
            ..
        } = self;
        server.stop().await;
        Self::over(db, clock, settings, None, |_| {}).await
    }

    async fn over(
        db: TestDb,
        clock: Arc<ManualClock>,
        settings: ApiSettings,
        tls: Option<TlsFiles>,
        change: impl FnOnce(&mut ApiState),
    ) -> Self {
        let kept = settings.clone();
        let fleet = Arc::new(FakeFleet::default());
        let frames = Arc::new(FakeFrameLog::default());
        let live = Arc::new(LiveHub::new(&*clock, LiveLimits::default()));
        let files = tempfile::tempdir().expect("a folder");
        let (mut config, _) = polyphase::config::load(None).expect("the defaults");
        config.data.folder = files.path().join("data");
        let stop = CancellationToken::new();
        let exports = Exports::open(
            Arc::new(PgStores::new(db.database().clone())),
            live.clone(),
            clock.clone(),
            export_settings(files.path().to_owned()),
            stop.clone(),
        )
        .expect("open the export desk");
        let imports = ImportDesk::open(
            Arc::new(PgStores::new(db.database().clone())),
            Arc::new(Sheets(sheet_bounds())),
            clock.clone(),
            import_settings(),
            stop.clone(),
        );
        let limits = settings.limits;
        let mut state = ApiState {
            stores: Arc::new(PgStores::new(db.database().clone())),
            auth: Arc::new(PgAuth::new(db.database().clone())),
            fleet: fleet.clone(),
            control: Arc::new(polyphase::port::fake::ClosedDesk),
            notices: super::notices::desk(),
            integrations: super::notices::integrations(),
            exports: Arc::new(exports),
            imports,
            backups: Arc::new(Backups::new(&config, db.url(), clock.clone())),
            frames: frames.clone(),
            explainer: Arc::new(FakeExplainer),
            check_profile: |text| match text {
                "auto" | "ascii" => Ok(()),
                other => Err(format!("unknown registration profile {other:?}")),
            },
            models: Arc::new(Catalogue::builtin().expect("the built-in meter models")),
            reads: Arc::default(),
            scans: Arc::default(),
            parameters: Arc::default(),
            watches: Arc::default(),
            live: live.clone(),
            feed: live.clone(),
            clock: clock.clone(),
            database: db.database().condition(),
            readiness: Vec::new(),
            settings,
            passwords: api::password::PasswordDesk::default(),
            throttle: Arc::default(),
            key: key(),
            places: Arc::new(Nowhere),
            limits: Arc::new(api::limits::Limits::new(limits)),
        };
        change(&mut state);
        let settings = HttpSettings {
            bind: SocketAddr::from(([127, 0, 0, 1], 0)),
            tls,
            tls_look_every: std::time::Duration::from_millis(50),
            workers: 1,
            connections_max: 100,
        };
        let server = api::serve(state, settings).await.expect("serve");
        Self {
            db,
            fleet,
            frames,
            clock,
            live,
            files,
            _stop: stop.drop_guard(),
            address: server.address,
            server,
            settings: kept,
        }
    }

    /// Makes somebody with a role in an account (made if it is new), and a key of theirs. Address: `role@account`.
    pub async fn someone(&self, role: Role, account: &str) -> Someone {
        let email = format!("{role}@{}.example", account.to_lowercase());
        let database = self.db.database();
        let user = access::add_user(database, &*self.clock, &email, role, Some(account), PASSWORD)
            .await
            .expect("make a user");
        let key = access::create_api_key(database, &*self.clock, &email, "test")
            .await
            .expect("make a key");
        Someone {
            account: user.account_id,
            user: user.id.0,
            email,
            key,
        }
    }

    /// Makes somebody of the platform alone.
    pub async fn platform(&self) -> Someone {
        let database = self.db.database();
        let email = "root@server.example".to_owned();
        let user = access::add_user(database, &*self.clock, &email, Role::Platform, None, PASSWORD)
            .await
            .expect("make a user");
        let key = access::create_api_key(database, &*self.clock, &email, "test")
            .await
            .expect("make a key");
        Someone {
            account: None,
            user: user.id.0,
            email,
            key,
        }
    }

    /// Calls below `/api/v1` with a key.
    pub async fn call(&self, who: &Someone, method: &str, path: &str, body: Option<Value>) -> Answer {
        self.call_with(who, method, path, &[], body).await
    }

    /// Calls below `/api/v1` with a key and more headers.
    pub async fn call_with(
        &self,
        who: &Someone,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<Value>,
    ) -> Answer {
        let bearer = format!("Bearer {}", who.key);
        let mut all = vec![("Authorization", bearer.as_str())];
        all.extend_from_slice(headers);
        self.send(method, &format!("/api/v1{path}"), &all, body).await
    }

    /// Sends a request as it is.
    pub async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: Option<Value>) -> Answer {
        let mut all = headers.to_vec();
        if body.is_some() {
            all.push(("Content-Type", "application/json"));
        }
        let body = body.map(|body| body.to_string());
        http::send(self.address, method, path, &all, body.as_deref()).await
    }

    /// Signs in; the answer as it comes.
    pub async fn sign_in(&self, email: &str, password: &str) -> Answer {
        let body = serde_json::json!({"email": email, "password": password});
        self.send("POST", "/api/v1/session", &[], Some(body)).await
    }

    /// Stops the server.
    pub async fn stop(self) {
        self.server.stop().await;
    }

    /// The time now.
    pub fn now(&self) -> chrono::DateTime<Utc> {
        self.clock.now()
    }
}
