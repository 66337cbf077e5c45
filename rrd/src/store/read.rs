//! Reading rows: those in the file and those waiting, as one.

use std::io;
use std::num::NonZeroU32;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::anchors::Anchors;
use super::change::Derived;
use super::check::unreadable;
use super::instance::{Form, Instance, block_of};
use super::rows::Rows;
use super::view::View;
use super::warm::{Version, Warm, WarmKey, WarmRows};
use super::{SeriesInfo, Store, lock, read};
use crate::file::{Ring, TileBytes};
use crate::handles::Handles;
use crate::{ArchiveSpec, Column, Damage, SeriesRef, Span};

/// Tiles that memory is asked for before the first of them is looked at.
const TILES_AT_ONCE: usize = 32;

/// Rows of one series that a reader of many asks for.
#[derive(Clone, Copy, Debug)]
pub struct RowsWanted {
    /// Whose rows.
    pub series: SeriesRef,
    /// Of which of its archives, the finest being 0.
    pub archive: usize,
    /// Their END lies in here.
    pub span: Span,
    /// Which numbers of them.
    pub parts: RowParts,
    /// Each how many-th of them, the first one in the span being wanted: a reader that needs one row an
    /// hour need not be given all.
    pub every: NonZeroU32,
}

/// Which numbers of rows are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowParts {
    /// All that are kept.
    All,
    /// Averages, and how many steps are known.
    Averages,
    /// Averages; how many steps are known only in archives whose rows may be hidden for it.
    Values,
}

/// What a reader looks at.
#[derive(Clone, Copy)]
pub(super) struct Seen {
    /// All there are without one.
    pub(super) span: Option<Span>,
    pub(super) parts: RowParts,
    /// Each how many-th row of the span.
    pub(super) every: NonZeroU32,
}

impl Seen {
    /// All of each row.
    pub(super) const fn all(span: Option<Span>) -> Self {
        Self { span, parts: RowParts::All, every: NonZeroU32::MIN }
    }
}

impl Store {
    /// The closed rows of an archive whose END lies in `span`, oldest first. Rows the ring no longer
    /// holds, and those after the newest, are left out; so are all when the series is not there.
    /// A row of whose steps more than the policy's share is unknown is unknown.
    pub fn rows(&self, series: SeriesRef, archive: usize, span: Span) -> Rows {
        let mut rows = Rows::default();
        let (parts, every) = (RowParts::All, NonZeroU32::MIN);
        self.rows_into(&mut rows, RowsWanted { series, archive, span, parts, every });
        rows
    }

    /// As [`Store::rows`], of a series that was found; none where its archives have changed since, and
    /// this one is another by now.
    pub fn rows_of(&self, found: &SeriesInfo, archive: usize, span: Span) -> Rows {
        let mut rows = Rows::default();
        let (series, parts, every) = (found.series, RowParts::All, NonZeroU32::MIN);
        let wanted = RowsWanted { series, archive, span, parts, every };
        self.rows_of_into(&mut rows, found, wanted);
        rows
    }

    /// As [`Store::rows_of`], into rows whose room is used again, and only what is wanted of them.
    pub fn rows_of_into(&self, rows: &mut Rows, found: &SeriesInfo, wanted: RowsWanted) {
        let known = found.archives.get(wanted.archive);
        self.rows_if(rows, wanted, |spec| known.is_some_and(|known| known.has_rows_of(spec)));
    }

    /// As [`Store::rows`], into rows whose room is used again, and only what is wanted of them: for
    /// many series one after the other.
    pub fn rows_into(&self, rows: &mut Rows, wanted: RowsWanted) {
        self.rows_if(rows, wanted, |_| true);
    }

