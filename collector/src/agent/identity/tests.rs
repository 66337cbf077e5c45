//! The three clouds as fakes on the loopback.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use rrd::{Step, Timestamp};
use tokio::net::TcpListener;

use super::{Cloud, Ending, Identity, Imds, Watch};
use crate::agent::reading::Readings;
use crate::agent::source::{Look, Source};

/// What is answered at each path; EC2 wants its token, the others their header.
type Pages = Arc<Mutex<HashMap<String, String>>>;

async fn fake(pages: &[(&str, &str)]) -> (String, Pages) {
    let owned = |(path, text): &(&str, &str)| ((*path).to_owned(), (*text).to_owned());
    let pages: Pages = Arc::new(Mutex::new(pages.iter().map(owned).collect()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let router = Router::new().fallback(answer).with_state(pages.clone());
    tokio::spawn(async move { axum::serve(listener, router).await });
    (base, pages)
}

async fn answer(State(pages): State<Pages>, request: Request) -> Response {
    let path = request.uri().path().to_owned();
    let has = |name: &str, value: &str| request.headers().get(name).is_some_and(|v| v == value);
    let is_allowed = match path.split('/').nth(1) {
        Some("latest") if path == "/latest/api/token" => {
            request.method() == "PUT"
                && request.headers().contains_key("x-aws-ec2-metadata-token-ttl-seconds")
        }
        Some("latest") => has("x-aws-ec2-metadata-token", "t0ken"),
        Some("computeMetadata") => has("metadata-flavor", "Google"),
        _ => has("metadata", "true"),
    };
    match pages.lock().unwrap().get(&path) {
        Some(text) if is_allowed => ([("metadata-flavor", "Google")], text.clone()).into_response(),
        Some(_) => StatusCode::UNAUTHORIZED.into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

const EC2: [(&str, &str); 4] = [
    ("/latest/api/token", "t0ken"),
    ("/latest/meta-data/instance-id", "i-0abc"),
    ("/latest/meta-data/instance-life-cycle", "spot"),
    (
        "/latest/dynamic/instance-identity/document",
        r#"{"instanceId":"i-0abc","accountId":"123","region":"eu-west-1",
            "availabilityZone":"eu-west-1b","instanceType":"m5.large"}"#,
    ),
];

const GCE: [(&str, &str); 1] = [(
    "/computeMetadata/v1/instance/",
    r#"{"id":6513401010101010101,"zone":"projects/42/zones/europe-west1-b",
        "machineType":"projects/42/machineTypes/e2-small","scheduling":{"preemptible":"FALSE"}}"#,
)];

const AZURE: [(&str, &str); 1] = [(
    "/metadata/instance/compute",
    r#"{"vmId":"02aab8a4","location":"westeurope","zone":"1","vmSize":"Standard_B1s",
        "subscriptionId":"8d10","priority":"Spot","resourceId":"/subscriptions/8d10/x"}"#,
)];

#[tokio::test]
async fn each_cloud_names_its_machine() {
    for (pages, id, labels) in [
        (EC2.as_slice(), "i-0abc", ["aws", "123", "eu-west-1", "eu-west-1b", "m5.large", "spot"]),
        (
            GCE.as_slice(),
            "6513401010101010101",
            ["gcp", "42", "europe-west1", "europe-west1-b", "e2-small", "normal"],
        ),
        (
            AZURE.as_slice(),
            "02aab8a4",
            ["azure", "8d10", "westeurope", "1", "Standard_B1s", "spot"],
        ),
    ] {
        let (base, _) = fake(pages).await;
        let found = Imds::at(&base).identity().await.unwrap().labels();
        assert_eq!(found["cloud_instance_id"], id);
        let names = ["provider", "account", "region", "zone", "type", "lifecycle"];
        for (name, value) in names.into_iter().zip(labels) {
            assert_eq!(found[&format!("cloud_{name}")], value, "{name} of {id}");
        }
        let path = found.get("cloud_resource_id").map(String::as_str);
        assert_eq!(path, (labels[0] == "azure").then_some("/subscriptions/8d10/x"));
    }
}

#[tokio::test]
async fn a_service_that_never_answers_is_no_cloud_after_its_time() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", silent.local_addr().unwrap());
    let asked =
        tokio::time::timeout(Duration::from_secs(10), async { Imds::at(&base).identity().await });
    assert_eq!(asked.await.unwrap(), None);
    let (elsewhere, _) = fake(&[]).await;
    assert_eq!(Imds::at(&elsewhere).identity().await, None);
}

async fn watched(watch: &mut Watch) -> (f64, f64, f64) {
    let look = Look { at: Timestamp::from_secs(0), step: Step::from_secs(10).unwrap() };
    let mut out = Readings::default();
    watch.read(look, &mut out).await.unwrap();
    let value = |name: &str| out.value(&format!("agent_cloud_{name}"), &[]).unwrap();
    (value("spot_interruption"), value("termination"), value("maintenance"))
}

#[tokio::test]
async fn the_end_is_seen_as_a_series_and_kept_for_the_goodbye() {
    for (cloud, path, text, flags, said) in [
        (
            EC2.as_slice(),
            "/latest/meta-data/spot/instance-action",
            r#"{"action": "terminate", "time": "2030-01-01T00:00:00Z"}"#,
            (1.0, 0.0, 0.0),
            "spot interruption: {\"action\": \"terminate\"",
        ),
        (
            EC2.as_slice(),
            "/latest/meta-data/autoscaling/target-lifecycle-state",
            "Terminated",
            (0.0, 1.0, 0.0),
            "its group lets it go: Terminated",
        ),
        (
            EC2.as_slice(),
            "/latest/meta-data/autoscaling/target-lifecycle-state",
            "Terminating:Wait",
            (0.0, 1.0, 0.0),
            "its group lets it go: Terminating:Wait",
        ),
        (
            GCE.as_slice(),
            "/computeMetadata/v1/instance/preempted",
            "TRUE",
            (1.0, 0.0, 0.0),
            "spot interruption",
        ),
        (
            AZURE.as_slice(),
            "/metadata/scheduledevents",
            r#"{"Events":[{"EventType":"Preempt"},{"EventType":"Freeze"}]}"#,
            (1.0, 0.0, 1.0),
            "spot interruption",
        ),
    ] {
        let (base, pages) = fake(cloud).await;
        let mut imds = Imds::at(&base);
        let identity = imds.identity().await.unwrap();
        let ending = Ending::default();
        let mut watch = Watch::of(imds, identity, ending.clone());
        assert_eq!(watched(&mut watch).await, (0.0, 0.0, 0.0), "{path}");
        assert_eq!(*ending.lock().unwrap(), None);
        pages.lock().unwrap().insert(path.to_owned(), text.to_owned());
        assert_eq!(watched(&mut watch).await, flags, "{path}");
        let kept = ending.lock().unwrap().clone().unwrap();
        assert!(kept.starts_with(said), "{kept}");
    }
}

#[test]
fn an_identity_is_kept_for_one_boot() {
    let dir = tempfile::tempdir().unwrap();
    let identity = Identity {
        cloud: Cloud::Azure,
        instance_id: "x".into(),
        account: String::new(),
        region: String::new(),
        zone: String::new(),
        machine_type: String::new(),
        resource_id: String::new(),
        is_spot: false,
    };
    identity.cache(dir.path(), 7);
    assert_eq!(Identity::cached(dir.path(), 7), Some(identity));
    assert_eq!(Identity::cached(dir.path(), 8), None, "a clone boots anew");
}
