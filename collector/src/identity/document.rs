//! What a cloud signed of one of its machines: read, checked, and what of it is believed.
//!
//! AWS' document names a machine for ever and for everybody who gets hold of it; those of GCP and Azure
//! are bound to the key of the machine that asked for them.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents};
use rrd::Timestamp;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::{CertificateDer, UnixTime};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

use super::PublicKey;
use super::signed_data::{SignedData, rsa_key};
use super::{dates, moment};
use crate::limits::LABEL_VALUE_LIMIT;

/// How far a cloud's clock may be from ours.
const CLOCK_SLACK_MS: i64 = 5 * 60_000;
/// Names that Azure's certificates bear, or names below these.
const AZURE_NAMES: [&str; 4] =
    ["metadata.azure.com", "metadata.azure.us", "metadata.azure.cn", "metadata.microsoftazure.de"];

/// What is known of a machine by its cloud's document.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Attestation {
    /// It showed none.
    #[default]
    None,
    /// It is signed by the cloud.
    Verified(Attested),
    /// It could not be checked, or does not hold: why.
    Unverified(String),
    /// It says other than the machine itself, or than what is known here: what.
    Contradicted(String),
}

/// What a document says that holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attested {
    /// As labels: `cloud_provider`, `cloud_instance_id`, `cloud_account` and so on.
    pub labels: BTreeMap<String, String>,
    /// When the machine was started, where the document says so.
    pub started_at: Option<Timestamp>,
}

impl Attestation {
    /// For a person: what was made of the document. Empty when there was none.
    pub fn sentence(&self) -> String {
        let text = |labels: &BTreeMap<String, String>, name: &str| {
            labels.get(name).cloned().unwrap_or_default()
        };
        match self {
            Self::None => String::new(),
            Self::Verified(Attested { labels, .. }) => format!(
                "verified: {} of account {}, says {}",
                text(labels, "cloud_instance_id"),
                text(labels, "cloud_account"),
                text(labels, "cloud_provider")
            ),
            Self::Unverified(why) => format!("not verified: {why}"),
            Self::Contradicted(what) => format!("contradicted: {what}"),
        }
    }

    /// What a verified document says, unless the machine declares otherwise.
    pub(crate) fn held_against(self, declared: &BTreeMap<String, String>) -> Self {
        let Self::Verified(attested) = &self else { return self };
        let other = attested.labels.iter().find_map(|(name, value)| {
            let own = declared.get(name).filter(|own| *own != value)?;
            Some(format!("the machine declares {name} as {own:?}, its document says {value:?}"))
        });
        other.map_or(self, Self::Contradicted)
    }
}

/// For whom a machine asks GCP to sign: whoever has another key has no use for it.
pub(crate) fn audience(key: &PublicKey) -> String {
    format!("roundel:{}", key.fingerprint())
}

/// Ten digits that Azure signs with its document, made of the machine's key.
pub(crate) fn nonce(key: &PublicKey) -> String {
    let digest: [u8; 32] = Sha256::digest(key.0).into();
    let number = digest[..8].iter().fold(0_u64, |number, byte| (number << 8) | u64::from(*byte));
    format!("{:010}", number % 10_000_000_000)
}

