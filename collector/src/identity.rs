//! Keys of machines: an Ed25519 key made at the first start, and the proof that a request comes from its
//! holder.
//!
//! The proof is a signature over method, path, time and body. It is taken within some minutes and once,
//! so that whoever overhears it cannot send it again. `document` is what a cloud says of a machine, `clouds` whom we
//! believe that.

mod ber;
pub(crate) mod clouds;
pub(crate) mod dates;
pub(crate) mod document;
pub(crate) mod moment;
pub(crate) mod signed_data;

use std::collections::HashMap;
use std::fmt;

use http::HeaderMap;
use ring::signature::{ED25519, UnparsedPublicKey};
use rrd::Timestamp;
use rrd::hex::{Hex, bytes_of_hex};
use sha2::{Digest as _, Sha256};

/// The header with the public key, 64 hexadecimal digits.
pub(crate) const KEY_HEADER: &str = "roundel-key";
/// The header with the time of signing, milliseconds since 1970.
pub(crate) const TIME_HEADER: &str = "roundel-time";
/// The header with the signature, 128 hexadecimal digits.
pub(crate) const PROOF_HEADER: &str = "roundel-proof";

/// How far the time in a proof may be from ours. Whose clock is further off is told ours.
const FRESH_MS: i64 = 5 * 60_000;
/// Keys whose last proof is remembered, beside those that the registry knows: more than a fleet has
/// machines that enrol within [`FRESH_MS`], and a megabyte.
const REMEMBERED_LIMIT: usize = 10_000;
/// How often proofs that are no longer fresh are looked for while there is no room: each look is at all.
const FORGET_EVERY_MS: i64 = 1_000;

/// The public half of a machine's key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey(pub(crate) [u8; 32]);

impl PublicKey {
    /// What a person compares: the first half of the key's SHA-256, in groups of four digits.
    pub fn fingerprint(&self) -> String {
        let digest: [u8; 32] = Sha256::digest(self.0).into();
        let groups = digest[..16].chunks(2);
        groups.map(|pair| Hex(pair).to_string()).collect::<Vec<_>>().join("-")
    }

    fn of_hex(text: &str) -> Option<Self> {
        bytes_of_hex(text).map(Self)
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Hex(&self.0).fmt(f)
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
    #[error("too many machines with new keys ask at once; send it again later")]
    Crowded,
}

/// Proofs taken lately.
#[derive(Debug)]
pub(crate) struct Proofs {
    latest: HashMap<PublicKey, i64>,
    /// Since when they are remembered: one made before may have been taken by an earlier process.
    since: Timestamp,
    forgot_at: Option<Timestamp>,
}

impl Proofs {
    /// None taken yet, at the start of the process.
    pub(crate) fn begun(since: Timestamp) -> Self {
        Self { latest: HashMap::new(), since, forgot_at: None }
    }

    /// The key that a request's headers prove, if they claim one. `at` in `request` is the time here.
    /// `is_known` says whether the registry has a key: such keys are bounded there, others here.
    pub(crate) fn key(
        &mut self,
        headers: &HeaderMap,
        request: Signed<'_>,
        is_known: impl FnOnce(&PublicKey) -> bool,
    ) -> Result<Option<PublicKey>, ProofError> {
        if !headers.contains_key(KEY_HEADER) {
            return Ok(None);
        }
        let (key, signed_at, signature) = parts(headers).ok_or(ProofError::Malformed)?;
        let now = request.at;
        let signed = Signed { at: signed_at, ..request };
        let public = UnparsedPublicKey::new(&ED25519, key.0);
        public.verify(&signed.bytes(), &signature).map_err(|_| ProofError::Wrong)?;
        if now.millis_since(signed_at).saturating_abs() > FRESH_MS || signed_at < self.since {
            return Err(ProofError::Stale);
        }
        let signed_ms = signed_at.as_millis();
        match self.latest.get(&key).copied() {
            Some(latest) if latest >= signed_ms => return Err(ProofError::Repeated),
            None if !self.has_room(now) && !is_known(&key) => return Err(ProofError::Crowded),
            _ => {}
        }
        self.latest.insert(key, signed_ms);
        Ok(Some(key))
    }

