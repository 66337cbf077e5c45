//! Touched steps: one bit for each of the last 128, set where a reading fell.
//!
//! They, never the stored values, tell a repeated reading from a late one.

/// Age 0 is the open step, age 1 the newest closed one. Two words, so that no series is padded to 16 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Touched([u64; 2]);

impl Touched {
    /// How many steps are remembered.
    pub(super) const STEP_COUNT: u64 = 128;

    /// Marks the step of this age if `touched` says so; ages are 0 or 1 where readings arrive.
    #[inline]
    pub(super) fn set(&mut self, age: u64, touched: bool) {
        debug_assert!(age < 64, "a new reading falls in the open step or on its start");
        self.0[0] |= u64::from(touched) << age;
    }

    /// Marks the step of any age that is remembered.
    pub(super) fn mark(&mut self, age: u64) {
        debug_assert!(age < Self::STEP_COUNT, "step {age} is forgotten");
        *self = Self::from_bits(self.bits() | 1 << age);
    }

    /// True where a reading fell in the step of this age; false beyond the last 128.
    pub(super) fn is_set(self, age: u64) -> bool {
        age < Self::STEP_COUNT && self.bits() >> age & 1 == 1
    }

    /// Steps between readings, the newest first, as far as they are remembered.
    pub(super) fn distances(self) -> impl Iterator<Item = u64> {
        let mut bits = self.bits() >> self.bits().trailing_zeros().min(127);
        std::iter::from_fn(move || {
            let older = bits & !1;
            let distance = older.trailing_zeros();
            bits = older.checked_shr(distance)?;
            Some(u64::from(distance))
        })
    }

    /// Every step is `count` older; new ones are clear.
    #[inline]
    pub(super) fn grow_older(&mut self, count: u64) {
        let [young, old] = self.0;
        self.0 = match count {
            1 => [young << 1, old << 1 | young >> 63],
            0..Self::STEP_COUNT => Self::from_bits(self.bits() << count).0,
            _ => [0, 0],
        };
    }

    /// The bits in steps of another width: each age becomes all of a range, both ends counted. Those that
    /// are no age are passed over.
    pub(super) fn moved(self, to: impl Fn(u64) -> (i64, i64)) -> Self {
        let mut bits = 0_u128;
        for age in (0..Self::STEP_COUNT).filter(|&age| self.is_set(age)) {
            let (young, old) = to(age);
            let last = i64::try_from(Self::STEP_COUNT).unwrap_or(i64::MAX) - 1;
            for age in young.max(0)..=old.min(last) {
                bits |= 1 << age;
            }
        }
        Self::from_bits(bits)
    }

    /// The bits as one number, age 0 lowest.
    pub(super) fn bits(self) -> u128 {
        u128::from(self.0[1]) << 64 | u128::from(self.0[0])
    }

    /// The steps with these bits.
    #[expect(clippy::cast_possible_truncation, reason = "each half is 64 bits by construction")]
    pub(super) fn from_bits(bits: u128) -> Self {
        Self([bits as u64, (bits >> 64) as u64])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_touched_step_is_remembered_for_127_more() {
        for counts in [vec![127], vec![1; 127], vec![63, 64], vec![64, 63], vec![1, 126]] {
            let mut touched = Touched::default();
            touched.set(0, true);
            for &count in &counts {
                touched.grow_older(count);
            }
            assert_eq!(touched.bits(), 1 << 127, "{counts:?}");
            assert!(touched.is_set(127) && !touched.is_set(126) && !touched.is_set(128));
            touched.grow_older(1);
            assert_eq!(touched, Touched::default(), "{counts:?}");
        }
    }

    #[test]
    fn distances_are_those_between_set_bits() {
        for (bits, distances) in [
            (0, vec![]),
            (1, vec![]),
            (1 << 127, vec![]),
            (0b110, vec![1]),
            (1 | 1 << 60 | 1 << 120, vec![60, 60]),
            (1 | 1 << 127, vec![127]),
        ] {
            let found: Vec<u64> = Touched::from_bits(bits).distances().collect();
            assert_eq!(found, distances, "{bits:#b}");
        }
    }

    #[test]
    fn a_long_gap_forgets_all() {
        for count in [128, 129, u64::MAX] {
            let mut touched = Touched::from_bits(u128::MAX);
            touched.grow_older(count);
            assert_eq!(touched.bits(), 0);
        }
    }
}
