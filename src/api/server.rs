//! The HTTP server: bound, with time-outs for slow clients, without signal handling (the process stops in its own
//! order, HTTP last).

use super::{ApiState, app};
use actix_web::dev::ServerHandle;
use actix_web::{HttpServer, web};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a client may take for the head of a request (promise 20).
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(15);
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
    /// Worker threads.
    pub workers: usize,
    /// Connections at once, all workers together.
    pub connections_max: usize,
}

/// PEM files of the server's certificate.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// Certificate chain, leaf first.
    pub cert: PathBuf,
    /// Private key (PKCS#8, PKCS#1 or SEC1).
    pub key: PathBuf,
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
    #[error("{}: {cause}", .path.display())]
    Tls {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        cause: String,
    },
}

/// A running server.
#[derive(Debug)]
pub struct RunningServer {
    /// The bound address.
    pub address: SocketAddr,
    handle: ServerHandle,
    task: tokio::task::JoinHandle<io::Result<()>>,
}

impl RunningServer {
    /// Stops: running requests get ten seconds.
    pub async fn stop(self) {
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

/// Binds and serves in the background. Call it within an actix system.
///
/// # Errors
/// [`ServeError`] when the address cannot be bound or TLS cannot be set up.
pub async fn serve(state: ApiState, settings: HttpSettings) -> Result<RunningServer, ServeError> {
    let bind = settings.bind;
    let failed = |cause| ServeError::Bind { address: bind, cause };
    let tls = settings.tls.as_ref().map(tls_config).transpose()?;
    let workers = settings.workers.max(1);
    let data = web::Data::new(state);
    let server = HttpServer::new(move || app(data.clone()))
        .workers(workers)
        .max_connections((settings.connections_max / workers).max(1))
        .client_request_timeout(HEAD_TIMEOUT)
        .client_disconnect_timeout(Duration::from_secs(5))
        .keep_alive(KEEP_ALIVE)
        .shutdown_timeout(STOP_TIMEOUT_S)
        .disable_signals();
    let server = match tls {
        Some(config) => server.bind_rustls_0_23(bind, config).map_err(failed)?,
        None => server.bind(bind).map_err(failed)?,
    };
    let address = server.addrs().first().copied().unwrap_or(bind);
    let server = server.run();
    let handle = server.handle();
    let task = tokio::task::spawn(server);
    Ok(RunningServer { address, handle, task })
}

fn tls_config(files: &TlsFiles) -> Result<rustls::ServerConfig, ServeError> {
    let wrong = |path: &Path, cause: String| ServeError::Tls {
        path: path.to_owned(),
        cause,
    };
    let chain = CertificateDer::pem_file_iter(&files.cert)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| wrong(&files.cert, error.to_string()))?;
    if chain.is_empty() {
        return Err(wrong(&files.cert, "holds no certificate".to_owned()));
    }
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| wrong(&files.key, error.to_string()))?;
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong(&files.cert, error.to_string()))?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| wrong(&files.cert, error.to_string()))
}
