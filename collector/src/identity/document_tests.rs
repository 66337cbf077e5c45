//! Documents of clouds, signed by OpenSSL in the cloud's place.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::routing::get;
use serde_json::{Value, json};

use super::clouds::{CloudTrust, Clouds, Now};
use super::document::{Attestation, Attested, audience, nonce};
use super::openssl::OpenSsl;
use super::*;
use crate::native::{Cloud, CloudDocument};

const KEY: PublicKey = PublicKey([7; 32]);
const OTHER: PublicKey = PublicKey([8; 32]);

/// The time by which OpenSSL made its certificates, and `secs` of the other clock.
fn now(secs: u64) -> Now {
    let written = tempfile::tempfile().unwrap().metadata().unwrap().modified().unwrap();
    let since_1970 = written.duration_since(std::time::UNIX_EPOCH).unwrap();
    let wall = Timestamp::from_secs(i64::try_from(since_1970.as_secs()).unwrap());
    Now { wall, monotonic: std::time::Duration::from_secs(secs) }
}

async fn asked(clouds: &Clouds, cloud: Cloud, text: &str, key: Option<&PublicKey>) -> Attestation {
    clouds.attested(&CloudDocument { cloud, text: text.to_owned() }, key, now(0)).await
}

#[track_caller]
fn verified(attestation: Attestation) -> Attested {
    match attestation {
        Attestation::Verified(attested) => attested,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn refused(attestation: &Attestation, why: &str) {
    let said = attestation.sentence();
    assert!(said.starts_with("not verified: ") && said.contains(why), "{why}: {said}");
}

fn aws(instance: &str) -> Value {
    json!({"instanceId": instance, "accountId": "123456789012", "region": "eu-west-1",
           "availabilityZone": "eu-west-1b", "instanceType": "m5.large",
           "pendingTime": "2026-01-02T03:04:05Z", "version": "2017-09-30"})
}

#[tokio::test]
async fn a_document_of_aws_is_believed_by_the_certificates_that_were_given() {
    let Some(tool) = OpenSsl::for_test("documents of AWS") else { return };
    let trust = CloudTrust { aws: Some(tool.path("regions.pem")), ..CloudTrust::default() };
    let clouds = Clouds::trusting(trust).unwrap();
    let (one, two) = (tool.itself("eu-west-1"), tool.itself("eu-west-2"));
    tool.itself("stranger");
    let both = [std::fs::read(one).unwrap(), std::fs::read(two).unwrap()].concat();
    let document = tool.signed_data("eu-west-2", &aws("i-1"), &["-nocerts"]);
    let nobody = asked(&clouds, Cloud::Aws, &document, Some(&KEY)).await;
    refused(&nobody, "regions.pem");
    std::fs::write(tool.path("regions.pem"), both).unwrap();
    // With lengths known and not, with attributes and without, by newer digests; the key of the machine
    // is of no matter.
    for more in [
        &["-nocerts"][..],
        &["-stream"],
        &["-noattr"],
        &["-md", "sha384"],
        &["-md", "sha512", "-stream", "-keyid"],
    ] {
        let document = tool.signed_data("eu-west-2", &aws("i-1"), more);
        let said = verified(asked(&clouds, Cloud::Aws, &document, None).await);
        assert_eq!(said.labels["cloud_instance_id"], "i-1");
        assert_eq!(said.labels["cloud_account"], "123456789012");
        assert_eq!(said.labels["cloud_zone"], "eu-west-1b");
        assert_eq!(said.labels["cloud_provider"], "aws");
        assert_eq!(said.started_at, Some(Timestamp::from_secs(1_767_323_045)));
    }
    tool.dated("eu-west-3", "20200101000000Z", "20210101000000Z");
    tool.dated("eu-west-4", "22000101000000Z", "22010101000000Z");
    for region in ["eu-west-3", "eu-west-4"] {
        let mut all = std::fs::read(tool.path("regions.pem")).unwrap();
        all.extend(std::fs::read(tool.path(&format!("{region}.pem"))).unwrap());
        std::fs::write(tool.path("regions.pem"), all).unwrap();
    }
    let old = tool.signed_data("eu-west-3", &aws("i-1"), &["-nocerts"]);
    let early = tool.signed_data("eu-west-4", &aws("i-1"), &["-nocerts"]);
    let by_other = tool.signed_data("stranger", &aws("i-1"), &[]);
    let weak = tool.signed_data("eu-west-2", &aws("i-1"), &["-md", "sha1"]);
    let nameless = tool.signed_data("eu-west-2", &json!({"accountId": "1"}), &[]);
    for (document, why) in [
        (by_other.as_str(), "none of AWS' certificates"),
        (&weak, "none of AWS' certificates"),
        (&old, "AWS' certificate that signed it ended "),
        (&early, "AWS' certificate that signed it begins only in "),
        (&nameless, "no machine and account"),
        ("%", "not in base64"),
        ("aGVsbG8=", "no signed data"),
        ("", "no signed data"),
    ] {
        refused(&asked(&clouds, Cloud::Aws, document, None).await, why);
    }
}

#[tokio::test]
async fn no_byte_of_a_signed_document_can_be_changed_or_cut() {
    let Some(tool) = OpenSsl::for_test("damaged documents") else { return };
    let pem = tool.itself("region");
    let known = listen_certificates(&pem);
    for more in [&["-nocerts"][..], &["-nocerts", "-noattr", "-stream"]] {
        let text = tool.signed_data("region", &aws("i-1"), more);
        let plain: String = text.split_whitespace().collect();
        let bytes = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, plain);
        let bytes = bytes.unwrap();
        let read = |bytes: &[u8]| {
            let text = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, bytes);
            document::aws(&text, &known, now(0).wall)
        };
        let whole = read(&bytes).unwrap();
        for at in 0..bytes.len() {
            assert!(read(&bytes[..at]).is_err() || bytes[at..].iter().all(|byte| *byte == 0));
            let mut changed = bytes.clone();
            changed[at] ^= 0x01;
            // What frames the content may be written otherwise; what it says may not.
            if let Ok(said) = read(&changed) {
                assert_eq!(said, whole, "byte {at}");
            }
        }
    }
}

