//! From where a request comes: the one place that says so. Throttles, the audit and the history of sign-ins go by it.
//!
//! Behind proxies the peer is the proxy. Its header is read from the right, as long as what stands there is a proxy that
//! is trusted: what a client wrote itself stands further left and is never reached. One header is read, the one that the
//! proxies set; the other would be the client's own.

use crate::domain::notice::target::Network;
use actix_web::dev::ServiceRequest;
use actix_web::http::header::{FORWARDED, HeaderName};
use actix_web::{HttpMessage, HttpRequest};
use std::net::{IpAddr, SocketAddr};

/// Proxies in a row that are followed.
const HOPS_MAX: usize = 16;
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Which header the proxies write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ForwardedBy {
    /// `X-Forwarded-For`.
    #[default]
    XForwardedFor,
    /// `Forwarded` (RFC 7239).
    Forwarded,
}

/// Proxies whose word is taken.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct TrustedProxies {
    /// Their networks; empty: none.
    pub networks: Vec<Network>,
    /// What they write.
    pub header: ForwardedBy,
}

/// Where a request comes from, kept with it.
#[derive(Clone, Copy, Debug)]
struct Source(Option<IpAddr>);

impl TrustedProxies {
    fn trusts(&self, address: IpAddr) -> bool {
        self.networks.iter().any(|network| network.contains(address))
    }

    /// The first address from the right that is none of the proxies'.
    fn follow<'a>(&self, peer: IpAddr, hops: impl Iterator<Item = &'a str>) -> IpAddr {
        let mut source = peer.to_canonical();
        for hop in hops.take(HOPS_MAX) {
            if !self.trusts(source) {
                break;
            }
            // what a proxy does not tell ("unknown", "_hidden") stays with the proxy
            let Some(address) = address(hop) else { break };
            source = address.to_canonical();
        }
        source
    }

    fn of(&self, request: &ServiceRequest) -> Option<IpAddr> {
        let peer = request.peer_addr()?.ip();
        if !self.trusts(peer) {
            return Some(peer.to_canonical());
        }
        let name = match self.header {
            ForwardedBy::XForwardedFor => X_FORWARDED_FOR,
            ForwardedBy::Forwarded => FORWARDED,
        };
        // several lines are one list, in their order (RFC 9110 §5.3). Not by quotes: one that a client left open must not
        // swallow what a proxy wrote behind it
        let lines: Vec<&str> = request
            .headers()
            .get_all(name)
            .map(|value| value.to_str().unwrap_or("unknown"))
            .collect();
        let parts = lines.iter().rev().flat_map(|line| line.rsplit(','));
        Some(match self.header {
            ForwardedBy::XForwardedFor => self.follow(peer, parts),
            ForwardedBy::Forwarded => self.follow(peer, parts.map(forwarded_for)),
        })
    }
}

/// The `for` of one element of `Forwarded`.
fn forwarded_for(element: &str) -> &str {
    element
        .split(';')
        .filter_map(|pair| pair.split_once('='))
        .find(|(name, _)| name.trim().eq_ignore_ascii_case("for"))
        .map_or("unknown", |(_, value)| value)
}

/// An address with or without port, brackets and quotes.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim().trim_matches('"');
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(address);
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Some(address.ip());
    }
    text.strip_prefix('[')?.strip_suffix(']')?.parse().ok()
}

/// Finds out where a request comes from, and keeps it with the request.
pub(super) fn note(request: &ServiceRequest, proxies: &TrustedProxies) {
    request.extensions_mut().insert(Source(proxies.of(request)));
}

