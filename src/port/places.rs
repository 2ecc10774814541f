//! Where an Internet address is, if the server has been given a file that tells.

use std::net::IpAddr;

/// Looks addresses up. In memory: never blocks.
pub trait Places: Send + Sync {
    /// Town and country, such as `Berlin, DE`; none: not known.
    fn place(&self, address: IpAddr) -> Option<String>;
}

/// Knows no place.
#[derive(Clone, Copy, Debug, Default)]
pub struct Nowhere;

impl Places for Nowhere {
    fn place(&self, _: IpAddr) -> Option<String> {
        None
    }
}
