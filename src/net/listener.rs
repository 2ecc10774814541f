//! Listeners of the device port: metered accept under permits, descriptors in reserve, back-off when they run out.

use super::budget::Bucket;
use super::reserve::{Reserve, connections_allowed, is_shortage};
use super::settings::{NetSettings, seconds};
use super::{NetError, next_connection};
use crate::base::ids::ConnectionId;
use crate::protocol::dtu::Profile;
use crate::telemetry::field::{AcceptFailed, AcceptPaused, CONNECTIONS};
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

/// First wait after descriptors ran out; doubles up to [`BACKOFF_MAX`].
const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(2);
/// Wait after an accept failed for another reason, so that a broken listener cannot spin.
const FAILURE_PAUSE: Duration = Duration::from_millis(10);

/// What all listeners share: permits, rate, descriptors in reserve.
#[derive(Debug)]
pub struct Gate {
    size: usize,
    permits: Arc<Semaphore>,
    rate: Mutex<Bucket>,
    reserve: Mutex<Reserve>,
}

impl Gate {
    /// Sized by the settings and by the process's descriptor limit.
    pub fn new(settings: &NetSettings) -> Arc<Self> {
        let allowed = connections_allowed(settings.connections_max, settings.descriptors_reserved);
        let size = allowed.min(Semaphore::MAX_PERMITS);
        Arc::new(Self {
            size,
            permits: Arc::new(Semaphore::new(size)),
            rate: Mutex::new(Bucket::new(settings.accepts_per_s, settings.accepts_burst, now())),
            reserve: Mutex::new(Reserve::new(settings.descriptors_spare)),
        })
    }

    /// How many connections the port may hold.
    pub fn size(&self) -> usize {
        self.size
    }

    /// How many more connections would be admitted now.
    pub fn free(&self) -> usize {
        self.permits.available_permits()
    }

    async fn permit(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.permits).acquire_owned().await.ok()
    }

    async fn pace(&self) {
        loop {
            let wait = {
                let mut rate = self.rate.lock().unwrap_or_else(PoisonError::into_inner);
                if rate.take(now(), 1) {
                    return;
                }
                rate.wait(now())
            };
            tokio::time::sleep(wait.max(Duration::from_millis(1))).await;
        }
    }

    /// Gives the reserve to the process and waits until it could be filled again.
    async fn recover(&self) {
        let mut wait = BACKOFF_MIN;
        self.with_reserve(Reserve::release);
        loop {
            tokio::time::sleep(wait).await;
            if self.with_reserve(Reserve::refill) {
                return;
            }
            wait = (wait * 2).min(BACKOFF_MAX);
        }
    }

    fn with_reserve<R>(&self, act: impl FnOnce(&mut Reserve) -> R) -> R {
        act(&mut self.reserve.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn now() -> std::time::Instant {
    tokio::time::Instant::now().into_std()
}

/// The right to one connection; the gate gets it back on drop.
#[derive(Debug)]
pub(super) struct Permit {
    _permit: OwnedSemaphorePermit,
}

impl Permit {
    fn new(permit: OwnedSemaphorePermit) -> Self {
        CONNECTIONS.inc();
        Self { _permit: permit }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        CONNECTIONS.dec();
    }
}

/// An admitted connection. It belongs to no reactor yet: [`super::run_connection`] takes it up where it runs.
#[derive(Debug)]
pub struct Accepted {
    /// Its id in this process.
    pub connection: ConnectionId,
    /// Where it comes from.
    pub peer: SocketAddr,
    /// The registration profile of its listener.
    pub profile: Profile,
    pub(super) socket: std::net::TcpStream,
    pub(super) permit: Permit,
}

impl Accepted {
    /// The socket, to look at its options.
    pub fn socket(&self) -> &std::net::TcpStream {
        &self.socket
    }
}

/// A bound listener.
pub struct Listener {
    socket: TcpListener,
    profile: Profile,
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener")
            .field("address", &self.address().ok())
            .finish()
    }
}

impl Listener {
    /// Binds. Call it where the accept loop will run: the socket belongs to that runtime's reactor.
    ///
    /// # Errors
    /// [`NetError::Bind`] with the address and the system's reason.
    pub fn bind(address: SocketAddr, profile: Profile, settings: &NetSettings) -> Result<Self, NetError> {
        let socket = listen(address, settings).map_err(|source| NetError::Bind { address, source })?;
        Ok(Self { socket, profile })
    }

    /// Where it listens; tells the port when it was bound to port 0.
    ///
    /// # Errors
    /// What the system says.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }
}

fn listen(address: SocketAddr, settings: &NetSettings) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    // accepted sockets inherit the listener's options on Linux, which saves four calls a connection
    tune(&SockRef::from(&socket), settings)?;
    socket.bind(&address.into())?;
    socket.listen(i32::try_from(settings.backlog).unwrap_or(i32::MAX))?;
    TcpListener::from_std(socket.into())
}

/// The options of every socket to a device: no delay, keep-alive, and an end to data that nobody acknowledges. The
/// system's default finds a dead peer after two hours.
pub(super) fn tune(socket: &SockRef<'_>, settings: &NetSettings) -> io::Result<()> {
    let idle = seconds(settings.tcp_keepalive_s.max(1));
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(
        &TcpKeepalive::new()
            .with_time(idle)
            .with_interval((idle / 4).max(Duration::from_secs(1)))
            .with_retries(4),
    )?;
    socket.set_tcp_user_timeout(Some(seconds(settings.tcp_user_timeout_s.max(1))))
}

/// Accepts until `stop`: a permit first, then the pace, then the socket. `on_accept` must not block; it hands the
/// connection to whoever runs [`super::run_connection`].
pub async fn accept_loop(
    listener: Listener,
    gate: Arc<Gate>,
    stop: CancellationToken,
    mut on_accept: impl FnMut(Accepted),
) {
    let accepting = async {
        loop {
            let Some(permit) = gate.permit().await else { return };
            gate.pace().await;
            match listener.socket.accept().await {
                Ok((socket, peer)) => match socket.into_std() {
                    Ok(socket) => on_accept(Accepted {
                        connection: next_connection(),
                        peer,
                        profile: listener.profile.clone(),
                        socket,
                        permit: Permit::new(permit),
                    }),
                    Err(error) => AcceptFailed { error: &error }.emit(),
                },
                Err(error) if is_shortage(&error) => {
                    drop(permit);
                    AcceptPaused { error: &error }.emit();
                    gate.recover().await;
                }
                Err(error) => {
                    AcceptFailed { error: &error }.emit();
                    tokio::time::sleep(FAILURE_PAUSE).await;
                }
            }
        }
    };
    tokio::select! {
        biased;
        () = stop.cancelled() => {}
        () = accepting => {}
    }
}