    fn rows_if(
        &self,
        rows: &mut Rows,
        wanted: RowsWanted,
        is_wanted: impl FnOnce(&ArchiveSpec) -> bool,
    ) {
        let RowsWanted { series, archive, span, parts, every } = wanted;
        rows.clear();
        let Some(instance) = self.instance(series.instance) else { return };
        let (from, column) = ((&*instance, Some(&self.warm)), series.column);
        let seen = Seen { span: Some(span), parts, every };
        let form = self.read_into(rows, from, (column, archive), seen);
        let Some(spec) = form.archives.get(archive).filter(|spec| is_wanted(spec)) else {
            return rows.clear();
        };
        if archive > 0 {
            let every = usize::try_from(every.get()).unwrap_or(usize::MAX);
            rows.hide_unless_known(spec, &form.policy, every);
        }
    }

    /// Bytes of memory that hold rows which were read lately: at most 32 MiB, whatever is asked for.
    pub fn warm_bytes(&self) -> usize {
        self.warm.bytes()
    }

    /// Rows as they are stored, before the policy's share decides, and the archives they are of; all
    /// there are without a span.
    pub(super) fn stored_rows(
        &self,
        instance: &Instance,
        column: Column,
        archive: usize,
        span: Option<Span>,
    ) -> (Rows, Arc<Form>) {
        let mut rows = Rows::default();
        let of = (column, archive);
        let form = self.read_into(&mut rows, (instance, None), of, Seen::all(span));
        (rows, form)
    }

    fn read_into(
        &self,
        rows: &mut Rows,
        (instance, warm): (&Instance, Option<&Warm>),
        of: (Column, usize),
        seen: Seen,
    ) -> Arc<Form> {
        // Held from the copy of what is filed to the last byte read: see `Instance::tiles`.
        let shared = read(&instance.tiles);
        let warm = warm.map(|warm| (warm, *shared));
        let failed = |damage, reason: &io::Error| self.cannot_read(instance, damage, reason);
        let source = Source { handles: &self.handles, instance, failed: &failed, warm };
        source.read_all(rows, of, seen)
    }

    /// What becomes of rows that cannot be read.
    pub(super) fn cannot_read(&self, instance: &Instance, damage: Damage, reason: &io::Error) {
        let is_torn = reason.kind() == io::ErrorKind::InvalidData;
        if is_torn && self.is_replaying.load(Ordering::Acquire) {
            return;
        }
        self.report(damage);
        if !is_torn {
            self.check_length(instance);
        }
    }
}

impl Source<'_> {
    /// Rows of a series, wherever they are; the caller holds the tiles.
    pub(super) fn read_all(
        &self,
        rows: &mut Rows,
        (column, archive): (Column, usize),
        Seen { span, parts, every }: Seen,
    ) -> Arc<Form> {
        let instance = self.instance;
        let layout = instance.layout();
        let state = lock(&instance.state);
        let form = Arc::clone(&state.form);
        let block = block_of(&layout, column.index).map(|(_, block)| state.laid(block));
        let view = block.as_ref().and_then(|block| {
            let extent = state.extent(column, archive)?;
            let view = View::of(&form, block, column, archive, extent, span)?;
            match span {
                Some(span) => view.thinned(every, span.start()),
                None => Some(view),
            }
        });
        let Some(view) = view else { return form };
        view.begin(rows, parts);
        for waiting in state.unfiled() {
            for run in waiting.runs(column.index, column.generation, archive) {
                view.put(rows, &run);
            }
        }
        let mut anchors = match (parts, state.series(column)) {
            (RowParts::All, Some(series)) => Anchors::of(&form, &series, view.near(&form)),
            _ => None,
        };
        if let Some(anchors) = &mut anchors {
            anchors.add_waiting(state.unfiled());
        }
        let repairs = state.repairs(column, archive);
        let former = state.former.clone();
        drop(state);
        if let Some(former) = former {
            let derived = Derived { former: &former, source: self, column, form: &form };
            for run in derived.rows(archive, view.first..view.last + 1) {
                view.put(rows, &run);
            }
            if let Some(anchors) = &mut anchors {
                derived.add_anchors(anchors);
            }
        } else {
            if view.has_filed() {
                self.read_warm(&view, rows);
            }
            if let (Some(anchors), Some(block)) = (&mut anchors, &block) {
                anchors.add_filed(self, block);
            }
        }
        for run in &repairs {
            view.put(rows, run);
        }
        rows.anchors.extend(anchors.into_iter().flat_map(Anchors::into_vec));
        form
    }
}

