//! What an evaluation notes beside its values: warnings, and which rows answered.

use rrd::Step;

use crate::answer::Resolution;
use crate::archive::Stretch;
use crate::moments::Moments;

/// Warnings kept for one answer; a thousandth reader would not help.
const WARNINGS: usize = 20;

/// Warnings, no two alike, and which row steps answered.
#[derive(Default)]
pub(crate) struct Notes {
    pub(crate) warnings: Vec<String>,
    pub(crate) resolutions: Vec<Resolution>,
}

impl Notes {
    pub(crate) fn warn(&mut self, warning: String) {
        if self.warnings.len() < WARNINGS && !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }

    pub(crate) fn note_use(&mut self, step: Step, moments: Moments, stretch: &Stretch) {
        let first = moments.at(stretch.moments.start);
        let last = moments.at(stretch.moments.end - 1);
        self.note(Resolution { step, first, last });
    }

    /// Adds what somebody else has noted, as if it had been noted here.
    pub(crate) fn join(&mut self, others: Self) {
        for warning in others.warnings {
            self.warn(warning);
        }
        for resolution in others.resolutions {
            self.note(resolution);
        }
    }

    fn note(&mut self, more: Resolution) {
        match self.resolutions.iter_mut().find(|used| used.step == more.step) {
            Some(used) => {
                used.first = used.first.min(more.first);
                used.last = used.last.max(more.last);
            }
            None => self.resolutions.push(more),
        }
    }
}
