//! The name in a client's certificate, and the day a certificate ends.

use tokio_rustls::rustls::pki_types::CertificateDer;
use webpki::EndEntityCert;

/// The longest name worth keeping: a host name has no more.
const NAME_LIMIT: usize = 253;

/// The object identifier of `commonName`, 2.5.4.3, as DER writes it.
const COMMON_NAME: [u8; 5] = [0x06, 0x03, 0x55, 0x04, 0x03];

/// What a certificate calls its holder: its first DNS name, else its common name. `None` when it
/// says neither in printable ASCII.
pub(super) fn name(certificate: &CertificateDer<'_>) -> Option<String> {
    let parsed = EndEntityCert::try_from(certificate).ok()?;
    let dns = parsed.valid_dns_names().next().map(str::to_owned);
    dns.or_else(|| common_name(parsed.subject())).filter(|name| is_plain(name))
}

fn is_plain(name: &str) -> bool {
    !name.is_empty() && name.len() <= NAME_LIMIT && name.bytes().all(|byte| byte.is_ascii_graphic())
}

/// The last common name of a subject: the most specific one.
fn common_name(subject: &[u8]) -> Option<String> {
    let at = subject.windows(COMMON_NAME.len()).rposition(|part| part == COMMON_NAME)?;
    let (&[_tag, length], rest) = subject.get(at + COMMON_NAME.len()..)?.split_first_chunk()?;
    // A length of 128 and more has another form and is no name of ours.
    let text = rest.get(..usize::from(length)).filter(|_| length < 0x80)?;
    String::from_utf8(text.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_common_name_is_found_within_its_subject() {
        let named = |name: &[u8]| {
            let length = u8::try_from(name.len()).unwrap();
            [&[0x31, 0x10, 0x30, 0x0e][..], &COMMON_NAME, &[0x0c, length], name].concat()
        };
        assert_eq!(common_name(&named(b"web-1")).as_deref(), Some("web-1"));
        assert_eq!(
            common_name(&[named(b"ou"), named(b"web-1")].concat()).as_deref(),
            Some("web-1")
        );
        let mut cut = named(b"web-1");
        cut.pop();
        assert_eq!(common_name(&cut), None);
        assert_eq!(common_name(&COMMON_NAME), None);
        assert_eq!(common_name(b""), None);
    }

    #[test]
    fn names_that_could_be_taken_for_something_else_are_none() {
        for (name, plain) in
            [("web-1", true), ("", false), ("a b", false), ("a\n", false), ("é", false)]
        {
            assert_eq!(is_plain(name), plain, "{name:?}");
        }
        assert!(!is_plain(&"x".repeat(NAME_LIMIT + 1)));
    }
}
