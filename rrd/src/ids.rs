//! Names of things: an instance, a series' place in its file, and both together.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// An instance: one watched thing, with one file of archives. Prints as 32 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstanceId(pub u128);

/// Text that names no instance.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0:?} is no instance id; write its 32 hexadecimal digits")]
pub struct InstanceIdError(String);

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl FromStr for InstanceId {
    type Err = InstanceIdError;
    fn from_str(text: &str) -> Result<Self, InstanceIdError> {
        let is_hex = text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit());
        match u128::from_str_radix(text, 16) {
            Ok(number) if is_hex => Ok(Self(number)),
            _ => Err(InstanceIdError(text.to_owned())),
        }
    }
}

/// A series' place in its instance's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Column {
    /// Which column of the file, counted from 0.
    pub index: u32,
    /// Which tenant of that column, counted from 1: a later one never sees an earlier one's rows.
    pub generation: u32,
}

/// A series: its instance and its column there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SeriesRef {
    /// Whose series it is.
    pub instance: InstanceId,
    /// Where it lives.
    pub column: Column,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_id_reads_back_and_nothing_else_is_read() {
        let id = InstanceId(0x0123_4567_89ab_cdef);
        assert_eq!(id.to_string(), "00000000000000000123456789abcdef");
        assert_eq!(id.to_string().parse(), Ok(id));
        for bad in ["", "1", "+0000000000000000123456789abcdef", "g0000000000000000123456789abcdef"]
        {
            assert!(bad.parse::<InstanceId>().is_err(), "{bad}");
        }
    }
}
