//! Connections by address: one machine, or one network of IPv6, has only so many.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How many connections each address has.
#[derive(Clone, Debug)]
pub(super) struct Addresses {
    limit: usize,
    counts: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// A connection that is counted; dropped, it is not.
#[derive(Debug)]
pub(super) struct Present {
    of: Option<(Addresses, IpAddr)>,
}

impl Addresses {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, counts: Arc::default() }
    }

    /// Counts one more connection of `address`, unless it has as many as it may.
    pub(super) fn enter(&self, address: IpAddr) -> Option<Present> {
        let address = network(address);
        if address.is_loopback() {
            return Some(Present { of: None });
        }
        let mut counts = self.counts();
        let count = counts.entry(address).or_default();
        if *count >= self.limit {
            return None;
        }
        *count += 1;
        drop(counts);
        Some(Present { of: Some((self.clone(), address)) })
    }

    fn counts(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Present {
    fn drop(&mut self) {
        let Some((addresses, address)) = &self.of else { return };
        let mut counts = addresses.counts();
        if let Some(count) = counts.get_mut(address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(address);
            }
        }
    }
}

/// What counts as one: an address of IPv4, the half of IPv6 that a network gives to one host.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) if !v6.is_loopback() => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn one_address_has_its_limit_and_others_have_theirs() {
        let addresses = Addresses::new(2);
        let first = addresses.enter(ip("10.0.0.1"));
        let _second = addresses.enter(ip("::ffff:10.0.0.1")).unwrap();
        assert!(first.is_some() && addresses.enter(ip("10.0.0.1")).is_none());
        assert!(addresses.enter(ip("10.0.0.2")).is_some());
        drop(first);
        assert!(addresses.enter(ip("10.0.0.1")).is_some());
    }

    #[test]
    fn the_addresses_of_one_ipv6_network_count_together_and_loopback_does_not() {
        let addresses = Addresses::new(1);
        let _one = addresses.enter(ip("2001:db8:0:1::1")).unwrap();
        assert!(addresses.enter(ip("2001:db8:0:1:ffff::2")).is_none());
        assert!(addresses.enter(ip("2001:db8:0:2::1")).is_some());
        let local: Vec<_> = (0..10).map(|_| addresses.enter(ip("::1"))).collect();
        assert!(local.iter().all(Option::is_some));
    }

    #[test]
    fn nothing_is_remembered_of_who_has_left() {
        let addresses = Addresses::new(1);
        drop(addresses.enter(ip("10.0.0.1")));
        assert!(addresses.counts().is_empty());
    }
}
