//! Messages that SNS signs: whose certificate is asked for where, and what the signature covers.
//!
//! Anybody may have a topic, so that the operator names those that are heard. A certificate is fetched from
//! SNS' own hosts alone, and nothing that leads elsewhere is followed.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Uri;
use ring::signature::{
    RSA_PKCS1_2048_8192_SHA1_FOR_LEGACY_USE_ONLY, RSA_PKCS1_2048_8192_SHA256, RsaParameters,
};
use serde_json::Value;
use tokio_rustls::rustls::pki_types::CertificateDer;

use crate::identity::clouds::{Clouds, Now, certificates};
use crate::identity::signed_data::{is_signed, rsa_key};
use crate::identity::{dates, moment};

/// SNS tries for an hour; a message of which more is known is another.
const FRESH_MS: i64 = 65 * 60_000;
/// How long a certificate is used without being fetched again: each has a name of its own.
const CERTIFICATE_AGE: std::time::Duration = std::time::Duration::from_hours(24);

/// Whether the body is a message of SNS, of which the signature has to hold.
pub(super) fn is_message(body: &[u8]) -> bool {
    let event: Value = serde_json::from_slice(body).unwrap_or_default();
    event["Type"].is_string() && event["TopicArn"].is_string()
}

/// Why a message of SNS is not taken; `Ok` when it is.
pub(super) async fn check(clouds: &Clouds, body: &[u8], now: Now) -> Result<(), String> {
    let message: Value = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    let text = |name: &str| message[name].as_str().unwrap_or_default();
    let topic = text("TopicArn");
    if !clouds.trust.sns_topics.iter().any(|one| one == topic) {
        return Err("its topic is not one of sns_topics under [cloud]".to_owned());
    }
    let at = moment::iso(text("Timestamp")).ok_or("its Timestamp is not one")?;
    if now.wall.millis_since(at).saturating_abs() > FRESH_MS {
        return Err("it is too old, or ahead of the time here".to_owned());
    }
    let algorithm: &'static RsaParameters = match text("SignatureVersion") {
        "1" => &RSA_PKCS1_2048_8192_SHA1_FOR_LEGACY_USE_ONLY,
        "2" => &RSA_PKCS1_2048_8192_SHA256,
        other => return Err(format!("its SignatureVersion is {other:?}, neither 1 nor 2")),
    };
    let signature =
        STANDARD.decode(text("Signature")).map_err(|_| "its Signature is not base64")?;
    let signed = signed(&message).ok_or("it lacks a part that is signed")?;
    let signs = |one: &&CertificateDer<'_>| {
        let signed = (signed.as_bytes(), signature.as_slice());
        rsa_key(one).is_some_and(|key| is_signed(&key, algorithm, signed))
    };
    let mut why = "the signature does not fit".to_owned();
    let given = given(clouds, text("SigningCertURL"), topic, now).await?;
    for signer in given.iter().filter(signs) {
        match dates::hold(signer, now.wall) {
            Ok(()) => return Ok(()),
            Err(dates) => why = format!("the certificate that it is signed with {dates}"),
        }
    }
    Err(why)
}

/// The certificates that were given, or those that the message names.
async fn given(
    clouds: &Clouds,
    url: &str,
    topic: &str,
    now: Now,
) -> Result<Vec<CertificateDer<'static>>, String> {
    if let Some(file) = clouds.trust.sns_certificate.clone() {
        return certificates(file).await;
    }
    let url = certificate_url(url, topic).ok_or("its SigningCertURL is not one of SNS")?;
    let pem = clouds.fetched(&url, (now.monotonic, CERTIFICATE_AGE)).await?;
    let read = crate::listen::certificates(std::path::Path::new(&url), &pem);
    read.map_err(|error| error.to_string())
}

/// The address of a certificate as it is asked for: at SNS' host in the region of the topic, by TLS, under
/// the name that certificates have there. `None` for any other.
fn certificate_url(url: &str, topic: &str) -> Option<String> {
    let mut parts = topic.split(':');
    let (partition, service, region) = (parts.nth(1)?, parts.next()?, parts.next()?);
    let is_region = region.split('-').count() >= 3
        && region.split('-').all(|part| {
            !part.is_empty()
                && part.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
        });
    let end = match partition {
        "aws-cn" => "amazonaws.com.cn",
        "aws" | "aws-us-gov" => "amazonaws.com",
        _ => return None,
    };
    let uri: Uri = url.parse().ok()?;
    let host = format!("sns.{region}.{end}");
    let name = uri.path().strip_prefix("/SimpleNotificationService-")?.strip_suffix(".pem")?;
    let is_name =
        (1..=64).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_hexdigit());
    // The authority as a whole: no user, and no port but the usual.
    let is_ours = uri.scheme_str() == Some("https")
        && uri.authority().is_some_and(|authority| authority.as_str() == host)
        && uri.query().is_none();
    (service == "sns" && is_region && is_name && is_ours)
        .then(|| format!("https://{host}{}", uri.path()))
}

/// What SNS signs: names and values, each on a line, of the parts that a message of its type has.
fn signed(message: &Value) -> Option<String> {
    let names: &[&str] = match message["Type"].as_str()? {
        "Notification" => &["Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"],
        "SubscriptionConfirmation" | "UnsubscribeConfirmation" => {
            &["Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"]
        }
        _ => return None,
    };
    let mut text = String::new();
    for name in names {
        match message[*name].as_str() {
            Some(value) => text.extend([name, "\n", value, "\n"]),
            None if *name == "Subject" => {}
            None => return None,
        }
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_asked_of_sns_in_its_region_and_of_nobody_else() {
        let topic = "arn:aws:sns:eu-west-1:123456789012:fleet";
        let good = "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-0123abcd.pem";
        assert_eq!(certificate_url(good, topic).as_deref(), Some(good));
        for (from, to) in [
            ("https:", "http:"),
            ("eu-west-1", "eu-west-2"),
            ("sns.eu-west-1.amazonaws.com", "sns.eu-west-1.amazonaws.com.example.org"),
            ("sns.eu-west-1.amazonaws.com", "example.org"),
            ("sns.eu-west-1.amazonaws.com", "169.254.169.254"),
            ("sns.eu-west-1", "user@sns.eu-west-1"),
            ("amazonaws.com/", "amazonaws.com:8443/"),
            ("amazonaws.com/", "amazonaws.com/../"),
            ("/Simple", "/a/Simple"),
            ("0123abcd", "../0123abcd"),
            ("0123abcd", "%2e%2e"),
            (".pem", ".pem?x=1"),
            (".pem", ".txt"),
        ] {
            let bad = good.replacen(from, to, 1);
            assert_eq!(certificate_url(&bad, topic), None, "{bad}");
        }
        // A bucket of somebody's called "sns" is no region of SNS.
        let bucket = good.replace("eu-west-1", "s3");
        assert_eq!(certificate_url(&bucket, "arn:aws:sns:s3:1:fleet"), None);
        let china = good.replace("eu-west-1.amazonaws.com", "cn-north-1.amazonaws.com.cn");
        let topic = "arn:aws-cn:sns:cn-north-1:1:fleet";
        assert_eq!(certificate_url(&china, topic).as_deref(), Some(china.as_str()));
        assert_eq!(certificate_url(&china, "arn:moon:sns:cn-north-1:1:fleet"), None);
    }
}
