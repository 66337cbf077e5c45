//! Samples of a frame into the columns of an instance: the usual ones in a straight way, others one by one.

use std::sync::Arc;

use super::apply::{Keep, Verdicts, widened};
use super::columns::{Class, Columns};
use super::instance::Form;
use super::state::State;
use crate::series::{self, Closed, Phase, Run, Usual, Verdict, Way};
use crate::waiting::Cells;
use crate::{Column, Sample, Timestamp};

/// Samples whose series are looked at together: 19 KiB, so that they are still near when their turn comes.
const LOOKED_AHEAD: usize = 128;

/// What is true of a whole frame.
#[derive(Clone, Copy)]
pub(super) struct Hearing {
    /// The journal's, as [`crate::series::Head::hear`] takes it.
    pub(super) second: u32,
    /// Regular senders get wider heartbeats.
    pub(super) learns: bool,
}

/// What became of a frame's samples, and what is still to be done about some.
#[derive(Default)]
pub(super) struct Taken {
    pub(super) verdicts: Verdicts,
    /// By column.
    pub(super) births: Vec<(usize, Timestamp)>,
    pub(super) late: Vec<Sample>,
    /// Columns whose heartbeat is another by now.
    pub(super) learned: Vec<u32>,
}

impl State {
    /// Takes the samples of a frame.
    pub(super) fn take(&mut self, samples: &[Sample], hearing: Hearing) -> Taken {
        self.taking(samples.len(), hearing, |taking| {
            for samples in samples.chunks(LOOKED_AHEAD) {
                taking.columns.look_ahead(samples);
                let mut rest = samples;
                while let Some((sample, later)) = rest.split_first() {
                    match taking.usual(rest) {
                        0 => {
                            taking.one(sample);
                            rest = later;
                        }
                        count => rest = &rest[count..],
                    }
                }
            }
        })
    }

    fn taking(
        &mut self,
        count: usize,
        hearing: Hearing,
        take: impl FnOnce(&mut Taking<'_>),
    ) -> Taken {
        let Self { form, columns, classes, waiting, newest_row, .. } = self;
        let columns = Arc::make_mut(columns);
        let keep = Keep::into(waiting, columns.len());
        keep.waiting.expect_rows(count);
        let phase = Phase::new(&form.grid);
        let taken = Taken::default();
        let mut taking = Taking { form, columns, classes, keep, phase, hearing, taken };
        take(&mut taking);
        *newest_row = taking.keep.newest_row.max(*newest_row);
        taking.taken
    }
}

/// All that samples change, while a frame is taken.
struct Taking<'a> {
    form: &'a Form,
    columns: &'a mut Columns,
    classes: &'a mut Arc<Vec<Class>>,
    keep: Keep<'a>,
    phase: Phase<'a>,
    hearing: Hearing,
    taken: Taken,
}

impl Taking<'_> {
    /// Takes the first samples, as long as they are usual and alike; says how many.
    fn usual(&mut self, samples: &[Sample]) -> usize {
        let Self { columns, classes, keep, phase, hearing, taken, .. } = self;
        let head = samples.first().and_then(|first| {
            let head = columns.head(first.column.index as usize)?;
            (head.generation == first.column.generation).then_some((head, first.at))
        });
        let usual = head.and_then(|(head, at)| Usual::of(phase, head, at));
        let (Some(mut usual), Some((head, _))) = (usual, head) else { return 0 };
        let common = |number: u16| {
            let class = &classes[usize::from(number)];
            (number, class.kept, Way::of(&class.definition, hearing.learns))
        };
        let (mut class, kept, mut way) = common(head.class);
        let mut cells = keep.waiting.cells(&usual.rows());
        cells.aim(kept);
        let mut count = 0;
        for sample in samples {
            let Column { index, generation } = sample.column;
            let Some(mut open) = columns.open(index as usize) else { break };
            if open.head.generation != generation {
                break;
            }
            if open.head.class != class {
                let kept;
                (class, kept, way) = common(open.head.class);
                cells.aim(kept);
            }
            let reading = (sample.at, sample.value);
            let Some(weighed) = usual.weigh(&way, open.head, reading) else { break };
            let Some(place) = cells.spot(index, generation) else { break };
            usual.take(weighed, &mut open, &mut Straight { cells: &mut cells, place });
            open.head.hear(hearing.second);
            count += 1;
        }
        if let Some(row) = usual.closes().filter(|_| count > 0) {
            keep.newest_row = keep.newest_row.max(row);
        }
        taken.verdicts.stored += count as u64;
        count
    }

    /// Takes any sample.
    fn one(&mut self, sample: &Sample) {
        let Self { form, columns, classes, keep, phase, hearing, taken } = self;
        let Column { index, generation } = sample.column;
        let open = columns.open(index as usize);
        // Where no series lives the generation is 0, which is none.
        let open = open.filter(|open| open.head.generation == generation && generation > 0);
        let Some(mut open) = open else {
            taken.verdicts.stale_generation += 1;
            return;
        };
        let mut class = &classes[usize::from(open.head.class)];
        if hearing.learns
            && let Some(wider_ms) =
                open.head.wider_heartbeat(&class.definition, form.policy.step(), sample.at)
        {
            open.head.class = widened(classes, open.head.class, wider_ms);
            class = &classes[usize::from(open.head.class)];
            taken.learned.push(index);
        }
        keep.of(sample.column, class.kept);
        let reading = (sample.at, sample.value);
        match series::take(&class.definition, phase, &mut open, reading, keep) {
            Verdict::Stored => {
                open.head.hear(hearing.second);
                taken.verdicts.stored += 1;
            }
            Verdict::Duplicate => taken.verdicts.duplicate += 1,
            Verdict::Late if class.definition.takes_late() => taken.late.push(*sample),
            Verdict::Late => taken.verdicts.late += 1,
        }
        if let Some(birth) = keep.birth.take() {
            taken.births.push((index as usize, birth));
        }
    }
}

/// Puts what a usual reading closes into cells that are known to be there.
struct Straight<'a, 'b> {
    cells: &'a mut Cells<'b>,
    place: usize,
}

impl Closed for Straight<'_, '_> {
    #[inline]
    fn fine(&mut self, _: i64, value: f64) {
        self.cells.put_fine(self.place, value);
    }

    #[inline]
    fn coarse(&mut self, nth: usize, run: &Run) {
        self.cells.put_coarse(nth, self.place, run);
    }
}

#[cfg(test)]
mod tests;
