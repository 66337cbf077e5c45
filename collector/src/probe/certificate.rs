//! A certificate's first and last second: the few bytes of its encoding that say when it is good.

/// When a certificate (DER) stops to be valid, in seconds since 1970; `None` when it cannot be read.
pub(crate) fn not_after(der: &[u8]) -> Option<i64> {
    validity(der).map(|(_, last)| last)
}

/// The first and the last second at which a certificate (DER) is valid, since 1970; `None` when they
/// cannot be read.
pub(crate) fn validity(der: &[u8]) -> Option<(i64, i64)> {
    let (_, certificate, _) = element(der)?;
    let (_, signed, _) = element(certificate)?;
    let (tag, _, after_version) = element(signed)?;
    // The version may be absent; behind it are the number, the algorithm and who issued it.
    let mut rest = if tag == 0xa0 { after_version } else { signed };
    for _ in 0..3 {
        (_, _, rest) = element(rest)?;
    }
    let (_, validity, _) = element(rest)?;
    let (tag, time, rest) = element(validity)?;
    let first = seconds(tag, time)?;
    let (tag, time, _) = element(rest)?;
    Some((first, seconds(tag, time)?))
}

/// A moment by its tag: with two digits of a year, or with four.
fn seconds(tag: u8, time: &[u8]) -> Option<i64> {
    let text = str::from_utf8(time).ok()?.strip_suffix('Z')?;
    let (year, rest) = match tag {
        // Two digits of a year are those of 1950 to 2049.
        0x17 => {
            let year: i64 = text.get(..2)?.parse().ok()?;
            (year + if year < 50 { 2000 } else { 1900 }, text.get(2..)?)
        }
        0x18 => (text.get(..4)?.parse().ok()?, text.get(4..)?),
        _ => return None,
    };
    let part = |at: usize| rest.get(at..at + 2)?.parse::<i64>().ok();
    let (month, day) = (part(0)?, part(2)?);
    let seconds = part(4)? * 3600 + part(6)? * 60 + part(8)?;
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    Some(days_since_1970(year, month, day) * 86_400 + seconds)
}

/// The tag and the content of the first element, and what follows it.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, rest) = bytes.split_first()?;
    let (len, rest) = length(rest)?;
    let (content, rest) = rest.split_at_checked(len)?;
    Some((*tag, content, rest))
}

/// The length that an element begins with behind its tag, and what follows it.
pub(crate) fn length(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (first, rest) = bytes.split_first()?;
    match usize::from(*first) {
        short @ 0..0x80 => Some((short, rest)),
        long => {
            let (digits, rest) = rest.split_at_checked(long & 0x7f)?;
            if digits.len() > 4 {
                return None;
            }
            let len = digits.iter().fold(0_u64, |len, byte| (len << 8) | u64::from(*byte));
            Some((usize::try_from(len).ok()?, rest))
        }
    }
}

/// Days from 1970 to a day of the Gregorian calendar. A year is counted from March, so that its odd day is
/// its last.
pub(crate) fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let month = (month + 9) % 12;
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_counted_across_leap_years() {
        for (year, month, day, days) in [
            (1970, 1, 1, 0),
            (1970, 3, 1, 59),
            (2000, 2, 29, 11_016),
            (2024, 12, 31, 20_088),
            (2100, 3, 1, 47_541),
            (1969, 12, 31, -1),
        ] {
            assert_eq!(days_since_1970(year, month, day), days, "{year}-{month}-{day}");
        }
    }

    fn sequence(tag: u8, content: &[u8]) -> Vec<u8> {
        [&[tag, u8::try_from(content.len()).unwrap()], content].concat()
    }

    fn certificate(is_versioned: bool, tag: u8, time: &str) -> Vec<u8> {
        let version = if is_versioned { vec![0xa0, 3, 2, 1, 2] } else { Vec::new() };
        let times = [sequence(0x17, b"200101000000Z"), sequence(tag, time.as_bytes())].concat();
        let others = [sequence(2, &[7]), sequence(0x30, &[]), sequence(0x30, &[])].concat();
        let signed = sequence(0x30, &[version, others, sequence(0x30, &times)].concat());
        sequence(0x30, &signed)
    }

    #[test]
    fn the_first_time_of_the_validity_is_its_begin_and_the_second_its_end() {
        for (is_versioned, tag, time, expected) in [
            (true, 0x17, "260102030405Z", Some(1_767_323_045)),
            (false, 0x17, "491231235959Z", Some(2_524_607_999)),
            (true, 0x18, "20500101000000Z", Some(2_524_608_000)),
            (true, 0x17, "500101000000Z", Some(-631_152_000)),
            (true, 0x17, "2601", None),
            (true, 0x17, "261302030405Z", None),
            (true, 0x0c, "260102030405Z", None),
        ] {
            let read = validity(&certificate(is_versioned, tag, time));
            assert_eq!(read, expected.map(|last| (1_577_836_800, last)), "{time}");
        }
    }

    #[test]
    fn no_prefix_of_a_certificate_and_no_length_that_lies_is_read() {
        let whole = certificate(true, 0x17, "260102030405Z");
        for len in 0..whole.len() {
            assert_eq!(not_after(&whole[..len]), None, "{len}");
        }
        for lie in [&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff][..], &[0x30, 0x89, 1], &[0x30, 0x80]] {
            assert_eq!(not_after(lie), None);
        }
    }
}
