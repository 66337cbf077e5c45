//! Keys of machines: an Ed25519 key made at the first start, and the proof that a request comes from its
//! holder.
//!
//! The proof is a signature over method, path, time and body. It is taken within some minutes and once,
//! so that whoever overhears it cannot send it again.

use std::collections::HashMap;
use std::fmt;

use http::HeaderMap;
use ring::signature::{ED25519, UnparsedPublicKey};
use rrd::Timestamp;
use sha2::{Digest as _, Sha256};

/// The header with the public key, 64 hexadecimal digits.
pub(crate) const KEY_HEADER: &str = "roundel-key";
/// The header with the time of signing, milliseconds since 1970.
pub(crate) const TIME_HEADER: &str = "roundel-time";
/// The header with the signature, 128 hexadecimal digits.
pub(crate) const PROOF_HEADER: &str = "roundel-proof";

/// How far the time in a proof may be from ours. Whose clock is further off is told ours.
const FRESH_MS: i64 = 5 * 60_000;
/// Proofs remembered at once; beyond it those that are no longer fresh are forgotten.
const REMEMBERED_LIMIT: usize = 10_000;

/// The public half of a machine's key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey(pub(crate) [u8; 32]);

impl PublicKey {
    /// What a person compares: the first half of the key's SHA-256, in groups of four digits.
    pub fn fingerprint(&self) -> String {
        let digest: [u8; 32] = Sha256::digest(self.0).into();
        let groups = digest[..16].chunks(2);
        groups.map(|pair| format!("{:02x}{:02x}", pair[0], pair[1])).collect::<Vec<_>>().join("-")
    }

    fn of_hex(text: &str) -> Option<Self> {
        bytes_of_hex(text).map(Self)
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.fingerprint())
    }
}

/// What a proof signs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Signed<'a> {
    pub(crate) method: &'a str,
    /// The path as the collector knows it, without what a proxy puts in front.
    pub(crate) path: &'a str,
    pub(crate) at: Timestamp,
    pub(crate) body: &'a [u8],
}

impl Signed<'_> {
    /// The bytes to sign.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let Self { method, path, at, body } = self;
        let mut text = format!("roundel-1\n{method}\n{path}\n{}\n", at.as_millis()).into_bytes();
        text.extend(Sha256::digest(body));
        text
    }
}

/// Why a proof is not one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ProofError {
    #[error(
        "the headers roundel-key, roundel-time and roundel-proof are not all there and well formed"
    )]
    Malformed,
    #[error("the signature does not fit the key and the request; sign method, path, time and body")]
    Wrong,
    #[error(
        "the proof was made too long ago or ahead of the time here; sign with the time of this answer"
    )]
    Stale,
    #[error("this proof was taken before; make a new one")]
    Repeated,
}

/// Proofs taken lately.
#[derive(Debug, Default)]
pub(crate) struct Proofs {
    latest: HashMap<PublicKey, i64>,
}

impl Proofs {
    /// The key that a request's headers prove, if they claim one. `at` in `request` is the time here.
    pub(crate) fn key(
        &mut self,
        headers: &HeaderMap,
        request: Signed<'_>,
    ) -> Result<Option<PublicKey>, ProofError> {
        if !headers.contains_key(KEY_HEADER) {
            return Ok(None);
        }
        let (key, signed_at, signature) = parts(headers).ok_or(ProofError::Malformed)?;
        let now = request.at;
        let signed = Signed { at: signed_at, ..request };
        let public = UnparsedPublicKey::new(&ED25519, key.0);
        public.verify(&signed.bytes(), &signature).map_err(|_| ProofError::Wrong)?;
        if now.millis_since(signed_at).saturating_abs() > FRESH_MS {
            return Err(ProofError::Stale);
        }
        let signed_ms = signed_at.as_millis();
        if self.latest.get(&key).is_some_and(|latest| *latest >= signed_ms) {
            return Err(ProofError::Repeated);
        }
        if self.latest.len() >= REMEMBERED_LIMIT {
            let oldest = now.as_millis().saturating_sub(FRESH_MS);
            self.latest.retain(|_, at| *at >= oldest);
        }
        self.latest.insert(key, signed_ms);
        Ok(Some(key))
    }
}

fn parts(headers: &HeaderMap) -> Option<(PublicKey, Timestamp, [u8; 64])> {
    let text = |name: &str| headers.get(name)?.to_str().ok();
    let key = PublicKey::of_hex(text(KEY_HEADER)?)?;
    let at = Timestamp::from_millis(text(TIME_HEADER)?.parse().ok()?);
    Some((key, at, bytes_of_hex(text(PROOF_HEADER)?)?))
}

/// So many bytes written as hexadecimal digits.
pub(crate) fn bytes_of_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    if text.len() != 2 * N || !text.is_ascii() {
        return None;
    }
    let mut bytes = [0_u8; N];
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use ring::signature::{Ed25519KeyPair, KeyPair};

    use super::*;

    fn headers(pair: &Ed25519KeyPair, signed: Signed<'_>) -> HeaderMap {
        let hex = |bytes: &[u8]| {
            bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat()
        };
        let header = |name: &'static str, value: String| {
            (http::HeaderName::from_static(name), value.parse().unwrap())
        };
        HeaderMap::from_iter([
            header(KEY_HEADER, hex(pair.public_key().as_ref())),
            header(TIME_HEADER, signed.at.as_millis().to_string()),
            header(PROOF_HEADER, hex(pair.sign(&signed.bytes()).as_ref())),
        ])
    }

    #[test]
    fn a_proof_holds_for_its_request_within_minutes_and_once() {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
        let now = Timestamp::from_secs(1_000_000);
        let signed = |at| Signed { method: "POST", path: "/v1/enroll", at, body: b"{}" };
        let good = headers(&pair, signed(now));
        let tried = |headers: &HeaderMap, request| Proofs::default().key(headers, request);
        let known = tried(&good, signed(now)).unwrap().unwrap();
        assert_eq!(known.0, pair.public_key().as_ref());
        assert_eq!(known.fingerprint().len(), 39);
        for other in [
            Signed { method: "GET", ..signed(now) },
            Signed { path: "/v1/enroll/1", ..signed(now) },
            Signed { body: b"{ }", ..signed(now) },
        ] {
            assert_eq!(tried(&good, other), Err(ProofError::Wrong), "{other:?}");
        }
        for (off_s, outcome) in [
            (300, Ok(Some(known))),
            (301, Err(ProofError::Stale)),
            (-300, Ok(Some(known))),
            (-301, Err(ProofError::Stale)),
        ] {
            assert_eq!(tried(&good, signed(now.plus_millis(off_s * 1000))), outcome, "{off_s} s");
        }
        let mut proofs = Proofs::default();
        assert_eq!(proofs.key(&good, signed(now)), Ok(Some(known)));
        assert_eq!(proofs.key(&good, signed(now)), Err(ProofError::Repeated));
        let later = headers(&pair, signed(now.plus_millis(1)));
        assert_eq!(proofs.key(&later, signed(now)), Ok(Some(known)));
        let mut cut = good.clone();
        cut.remove(PROOF_HEADER);
        assert_eq!(tried(&cut, signed(now)), Err(ProofError::Malformed));
        assert_eq!(tried(&HeaderMap::new(), signed(now)), Ok(None), "nobody has to have a key");
    }
}
