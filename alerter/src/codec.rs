//! The one place that turns the alerter's frames and snapshots into bytes and back (bincode).

use bincode::config::{Configuration, Limit, LittleEndian, Varint};
use bincode::de::{BorrowDecoder, Decoder};
use bincode::enc::Encoder;
use bincode::error::{DecodeError, EncodeError};
use bincode::{BorrowDecode, Decode, Encode};
use rrd::{Labels, Timestamp};

use crate::transition::Transition;

/// Most bytes a frame decodes to: above all that the journal takes (bincode counts sizes in memory),
/// far below what could exhaust memory when a length is damaged.
pub(crate) const FRAME_BYTES: usize = 16 * journal::MAX_BODY_BYTES;

/// Most bytes of a snapshot: a million phases of 200 bytes, and room.
pub(crate) const SNAPSHOT_BYTES: usize = 512 << 20;

/// Bytes that do not hold what they should.
#[derive(Debug, thiserror::Error)]
#[error(
    "{what} does not decode: {reason}; the journal or checkpoint is damaged or from a newer release"
)]
pub struct DamagedFrame {
    what: &'static str,
    reason: String,
}

impl DamagedFrame {
    pub(crate) fn new(what: &'static str, reason: &impl ToString) -> Self {
        Self { what, reason: reason.to_string() }
    }
}

fn config<const LIMIT: usize>() -> Configuration<LittleEndian, Varint, Limit<LIMIT>> {
    bincode::config::standard().with_limit::<LIMIT>()
}

/// The bytes of `value`. What is encoded here lives in memory and only holds plain data.
pub(crate) fn encode<T: Encode>(value: &T) -> Vec<u8> {
    bincode::encode_to_vec(value, bincode::config::standard())
        .expect("plain data in memory always encodes")
}

/// The value in `bytes`, all of them.
pub(crate) fn decode<T: Decode<()>, const LIMIT: usize>(
    what: &'static str,
    bytes: &[u8],
) -> Result<T, DamagedFrame> {
    let (value, used) = bincode::decode_from_slice(bytes, config::<LIMIT>())
        .map_err(|error| DamagedFrame::new(what, &error))?;
    if used != bytes.len() {
        return Err(DamagedFrame::new(what, &format!("{} bytes too many", bytes.len() - used)));
    }
    Ok(value)
}

/// Labels as bytes: the store's own canonical key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LabelKey(pub(crate) Labels);

impl Encode for LabelKey {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        self.0.to_key().encode(encoder)
    }
}

impl<C> Decode<C> for LabelKey {
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        let key = Vec::<u8>::decode(decoder)?;
        Labels::from_key(&key).map(Self).map_err(|e| DecodeError::OtherString(e.to_string()))
    }
}

impl<'de, C> BorrowDecode<'de, C> for LabelKey {
    fn borrow_decode<D: BorrowDecoder<'de, Context = C>>(
        decoder: &mut D,
    ) -> Result<Self, DecodeError> {
        Self::decode(decoder)
    }
}

/// A moment as bytes: its milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(pub(crate) Timestamp);

impl Encode for Moment {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        self.0.as_millis().encode(encoder)
    }
}

impl<C> Decode<C> for Moment {
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        i64::decode(decoder).map(|millis| Self(Timestamp::from_millis(millis)))
    }
}

impl<'de, C> BorrowDecode<'de, C> for Moment {
    fn borrow_decode<D: BorrowDecoder<'de, Context = C>>(
        decoder: &mut D,
    ) -> Result<Self, DecodeError> {
        Self::decode(decoder)
    }
}

impl Encode for Transition {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        (self.id, self.incident, self.sequence, &self.rule).encode(encoder)?;
        (LabelKey(self.labels.clone()), self.from, self.to, self.reason).encode(encoder)?;
        (Moment(self.at), self.value, &self.unit, &self.threshold).encode(encoder)?;
        (Moment(self.since), &self.summary, self.notify).encode(encoder)
    }
}

impl<C> Decode<C> for Transition {
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        let (id, incident, sequence, rule) = Decode::decode(decoder)?;
        let (LabelKey(labels), from, to, reason) = Decode::decode(decoder)?;
        let (Moment(at), value, unit, threshold) = Decode::decode(decoder)?;
        let (Moment(since), summary, notify) = Decode::decode(decoder)?;
        Ok(Self {
            id,
            incident,
            sequence,
            rule,
            labels,
            from,
            to,
            reason,
            at,
            value,
            unit,
            threshold,
            since,
            summary,
            notify,
        })
    }
}

impl<'de, C> BorrowDecode<'de, C> for Transition {
    fn borrow_decode<D: BorrowDecoder<'de, Context = C>>(
        decoder: &mut D,
    ) -> Result<Self, DecodeError> {
        Self::decode(decoder)
    }
}
