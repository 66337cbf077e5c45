//! Control frames: what the journal carries when a series is granted or an instance renamed.
//!
//! A version byte, then bincode with a limit. The journal's envelope holds the checksum.

use bincode::{Decode, Encode};

use crate::{Cell, Column, FrameError, InstanceId, Kind, Labels, Policy};

const VERSION: u8 = 1;
/// 10,000 series with keys of 2 KiB, and some room: nothing larger passes intake.
const MOST_BYTES: usize = 32 << 20;

/// Columns given to new series of one instance.
#[derive(Clone, Debug, PartialEq)]
pub struct GrantFrame {
    /// Whose series they are.
    pub instance: InstanceId,
    /// The policy of the instance's file.
    pub policy: Policy,
    /// The labels of the instance as they were at the grant; they count for its first grant only.
    pub labels: Labels,
    /// The series and their columns.
    pub series: Vec<GrantedSeries>,
}

/// One series and the column it was given.
#[derive(Clone, Debug, PartialEq)]
pub struct GrantedSeries {
    /// Where it lives.
    pub column: Column,
    /// Labels with `__name__`, without those of the instance.
    pub labels: Labels,
    /// How its readings become rates.
    pub kind: Kind,
    /// A reading covers at most this many milliseconds before it.
    pub heartbeat_ms: u64,
    /// How its numbers are kept.
    pub cell: Cell,
    /// A rate below is unknown; NaN is no limit.
    pub min: f64,
    /// A rate above is unknown; NaN is no limit.
    pub max: f64,
}

/// Something other than samples and grants that happens to one instance.
#[derive(Clone, Debug, PartialEq)]
pub struct ChangeFrame {
    /// Which one.
    pub instance: InstanceId,
    /// What becomes of it.
    pub change: Change,
}

/// What becomes of an instance.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// Its archives are those of another policy, whose finest step is the same, a multiple or a part of the
    /// former; their rows follow from those there are.
    Policy(Policy),
    /// These series end for good, and their columns are free for others.
    Drop(Vec<Column>),
    /// It goes, with all its rows.
    Remove,
    /// It goes, and its rows are added to those of this role.
    RollUp(InstanceId),
}

impl ChangeFrame {
    /// The bytes of this frame.
    pub fn encode(&self) -> Vec<u8> {
        let change = match &self.change {
            Change::Policy(policy) => WireChange::Policy(policy.to_string()),
            Change::Drop(columns) => {
                WireChange::Drop(columns.iter().map(|c| (c.index, c.generation)).collect())
            }
            Change::Remove => WireChange::Remove,
            Change::RollUp(role) => WireChange::RollUp(role.0),
        };
        write(&(self.instance.0, change))
    }

    /// The frame that [`ChangeFrame::encode`] wrote.
    pub fn decode(bytes: &[u8]) -> Result<Self, FrameError> {
        let (instance, change): (u128, WireChange) = read(bytes)?;
        let column = |(index, generation)| Column { index, generation };
        let change = match change {
            WireChange::Policy(text) => Change::Policy(text.parse().map_err(content)?),
            WireChange::Drop(columns) => Change::Drop(columns.into_iter().map(column).collect()),
            WireChange::Remove => Change::Remove,
            WireChange::RollUp(role) => Change::RollUp(InstanceId(role)),
        };
        Ok(Self { instance: InstanceId(instance), change })
    }
}

#[derive(Encode, Decode)]
enum WireChange {
    Policy(String),
    Drop(Vec<(u32, u32)>),
    Remove,
    RollUp(u128),
}

impl GrantFrame {
    /// The bytes of this frame.
    pub fn encode(&self) -> Vec<u8> {
        write(&WireGrant {
            instance: self.instance.0,
            policy: self.policy.to_string(),
            labels: self.labels.to_key(),
            series: self.series.iter().map(WireSeries::of).collect(),
        })
    }

    /// The frame that [`GrantFrame::encode`] wrote.
    pub fn decode(bytes: &[u8]) -> Result<Self, FrameError> {
        let wire: WireGrant = read(bytes)?;
        Ok(Self {
            instance: InstanceId(wire.instance),
            policy: wire.policy.parse().map_err(content)?,
            labels: Labels::from_key(&wire.labels).map_err(content)?,
            series: wire.series.iter().map(WireSeries::granted).collect::<Result<_, _>>()?,
        })
    }
}

#[derive(Encode, Decode)]
struct WireGrant {
    instance: u128,
    policy: String,
    labels: Vec<u8>,
    series: Vec<WireSeries>,
}

