//! The metadata services of EC2 (version 2), GCE and Azure.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;

use super::{Cloud, Identity};
use crate::identity::{PublicKey, document};
use crate::native::{self, CloudDocument};

/// How long one question may take: the service is in the same machine, or there is none.
const TIMEOUT: Duration = Duration::from_millis(300);

/// Bytes of one answer: GCE tells all of an instance at once.
const ANSWER_BYTES_MAX: usize = 256 << 10;

const TOKEN_HEADER: &str = "x-aws-ec2-metadata-token";
const TOKEN_TTL: (&str, &str) = ("x-aws-ec2-metadata-token-ttl-seconds", "21600");
const GOOGLE: (&str, &str) = ("metadata-flavor", "Google");
const AZURE: (&str, &str) = ("metadata", "true");

/// Asks the metadata service at one address.
#[derive(Clone)]
pub(in crate::agent) struct Imds {
    base: String,
    http: legacy::Client<HttpConnector, Full<Bytes>>,
    /// EC2's token for this session.
    token: Option<String>,
}

impl Imds {
    /// The service at `base`, usually [`super::ENDPOINT`].
    pub(in crate::agent) fn at(base: &str) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.set_connect_timeout(Some(TIMEOUT));
        let http =
            legacy::Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(tcp);
        Self { base: base.trim_end_matches('/').to_owned(), http, token: None }
    }

    /// Who this machine is; `None` in no cloud.
    pub(in crate::agent) async fn identity(&mut self) -> Option<Identity> {
        let mut ec2 = self.clone();
        let (ec2_found, gce, azure) = tokio::join!(ec2.ec2(), self.gce(), self.azure());
        self.token = ec2.token;
        ec2_found.or(gce).or(azure)
    }

    async fn ec2(&mut self) -> Option<Identity> {
        self.renew_token().await?;
        let (document, cycle) = tokio::join!(
            self.ec2_text("/latest/dynamic/instance-identity/document"),
            self.ec2_text("/latest/meta-data/instance-life-cycle"),
        );
        let document: Value = serde_json::from_str(&document?).ok()?;
        let text = |name: &str| document[name].as_str().unwrap_or_default().to_owned();
        named(Identity {
            cloud: Cloud::Ec2,
            instance_id: text("instanceId"),
            account: text("accountId"),
            region: text("region"),
            zone: text("availabilityZone"),
            machine_type: text("instanceType"),
            resource_id: String::new(),
            is_spot: cycle.as_deref().map(str::trim) == Some("spot"),
        })
    }

    /// Gets a new token of EC2's.
    pub(super) async fn renew_token(&mut self) -> Option<()> {
        let path = "/latest/api/token";
        self.token = Some(self.ask(Method::PUT, path, &[TOKEN_TTL]).await?.1);
        Some(())
    }

    /// What EC2 says at a path; `None` when it says nothing, or the token has ended.
    pub(super) async fn ec2_text(&self, path: &str) -> Option<String> {
        let token = self.token.as_deref()?;
        Some(self.ask(Method::GET, path, &[(TOKEN_HEADER, token)]).await?.1)
    }

    async fn gce(&self) -> Option<Identity> {
        let path = "/computeMetadata/v1/instance/?recursive=true";
        let (headers, body) = self.ask(Method::GET, path, &[GOOGLE]).await?;
        // Others may answer at this address; only Google says so.
        headers.get(GOOGLE.0).filter(|flavor| *flavor == GOOGLE.1)?;
        let instance: Value = serde_json::from_str(&body).ok()?;
        let last = |name: &str| {
            let path = instance[name].as_str().unwrap_or_default();
            path.rsplit('/').next().unwrap_or_default().to_owned()
        };
        let zone = last("zone");
        let region = zone.rsplit_once('-').map_or("", |(region, _)| region).to_owned();
        let account = instance["zone"].as_str().and_then(|path| path.split('/').nth(1));
        named(Identity {
            cloud: Cloud::Gce,
            instance_id: instance["id"].as_u64().map(|id| id.to_string()).unwrap_or_default(),
            account: account.unwrap_or_default().to_owned(),
            region,
            zone,
            machine_type: last("machineType"),
            resource_id: String::new(),
            is_spot: instance["scheduling"]["preemptible"].as_str() == Some("TRUE"),
        })
    }

    /// What GCE says at a path below the instance.
    pub(super) async fn gce_text(&self, path: &str) -> Option<String> {
        Some(self.ask(Method::GET, path, &[GOOGLE]).await?.1)
    }

    async fn azure(&self) -> Option<Identity> {
        let compute = self.azure_json("/metadata/instance/compute?api-version=2021-02-01").await?;
        let text = |name: &str| compute[name].as_str().unwrap_or_default().to_owned();
        named(Identity {
            cloud: Cloud::Azure,
            instance_id: text("vmId"),
            account: text("subscriptionId"),
            region: text("location"),
            zone: text("zone"),
            machine_type: text("vmSize"),
            resource_id: text("resourceId"),
            is_spot: text("priority") == "Spot",
        })
    }

    /// What the cloud signs of this machine, where it can for the holder of `key` alone.
    pub(in crate::agent) async fn document(
        &mut self,
        cloud: Cloud,
        key: Option<&PublicKey>,
    ) -> Option<CloudDocument> {
        let (cloud, text) = match cloud {
            Cloud::Ec2 => {
                self.renew_token().await?;
                let path = "/latest/dynamic/instance-identity/rsa2048";
                (native::Cloud::Aws, self.ec2_text(path).await?)
            }
            Cloud::Gce => {
                let path = "/computeMetadata/v1/instance/service-accounts/default/identity";
                let path = format!("{path}?audience={}&format=full", document::audience(key?));
                (native::Cloud::Gcp, self.gce_text(&path).await?)
            }
            Cloud::Azure => {
                let path = "/metadata/attested/document?api-version=2021-02-01&nonce=";
                let answer = self.azure_json(&format!("{path}{}", document::nonce(key?))).await?;
                (native::Cloud::Azure, answer["signature"].as_str()?.to_owned())
            }
        };
        Some(CloudDocument { cloud, text: text.trim().to_owned() })
    }

    /// What Azure says at a path.
    pub(super) async fn azure_json(&self, path: &str) -> Option<Value> {
        let (_, body) = self.ask(Method::GET, path, &[AZURE]).await?;
        serde_json::from_str(&body).ok()
    }

    /// The headers and text of an answer 200 within its time.
    async fn ask(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Option<(HeaderMap, String)> {
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.base));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::default()).ok()?;
        let exchange = async {
            let response = self.http.request(request).await.ok()?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await.ok()?.to_bytes();
            let text = String::from_utf8(body.to_vec()).ok()?;
            head.status.is_success().then_some((head.headers, text))
        };
        tokio::time::timeout(TIMEOUT, exchange).await.ok().flatten()
    }
}

/// An identity that names its machine.
fn named(identity: Identity) -> Option<Identity> {
    (!identity.instance_id.is_empty()).then_some(identity)
}
