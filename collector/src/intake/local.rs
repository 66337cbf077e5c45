//! The door from inside: samples that a part of this server gathered itself enter like any others.

use std::collections::BTreeMap;
use std::sync::Arc;

use rrd::{Batch, Kind, NewSeries, Sample, SampleFrame, Timestamp};

use super::{Denial, Inner, Intake, UNAVAILABLE, aside, to_the_end};
use crate::accounting::{Reason, Tally, Way};
use crate::foreign::time_message;
use crate::limits::{Window, checked_series};
use crate::native::RefusedSeries;
use crate::refusals::Refusals;
use crate::registry::{Instance, Namespace};

/// Samples of one target, as one look at it found them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Look {
    /// The job that the target belongs to.
    pub job: String,
    /// What the target is called. Job and name are an instance in the namespace of the admin token, which is
    /// enrolled with its first sample.
    pub instance: String,
    /// What was found.
    pub samples: Vec<LookSample>,
}

/// One sample of a look.
#[derive(Clone, Debug, PartialEq)]
pub struct LookSample {
    /// The labels of its series in any order, `__name__` among them, `job` and `instance` not.
    pub labels: Vec<(String, String)>,
    /// How readings of the series become a rate.
    pub kind: Kind,
    /// When it was read.
    pub at: Timestamp,
    /// What was read.
    pub value: f64,
}

/// What became of a look that did not fail as a whole.
#[derive(Debug)]
pub struct Stored {
    /// Samples that stand in the journal.
    pub samples: u64,
    /// Samples that were refused.
    pub refused: u64,
    /// The first of these, and why.
    pub shown: Vec<RefusedSeries>,
}

impl Intake {
    /// Takes a look into the journal; it is in the books, and refused sample by sample, as a request is.
    ///
    /// Errors when nothing was taken: the look may be offered again, or be given up.
    pub async fn store_local(&self, look: Look) -> Result<Stored, Denial> {
        to_the_end(stored(Arc::clone(&self.0), look)).await
    }
}

async fn stored(inner: Arc<Inner>, look: Look) -> Result<Stored, Denial> {
    let space = Namespace { relay: None, job: look.job, instance: look.instance };
    let known = look.samples.iter().filter(|sample| !sample.value.is_nan());
    let sign = known.map(|sample| sample.at).max();
    let signs = BTreeMap::from([(space, sign)]);
    let admitted = inner.instances_of(None, &signs).await?.into_values().next();
    let samples = look.samples;
    aside(move || match admitted.expect("every space was asked for") {
        Ok(instance) => inner.take_look(&instance, samples),
        Err((reason, message)) => {
            let mut refusals = Refusals::default();
            for sample in &samples {
                refusals.add(None, reason, 1, || shown(sample), &message);
            }
            inner.commit_look(None, Vec::new(), refusals)
        }
    })
    .await
}

impl Inner {
    fn take_look(&self, instance: &Instance, samples: Vec<LookSample>) -> Result<Stored, Denial> {
        let id = Some(instance.id);
        let mut refusals = Refusals::default();
        let window = Window::at(self.parts.clock.wall(), Self::keep_ms(self.policy(instance)));
        let (mut good, mut series) = (Vec::with_capacity(samples.len()), Vec::new());
        for sample in samples {
            match checked(&sample, window) {
                Ok(one) => {
                    series.push(one);
                    good.push(sample);
                }
                Err((reason, message)) => refusals.add(id, reason, 1, || shown(&sample), &message),
            }
        }
        if self.parts.store.is_unavailable(instance.id) {
            for sample in &good {
                refusals.add(id, Reason::Store, 1, || shown(sample), UNAVAILABLE);
            }
            return self.commit_look(id, Vec::new(), refusals);
        }
        let granted = self.columns(instance, &series)?;
        let mut taken = Vec::with_capacity(good.len());
        for (sample, granted) in good.iter().zip(granted) {
            match granted {
                Ok(column) => taken.push(Sample { column, at: sample.at, value: sample.value }),
                Err((reason, message)) => refusals.add(id, reason, 1, || shown(sample), &message),
            }
        }
        self.commit_look(id, taken, refusals)
    }

    fn commit_look(
        &self,
        instance: Option<rrd::InstanceId>,
        samples: Vec<Sample>,
        refusals: Refusals,
    ) -> Result<Stored, Denial> {
        let count = u64::try_from(samples.len()).expect("a count of what is in memory");
        let mut tally = Tally::of(Way::probe());
        refusals.tally(&mut tally);
        let frame = instance.filter(|_| count > 0).map(|instance| {
            tally.received(Some(instance), count);
            SampleFrame { instance, batch: Batch::default(), samples }
        });
        self.append(frame.as_slice(), &tally)?;
        self.parts.registry.saw(frame.map(|frame| frame.instance), self.parts.clock.wall());
        let refused = refusals.samples();
        Ok(Stored { samples: count, refused, shown: refusals.into_shown() })
    }
}

fn checked(sample: &LookSample, window: Window) -> Result<NewSeries, (Reason, String)> {
    if let Some(reason) = window.refuses(sample.at) {
        return Err((reason, time_message(reason).to_owned()));
    }
    let pairs: Vec<(&str, &str)> =
        sample.labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let labels = checked_series(&pairs)?;
    Ok(NewSeries { labels, kind: sample.kind, first_reading: Some(sample.value) })
}

/// A series for a person, cut where it gets long.
fn shown(sample: &LookSample) -> String {
    const LABELS: usize = 8;
    let cut = |text: &str| text.chars().take(64).collect::<String>();
    let labels = sample.labels.iter().take(LABELS);
    let pairs: Vec<String> =
        labels.map(|(name, value)| format!("{}={:?}", cut(name), cut(value))).collect();
    format!("{{{}}}", pairs.join(","))
}
