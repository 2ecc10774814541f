//! Floor 4: sockets and serial ports.

mod budget;
mod link;
mod listener;
mod reserve;
mod settings;

pub use listener::{Accepted, Gate, Listener, accept_loop};
pub use settings::NetSettings;

use crate::base::clock::Clock;
use crate::base::ids::ConnectionId;
use crate::port::field::Registrar;
use crate::port::frames::FrameRecorder;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
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
