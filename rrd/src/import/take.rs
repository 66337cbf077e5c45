//! Taking over: series of files of rrdtool become one whole archive file of ours.

use std::path::Path;

use super::column::{Column, Filler};
use super::open_end::{OpenEnd, open_rate};
use super::rings::Ring;
use super::{Dump, ImportError, SourceKind};
use crate::file::write_labels;
use crate::series::{Definition, Run};
use crate::store::{BuiltSeries, Whole, build};
use crate::{Batch, Cell, Disk, InstanceId, Kind, Labels, MAX_COLUMNS, Policy};

/// An archive file about to be made.
pub struct NewArchive<'a> {
    /// Whose it is; the file is called after it.
    pub id: InstanceId,
    /// Labels of the instance.
    pub labels: &'a Labels,
    /// The rows it keeps.
    pub policy: &'a Policy,
    /// Its series.
    pub series: Vec<TakenSeries<'a>>,
}

/// One series to be taken over.
pub struct TakenSeries<'a> {
    /// Labels with `__name__`, without those of the instance.
    pub labels: Labels,
    /// The file it comes from.
    pub dump: &'a Dump,
    /// Its place among the sources of the file.
    pub source: usize,
}

/// What became of the series.
#[derive(Debug, Default)]
pub struct Taken {
    /// Bytes of the file.
    pub bytes: u64,
    /// Known rows of all series and archives.
    pub rows: u64,
    /// Series that could not be taken over at all; the others are.
    pub refused: Vec<(usize, ImportError)>,
    /// What of the others could not be taken over, by series.
    pub remarks: Vec<(usize, String)>,
}

/// Makes the archive file in `dir`, whole and synced, or not at all; not, when no series can be taken
/// over. An existing one is replaced: the caller has looked.
pub fn write_archive(
    disk: &dyn Disk,
    dir: &Path,
    archive: &NewArchive<'_>,
) -> Result<Taken, ImportError> {
    if archive.series.len() > MAX_COLUMNS {
        let have = archive.series.len() as u64;
        let (what, most) = ("series of one instance", MAX_COLUMNS as u64);
        return Err(ImportError::TooMany { what, have, most });
    }
    if write_labels(0, 0, archive.labels).is_none() {
        return Err(ImportError::Unfit("the labels of its instance are too long".to_owned()));
    }
    if let Some(days) = archive.policy.archives().iter().find(|spec| spec.days.is_some()) {
        let what = format!(
            "rows of {0} cannot be imported: take them over as \"1d\", and change the archives of the \
             instance afterwards",
            days.step_name()
        );
        return Err(ImportError::Unfit(what));
    }
    let mut taken = Taken::default();
    let mut series = Vec::with_capacity(archive.series.len());
    for (number, one) in archive.series.iter().enumerate() {
        let (built, remarks) = match one.build(archive.policy) {
            Ok(built) => built,
            Err(reason) => {
                taken.refused.push((number, reason));
                continue;
            }
        };
        let rows = built.rows.iter().flatten().filter(|run| run.known > 0);
        taken.rows += rows.map(|run| run.count).sum::<u64>();
        taken.remarks.extend(remarks.into_iter().map(|remark| (number, remark)));
        series.push(built);
    }
    if series.is_empty() {
        return Ok(taken);
    }
    let &NewArchive { id: instance, policy, labels, .. } = archive;
    // Number 0 is at or below any checkpoint, and every frame of the instance comes after it.
    let whole = Whole { instance, policy, labels, batch: Batch::default(), seq: 0, epoch: 0 };
    taken.bytes = build(disk, dir, &whole, series)?;
    let path = dir.join(format!("{instance}.rrd"));
    disk.rename(&path.with_extension("new"), &path)?;
    disk.sync_dir(dir)?;
    Ok(taken)
}

impl TakenSeries<'_> {
    fn build(&self, policy: &Policy) -> Result<(BuiltSeries, Vec<String>), ImportError> {
        let source = &self.dump.sources[self.source];
        let SourceKind::Known(kind) = source.kind else {
            let what = format!("{} is computed from others; ask for that in a query", source.name);
            return Err(ImportError::Unfit(what));
        };
        let rings = Ring::all(self.dump, self.source);
        let last_update = self.dump.last_update;
        let base_ms = i64::try_from(self.dump.step_s * 1000).expect("checked to be a step");
        let filler = Filler {
            rings: &rings,
            archives: policy.archives(),
            last_update,
            base_ms,
            open_rate: open_rate(source, last_update.as_millis().rem_euclid(base_ms)),
        };
        let column = filler.column();
        let remarks = remarks(&filler);
        let mut end = OpenEnd { source, place: self.source, filler: &filler, remarks };
        let open = end.open(&column);
        let remarks = end.remarks;
        if !open.agrees_with(policy.archives()) {
            let what = "its open step contradicts its last update; restore it from a backup";
            return Err(ImportError::Unfit(what.to_owned()));
        }
        let name = self.labels.metric().unwrap_or_default();
        let series = BuiltSeries {
            key: self.labels.to_key().into(),
            cell: cell(kind, name, &column, policy),
            generation: 1,
            definition: definition(source, kind),
            open,
            rows: column.rows,
            anchors: Vec::new(),
        };
        Ok((series, remarks))
    }
}

fn definition(source: &super::Source, kind: Kind) -> Definition {
    let (min, max) = (source.min, source.max);
    Definition { kind, heartbeat_ms: source.heartbeat_s * 1000, min, max }
}

/// The cell that the newest value asks for; f64 where a value is beyond the smaller one.
fn cell(kind: Kind, name: &str, column: &Column, policy: &Policy) -> Cell {
    let newest = column.rows[0].iter().rev().find(|run| run.known > 0).map(|run| run.average);
    let cell = Cell::choose(kind, name, newest, policy.all_f64());
    let holds =
        |run: &Run| [run.average, run.min, run.max, run.last].iter().all(|v| cell.holds(*v));
    if column.rows.iter().flatten().all(holds) { cell } else { Cell::F64 }
}

/// Widths of the file that no archive keeps, and functions that stand in for the mean.
fn remarks(filler: &Filler<'_>) -> Vec<String> {
    let mut remarks = Vec::new();
    for ring in filler.rings {
        let seconds = ring.width_ms / 1000;
        let steps = (0..filler.archives.len()).map(|archive| filler.step_ms(archive));
        if !steps.clone().any(|step| step % ring.width_ms == 0 || ring.width_ms % step == 0) {
            remarks
                .push(format!("rows of {seconds} s fit no width of the policy, and are left out"));
        }
        if !ring.has_average() {
            remarks
                .push(format!("rows of {seconds} s have no AVERAGE; another function stands in"));
        }
    }
    remarks
}
