//! A sketch of many values: how they are spread, to two per cent, in bounded memory.

use std::collections::BTreeMap;

/// Each bucket's upper end over its lower one: what is in its middle is within two per cent of both.
const GROWTH: f64 = 1.04;
/// Nearer to zero values are zero.
const SMALLEST: f64 = 1e-9;
/// Buckets kept. They span four orders of magnitude; below them, values that no quantile of interest
/// reaches share one.
const BUCKETS_MAX: usize = 256;

/// Weighted values.
#[derive(Debug, Default)]
pub(super) struct Sketch {
    buckets: BTreeMap<i32, f64>,
    weight: f64,
    ends: Option<(f64, f64)>,
}

impl Sketch {
    /// Adds a value that stands for `weight` of them.
    pub(super) fn add(&mut self, value: f64, weight: f64) {
        *self.buckets.entry(bucket(value)).or_default() += weight;
        self.weight += weight;
        let (min, max) = self.ends.unwrap_or((value, value));
        self.ends = Some((min.min(value), max.max(value)));
        if self.buckets.len() > BUCKETS_MAX
            && let Some((_, lowest)) = self.buckets.pop_first()
            && let Some(mut next) = self.buckets.first_entry()
        {
            *next.get_mut() += lowest;
        }
    }

    /// The least and the largest value; `None` when there is none.
    pub(super) fn ends(&self) -> Option<(f64, f64)> {
        self.ends
    }

    /// The value that this share of all is not above.
    pub(super) fn quantile(&self, share: f64) -> Option<f64> {
        let (min, max) = self.ends?;
        let wanted = share * self.weight;
        let mut below = 0.0;
        for (bucket, weight) in &self.buckets {
            below += weight;
            if below >= wanted {
                return Some(middle(*bucket).clamp(min, max));
            }
        }
        Some(max)
    }

    /// Forgets all values.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

fn bucket(value: f64) -> i32 {
    let size = value.abs();
    if size < SMALLEST {
        return 0;
    }
    let at = ((size.ln() - SMALLEST.ln()) / GROWTH.ln()).floor();
    #[expect(clippy::cast_possible_truncation, reason = "the largest number is in bucket 18,628")]
    let at = at as i32 + 1;
    if value < 0.0 { -at } else { at }
}

fn middle(bucket: i32) -> f64 {
    if bucket == 0 {
        return 0.0;
    }
    let low = SMALLEST * GROWTH.powi(bucket.abs() - 1);
    (2.0 * low * GROWTH / (1.0 + GROWTH)).copysign(f64::from(bucket))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn near(found: Option<f64>, expected: f64) {
        let found = found.unwrap();
        assert!((found - expected).abs() <= expected.abs() * 0.021, "{found} is not {expected}");
    }

    #[test]
    fn quantiles_are_right_to_two_per_cent() {
        let mut sketch = Sketch::default();
        for value in 1..=1000 {
            sketch.add(f64::from(value) / 1000.0, 1.0);
        }
        for (share, expected) in [(0.5, 0.5), (0.9, 0.9), (0.99, 0.99), (1.0, 1.0), (0.0, 0.001)] {
            near(sketch.quantile(share), expected);
        }
        assert_eq!(sketch.ends(), Some((0.001, 1.0)));
    }

    #[test]
    fn a_sampled_value_stands_for_more_than_one() {
        let mut sketch = Sketch::default();
        sketch.add(1.0, 1.0);
        sketch.add(100.0, 10.0);
        near(sketch.quantile(0.5), 100.0);
    }

    #[test]
    fn values_around_zero_keep_their_order() {
        let mut sketch = Sketch::default();
        for value in [-5.0, -1.0, 0.0, 1.0, 5.0] {
            sketch.add(value, 1.0);
        }
        for (share, expected) in [(0.2, -5.0), (0.4, -1.0), (0.6, 0.0), (0.8, 1.0), (1.0, 5.0)] {
            near(sketch.quantile(share), expected);
        }
    }

    #[test]
    fn memory_is_bounded_and_the_upper_quantiles_stay_right() {
        let mut sketch = Sketch::default();
        for exponent in -300..=300 {
            sketch.add(10_f64.powi(exponent), 1.0);
        }
        for _ in 0..1000 {
            sketch.add(1e300, 1.0);
        }
        assert!(sketch.buckets.len() <= BUCKETS_MAX);
        near(sketch.quantile(0.5), 1e300);
        assert!((sketch.buckets.values().sum::<f64>() - 1601.0).abs() < 1e-6);
        sketch.clear();
        assert_eq!((sketch.quantile(0.5), sketch.ends()), (None, None));
    }
}
