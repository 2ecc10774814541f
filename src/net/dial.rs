//! DTUs that we reach ourselves: transparent converters, Modbus TCP, serial ports. Dials, runs the connection, waits with
//! back-off and jitter, dials again.

use super::desk::Origin;
use super::listener::tune;
use super::settings::{NetSettings, millis, seconds};
use super::{NetDeps, connection, modbus_tcp, next_connection, serial};
use crate::domain::device::{Connect, DtuRecord};
use crate::exchange::session::Session;
use crate::protocol::dtu::Profile;
use crate::telemetry::field::DialFailed;
use socket2::SockRef;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::{TcpStream, lookup_host};
use tokio_util::sync::CancellationToken;

/// A connection that lasted this long proves that dialling works: back-off starts anew.
const PROVEN: Duration = Duration::from_secs(60);
/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 4;

/// Keeps a DTU connected that we reach ourselves, until `stop` or the room's own stop. Returns at once for one that dials
/// us. Each connection is introduced by `Registrar::connected` and its end told by `Registrar::ended`.
pub async fn run_dialled(dtu: DtuRecord, deps: NetDeps, stop: CancellationToken) {
    if matches!(dtu.connect, Connect::Inbound) {
        return;
    }
    let (stop_all, child) = (deps.stop.clone(), deps.stop.child_token());
    let inner = NetDeps {
        stop: child.clone(),
        ..deps
    };
    let mut keeping = Box::pin(keep(&dtu, inner));
    tokio::select! {
        biased;
        () = stop.cancelled() => child.cancel(),
        () = stop_all.cancelled() => {}
        () = &mut keeping => return,
    }
    // the connection in hand ends in order: its askers are answered, its end is told
    keeping.await;
}

async fn keep(dtu: &DtuRecord, deps: NetDeps) {
    let mut backoff = Backoff::new(&deps.settings);
    while !deps.stop.is_cancelled() {
        let began = tokio::time::Instant::now();
        let wait = match once(dtu, &deps).await {
            Ok(()) => {
                if began.elapsed() >= PROVEN {
                    backoff.reset();
                }
                backoff.next()
            }
            Err(error) => {
                let wait = backoff.next();
                DialFailed {
                    dtu: dtu.id.0,
                    target: &target(&dtu.connect),
                    error: &error,
                    wait_ms: u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
                }
                .emit();
                wait
            }
        };
        tokio::select! {
            biased;
            () = deps.stop.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// One connection from open to end.
async fn once(dtu: &DtuRecord, deps: &NetDeps) -> io::Result<()> {
    match &dtu.connect {
        Connect::Inbound => {}
        Connect::Dial { address } => {
            let Some(dialled) = unless_stopped(deps, dial(address, &deps.settings)).await else {
                return Ok(());
            };
            let (socket, peer) = dialled?;
            let origin = Origin::Ours {
                dtu: dtu.id,
                peer: Some(peer),
            };
            connection::run(socket, next_connection(), origin, transparent(dtu, deps), deps.clone()).await;
        }
        Connect::ModbusTcp { address } => {
            let Some(dialled) = unless_stopped(deps, dial(address, &deps.settings)).await else {
                return Ok(());
            };
            let (socket, peer) = dialled?;
            modbus_tcp::run(socket, peer, address, dtu.id, deps.clone()).await;
        }
        Connect::Serial { device, baud, parity } => {
            let port = serial::open(device, *baud, *parity)?;
            let origin = Origin::Ours {
                dtu: dtu.id,
                peer: None,
            };
            connection::run(port, next_connection(), origin, transparent(dtu, deps), deps.clone()).await;
        }
    }
    Ok(())
}

async fn unless_stopped<T>(deps: &NetDeps, what: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        () = deps.stop.cancelled() => None,
        done = what => Some(done),
    }
}

/// A converter says nothing of itself; a pinned profile can still name its heartbeats.
fn transparent(dtu: &DtuRecord, deps: &NetDeps) -> Session {
    let profile = dtu
        .profile
        .as_deref()
        .and_then(|text| Profile::parse(text).ok())
        .unwrap_or_default();
    Session::transparent(deps.session_settings(profile), deps.moment().on)
}

/// Connects to `HOST:PORT`, the first of its addresses that answers.
///
/// # Errors
/// Of the last address tried, or that the name has none, or that it took too long.
pub(super) async fn dial(address: &str, settings: &NetSettings) -> io::Result<(TcpStream, SocketAddr)> {
    let dialling = async {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for peer in lookup_host(address).await?.take(ADDRESSES_MAX) {
            match TcpStream::connect(peer).await {
                Ok(socket) => {
                    tune(&SockRef::from(&socket), settings)?;
                    return Ok((socket, peer));
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    };
    let limit = seconds(settings.dial_s);
    tokio::time::timeout(limit, dialling).await.unwrap_or_else(|_| {
        Err(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("no connection within {} s", limit.as_secs()),
        ))
    })
}

fn target(connect: &Connect) -> String {
    match connect {
        Connect::Inbound => String::new(),
        Connect::Dial { address } | Connect::ModbusTcp { address } => address.clone(),
        Connect::Serial { device, .. } => device.clone(),
    }
}

/// Doubles from the first wait to the longest, each between a half and the whole.
struct Backoff {
    first: Duration,
    longest: Duration,
    wait: Duration,
}

impl Backoff {
    fn new(settings: &NetSettings) -> Self {
        let first = millis(settings.redial_ms.max(1));
        Self {
            first,
            longest: millis(settings.redial_max_ms).max(first),
            wait: first,
        }
    }

    fn reset(&mut self) {
        self.wait = self.first;
    }

    fn next(&mut self) -> Duration {
        let wait = self.wait;
        self.wait = (wait * 2).min(self.longest);
        wait.mul_f64(rand::random_range(0.5..=1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_doubles_to_its_bound_and_starts_anew() {
        let settings = NetSettings {
            redial_ms: 1_000,
            redial_max_ms: 5_000,
            ..NetSettings::default()
        };
        let mut backoff = Backoff::new(&settings);
        for whole in [1_000, 2_000, 4_000, 5_000, 5_000] {
            let wait = backoff.next();
            assert!(
                wait >= millis(whole / 2) && wait <= millis(whole),
                "{wait:?} of {whole} ms"
            );
        }
        backoff.reset();
        assert!(backoff.next() <= millis(1_000));
    }
}