    /// True when one more key can be remembered; when full, what is no longer fresh is forgotten first.
    fn has_room(&mut self, now: Timestamp) -> bool {
        let is_early =
            |forgot: Timestamp| now.millis_since(forgot).saturating_abs() < FORGET_EVERY_MS;
        if self.latest.len() >= REMEMBERED_LIMIT && !self.forgot_at.is_some_and(is_early) {
            let oldest = now.as_millis().saturating_sub(FRESH_MS);
            self.latest.retain(|_, at| *at >= oldest);
            self.forgot_at = Some(now);
        }
        self.latest.len() < REMEMBERED_LIMIT
    }
}

fn parts(headers: &HeaderMap) -> Option<(PublicKey, Timestamp, [u8; 64])> {
    let text = |name: &str| headers.get(name)?.to_str().ok();
    let key = PublicKey::of_hex(text(KEY_HEADER)?)?;
    let at = Timestamp::from_millis(text(TIME_HEADER)?.parse().ok()?);
    Some((key, at, bytes_of_hex(text(PROOF_HEADER)?)?))
}

#[cfg(test)]
mod document_tests;
#[cfg(test)]
pub(crate) mod openssl;

#[cfg(test)]
mod tests {
    use ring::signature::{Ed25519KeyPair, KeyPair};

    use super::*;

    fn headers(pair: &Ed25519KeyPair, signed: Signed<'_>) -> HeaderMap {
        let header = |name: &'static str, value: String| {
            (http::HeaderName::from_static(name), value.parse().unwrap())
        };
        HeaderMap::from_iter([
            header(KEY_HEADER, Hex(pair.public_key().as_ref()).to_string()),
            header(TIME_HEADER, signed.at.as_millis().to_string()),
            header(PROOF_HEADER, Hex(pair.sign(&signed.bytes()).as_ref()).to_string()),
        ])
    }

    #[test]
    fn a_proof_holds_for_its_request_within_minutes_and_once() {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
        let now = Timestamp::from_secs(1_000_000);
        let signed = |at| Signed { method: "POST", path: "/v1/enroll", at, body: b"{}" };
        let good = headers(&pair, signed(now));
        let hour_ago = now.plus_millis(-3_600_000);
        let tried =
            |headers: &HeaderMap, request| Proofs::begun(hour_ago).key(headers, request, |_| false);
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
        let mut proofs = Proofs::begun(now);
        let mut taken = |headers: &HeaderMap| proofs.key(headers, signed(now), |_| false);
        assert_eq!(taken(&good), Ok(Some(known)));
        assert_eq!(taken(&good), Err(ProofError::Repeated));
        assert_eq!(taken(&headers(&pair, signed(now.plus_millis(1)))), Ok(Some(known)));
        let before = headers(&pair, signed(now.plus_millis(-1)));
        assert_eq!(taken(&before), Err(ProofError::Stale), "an earlier process may have taken it");
        let mut cut = good.clone();
        cut.remove(PROOF_HEADER);
        assert_eq!(tried(&cut, signed(now)), Err(ProofError::Malformed));
        assert_eq!(tried(&HeaderMap::new(), signed(now)), Ok(None), "nobody has to have a key");
    }

    #[test]
    fn new_keys_are_refused_while_there_is_no_room_to_remember_them() {
        let now = Timestamp::from_secs(1_000_000);
        let mut proofs = Proofs::begun(now);
        let filled = u64::try_from(REMEMBERED_LIMIT).unwrap();
        for number in 0..filled {
            let mut key = [0; 32];
            key[..8].copy_from_slice(&number.to_le_bytes());
            proofs.latest.insert(PublicKey(key), now.as_millis());
        }
        let mut ask = |seed: u8, after_ms: i64, is_known: bool| {
            let at = now.plus_millis(after_ms);
            let signed = Signed { method: "POST", path: "/v1/enroll", at, body: b"{}" };
            let pair = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap();
            let taken = proofs.key(&headers(&pair, signed), signed, |_| is_known);
            taken.map(|key| (key.is_some(), proofs.latest.len()))
        };
        assert_eq!(ask(1, 0, false), Err(ProofError::Crowded));
        assert_eq!(ask(2, 0, true), Ok((true, REMEMBERED_LIMIT + 1)), "its instance goes on");
        assert_eq!(ask(2, 1, false), Ok((true, REMEMBERED_LIMIT + 1)), "it has its place");
        assert_eq!(ask(1, FRESH_MS, false), Err(ProofError::Crowded));
        assert_eq!(ask(1, FRESH_MS + 999, false), Err(ProofError::Crowded), "it looked just now");
        assert_eq!(ask(1, FRESH_MS + 1_000, false), Ok((true, 1)), "the others are forgotten");
    }
}
