//! Bytes as hexadecimal digits, two each, and back.

use std::fmt;

/// Shows bytes as lowercase digits.
pub struct Hex<'a>(pub &'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// So many bytes written as digits, and nothing else.
pub fn bytes_of_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    if text.len() != 2 * N {
        return None;
    }
    let digit = |byte: u8| u8::try_from(char::from(byte).to_digit(16)?).ok();
    let mut bytes = [0_u8; N];
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_become_digits_and_digits_bytes() {
        assert_eq!(Hex(&[0, 10, 255]).to_string(), "000aff");
        for (text, bytes) in [
            ("000aff", Some([0, 10, 255])),
            ("000AfF", Some([0, 10, 255])),
            ("000af", None),
            ("000aff0", None),
            ("+00aff", None),
            ("0x0aff", None),
            ("0000é", None),
        ] {
            assert_eq!(bytes_of_hex(text), bytes, "{text}");
        }
    }
}
