//! OTLP by the exporter of OpenTelemetry's own SDK, through outages.

use std::collections::HashMap;
use std::pin::Pin;
use std::time::Duration;

use ::http::{Request, Response};
use bytes::Bytes;
use opentelemetry::KeyValue;
use opentelemetry::metrics::MeterProvider as _;
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{MetricExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider};

use crate::http;
use crate::recipes::{ADDRESS, block};
use crate::server::ADMIN;
use crate::trial::{Keeps, Trial};

/// Sends by the tests' own client; the SDK's reader lives in a thread without a reactor.
#[derive(Debug)]
struct Client(tokio::runtime::Handle);

type Sending<'a> = Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'a>>;

impl HttpClient for Client {
    fn send_bytes<'a, 'async_trait>(&'a self, request: Request<Bytes>) -> Sending<'async_trait>
    where
        'a: 'async_trait,
        Self: 'async_trait,
    {
        let (head, body) = request.into_parts();
        let sent = self.0.spawn(http::send(Request::from_parts(head, body.into())));
        Box::pin(async move {
            let answer = sent.await?.ok_or("no server")?;
            let mut response = Response::builder().status(answer.status);
            response.headers_mut().unwrap().extend(answer.headers);
            Ok(response.body(answer.body)?)
        })
    }
}

/// The variables that docs/senders.md tells to set.
fn variables(address: &str) -> HashMap<String, String> {
    let text = block("OpenTelemetry", 0).replace(ADDRESS, address).replace("rr_…", ADMIN);
    let pairs = text.lines().map(|line| line.split_once('=').unwrap());
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// An SDK set up as the variables say: read here, because a test cannot set its own environment.
fn provider(trial: &Trial) -> SdkMeterProvider {
    let variables = variables(&trial.front.url);
    let (name, value) = variables["OTEL_EXPORTER_OTLP_METRICS_HEADERS"].split_once('=').unwrap();
    let headers = HashMap::from([(name.to_owned(), value.replace("%20", " "))]);
    assert_eq!(variables["OTEL_EXPORTER_OTLP_PROTOCOL"], "http/protobuf");
    let exporter = MetricExporter::builder()
        .with_http()
        .with_http_client(Client(tokio::runtime::Handle::current()))
        .with_endpoint(&variables["OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"])
        .with_headers(headers)
        .build()
        .unwrap();
    let reader = PeriodicReader::builder(exporter).with_interval(Duration::from_secs(1)).build();
    let attributes = variables["OTEL_RESOURCE_ATTRIBUTES"]
        .split(',')
        .map(|pair| pair.split_once('=').unwrap())
        .map(|(name, value)| KeyValue::new(name.to_owned(), value.to_owned()));
    let resource = Resource::builder_empty()
        .with_service_name(variables["OTEL_SERVICE_NAME"].clone())
        .with_attributes(attributes)
        .build();
    SdkMeterProvider::builder().with_reader(reader).with_resource(resource).build()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_exporter_of_opentelemetry_gives_the_same_figures_through_outages() {
    let Some(trial) = Trial::start("OpenTelemetry's exporter through outages").await else {
        return;
    };
    let provider = provider(&trial);
    let meter = provider.meter("trial");
    let (work, wave) = (trial.figures.clone(), trial.figures.clone());
    let _work = meter
        .f64_observable_counter("work")
        .with_callback(move |observer| observer.observe(work.work(), &[]))
        .build();
    let _wave = meter
        .f64_observable_gauge("wave")
        .with_callback(move |observer| observer.observe(wave.wave(), &[]))
        .build();
    trial.run(Keeps::Counts).await;
    // Its reader ends with its last export, which nobody takes any more.
    let _refused = provider.shutdown();
}
