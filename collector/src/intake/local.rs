//! The door from inside: samples that a part of this server gathered itself enter like any others.

use rrd::{Kind, Timestamp};

use super::{Denial, Intake};
use crate::foreign::{Origin, Protocol, Sorter};
use crate::native::RefusedSeries;

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
        let inner = &self.0;
        let origin = Origin { protocol: Protocol::Local, relay: None };
        let held = inner.room.take(size_of_val(look.samples.as_slice())).await?;
        let read = move |_: &_, _: &mut _, mut sorter: Sorter<'_>| {
            look.sort(&mut sorter);
            Ok(sorter.sorted)
        };
        let taken = inner.store(origin, held, read).await?;
        let refused = taken.refusals.samples();
        Ok(Stored { samples: taken.samples, refused, shown: taken.refusals.into_shown() })
    }
}

impl Look {
    fn sort(&self, sorter: &mut Sorter<'_>) {
        let mut key = Vec::new();
        for sample in &self.samples {
            let own = [("job", self.job.as_str()), ("instance", self.instance.as_str())];
            let labels = sample.labels.iter().map(|(name, value)| (name.as_str(), value.as_str()));
            let pairs: Vec<(&str, &str)> = own.into_iter().chain(labels).collect();
            key.clear();
            for text in pairs.iter().flat_map(|(name, value)| [name, value]) {
                key.extend(text.len().to_le_bytes());
                key.extend(text.as_bytes());
            }
            let samples = [(sample.at, sample.value)];
            sorter.series(&key, &pairs.as_slice(), (&samples, Some(sample.kind)));
        }
    }
}