fn listen_certificates(
    pem: &std::path::Path,
) -> Vec<tokio_rustls::rustls::pki_types::CertificateDer<'static>> {
    crate::listen::certificates(pem, &std::fs::read(pem).unwrap()).unwrap()
}

fn azure(key: &PublicKey, ends: &str) -> Value {
    json!({"nonce": nonce(key), "vmId": "02aab8a4", "subscriptionId": "8d10", "sku": "1",
           "timeStamp": {"createdOn": "01/01/26 00:00:00 -0000", "expiresOn": ends}})
}

#[tokio::test]
async fn a_document_of_azure_is_believed_by_its_chain_its_name_and_its_nonce() {
    let Some(tool) = OpenSsl::for_test("documents of Azure") else { return };
    let root = tool.itself("root");
    tool.itself("elsewhere");
    tool.issued("west", "westeurope.metadata.azure.com", "root");
    tool.issued("forged", "westeurope.metadata.azure.com", "elsewhere");
    tool.issued("other", "metadata.azure.com.example.org", "root");
    let trust = CloudTrust { azure: Some(root), ..CloudTrust::default() };
    let clouds = Clouds::trusting(trust).unwrap();
    let later = "12/31/98 23:59:59 -0000";
    let good = tool.signed_data("west", &azure(&KEY, later), &[]);
    let said = verified(asked(&clouds, Cloud::Azure, &good, Some(&KEY)).await);
    assert_eq!(said.labels["cloud_instance_id"], "02aab8a4");
    assert_eq!(said.labels["cloud_account"], "8d10");
    refused(&asked(&clouds, Cloud::Azure, &good, Some(&OTHER)).await, "another machine's key");
    refused(&asked(&clouds, Cloud::Azure, &good, None).await, "has no key");
    for (name, content, why) in [
        ("forged", azure(&KEY, later), "UnknownIssuer"),
        ("other", azure(&KEY, later), "not that of Azure's metadata service"),
        ("west", azure(&KEY, "01/02/26 00:00:00 -0000"), "has expired"),
        ("west", azure(&KEY, "one day"), "has expired"),
    ] {
        let document = tool.signed_data(name, &content, &[]);
        refused(&asked(&clouds, Cloud::Azure, &document, Some(&KEY)).await, why);
    }
    // Of an authority given here the dates count too, and of two one is enough.
    let ended = tool.dated("ended", "20200101000000Z", "20210101000000Z");
    tool.issued("orphan", "westeurope.metadata.azure.com", "ended");
    let orphan = tool.signed_data("orphan", &azure(&KEY, later), &[]);
    let clouds_of = |azure| {
        Clouds::trusting(CloudTrust { azure: Some(azure), ..CloudTrust::default() }).unwrap()
    };
    let old = clouds_of(ended.clone());
    let said = asked(&old, Cloud::Azure, &orphan, Some(&KEY)).await;
    refused(&said, "the authority given for Azure ended ");
    let both = [std::fs::read(&ended).unwrap(), std::fs::read(tool.path("root.pem")).unwrap()];
    std::fs::write(tool.path("both.pem"), both.concat()).unwrap();
    let both = clouds_of(tool.path("both.pem"));
    verified(asked(&both, Cloud::Azure, &good, Some(&KEY)).await);
    refused(&asked(&both, Cloud::Azure, &orphan, Some(&KEY)).await, "UnknownIssuer");
    let bare = tool.signed_data("west", &azure(&KEY, later), &["-nocerts"]);
    refused(
        &asked(&clouds, Cloud::Azure, &bare, Some(&KEY)).await,
        "no certificate in the document",
    );
}

