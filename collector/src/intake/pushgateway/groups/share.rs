//! How much of what is kept of pushes is taken: in all, and by each relay.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use thiserror::Error;

use crate::registry::TokenId;

/// Most that is kept.
pub(super) const ALL: Used = Used {
    // Ten thousand jobs that push on their own.
    groups: 10_000,
    series: 200_000,
    bytes: 32 << 20,
};
/// Most that one relay may have of it: whatever it does, as much is left for the others.
const SHARE: Used = Used { groups: ALL.groups / 2, series: ALL.series / 2, bytes: ALL.bytes / 2 };

/// Why a push is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(in crate::intake::pushgateway) enum Full {
    #[error("as many pushed series are kept as fit; delete groups, or push with a shorter ttl")]
    All,
    #[error(
        "this token has its share of what is kept of pushes ({} groups, {} series, {} MiB of their \
         texts); delete groups of it, push with a shorter ttl, or give some of the jobs a relay \
         token of their own",
        SHARE.groups, SHARE.series, SHARE.bytes >> 20
    )]
    Relay,
}

/// What something takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Used {
    pub(super) groups: usize,
    pub(super) series: usize,
    /// Of the texts of the series.
    pub(super) bytes: usize,
}

impl Used {
    fn with(self, more: Self) -> Self {
        Self {
            groups: self.groups + more.groups,
            series: self.series + more.series,
            bytes: self.bytes + more.bytes,
        }
    }

    fn without(self, less: Self) -> Self {
        Self {
            groups: self.groups - less.groups,
            series: self.series - less.series,
            bytes: self.bytes - less.bytes,
        }
    }

    /// True when this is no more than `most`, or no more than it was.
    fn fits(self, most: Self, before: Self) -> bool {
        self.groups <= most.groups.max(before.groups)
            && self.series <= most.series.max(before.series)
            && self.bytes <= most.bytes.max(before.bytes)
    }
}

/// What all groups take together, and those of each relay.
#[derive(Debug, Default)]
pub(super) struct Shares {
    pub(super) all: Used,
    relays: HashMap<Option<TokenId>, Used>,
}

impl Shares {
    /// Puts `comes` in the place of `goes`, which is there, or says why there is no room for it.
    pub(super) fn change(
        &mut self,
        relay: Option<TokenId>,
        goes: Used,
        comes: Used,
    ) -> Result<(), Full> {
        let own = self.relays.get(&relay).copied().unwrap_or_default();
        let (all_after, own_after) =
            (self.all.without(goes).with(comes), own.without(goes).with(comes));
        if !own_after.fits(SHARE, own) {
            return Err(Full::Relay);
        }
        if !all_after.fits(ALL, self.all) {
            return Err(Full::All);
        }
        self.all = all_after;
        self.relays.insert(relay, own_after);
        Ok(())
    }

    /// Notes what an earlier process left, as much as it is.
    pub(super) fn add(&mut self, relay: Option<TokenId>, used: Used) {
        self.all = self.all.with(used);
        let own = self.relays.entry(relay).or_default();
        *own = own.with(used);
    }

    pub(super) fn remove(&mut self, relay: Option<TokenId>, used: Used) {
        self.all = self.all.without(used);
        if let Entry::Occupied(mut own) = self.relays.entry(relay) {
            let left = own.get().without(used);
            own.insert(left);
            if left == Used::default() {
                own.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Used = Used { groups: 1, series: 2, bytes: 30 };
    const NONE: Used = Used { groups: 0, series: 0, bytes: 0 };

    #[test]
    fn a_relay_fills_its_share_and_leaves_the_others_theirs() {
        let (noisy, quiet, third) = (Some(TokenId(1)), Some(TokenId(2)), None);
        for share in [
            Used { groups: SHARE.groups, ..NONE },
            Used { series: SHARE.series, ..NONE },
            Used { bytes: SHARE.bytes, ..NONE },
        ] {
            let mut shares = Shares::default();
            shares.change(noisy, NONE, share).unwrap();
            assert_eq!(shares.change(noisy, NONE, ONE), Err(Full::Relay));
            shares.change(quiet, NONE, share).unwrap();
            assert_eq!(shares.change(third, NONE, ONE), Err(Full::All));
            assert_eq!(shares.all, share.with(share), "what is refused is not counted");
            // What takes the place of as much, or gives some back, always goes.
            shares.change(noisy, share, share).unwrap();
            shares.remove(quiet, share);
            assert_eq!(shares.change(third, NONE, ONE), Ok(()));
            shares.remove(third, ONE);
            shares.change(noisy, share, NONE).unwrap();
            assert_eq!(shares.all, NONE);
        }
    }

    #[test]
    fn who_has_more_than_its_share_from_before_may_push_that_again() {
        let mut shares = Shares::default();
        let many = Used { groups: SHARE.groups + 7, series: ALL.series, bytes: 99 };
        shares.add(None, many);
        assert_eq!(shares.change(None, ONE, ONE), Ok(()));
        assert_eq!(shares.change(None, NONE, ONE), Err(Full::Relay));
        assert_eq!(shares.change(None, ONE, NONE), Ok(()));
        assert_eq!(shares.all, many.without(ONE));
    }

    #[test]
    fn who_has_nothing_left_takes_no_memory() {
        let mut shares = Shares::default();
        for id in 0..100 {
            shares.add(Some(TokenId(id)), ONE);
            shares.remove(Some(TokenId(id)), ONE);
        }
        assert!(shares.relays.is_empty());
    }
}
