//! Where a name leads, and whether that may be reached: every address of it is looked at, and those alone are asked then.

use crate::domain::notice::target::{Network, allowed};
use crate::port::notices::SendError;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use url::{Host, Url};

/// How long a name may take to be found.
const LOOK_UP: Duration = Duration::from_secs(10);

/// The address that a URL names by number, also where its scheme is none that the URL standard knows.
pub(super) fn literal(url: &Url) -> Option<IpAddr> {
    match url.host()? {
        Host::Ipv4(address) => Some(address.into()),
        Host::Ipv6(address) => Some(address.into()),
        Host::Domain(name) => name.parse().ok(),
    }
}

/// The addresses of a target, each of them allowed. `plain`: nothing protects the line, so only what the operator has
/// allowed by name is reached.
///
/// # Errors
/// `Passing` for a name that is not found now, `Refused` for one that leads where nobody may go.
pub(super) async fn resolve(
    url: &Url,
    port: u16,
    plain: bool,
    private: &[Network],
) -> Result<Vec<SocketAddr>, SendError> {
    let found: Vec<SocketAddr> = match (literal(url), url.host_str()) {
        (Some(address), _) => vec![(address, port).into()],
        (None, Some(name)) => tokio::time::timeout(LOOK_UP, tokio::net::lookup_host((name, port)))
            .await
            .map_err(|_| SendError::passing("the name is not resolved in time"))?
            .map_err(|error| SendError::passing(format!("the name cannot be resolved: {error}")))?
            .collect(),
        (None, None) => Vec::new(),
    };
    if found.is_empty() {
        return Err(SendError::passing("the name has no address"));
    }
    for address in &found {
        let named = private.iter().any(|network| network.contains(address.ip()));
        if !allowed(address.ip(), private) || (plain && !named) {
            return Err(SendError::Refused(if plain {
                "what is not encrypted goes to allowed private networks only".to_owned()
            } else {
                "the name points into a private network".to_owned()
            }));
        }
    }
    Ok(found)
}