/// Reads AWS' document (`rsa2048`), which one of these certificates has to have signed that is good now.
pub(super) fn aws(
    text: &str,
    known: &[CertificateDer<'_>],
    now: Timestamp,
) -> Result<Attested, String> {
    let bytes = signed_bytes(text)?;
    let signed =
        SignedData::read(&bytes).ok_or("the document is no signed data of RSA and SHA-2")?;
    is_aws(&signed, known, now)?;
    let said = json(&signed.content)?;
    let started_at = said["pendingTime"].as_str().and_then(moment::iso);
    let labels = labels(
        "aws",
        [
            ("cloud_instance_id", &said["instanceId"]),
            ("cloud_account", &said["accountId"]),
            ("cloud_region", &said["region"]),
            ("cloud_zone", &said["availabilityZone"]),
            ("cloud_type", &said["instanceType"]),
        ],
    )?;
    Ok(Attested { labels, started_at })
}

/// Several certificates may have one key: one of them has to be good.
fn is_aws(
    signed: &SignedData<'_>,
    known: &[CertificateDer<'_>],
    now: Timestamp,
) -> Result<(), String> {
    let mut why =
        "none of AWS' certificates given here signed it; is its region's among them?".to_owned();
    let signs =
        |one: &&CertificateDer<'_>| rsa_key(one).is_some_and(|key| signed.is_signed_by(&key));
    for signer in known.iter().filter(signs) {
        match dates::hold(signer, now) {
            Ok(()) => return Ok(()),
            Err(dates) => why = format!("AWS' certificate that signed it {dates}"),
        }
    }
    Err(why)
}

/// Reads Azure's document for the holder of `key`; its certificate has to lead to one of these.
pub(super) fn azure(
    text: &str,
    known: &[CertificateDer<'_>],
    (key, now): (&PublicKey, Timestamp),
) -> Result<Attested, String> {
    let bytes = signed_bytes(text)?;
    let signed =
        SignedData::read(&bytes).ok_or("the document is no signed data of RSA and SHA-2")?;
    let all: Vec<CertificateDer<'_>> =
        signed.certificates.iter().map(|one| CertificateDer::from(&**one)).collect();
    let signer = all.iter().find(|one| rsa_key(one).is_some_and(|key| signed.is_signed_by(&key)));
    let signer = signer.ok_or("no certificate in the document fits its signature")?;
    is_azure(signer, &all, (known, now))?;
    let said = json(&signed.content)?;
    if said["nonce"].as_str() != Some(&nonce(key)) {
        return Err("the document was made for another machine's key".to_owned());
    }
    let ends = said["timeStamp"]["expiresOn"].as_str().and_then(moment::of_azure);
    if ends.is_none_or(|ends| now.millis_since(ends) > CLOCK_SLACK_MS) {
        return Err("the document has expired".to_owned());
    }
    let labels = labels(
        "azure",
        [("cloud_instance_id", &said["vmId"]), ("cloud_account", &said["subscriptionId"])],
    )?;
    Ok(Attested { labels, started_at: None })
}

/// A certificate of Azure's metadata service that leads to one that is known.
fn is_azure(
    signer: &CertificateDer<'_>,
    others: &[CertificateDer<'_>],
    (known, now): (&[CertificateDer<'_>], Timestamp),
) -> Result<(), String> {
    let refused = |error: webpki::Error| format!("the certificate of the document: {error}");
    // A chain's first certificate is believed whatever its dates say; not so those given here.
    let (good, bad): (Vec<_>, Vec<_>) =
        known.iter().map(|one| (one, dates::hold(one, now))).partition(|(_, held)| held.is_ok());
    if let (true, Some((_, Err(why)))) = (good.is_empty(), bad.into_iter().next()) {
        return Err(format!("the authority given for Azure {why}"));
    }
    let good = good.into_iter().map(|(one, _)| one);
    let anchors = good.map(anchor_from_trusted_cert).collect::<Result<Vec<_>, _>>();
    let anchors = anchors.map_err(|error| format!("the authorities given for Azure: {error}"))?;
    let leaf = EndEntityCert::try_from(signer).map_err(refused)?;
    let algorithms = default_provider().signature_verification_algorithms.all;
    let at = Duration::from_millis(u64::try_from(now.as_millis()).unwrap_or(0));
    let (time, usage) = (UnixTime::since_unix_epoch(at), KeyUsage::server_auth());
    leaf.verify_for_usage(algorithms, &anchors, others, time, usage, None, None)
        .map_err(refused)?;
    let is_one = |name: &str| {
        AZURE_NAMES.iter().any(|one| {
            name.strip_suffix(one).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        })
    };
    if leaf.valid_dns_names().any(is_one) {
        return Ok(());
    }
    Err("the certificate of the document is not that of Azure's metadata service".to_owned())
}

/// Reads what Google says in a token (a JWT) that is good now, signed by one of a set of keys (JWKS).
/// For whom it was made is still to be checked.
pub(super) fn google(text: &str, keys: &Value, now: Timestamp) -> Result<Value, String> {
    let (signed, signature) = text.rsplit_once('.').ok_or("the document is no JWT")?;
    let head = jwt_part(signed.split('.').next())?;
    if head["alg"] != "RS256" {
        return Err("the document is not signed by RS256".to_owned());
    }
    let bytes = |value: &Value| URL_SAFE_NO_PAD.decode(value.as_str()?).ok();
    let found = keys["keys"].as_array().into_iter().flatten();
    let found = found.filter(|one| one["kid"] == head["kid"] && one["kty"] == "RSA");
    let mut found = found.filter_map(|one| {
        Some(RsaPublicKeyComponents { n: bytes(&one["n"])?, e: bytes(&one["e"])? })
    });
    let public = found.next().ok_or(UNKNOWN_KEY)?;
    let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| "the document is no JWT")?;
    public
        .verify(&RSA_PKCS1_2048_8192_SHA256, signed.as_bytes(), &signature)
        .map_err(|_| "the document's signature does not fit")?;
    let said = jwt_part(signed.split('.').nth(1))?;
    if !matches!(said["iss"].as_str(), Some("https://accounts.google.com" | "accounts.google.com"))
    {
        return Err("the document is not Google's".to_owned());
    }
    let time = |name: &str| said[name].as_i64().map(Timestamp::from_secs);
    let is_over = time("exp").is_none_or(|ends| now.millis_since(ends) > CLOCK_SLACK_MS);
    let is_early = time("iat").is_some_and(|made| made.millis_since(now) > CLOCK_SLACK_MS);
    if is_over || is_early {
        return Err("the document has expired, or is made ahead of the time here".to_owned());
    }
    Ok(said)
}

/// Reads what Google says of a machine for the holder of `key`.
pub(super) fn gcp(said: &Value, key: &PublicKey) -> Result<Attested, String> {
    if said["aud"].as_str() != Some(&audience(key)) {
        return Err("the document was made for another machine's key".to_owned());
    }
    let machine = &said["google"]["compute_engine"];
    let zone = machine["zone"].as_str().unwrap_or_default();
    let region = zone.rsplit_once('-').map_or("", |(region, _)| region);
    let account = machine["project_number"].as_u64().map(|number| number.to_string());
    let labels = labels(
        "gcp",
        [
            ("cloud_instance_id", &machine["instance_id"]),
            ("cloud_account", &account.map_or(Value::Null, Value::from)),
            ("cloud_project", &machine["project_id"]),
            ("cloud_region", &Value::from(region)),
            ("cloud_zone", &machine["zone"]),
        ],
    )?;
    let started_at = machine["instance_creation_timestamp"].as_i64().map(Timestamp::from_secs);
    Ok(Attested { labels, started_at })
}

/// Said of a document whose key is not among those of a set: a newer set may have it.
pub(super) const UNKNOWN_KEY: &str = "no key given here for GCP has the name in the document";

fn jwt_part(part: Option<&str>) -> Result<Value, String> {
    let bytes = URL_SAFE_NO_PAD.decode(part.unwrap_or_default());
    json(&bytes.map_err(|_| "the document is no JWT")?)
}

/// Base64 in lines, as clouds write it.
fn signed_bytes(text: &str) -> Result<Vec<u8>, String> {
    let plain: String = text.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    STANDARD.decode(plain).map_err(|_| "the document is not in base64".to_owned())
}

fn json(bytes: &[u8]) -> Result<Value, String> {
    serde_json::from_slice(bytes).map_err(|_| "the document does not hold JSON".to_owned())
}

/// What a document says, without what it leaves out. It has to name its machine and account.
fn labels<const N: usize>(
    provider: &str,
    said: [(&str, &Value); N],
) -> Result<BTreeMap<String, String>, String> {
    let is_plain = |text: &&str| {
        (1..=LABEL_VALUE_LIMIT).contains(&text.len()) && !text.chars().any(char::is_control)
    };
    let known = said.into_iter().filter_map(|(name, value)| {
        Some((name.to_owned(), value.as_str().filter(is_plain)?.to_owned()))
    });
    let mut labels: BTreeMap<String, String> = known.collect();
    if !(labels.contains_key("cloud_instance_id") && labels.contains_key("cloud_account")) {
        return Err("the document names no machine and account".to_owned());
    }
    labels.insert("cloud_provider".to_owned(), provider.to_owned());
    Ok(labels)
}
