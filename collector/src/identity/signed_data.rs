//! Signed data (PKCS #7, now CMS): a content, and signatures by RSA over it.

use std::borrow::Cow;

use ring::signature::{
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512,
    RsaParameters, UnparsedPublicKey,
};
use ring::{digest, signature};

use super::ber::{BITS, Element, Elements, INTEGER, NAME, OCTETS, SEQUENCE, SET, tagged};

/// Certificates and signatures of one document: clouds send one or two of each.
const PARTS_LIMIT: usize = 8;

/// 1.2.840.113549.1.7.2
const SIGNED_DATA: &[u8] = b"\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02";
/// 1.2.840.113549.1.9.4
const MESSAGE_DIGEST: &[u8] = b"\x2a\x86\x48\x86\xf7\x0d\x01\x09\x04";
/// 2.16.840.1.101.3.4.2, in front of 1, 2 and 3 for SHA-256, -384 and -512.
const SHA2: &[u8] = b"\x60\x86\x48\x01\x65\x03\x04\x02";

/// Signed data, read and not yet believed.
pub(super) struct SignedData<'a> {
    /// What is signed.
    pub(super) content: Cow<'a, [u8]>,
    /// The certificates that came with it, DER.
    pub(super) certificates: Vec<Cow<'a, [u8]>>,
    signers: Vec<Signer<'a>>,
}

struct Signer<'a> {
    hash: Hash,
    /// What is signed in the content's place, as it is to be hashed, and the content's digest in it.
    attributes: Option<(Vec<u8>, Cow<'a, [u8]>)>,
    signature: Cow<'a, [u8]>,
}

#[derive(Clone, Copy)]
struct Hash {
    digest: &'static digest::Algorithm,
    rsa: &'static RsaParameters,
}

impl<'a> SignedData<'a> {
    /// Reads signed data that holds its content; `None` when it is none, or is signed by what nobody
    /// should use any more.
    pub(super) fn read(bytes: &'a [u8]) -> Option<Self> {
        let mut outer = Elements(bytes).expect(SEQUENCE)?.inner();
        if outer.expect(NAME)?.content != SIGNED_DATA {
            return None;
        }
        let mut parts = outer.expect(tagged(0))?.inner().expect(SEQUENCE)?.inner();
        let (_version, _algorithms) = (parts.expect(INTEGER)?, parts.expect(SET)?);
        let mut held = parts.expect(SEQUENCE)?.inner();
        held.expect(NAME)?;
        let content = held.expect(tagged(0))?.inner().next()?.octets()?;
        let certificates = parts.optional(tagged(0)).map(|set| certificates(set.inner()));
        parts.optional(tagged(1));
        let (mut all, mut signers) = (parts.expect(SET)?.inner(), Vec::new());
        while !all.is_empty() && signers.len() < PARTS_LIMIT {
            signers.extend(signer(all.expect(SEQUENCE)?));
        }
        Some(Self { content, certificates: certificates.unwrap_or_default(), signers })
    }

    /// True when the holder of an RSA key signed this content.
    pub(super) fn is_signed_by(&self, key: &[u8]) -> bool {
        self.signers.iter().any(|signer| signer.signed(&self.content, key))
    }
}

impl Signer<'_> {
    fn signed(&self, content: &[u8], key: &[u8]) -> bool {
        let message = match &self.attributes {
            None => content,
            Some((attributes, digest)) => {
                if digest::digest(self.hash.digest, content).as_ref() != &**digest {
                    return false;
                }
                attributes
            }
        };
        UnparsedPublicKey::new(self.hash.rsa, key).verify(message, &self.signature).is_ok()
    }
}

/// The certificates of a set, written anew where their length was not known.
fn certificates(mut set: Elements<'_>) -> Vec<Cow<'_, [u8]>> {
    let mut all = Vec::new();
    while let (Some(one), true) = (set.expect(SEQUENCE), all.len() < PARTS_LIMIT) {
        if let Some(written) = one.written {
            all.push(Cow::Owned([&[SEQUENCE], written].concat()));
        }
    }
    all
}

/// One signature; `None` when its algorithm is not one of ours.
fn signer(element: Element<'_>) -> Option<Signer<'_>> {
    let mut parts = element.inner();
    // Who signed is named here; whose key fits is what counts.
    let (_version, _who) = (parts.expect(INTEGER)?, parts.next()?);
    let hash = hash(parts.expect(SEQUENCE)?.inner().expect(NAME)?.content)?;
    let attributes = match parts.optional(tagged(0)) {
        None => None,
        // They are signed as a set, whose tag differs.
        Some(set) => Some(([&[SET], set.written?].concat(), digest_in(set)?)),
    };
    parts.expect(SEQUENCE)?;
    Some(Signer { hash, attributes, signature: parts.next()?.octets()? })
}

fn hash(name: &[u8]) -> Option<Hash> {
    Some(match name.strip_prefix(SHA2)? {
        [1] => Hash { digest: &digest::SHA256, rsa: &RSA_PKCS1_2048_8192_SHA256 },
        [2] => Hash { digest: &digest::SHA384, rsa: &RSA_PKCS1_2048_8192_SHA384 },
        [3] => Hash { digest: &digest::SHA512, rsa: &RSA_PKCS1_2048_8192_SHA512 },
        _ => return None,
    })
}

/// The digest of the content among signed attributes; exactly one has to be there.
fn digest_in(set: Element<'_>) -> Option<Cow<'_, [u8]>> {
    let (mut all, mut found) = (set.inner(), None);
    while !all.is_empty() {
        let mut attribute = all.expect(SEQUENCE)?.inner();
        if attribute.expect(NAME)?.content == MESSAGE_DIGEST {
            let value = attribute.expect(SET)?.inner().expect(OCTETS)?.octets()?;
            if found.replace(value).is_some() {
                return None;
            }
        }
    }
    found
}

/// The RSA key of a certificate (DER), as `ring` takes it; `None` when it has none.
pub(crate) fn rsa_key(certificate: &[u8]) -> Option<Vec<u8>> {
    /// 1.2.840.113549.1.1.1
    const RSA: &[u8] = b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01";
    let mut signed = Elements(certificate).expect(SEQUENCE)?.inner().expect(SEQUENCE)?.inner();
    signed.optional(tagged(0));
    signed.expect(INTEGER)?;
    // The algorithm, who issued it, until when, and whose it is.
    for _ in 0..4 {
        signed.expect(SEQUENCE)?;
    }
    let mut key = signed.expect(SEQUENCE)?.inner();
    if key.expect(SEQUENCE)?.inner().expect(NAME)?.content != RSA {
        return None;
    }
    let (&unused, bits) = key.expect(BITS)?.content.split_first()?;
    (unused == 0).then(|| bits.to_vec())
}

/// True when the holder of an RSA key signed a message with one of these.
pub(crate) fn is_signed(
    key: &[u8],
    algorithm: &'static RsaParameters,
    (message, signed): (&[u8], &[u8]),
) -> bool {
    signature::UnparsedPublicKey::new(algorithm, key).verify(message, signed).is_ok()
}
