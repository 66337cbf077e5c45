//! Resets: which of the rows being filled hold a reading that fell below the one before.

/// Bit 0 is the open step, bit n the open row of archive n. Only counters of [`crate::Kind::Total`] have any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Resets(u16);

/// The open step.
const STEP: u16 = 1;
/// The reading that is being taken has fallen; its step is not known yet.
const FELL: u16 = 1 << 15;

impl Resets {
    /// True while nothing fell in the open step, or does so now: nearly always.
    #[inline]
    pub(super) const fn is_quiet(self) -> bool {
        self.0 & (STEP | FELL) == 0
    }

    /// The open step, and the reading that is being taken.
    pub(super) const OF_STEP: Self = Self(STEP | FELL);
    /// All rows.
    pub(super) const ALL: Self = Self(u16::MAX);

    /// Those of these that are set; 0 for none.
    #[inline]
    pub(super) const fn among(self, these: Self) -> u16 {
        self.0 & these.0
    }

    /// Notes that the reading at hand is below the one before.
    pub(super) const fn fall(&mut self) {
        self.0 |= FELL;
    }

    /// Whether the reading at hand fell: the caller says where.
    pub(super) const fn take_fall(&mut self) -> bool {
        let fell = self.0 & FELL != 0;
        self.0 &= !FELL;
        fell
    }

    /// If the reading at hand fell, it did so in the open step.
    pub(super) const fn settle(&mut self) {
        if self.take_fall() {
            self.set(0);
        }
    }

    /// Marks the open step (0), or the open row of an archive.
    pub(super) const fn set(&mut self, archive: usize) {
        self.0 |= STEP << archive;
    }

    /// Whether the open step (0) or the open row of an archive, which closes now, holds a reset.
    pub(super) const fn take(&mut self, archive: usize) -> bool {
        let bit = STEP << archive;
        let is_set = self.0 & bit != 0;
        self.0 &= !bit;
        is_set
    }

    /// As [`Resets::take`], of what stays open.
    pub(super) const fn has(self, archive: usize) -> bool {
        self.0 & STEP << archive != 0
    }
}
