//! Descriptors in reserve: what keeps the API, metrics and the database alive when the process has run out of them.
//!
//! Two measures. The device port takes at most the process's limit less a share that it leaves to others. And it holds
//! some descriptors open for nothing: when an accept fails for want of one, they go back to the process, and the port
//! takes no connection until it could fill the reserve again.

use std::fs::File;
use std::io;

/// Descriptors held open.
#[derive(Debug)]
pub(super) struct Reserve {
    size: usize,
    held: Vec<File>,
}

impl Reserve {
    /// Fills it as far as it goes.
    pub(super) fn new(size: usize) -> Self {
        let mut reserve = Self {
            size,
            held: Vec::with_capacity(size),
        };
        reserve.refill();
        reserve
    }

    /// Gives all back to the process.
    pub(super) fn release(&mut self) {
        self.held.clear();
    }

    /// Fills up; whether it is full. What could be taken in vain is given back, since the shortage lasts.
    pub(super) fn refill(&mut self) -> bool {
        while self.held.len() < self.size {
            match File::open("/dev/null") {
                Ok(file) => self.held.push(file),
                Err(error) if is_shortage(&error) => {
                    self.held.clear();
                    return false;
                }
                // a host without /dev/null has no reserve, which must not stop the port
                Err(_) => return true,
            }
        }
        true
    }
}

/// Whether the process or the system has run out of descriptors or of memory for sockets.
pub(super) fn is_shortage(error: &io::Error) -> bool {
    use rustix::io::Errno;
    error.raw_os_error().is_some_and(|code| {
        [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM]
            .iter()
            .any(|errno| errno.raw_os_error() == code)
    })
}

/// How many connections the device port may hold: `wanted`, but never into the `reserved` descriptors of others.
pub(super) fn connections_allowed(wanted: usize, reserved: usize) -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    allowed_of(limit, wanted, reserved)
}

fn allowed_of(limit: Option<u64>, wanted: usize, reserved: usize) -> usize {
    let limit = limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    // under a tiny limit the port still gets half of it
    wanted.min(limit.saturating_sub(reserved).max(limit / 2)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserve_is_given_back_and_filled_again() {
        let mut reserve = Reserve::new(4);
        assert_eq!(reserve.held.len(), 4);
        reserve.release();
        assert!(reserve.held.is_empty());
        assert!(reserve.refill());
        assert_eq!(reserve.held.len(), 4);
    }

    #[test]
    fn only_shortages_are_shortages() {
        assert!(is_shortage(&io::Error::from_raw_os_error(24)), "EMFILE");
        assert!(is_shortage(&io::Error::from_raw_os_error(23)), "ENFILE");
        assert!(!is_shortage(&io::Error::from_raw_os_error(103)), "ECONNABORTED");
        assert!(!is_shortage(&io::Error::other("no code")));
    }

    #[test]
    fn the_limit_leaves_descriptors_to_others() {
        assert_eq!(allowed_of(Some(20_000), 60_000, 512), 19_488);
        assert_eq!(allowed_of(Some(20_000), 100, 512), 100);
        assert_eq!(allowed_of(Some(256), 60_000, 512), 128);
        assert_eq!(allowed_of(None, 60_000, 512), 60_000);
    }
}
