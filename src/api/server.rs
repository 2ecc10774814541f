//! The HTTP server: bound, with time-outs for slow clients, without signal handling (the process stops in its own
//! order, HTTP last).

use super::device_cookie;
use super::throttle::FAMILIAR_MAX;
use super::tls::{Certificate, TlsError, TlsFiles};
use super::{ApiState, app};
use actix_web::dev::ServerHandle;
use actix_web::{HttpServer, web};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::task::AbortHandle;

/// How long a client may take for the head of a request (promise 20).
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(15);
/// How often it is looked whether the certificate's files were replaced.
pub const TLS_LOOK_EVERY: Duration = Duration::from_secs(5);
/// How long a connection may idle between requests.
pub const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// How long running requests get when the server stops, seconds.
const STOP_TIMEOUT_S: u64 = 10;

/// Where and how HTTP is served.
#[derive(Clone, Debug)]
pub struct HttpSettings {
    /// Address and port; port 0: any free one.
    pub bind: SocketAddr,
    /// TLS; none: plain text.
    pub tls: Option<TlsFiles>,
    /// Between two looks whether the certificate's files were replaced.
    pub tls_look_every: Duration,
    /// Worker threads.
    pub workers: usize,
    /// Connections at once, all workers together.
    pub connections_max: usize,
}

/// Why HTTP is not served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address cannot be bound.
    #[error("cannot listen on {address}: {cause}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the operating system says.
        cause: io::Error,
    },
    /// A TLS file cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// A running server.
#[derive(Debug)]
pub struct RunningServer {
    /// The bound address.
    pub address: SocketAddr,
    handle: ServerHandle,
    task: tokio::task::JoinHandle<io::Result<()>>,
    watch: Option<AbortHandle>,
}

impl RunningServer {
    /// Stops: running requests get ten seconds.
    pub async fn stop(self) {
        if let Some(watch) = &self.watch {
            watch.abort();
        }
        self.handle.stop(true).await;
        if let Err(error) = self.task.await {
            tracing::warn!(%error, "http server ended badly");
        }
    }

    /// A handle that can stop it from elsewhere.
    pub fn handle(&self) -> ServerHandle {
        self.handle.clone()
    }
}

/// Takes up from where people have signed in before. Without it they wait behind strangers until they have done so anew.
async fn recall(state: &ApiState) {
    let since = state.clock.now() - chrono::TimeDelta::days(device_cookie::LIFE_DAYS);
    let limit = u32::try_from(FAMILIAR_MAX / 2).unwrap_or(u32::MAX);
    match state.auth.familiar_sources(since, limit).await {
        Ok(sources) => {
            for source in sources.iter().filter_map(|source| source.parse().ok()) {
                state.throttle.remember(Some(source));
            }
        }
        Err(error) => tracing::warn!(%error, "from where people sign in is not known yet"),
    }
}

/// Binds and serves in the background. Call it within an actix system.
///
/// # Errors
/// [`ServeError`] when the address cannot be bound or TLS cannot be set up.
pub async fn serve(state: ApiState, settings: HttpSettings) -> Result<RunningServer, ServeError> {
    let bind = settings.bind;
    let failed = |cause| ServeError::Bind { address: bind, cause };
    let certificate = settings.tls.map(Certificate::open).transpose()?;
    let workers = settings.workers.max(1);
    recall(&state).await;
    let data = web::Data::new(state);
    let server = HttpServer::new(move || app(data.clone()))
        .workers(workers)
        .max_connections((settings.connections_max / workers).max(1))
        .client_request_timeout(HEAD_TIMEOUT)
        .client_disconnect_timeout(Duration::from_secs(5))
        .keep_alive(KEEP_ALIVE)
        .shutdown_timeout(STOP_TIMEOUT_S)
        .disable_signals();
    let server = match &certificate {
        Some(certificate) => server.bind_rustls_0_23(bind, certificate.config()?).map_err(failed)?,
        None => server.bind(bind).map_err(failed)?,
    };
    let address = server.addrs().first().copied().unwrap_or(bind);
    let server = server.run();
    let handle = server.handle();
    let task = tokio::task::spawn(server);
    let watch =
        certificate.map(|certificate| tokio::task::spawn(certificate.watch(settings.tls_look_every)).abort_handle());
    Ok(RunningServer {
        address,
        handle,
        task,
        watch,
    })
}
