//! Whether a certificate is good now.

use rrd::Timestamp;

use crate::probe::certificate::validity;

/// Why a certificate (DER) is not good at `now`, to follow its name; `Ok` when it is. Its first and its
/// last second count.
pub(crate) fn hold(certificate: &[u8], now: Timestamp) -> Result<(), String> {
    let (first, last) = validity(certificate).ok_or("has no dates that can be read")?;
    let at = now.as_millis().div_euclid(1_000);
    if at < first {
        return Err(format!("begins only in {} by the time here", span(first - at)));
    }
    if at > last {
        return Err(format!("ended {} ago by the time here", span(at - last)));
    }
    Ok(())
}

/// Seconds as a person says them, in the largest unit that is there once.
fn span(seconds: i64) -> String {
    let units = [(86_400, "d"), (3_600, "h"), (60, "min")];
    match units.into_iter().find(|(unit, _)| seconds >= *unit) {
        Some((unit, name)) => format!("{} {name}", seconds / unit),
        None => format!("{seconds} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::openssl::OpenSsl;

    #[test]
    fn a_certificate_is_good_from_its_first_second_to_its_last() {
        let Some(tool) = OpenSsl::for_test("dates of certificates") else { return };
        for (name, from, until, cases) in [
            (
                "short",
                "20260921000000Z",
                "20260921235959Z",
                &[
                    (1_789_948_800, ""),
                    (1_790_035_199, ""),
                    (1_789_948_799, "begins only in 1 s"),
                    (1_790_035_200, "ended 1 s ago"),
                    (1_789_945_200, "begins only in 1 h"),
                    (1_790_035_199 + 90, "ended 1 min ago"),
                    (1_790_035_199 + 3 * 86_400, "ended 3 d ago"),
                    (0, "begins only in 20717 d"),
                ][..],
            ),
            // As AWS' own: for a hundred and eighty years, behind the years that two digits can say.
            (
                "long",
                "20150814085912Z",
                "21950117085912Z",
                &[
                    (1_439_542_751, "begins only in 1 s"),
                    (1_439_542_752, ""),
                    (1_790_000_000, ""),
                    (7_101_766_752, ""),
                    (7_101_766_753, "ended 1 s ago"),
                ],
            ),
        ] {
            let pem = tool.dated(name, from, until);
            let all = crate::listen::certificates(&pem, &std::fs::read(&pem).unwrap()).unwrap();
            for (at, why) in cases {
                let said = hold(&all[0], Timestamp::from_secs(*at)).err().unwrap_or_default();
                assert!(said.starts_with(why) && why.is_empty() == said.is_empty(), "{at}: {said}");
            }
        }
        assert_eq!(
            hold(b"no certificate", Timestamp::from_secs(0)).unwrap_err(),
            "has no dates that can be read"
        );
    }
}