/// Where a request comes from.
pub fn of(request: &HttpRequest) -> Option<IpAddr> {
    request.extensions().get::<Source>().and_then(|source| source.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::notice::target::networks;
    use actix_web::test::TestRequest;
    use proptest::prelude::*;

    fn proxies(header: ForwardedBy) -> TrustedProxies {
        TrustedProxies {
            networks: networks("10.0.0.0/8, ::1, fd00::/8").unwrap(),
            header,
        }
    }

    fn seen(header: ForwardedBy, peer: &str, lines: &[(&'static str, &str)]) -> String {
        let mut request = TestRequest::default().peer_addr(SocketAddr::new(peer.parse().unwrap(), 5));
        for line in lines {
            request = request.append_header(*line);
        }
        let request = request.to_srv_request();
        note(&request, &proxies(header));
        of(request.request()).unwrap().to_string()
    }

    #[test]
    fn only_proxies_that_are_trusted_are_believed() {
        let x = |peer: &str, value: &str| seen(ForwardedBy::XForwardedFor, peer, &[("x-forwarded-for", value)]);
        assert_eq!(x("203.0.113.9", "198.51.100.1"), "203.0.113.9");
        assert_eq!(x("10.0.0.1", "198.51.100.1"), "198.51.100.1");
        assert_eq!(x("::ffff:10.0.0.1", "198.51.100.1"), "198.51.100.1");
        // what the client wrote itself stands left of what the proxy saw
        assert_eq!(x("10.0.0.1", "127.0.0.1, 198.51.100.1"), "198.51.100.1");
        assert_eq!(x("10.0.0.1", "1.1.1.1, 198.51.100.1, 10.0.0.2"), "198.51.100.1");
        assert_eq!(x("10.0.0.1", "198.51.100.1, unknown, 10.0.0.2"), "10.0.0.2");
        assert_eq!(x("10.0.0.1", ""), "10.0.0.1");
        assert_eq!(x("10.0.0.1", "[2001:db8::7]:443"), "2001:db8::7");
        assert_eq!(x("10.0.0.1", "198.51.100.1:4711"), "198.51.100.1");
        assert_eq!(x("10.0.0.1", "10.0.0.3, 10.0.0.2"), "10.0.0.3");
        // the header that proxies do not write is the client's own
        let lines = [("forwarded", "for=1.1.1.1"), ("x-forwarded-for", "198.51.100.1")];
        assert_eq!(seen(ForwardedBy::XForwardedFor, "10.0.0.1", &lines), "198.51.100.1");
        // several lines are one list
        let lines = [("x-forwarded-for", "1.1.1.1"), ("x-forwarded-for", "198.51.100.1")];
        assert_eq!(seen(ForwardedBy::XForwardedFor, "10.0.0.1", &lines), "198.51.100.1");
    }

    #[test]
    fn forwarded_is_read_as_rfc_7239_writes_it() {
        let f = |value: &str| seen(ForwardedBy::Forwarded, "::1", &[("forwarded", value)]);
        assert_eq!(f("for=192.0.2.60;proto=http;by=203.0.113.43"), "192.0.2.60");
        assert_eq!(f("For=\"[2001:db8:cafe::17]:4711\""), "2001:db8:cafe::17");
        assert_eq!(f("for=192.0.2.43, for=10.1.1.1"), "192.0.2.43");
        assert_eq!(f("for=_hidden, for=10.1.1.1"), "10.1.1.1");
        assert_eq!(f("proto=https"), "::1");
        // a quote that the client left open
        assert_eq!(f("for=\"1.1.1.1, for=192.0.2.43"), "192.0.2.43");
    }

    proptest! {
        /// Whatever a client writes in front, the answer is what the first trusted proxy saw.
        #[test]
        fn a_client_cannot_choose_its_address(junk in "[ -~]{0,60}", header in any::<bool>()) {
            let (header, name, seen_by_proxy) = if header {
                (ForwardedBy::Forwarded, "forwarded", "for=198.51.100.1")
            } else {
                (ForwardedBy::XForwardedFor, "x-forwarded-for", "198.51.100.1")
            };
            prop_assert_eq!(seen(header, "10.0.0.1", &[(name, &format!("{junk}, {seen_by_proxy}"))]), "198.51.100.1");
        }
    }
}