#[derive(Encode, Decode)]
struct WireSeries {
    index: u32,
    generation: u32,
    key: Vec<u8>,
    kind: u8,
    cell: u8,
    heartbeat_ms: u64,
    min: f64,
    max: f64,
}

impl WireSeries {
    fn of(series: &GrantedSeries) -> Self {
        Self {
            index: series.column.index,
            generation: series.column.generation,
            key: series.labels.to_key(),
            kind: series.kind as u8,
            cell: series.cell as u8,
            heartbeat_ms: series.heartbeat_ms,
            min: series.min,
            max: series.max,
        }
    }

    fn granted(&self) -> Result<GrantedSeries, FrameError> {
        let unknown = |what: &str, number: u8| {
            FrameError::Content(format!("{what} {number} is unknown to this version"))
        };
        Ok(GrantedSeries {
            column: Column { index: self.index, generation: self.generation },
            labels: Labels::from_key(&self.key).map_err(content)?,
            kind: Kind::from_number(self.kind).ok_or_else(|| unknown("kind", self.kind))?,
            heartbeat_ms: self.heartbeat_ms,
            cell: Cell::from_number(self.cell).ok_or_else(|| unknown("cell", self.cell))?,
            min: self.min,
            max: self.max,
        })
    }
}

fn content(reason: impl std::fmt::Display) -> FrameError {
    FrameError::Content(reason.to_string())
}

fn write(wire: &impl Encode) -> Vec<u8> {
    let mut bytes = vec![VERSION];
    let body = bincode::encode_to_vec(wire, bincode::config::standard());
    bytes.extend(body.expect("a vector takes any of our frames"));
    bytes
}

fn read<T: Decode<()>>(bytes: &[u8]) -> Result<T, FrameError> {
    let (&version, body) = bytes.split_first().ok_or(FrameError::Damaged(0))?;
    if version != VERSION {
        return Err(FrameError::Version(version));
    }
    let config = bincode::config::standard().with_limit::<MOST_BYTES>();
    match bincode::decode_from_slice(body, config) {
        Ok((wire, used)) if used == body.len() => Ok(wire),
        Ok(_) => Err(FrameError::Damaged(bytes.len())),
        Err(reason) => Err(content(reason)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn grant() -> GrantFrame {
        GrantFrame {
            instance: InstanceId(1),
            policy: Policy::parse("1m:2d,1h:9d;hb=2m").unwrap(),
            labels: Labels::from_pairs([("instance", "web-1")]).unwrap(),
            series: vec![GrantedSeries {
                column: Column { index: 3, generation: 1 },
                labels: Labels::from_pairs([("__name__", "up")]).unwrap(),
                kind: Kind::Total,
                heartbeat_ms: 120_000,
                cell: Cell::F64,
                min: 0.0,
                max: f64::INFINITY,
            }],
        }
    }

    #[test]
    fn a_grant_reads_back() {
        assert_eq!(GrantFrame::decode(&grant().encode()), Ok(grant()));
    }

    #[test]
    fn a_change_reads_back_from_the_bytes_it_always_had() {
        let frame = |change| ChangeFrame { instance: InstanceId(7), change };
        let columns =
            vec![Column { index: 3, generation: 2 }, Column { index: 300, generation: 1 }];
        let policy = Policy::parse("1m:2d;f64").unwrap();
        for (change, bytes) in [
            (Change::Policy(policy), &b"\x01\x07\x00\x091m:2d;f64"[..]),
            (Change::Drop(columns), b"\x01\x07\x01\x02\x03\x02\xfb\x2c\x01\x01"),
            (Change::Remove, b"\x01\x07\x02"),
            (Change::RollUp(InstanceId(9)), b"\x01\x07\x03\x09"),
        ] {
            assert_eq!(frame(change.clone()).encode(), bytes, "{change:?}");
            assert_eq!(ChangeFrame::decode(bytes), Ok(frame(change)));
            for cut in 0..bytes.len() {
                assert!(ChangeFrame::decode(&bytes[..cut]).is_err(), "cut at {cut}");
            }
        }
    }

    #[test]
    fn a_cut_or_lengthened_frame_is_no_frame() {
        let bytes = grant().encode();
        for cut in 0..bytes.len() {
            assert!(GrantFrame::decode(&bytes[..cut]).is_err(), "cut at {cut}");
        }
        assert!(GrantFrame::decode(&[&bytes[..], &[0]].concat()).is_err());
    }

    proptest! {
        #[test]
        fn garbage_is_refused_and_never_panics(mut bytes in proptest::collection::vec(any::<u8>(), 1..200)) {
            bytes[0] = VERSION;
            drop(GrantFrame::decode(&bytes));
        }
    }
}