fn google(key: &PublicKey, seconds_left: i64) -> Value {
    let now = now(0).wall.as_millis() / 1000;
    json!({"iss": "https://accounts.google.com", "aud": audience(key),
           "exp": now + seconds_left, "iat": now + seconds_left - 3600,
           "google": {"compute_engine": {
               "instance_id": "6513401010101010101", "project_number": 42, "project_id": "p",
               "zone": "europe-west1-b", "instance_creation_timestamp": 1_767_323_045}}})
}

#[tokio::test]
async fn a_token_of_gcp_is_believed_by_google_s_keys_for_its_own_machine_and_hour() {
    let Some(tool) = OpenSsl::for_test("documents of GCP") else { return };
    tool.itself("g1");
    tool.itself("g2");
    let trust = CloudTrust {
        gcp: Some(tool.path("keys.json").display().to_string()),
        ..CloudTrust::default()
    };
    let clouds = Clouds::trusting(trust).unwrap();
    let (good, keys) = tool.jwt("g1", &google(&KEY, 3600));
    std::fs::write(tool.path("keys.json"), keys.to_string()).unwrap();
    let said = verified(asked(&clouds, Cloud::Gcp, &good, Some(&KEY)).await);
    assert_eq!(said.labels["cloud_account"], "42");
    assert_eq!(said.labels["cloud_project"], "p");
    assert_eq!(said.labels["cloud_zone"], "europe-west1-b");
    assert_eq!(said.labels["cloud_region"], "europe-west1");
    assert_eq!(said.started_at, Some(Timestamp::from_secs(1_767_323_045)));
    refused(&asked(&clouds, Cloud::Gcp, &good, Some(&OTHER)).await, "another machine's key");
    let mut foreign = google(&KEY, 3600);
    foreign["iss"] = json!("https://accounts.example.org");
    for (name, claims, why) in [
        ("g2", google(&KEY, 3600), "has the name in the document"),
        ("g1", google(&KEY, -400), "has expired"),
        ("g1", google(&KEY, 3600 + 900), "ahead of the time here"),
        ("g1", foreign, "is not Google's"),
    ] {
        let document = tool.jwt(name, &claims).0;
        refused(&asked(&clouds, Cloud::Gcp, &document, Some(&KEY)).await, why);
    }
    let (head, rest) = good.split_once('.').unwrap();
    let (_, signature) = rest.split_once('.').unwrap();
    let other = tool.jwt("g1", &google(&OTHER, 3600)).0;
    let claims = other.split('.').nth(1).unwrap();
    for (document, why) in [
        (format!("{head}.{claims}.{signature}"), "signature does not fit"),
        (format!("{head}.{rest}x"), "no JWT"),
        (String::new(), "no JWT"),
        ("..".to_owned(), "does not hold JSON"),
    ] {
        refused(&asked(&clouds, Cloud::Gcp, &document, Some(&KEY)).await, why);
    }
}

#[tokio::test]
async fn google_s_keys_are_fetched_once_an_hour_and_for_an_unknown_one_once_a_minute() {
    let Some(tool) = OpenSsl::for_test("fetched keys") else { return };
    tool.itself("g1");
    tool.itself("g2");
    let (known, keys) = tool.jwt("g1", &google(&KEY, 3600));
    let unknown = tool.jwt("g2", &google(&KEY, 3600)).0;
    let asked = Arc::new(AtomicUsize::new(0));
    let router = {
        let (asked, keys) = (asked.clone(), keys.to_string());
        Router::new().route(
            "/certs",
            get(async move || {
                asked.fetch_add(1, Ordering::SeqCst);
                keys
            }),
        )
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/certs", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    let trust = CloudTrust { gcp: Some(url), ..CloudTrust::default() };
    let clouds = Clouds::trusting(trust).unwrap();
    for (text, secs, holds, fetches) in [
        (&known, 0, true, 1),
        (&known, 3599, true, 1),
        (&unknown, 10, false, 1),
        (&unknown, 59, false, 1),
        (&unknown, 60, false, 2),
        (&unknown, 61, false, 2),
        (&known, 3660, true, 3),
    ] {
        let document = CloudDocument { cloud: Cloud::Gcp, text: text.clone() };
        let said = clouds.attested(&document, Some(&KEY), now(secs)).await;
        assert_eq!(matches!(said, Attestation::Verified(_)), holds, "{secs} s: {said:?}");
        assert_eq!(asked.load(Ordering::SeqCst), fetches, "{secs} s");
    }
}

#[test]
fn an_address_without_tls_is_not_trusted() {
    for (gcp, is_taken) in [
        ("https://www.googleapis.com/oauth2/v3/certs", true),
        ("/etc/roundel/google.json", true),
        ("http://www.googleapis.com/oauth2/v3/certs", false),
        ("http://127.0.0.1:9/certs", true),
        ("ftp://example.org/", false),
    ] {
        let trust = CloudTrust { gcp: Some(gcp.to_owned()), ..CloudTrust::default() };
        assert_eq!(Clouds::trusting(trust).is_ok(), is_taken, "{gcp}");
    }
}
