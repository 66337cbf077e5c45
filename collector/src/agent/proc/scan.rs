//! Byte scanning of the kernel's texts: lines, fields and numbers, without a copy.

/// The lines of a text, without their ends.
pub(super) fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty())
}

/// The fields of a line: what stands between runs of blanks and tabs.
pub(super) fn fields(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(u8::is_ascii_whitespace).filter(|field| !field.is_empty())
}

/// A field as text; `None` when it is not UTF-8.
pub(super) fn text(field: &[u8]) -> Option<&str> {
    std::str::from_utf8(field).ok()
}

/// A field as a finite number; `None` when it is anything else.
pub(super) fn number(field: &[u8]) -> Option<f64> {
    text(field)?.parse().ok().filter(|value: &f64| value.is_finite())
}

/// A line `NAME VALUE …` or `NAME: VALUE …` as its name and number.
pub(super) fn named_number(line: &[u8]) -> Option<(&[u8], f64)> {
    let mut fields = fields(line);
    let name = fields.next()?;
    Some((name.strip_suffix(b":").unwrap_or(name), number(fields.next()?)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_number_may_have_a_colon_and_a_unit() {
        for (line, name, value) in
            [("MemTotal:  12 kB", "MemTotal", 12.0), ("pswpin 3", "pswpin", 3.0)]
        {
            assert_eq!(named_number(line.as_bytes()), Some((name.as_bytes(), value)), "{line}");
        }
        for bad in ["", "alone", "name: x", "name: inf", "name: NaN"] {
            assert_eq!(named_number(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn bytes_that_are_not_text_are_no_number() {
        assert_eq!(number(b"\xff1"), None);
    }
}
