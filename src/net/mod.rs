//! Floor 4: sockets and serial ports. Accept with permits, dial out, Modbus TCP; the one future that owns a connection.
//!
//! Knows bytes, sessions and lines, and the seams `port::field` and `port::frames`. Never decodes a reading, never
//! touches the database, never names an actor.

mod budget;
mod connection;
mod desk;
mod dial;
#[cfg(test)]
mod fakes;
mod link;
mod listener;
mod modbus_tcp;
mod reserve;
mod serial;
mod settings;
mod wire;

pub use dial::run_dialled;
pub use listener::{Accepted, Gate, Listener, accept_loop};
pub use settings::NetSettings;

use crate::base::clock::Clock;
use crate::base::ids::ConnectionId;
use crate::exchange::Moment;
use crate::exchange::session::{FloodBudget, Session, SessionSettings};
use crate::port::field::EndCause;
use crate::port::field::Registrar;
use crate::port::frames::FrameRecorder;
use crate::port::live::LiveFeed;
use crate::port::terminal_events::TerminalEventLog;
use crate::protocol::dtu::Profile;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

/// What every connection needs. Cheap to clone.
///
/// How `actor/` uses this room (each future on an arbiter of its choice; none of them needs `Send`-free state):
///
/// - `Listener::bind(address, profile, &settings)`, then `accept_loop(listener, gate, stop, |accepted| …)`, which hands each
///   [`Accepted`] over; it must not block.
/// - `run_connection(accepted, deps).await -> EndCause` owns one connection from the first byte to the last.
/// - `run_dialled(dtu, deps, stop).await` owns one DTU that we reach ourselves and goes on until `stop`.
#[derive(Clone)]
pub struct NetDeps {
    /// Wall time for what people see.
    pub clock: Arc<dyn Clock>,
    /// Who decides about sessions.
    pub registrar: Arc<dyn Registrar>,
    /// Takes raw frames.
    pub recorder: Arc<dyn FrameRecorder>,
    /// Where the questions of a line are told, while somebody listens.
    pub live: Arc<dyn LiveFeed>,
    /// Where events of concentrators are kept.
    pub terminal_events: Arc<dyn TerminalEventLog>,
    /// Every limit.
    pub settings: Arc<NetSettings>,
    /// Ends every connection with cause `Shutdown`.
    pub stop: CancellationToken,
}

/// Why the device port cannot work.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// A listener's address.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
}

static CONNECTIONS_MADE: AtomicU64 = AtomicU64::new(0);

fn next_connection() -> ConnectionId {
    ConnectionId(CONNECTIONS_MADE.fetch_add(1, Ordering::Relaxed) + 1)
}

impl NetDeps {
    /// Now, on both clocks. The runtime's clock is the monotonic one, so that tests with paused time hold.
    fn moment(&self) -> Moment {
        Moment {
            at: self.clock.now(),
            on: tokio::time::Instant::now().into_std(),
        }
    }

    fn session_settings(&self, profile: Profile) -> SessionSettings {
        SessionSettings {
            profile,
            registration_timeout: settings::seconds(self.settings.registration_s),
            budget: FloodBudget {
                bytes_per_s: self.settings.flood_bytes_per_s,
                bytes_burst: self.settings.flood_burst_bytes,
                reads_per_s: self.settings.flood_reads_per_s,
                reads_burst: self.settings.flood_burst_reads,
            },
            ..SessionSettings::default()
        }
    }
}

/// Runs an accepted connection from its first byte to its last. Registers the socket with the present runtime, so call
/// it where the connection shall live. Tells the registrar exactly once that it has ended.
pub async fn run_connection(accepted: Accepted, deps: NetDeps) -> EndCause {
    let Accepted {
        connection,
        peer,
        profile,
        socket,
        permit,
    } = accepted;
    let cause = match tokio::net::TcpStream::from_std(socket) {
        Ok(socket) => run_stream(socket, connection, peer, profile, deps).await,
        Err(error) => {
            tracing::error!(%error, "accepted socket cannot be used");
            EndCause::SocketError
        }
    };
    drop(permit);
    cause
}

/// The same over any stream that came in: what a socket is, a pipe in memory can be.
pub fn run_stream<S>(
    stream: S,
    connection: ConnectionId,
    peer: SocketAddr,
    profile: Profile,
    deps: NetDeps,
) -> impl Future<Output = EndCause> + Send
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let session = Session::new(deps.session_settings(profile), deps.moment().on);
    connection::run(stream, connection, desk::Origin::Inbound(peer), session, deps)
}
