//! The order in which samples come: as they lie in memory, or as chance has it.

/// Instances, and the columns of each.
#[derive(Clone)]
pub(crate) struct Order {
    pub(crate) instances: Vec<u32>,
    pub(crate) columns: Vec<u32>,
}

impl Order {
    pub(crate) fn rising(instances: u32, columns: u32) -> Self {
        Self { instances: (0..instances).collect(), columns: (0..columns).collect() }
    }

    pub(crate) fn shuffled(instances: u32, columns: u32, seed: u64) -> Self {
        let mut chance = Chance::new(seed);
        let mut order = Self::rising(instances, columns);
        chance.shuffle(&mut order.instances);
        chance.shuffle(&mut order.columns);
        order
    }
}

/// A small generator (xorshift64*): measurements need the same chance in each run.
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// A number below `end`.
    pub(crate) const fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % end
    }

    fn shuffle(&mut self, things: &mut [u32]) {
        for last in (1..things.len()).rev() {
            let other = usize::try_from(self.below(last as u64 + 1)).unwrap_or_default();
            things.swap(last, other);
        }
    }
}