/// The file of one instance, to be read while its tiles are shared.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    pub(super) handles: &'a Handles,
    pub(super) instance: &'a Instance,
    /// Hears of what cannot be read, and why; where a checksum does not match, that is invalid data.
    pub(super) failed: &'a dyn Fn(Damage, &io::Error),
    /// What was read lately, for those that may take it instead, and the version that counts.
    pub(super) warm: Option<(&'a Warm, Version)>,
}

impl Source<'_> {
    /// As [`Source::read`], where what was read lately need not be read again.
    fn read_warm(&self, view: &View<'_>, rows: &mut Rows) {
        let Some((warm, version)) = self.warm else { return self.read(view, rows) };
        let (mut tiles, seen) = (view.tiles(), view.filed_rows());
        let key =
            WarmKey { instance: self.instance.id, column: view.column, archive: view.archive };
        let known = warm.find(&key, version);
        let begun = known.as_ref().filter(|known| known.rows().contains(&seen.start));
        if let Some(known) = begun {
            let end = known.rows().end.min(seen.end);
            view.take_warm(known, &(seen.start..end), rows);
            if end == seen.end {
                return;
            }
            tiles.start = Ring::tile_of(end); // Of what a round has added since.
        }
        let wanted = view.rows_of(&tiles);
        // Most first reads are the last ones, too: a copy is made for those that come again.
        if !WarmRows::fit(&wanted, view.shape)
            || (known.is_none() && !warm.is_asked_again(&key, version))
        {
            return self.scan(view, tiles, rows, None);
        }
        let mut new = WarmRows::of(&wanted, view.shape);
        self.scan(view, tiles, rows, Some(&mut new));
        if new.rows() == wanted {
            warm.put(key, version, new, known.as_deref());
        }
    }

    /// Puts the rows that the file has into their places.
    pub(super) fn read(&self, view: &View<'_>, rows: &mut Rows) {
        self.scan(view, view.tiles(), rows, None);
    }

    /// The rows of some tiles of the view, and all that the file has of these once more to be kept.
    fn scan(
        &self,
        view: &View<'_>,
        tiles: Range<i64>,
        rows: &mut Rows,
        mut keep: Option<&mut WarmRows>,
    ) {
        if tiles.is_empty() {
            return;
        }
        let instance = self.instance;
        let len = instance.file_len();
        let source = match self.handles.source(instance.id, &instance.path, len) {
            Ok(source) => source,
            Err(reason) => {
                let what =
                    format!("cannot be read: {reason}; its rows are unknown, check the disk");
                return (self.failed)(instance.damage(what), &reason);
            }
        };
        if source.is_new() {
            view.bring(&source, tiles.clone());
        }
        // One room for all: to clear it takes as long as to fill it.
        let mut bytes = TileBytes::of(view.shape);
        let offsets = view.ring.offsets_of(tiles.clone(), view.position);
        let mut ahead = offsets.clone();
        for (number, (tile, at)) in tiles.zip(offsets).enumerate() {
            if number.is_multiple_of(TILES_AT_ONCE) {
                let soon = ahead.by_ref().take(TILES_AT_ONCE);
                source.expect(soon, view.shape.tile_len() as u64);
            }
            match view.read_tile(&source, (tile, at), &mut bytes, rows) {
                Ok(held) => {
                    if let Some(keep) = keep.as_deref_mut() {
                        keep.push(bytes.rows(held));
                    }
                }
                Err(reason) => {
                    keep = None; // Rows that are kept follow each other.
                    let (column, first) = (view.column.index, Ring::first_row(tile));
                    let damage = unreadable(instance, column, view.archive, first, &reason);
                    (self.failed)(damage, &reason);
                    if reason.kind() != io::ErrorKind::InvalidData {
                        return;
                    }
                }
            }
        }
    }
}
