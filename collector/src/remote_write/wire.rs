//! Protobuf as far as remote write needs it: a cursor over fields that allocates nothing.

use thiserror::Error;

/// Why bytes are not a write request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum WireError {
    #[error("the protobuf is cut short")]
    Short,
    #[error("the protobuf holds a number of more than ten bytes")]
    Varint,
    #[error("the protobuf holds a field of a kind that does not exist")]
    Field,
    #[error("a field of the request has another type than the protocol says")]
    Type,
    #[error(
        "the request has fields of another version of remote write; say that one in Content-Type"
    )]
    Version,
    #[error("the request holds more than {0} series; send fewer at once")]
    Series(usize),
    #[error("the request holds more than {0} symbols; send fewer series at once")]
    Symbols(usize),
    #[error("the request holds more than {0} samples; send fewer at once")]
    Samples(usize),
}

/// One field's content.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Content<'a> {
    Number(u64),
    Eight([u8; 8]),
    Four,
    Bytes(&'a [u8]),
}

impl<'a> Content<'a> {
    pub(crate) fn bytes(self) -> Result<&'a [u8], WireError> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            _ => Err(WireError::Type),
        }
    }

    pub(crate) fn number(self) -> Result<u64, WireError> {
        match self {
            Self::Number(number) => Ok(number),
            _ => Err(WireError::Type),
        }
    }

    pub(crate) fn double(self) -> Result<f64, WireError> {
        match self {
            Self::Eight(bytes) => Ok(f64::from_le_bytes(bytes)),
            _ => Err(WireError::Type),
        }
    }
}

/// The fields of one message, in order.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(crate) const fn of(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    /// Bytes not read yet.
    pub(crate) const fn left(&self) -> usize {
        self.rest.len()
    }

    /// The next field's number and content; `None` at the end.
    #[inline]
    pub(crate) fn next(&mut self) -> Result<Option<(u64, Content<'a>)>, WireError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let key = self.varint()?;
        let field = key >> 3;
        if field == 0 || field >= 1 << 29 {
            return Err(WireError::Field);
        }
        let content = match key & 7 {
            0 => Content::Number(self.varint()?),
            1 => Content::Eight(self.take(8)?.try_into().map_err(|_| WireError::Short)?),
            2 => {
                let len = usize::try_from(self.varint()?).map_err(|_| WireError::Short)?;
                Content::Bytes(self.take(len)?)
            }
            5 => {
                self.take(4)?;
                Content::Four
            }
            _ => return Err(WireError::Field),
        };
        Ok(Some((field, content)))
    }

    #[inline]
    fn take(&mut self, len: usize) -> Result<&'a [u8], WireError> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(WireError::Short)?;
        self.rest = rest;
        Ok(taken)
    }

    #[inline]
    pub(crate) fn varint(&mut self) -> Result<u64, WireError> {
        match *self.rest {
            // Nearly every key, and the length of nearly every label and series.
            [byte, ref rest @ ..] if byte < 0x80 => {
                self.rest = rest;
                Ok(u64::from(byte))
            }
            [low, high, ref rest @ ..] if high < 0x80 => {
                self.rest = rest;
                Ok(u64::from(high) << 7 | u64::from(low & 0x7f))
            }
            _ => self.long_varint(),
        }
    }

    fn long_varint(&mut self) -> Result<u64, WireError> {
        let mut number = 0_u64;
        for (at, byte) in self.rest.iter().enumerate().take(10) {
            let bits = u64::from(byte & 0x7f);
            if at == 9 && bits > 1 {
                return Err(WireError::Varint);
            }
            number |= bits << (7 * at);
            if byte & 0x80 == 0 {
                self.rest = &self.rest[at + 1..];
                return Ok(number);
            }
        }
        Err(if self.rest.len() < 10 { WireError::Short } else { WireError::Varint })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_malformed_message_is_named() {
        for (bytes, expected) in [
            (&[0x08][..], WireError::Short),
            (&[0x08, 0x80], WireError::Short),
            (&[0x80; 11], WireError::Varint),
            (
                &[0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02],
                WireError::Varint,
            ),
            (&[0x00, 0x01], WireError::Field),
            (&[0x0b], WireError::Field),
            (&[0x0e, 0x00], WireError::Field),
            (&[0x0f, 0x00], WireError::Field),
            (&[0x0a, 0x05, 0x00], WireError::Short),
            (&[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01], WireError::Short),
            (&[0x09, 0x00], WireError::Short),
            (&[0x0d, 0x00], WireError::Short),
        ] {
            let mut fields = Fields::of(bytes);
            let error = loop {
                match fields.next() {
                    Ok(Some(_)) => {}
                    Ok(None) => panic!("{bytes:x?} was read"),
                    Err(error) => break error,
                }
            };
            assert_eq!(error, expected, "{bytes:x?}");
        }
    }

    #[test]
    fn a_number_of_ten_bytes_is_read() {
        let bytes = [0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
        assert_eq!(Fields::of(&bytes).next(), Ok(Some((1, Content::Number(u64::MAX)))));
    }
}
