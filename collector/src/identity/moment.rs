//! Moments as clouds write them.

use rrd::Timestamp;

use crate::probe::certificate::days_since_1970;

/// A moment written as `2017-11-23T12:34:56Z`, with or without parts of a second.
pub(crate) fn iso(text: &str) -> Option<Timestamp> {
    let (day, time) = text.strip_suffix('Z')?.split_once('T')?;
    let mut day = day.split('-').map(number);
    let day = (day.next()??, day.next()??, day.next()??);
    moment(day, time.split('.').next()?)
}

/// A moment written as `11/20/18 22:07:39 -0000`.
pub(super) fn of_azure(text: &str) -> Option<Timestamp> {
    let (day, time) = text.strip_suffix(" -0000")?.split_once(' ')?;
    let mut day = day.split('/').map(number);
    let (month, day, year) = (day.next()??, day.next()??, day.next()??);
    moment((2000 + year, month, day), time)
}

fn moment((year, month, day): (i64, i64, i64), time: &str) -> Option<Timestamp> {
    let mut time = time.split(':').map(number);
    let (hour, minute, second) = (time.next()??, time.next()??, time.next()??);
    let is_one = (1970..=9999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && second <= 60;
    let seconds = hour * 3600 + minute * 60 + second;
    is_one.then(|| Timestamp::from_secs(days_since_1970(year, month, day) * 86_400 + seconds))
}

/// A number of one to four digits, without a sign.
fn number(text: &str) -> Option<i64> {
    let is_one = (1..=4).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    is_one.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_as_clouds_write_them() {
        for (text, seconds) in [
            ("2017-11-23T12:34:56Z", Some(1_511_440_496)),
            ("2012-05-02T00:54:06.655Z", Some(1_335_920_046)),
            ("2017-11-23 12:34:56", None),
            ("2017-13-23T12:34:56Z", None),
            ("2017-11-23T12:34Z", None),
            ("-2017-11-23T12:34:56Z", None),
            ("99999999999-11-23T12:34:56Z", None),
        ] {
            assert_eq!(iso(text), seconds.map(Timestamp::from_secs), "{text}");
        }
        assert_eq!(of_azure("11/20/18 22:07:39 -0000"), Some(Timestamp::from_secs(1_542_751_659)));
        assert_eq!(of_azure("11/20/18 22:07:39 +0100"), None);
    }
}
