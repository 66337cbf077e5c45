//! An operator's requests: the same line to the server as an agent has, with the admin token.

use std::time::Duration;

use http::Method;

use super::client::Client;
use super::error::AgentError;
use super::secret::Secret;
use super::trust::Trust;

/// A change waits for the disk, which makes room, and for the worker.
const ANSWER_TIMEOUT: Duration = Duration::from_mins(2);
/// Bytes of an answer: a list of 100,000 instances.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// Speaks to the server at one address as its operator.
pub struct Operator {
    client: Client,
    token: Secret,
}

impl Operator {
    /// To the server at `url`, known by more or less than the public authorities. Errors when that is
    /// no address, or a file of `trust` cannot be used.
    pub fn trusting(url: &str, token: Secret, trust: &Trust) -> Result<Self, AgentError> {
        Ok(Self { client: Client::trusting(url, trust)?, token })
    }

    /// The status and body of an answer. Errors in words when none came.
    pub async fn get(&self, path: &str) -> Result<(u16, Vec<u8>), String> {
        self.ask(Method::GET, path, Vec::new()).await
    }

    /// As [`Operator::get`], with a body of JSON.
    pub async fn post(&self, path: &str, body: Vec<u8>) -> Result<(u16, Vec<u8>), String> {
        self.ask(Method::POST, path, body).await
    }

    /// As [`Operator::get`], for what is to be no more.
    pub async fn delete(&self, path: &str) -> Result<(u16, Vec<u8>), String> {
        self.ask(Method::DELETE, path, Vec::new()).await
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Vec<u8>,
    ) -> Result<(u16, Vec<u8>), String> {
        let asked = self.client.ask((method, path), &self.token, body, ANSWER_BYTES_MAX);
        match tokio::time::timeout(ANSWER_TIMEOUT, asked).await {
            Ok(Ok(reply)) => Ok((reply.status, reply.body)),
            Ok(Err(unreachable)) => Err(unreachable.0),
            Err(_) => Err(format!("no answer in {} s", ANSWER_TIMEOUT.as_secs())),
        }
    }
}
