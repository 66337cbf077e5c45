//! Kinds of new series: found, and put right when their sender says more of them later.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use rrd::{Change, Column, InstanceId, Kind, NewSeries};

use crate::foreign::Stranger;
use crate::foreign::guesses::Guess;
use crate::foreign::kinds::{Found, KindRule};
use crate::intake::archive::matcher;
use crate::intake::grants::Granted;
use crate::intake::{Denial, Inner, Intake};
use crate::registry::{Instance, TokenId};

/// Rules for kinds: each is asked about each new series.
const KIND_RULE_LIMIT: usize = 1_000;

impl Intake {
    /// Sets what the operator says of kinds: matchers as in `__name__=~"app_.+"`, all of which a
    /// series must satisfy, and its kind. Only series not seen before are asked about. Errors with
    /// what is wrong with them.
    pub fn know_kinds(&self, written: &[(Vec<String>, Kind)]) -> Result<(), String> {
        if written.len() > KIND_RULE_LIMIT {
            return Err(format!("at most {KIND_RULE_LIMIT} kinds are taken; join some by |"));
        }
        let rule = |(matchers, kind): &(Vec<String>, Kind)| {
            let matchers: Result<Vec<_>, Denial> =
                matchers.iter().map(|text| matcher(text)).collect();
            match matchers {
                Ok(matchers) if matchers.is_empty() => Err("match: name at least one".to_owned()),
                Ok(matchers) => Ok((matchers, *kind)),
                Err(denial) => Err(denial.to_string()),
            }
        };
        let rules: Vec<KindRule> = written.iter().map(rule).collect::<Result<_, _>>()?;
        self.0.kinds.set(rules);
        Ok(())
    }
}

impl Inner {
    /// Strangers of one instance with their kinds, and whether each was guessed for its first
    /// column: others have rows that nobody may take from them.
    pub(super) fn kinds(
        &self,
        relay: Option<TokenId>,
        instance: &Instance,
        strangers: &[Stranger],
    ) -> (Vec<NewSeries>, Vec<bool>) {
        // Only names of histograms and summaries ask for siblings, so only those are kept to be
        // found.
        let with_sibling = |stranger: &&Stranger| {
            let metric = stranger.labels.metric().unwrap_or_default();
            metric.ends_with("_count") || metric.ends_with("_sum")
        };
        let siblings: HashSet<Vec<u8>> =
            strangers.iter().filter(with_sibling).map(|one| one.labels.to_key()).collect();
        let store = &self.parts.store;
        let is_known = store.is_loaded(instance.id);
        let series = |stranger: &Stranger| {
            let labels = stranger.labels.clone();
            let sibling = |name: &str| siblings.contains(&labels.with(rrd::NAME, name).to_key());
            let told = self.kinds.kind(|| labels.overlaid(&instance.labels)).or(stranger.kind);
            let found =
                told.map_or_else(|| self.families.kind(relay, &labels, sibling), Found::Told);
            let first_reading = stranger.samples.first().map(|(_, value)| *value);
            let is_granted = || store.resolve(instance.id, &labels.to_key()).is_some();
            let is_guessed = matches!(found, Found::Guessed(_)) && !(is_known && is_granted());
            (NewSeries { labels, kind: found.kind(), first_reading }, is_guessed)
        };
        strangers.iter().map(series).unzip()
    }

    /// The guesses among series that just got their columns.
    pub(super) fn guesses_of(
        &self,
        instance: &Instance,
        (series, guessed): (&[NewSeries], &[bool]),
        granted: &[Granted],
    ) -> Vec<Guess> {
        let at = self.parts.clock.monotonic();
        let guess = |((series, guessed), granted): ((&NewSeries, &bool), &Granted)| {
            let column = granted.as_ref().ok().filter(|_| *guessed)?;
            let metric = series.labels.metric().unwrap_or_default().into();
            Some(Guess { instance: instance.id, column: *column, metric, kind: series.kind, at })
        };
        series.iter().zip(guessed).zip(granted).filter_map(guess).collect()
    }

    /// Gives series whose kind was guessed wrongly their columns back, so that they get others as
    /// what they are said to be; their rows so far are unknown. Only those younger than ten minutes:
    /// of the others the log and the books tell. Answers the columns given back: samples of them that
    /// were sorted before have no place any more.
    pub(super) async fn put_right(
        self: Arc<Self>,
        relay: Option<TokenId>,
    ) -> Result<HashSet<(InstanceId, Column)>, Denial> {
        let now = self.parts.clock.monotonic();
        let (wrong, doubts) =
            self.guesses.wrong(relay, now, |metric| self.families.told(relay, metric));
        for doubt in doubts {
            tracing::warn!(instance = %doubt.instance, what = %doubt.told(), "a kind is in doubt");
        }
        let mut columns: BTreeMap<InstanceId, Vec<Column>> = BTreeMap::new();
        for guess in wrong {
            columns.entry(guess.instance).or_default().push(guess.column);
        }
        let mut dropped = HashSet::new();
        for (instance, columns) in columns {
            let series = columns.len();
            match self.change_archive(instance, Change::Drop(columns.clone())).await {
                Ok(()) => {
                    tracing::info!(%instance, series, "series begin anew as another kind");
                    dropped.extend(columns.into_iter().map(|column| (instance, column)));
                }
                Err(error) => {
                    tracing::warn!(%instance, series, %error, "series keep a kind in doubt");
                }
            }
        }
        Ok(dropped)
    }

    /// A series of an agent, as the kind that the operator says, if he does.
    pub(in crate::intake) fn as_operator_says(
        &self,
        instance: &Instance,
        series: NewSeries,
    ) -> NewSeries {
        let labels = || series.labels.overlaid(&instance.labels);
        let kind = self.kinds.kind(labels).unwrap_or(series.kind);
        NewSeries { kind, ..series }
    }
}
