//! What our own agents and the collector say to each other: enrolment in JSON, readings in frames.
//!
//! An agent process is one *incarnation*. Its batches are numbered 1, 2, 3… and a number's content
//! never changes. Its dictionary maps small ids to labels; entries are sent until a push that held
//! them was answered 200.

use std::collections::BTreeMap;

use bincode::{Decode, Encode};
use serde::{Deserialize, Serialize};

use crate::codec::{self, CodecError, FrameKind};

/// Where an agent enrols; body [`EnrollRequest`], bearer token of kind join, answer 201
/// [`EnrollAnswer`].
pub const ENROLL_PATH: &str = "/v1/enroll";
/// Where an agent pushes; body [`Push::encode`], bearer credential of the instance, answer 200
/// [`PushAnswer`].
pub const PUSH_PATH: &str = "/v1/push";
/// Where an agent asks what its work is; bearer credential of the instance, answer 200
/// [`Descriptor`] with an `ETag`, or 304.
pub const DESCRIPTOR_PATH: &str = "/v1/agent/descriptor";
/// The header of that answer with the server's clock, milliseconds since 1970.
pub const SERVER_TIME: &str = "roundel-time-ms";
/// The content type of a [`Push`].
pub const PUSH_CONTENT_TYPE: &str = "application/x-roundel-frame";

/// Encoded bytes of one push: an agent cuts its backlog into batches below this.
pub const PUSH_SIZE_LIMIT: usize = 1 << 20;
/// Samples in one push.
pub const PUSH_SAMPLE_LIMIT: usize = 20_000;
/// New dictionary entries in one push.
pub const PUSH_ENTRY_LIMIT: usize = 20_000;

/// What an agent asks for at its first start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnrollRequest {
    /// The name it would like, usually its host name; the answer's `instance` label may differ.
    pub name: String,
    /// The kernel's boot id.
    #[serde(with = "hex_id")]
    pub boot_id: u128,
    /// What the machine is.
    #[serde(default)]
    pub facts: Facts,
    /// Labels the agent declares of itself; those forced by the token win.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// What the machine's cloud says of it, signed by the cloud.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub document: Option<CloudDocument>,
}

/// What a cloud signed of one of its machines, as the cloud wrote it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CloudDocument {
    /// Which cloud.
    pub cloud: Cloud,
    /// AWS and Azure: signed data in base64; GCP: a JWT.
    pub text: String,
}

/// A cloud that signs what it says of its machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cloud {
    /// Amazon's, by `rsa2048` beside the instance identity document.
    Aws,
    /// Google's, by an identity token of the instance.
    Gcp,
    /// Microsoft's, by attested data.
    Azure,
}

/// What a machine is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
#[serde(default, deny_unknown_fields)]
pub struct Facts {
    /// Its host name.
    pub hostname: String,
    /// Its system, as `PRETTY_NAME` of os-release has it.
    pub os: String,
    /// Its kernel release.
    pub kernel: String,
    /// How many processors it has.
    pub cpus: u32,
    /// Its memory.
    pub memory_bytes: u64,
}

/// What an agent is told when it is enrolled. Printed by nobody: it holds the credential.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnrollAnswer {
    /// The instance's id.
    #[serde(with = "hex_id")]
    pub id: u128,
    /// The secret to push with; shown this once.
    pub credential: String,
    /// The labels it now has, `instance` and `job` included.
    pub labels: BTreeMap<String, String>,
    /// Milliseconds between readings.
    pub step_ms: u64,
    /// When the credential ends, milliseconds since 1970; never without a key to renew it with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_ms: Option<i64>,
}

/// What an agent is told whose request waits for a person: 202.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingAnswer {
    /// Where to ask: `GET /v1/enroll/ID`, signed with the same key.
    #[serde(with = "hex_id")]
    pub request_id: u128,
    /// Seconds until it is worth asking.
    pub poll_after_secs: u64,
    /// What the person compares before approving.
    pub fingerprint: String,
}

/// Leaves the credential out.
impl std::fmt::Debug for EnrollAnswer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EnrollAnswer")
            .field("id", &format_args!("{:032x}", self.id))
            .field("labels", &self.labels)
            .field("step_ms", &self.step_ms)
            .finish_non_exhaustive()
    }
}

/// What an agent is told of its work. It names sources and never says what they run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Descriptor {
    /// Milliseconds between looks; the agent's own configuration wins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step_ms: Option<u64>,
    /// Sources to ask besides those that are always asked, of those that the machine allows.
    pub sources: std::collections::BTreeSet<String>,
    /// Labels that the instance has been given.
    pub labels: BTreeMap<String, String>,
}

/// One numbered batch of readings.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct Push {
    /// Whose readings they are; must be the instance of the credential.
    pub instance: u128,
    /// Which life of the agent process this is; a new one starts at number 1.
    pub incarnation: u64,
    /// The kernel's boot id: a change means that counters began anew.
    pub boot_id: u128,
    /// 1, 2, 3… within the incarnation.
    pub number: u64,
    /// The lowest number still in the spool: below it the sender itself gave batches up.
    pub floor: u64,
    /// The agent's clock when it sent, milliseconds since 1970.
    pub sent_ms: i64,
    /// Entries of this incarnation's dictionary that were not acknowledged yet.
    pub dictionary: Vec<Entry>,
    /// Readings, oldest first.
    pub readings: Vec<Reading>,
}

/// What a number in the readings stands for.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Entry {
    /// The number.
    pub id: u32,
    /// The kind of the series: the number of an [`rrd::Kind`].
    pub kind: u8,
    /// Labels with `__name__`, without those of the instance.
    pub labels: Vec<(String, String)>,
}

/// All values read at one moment.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct Reading {
    /// The moment, milliseconds since 1970.
    pub at_ms: i64,
    /// Dictionary ids and values; NaN says that the series ended here.
    pub values: Vec<(u32, f64)>,
}

impl Push {
    /// The frame to send.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(FrameKind::Push, self)
    }

    /// The push that a request's body holds. Bounded in memory, whatever the body claims.
    pub fn decode(body: &[u8]) -> Result<Self, CodecError> {
        codec::decode(FrameKind::Push, body)
    }
}

/// A place in the server's journal; later places compare greater.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Position {
    /// Which opening of the log.
    pub log_epoch: u64,
    /// Which frame of it.
    pub seq: u64,
}

/// The answer 200 to a push.
///
/// The agent remembers `accepted` for the batch and drops the batch from its spool once an answer's
/// `durable` is at or past it. Where the server acknowledges strictly both are equal, so that a 200 means
/// "drop it".
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PushAnswer {
    /// Where the batch stands in the journal, or a place after it when it was known already.
    pub accepted: Position,
    /// Up to where the journal can be lost no more.
    pub durable: Position,
    /// Samples taken of this push; 0 when the batch was known already.
    pub samples: u64,
    /// The server's clock, milliseconds since 1970.
    pub server_ms: i64,
    /// Series whose samples were not taken, the first [`REFUSED_SHOWN`] of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<RefusedSeries>,
    /// Samples not taken, all of them.
    #[serde(default)]
    pub refused_samples: u64,
}

/// Refusals listed in one answer: enough to find the fault, small enough to log.
pub const REFUSED_SHOWN: usize = 20;

/// A series whose samples were not taken, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedSeries {
    /// The series, written as PromQL writes it.
    pub series: String,
    /// Why, as a word that counters use: `series_limit`, `label_limit`, `future`, `too_old`…
    pub reason: String,
    /// Why, for a person.
    pub message: String,
}

/// The body of every answer that is not 2xx.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// A word to act on: `gap`, `dictionary`, `unauthorised`, `busy`, `full`, `bad_request`…
    pub error: String,
    /// The same for a person, with the remedy.
    pub message: String,
    /// With `gap`: the number the server needs next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resend_from: Option<u64>,
    /// With `dictionary`: the server knows none of this incarnation's entries; send all of them
    /// again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub resend_dictionary: bool,
    /// Series and samples that were refused while the rest was stored.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<RefusedSeries>,
    /// With `identity_conflict` and `bad_state`: the state that stands against it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// With `identity_conflict`: make a new key and enrol with it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub make_key: bool,
    /// With `stale_proof`: the time here, milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_ms: Option<i64>,
}

/// A 128-bit id as 32 hexadecimal digits: JSON numbers are not exact beyond 2^53.
pub mod hex_id {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    /// Writes the digits.
    pub fn serialize<S: Serializer>(id: &u128, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{id:032x}"))
    }

    /// Reads up to 32 digits; the dashes of a UUID are passed over.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u128, D::Error> {
        let text = String::deserialize(deserializer)?.replace('-', "");
        if text.is_empty() || text.len() > 32 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(D::Error::custom("an id is 32 hexadecimal digits"));
        }
        u128::from_str_radix(&text, 16).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use rrd::hex::Hex;

    use super::*;

    fn push() -> Push {
        Push {
            instance: 0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10,
            incarnation: 7,
            boot_id: 8,
            number: 300,
            floor: 2,
            sent_ms: 1_700_000_000_000,
            dictionary: vec![Entry {
                id: 0,
                kind: 4,
                labels: vec![("__name__".to_owned(), "up".to_owned())],
            }],
            readings: vec![Reading {
                at_ms: -1,
                values: vec![(0, 1.5), (1, f64::from_bits(0x7ff0_0000_0000_0002))],
            }],
        }
    }

    #[test]
    fn the_bytes_of_a_push_are_these_and_read_back() {
        let bytes = push().encode();
        assert_eq!(Hex(&bytes).to_string(), GOLDEN_PUSH);
        // NaN is not equal to itself, so the bytes are compared: its payload survives.
        assert_eq!(Push::decode(&bytes).unwrap().encode(), bytes);
    }

    #[test]
    fn json_ids_are_hexadecimal_and_a_kernels_boot_id_is_one() {
        let text = r#"{"name":"a","boot_id":"00000000-0000-0000-0000-00000000000a"}"#;
        let request: EnrollRequest = serde_json::from_str(text).unwrap();
        assert_eq!(request.boot_id, 10);
        let written = serde_json::to_string(&request).unwrap();
        assert!(written.contains(r#""boot_id":"0000000000000000000000000000000a""#), "{written}");
        for bad in ["", "x", "+1", "000000000000000000000000000000001"] {
            let text = format!(r#"{{"name":"a","boot_id":"{bad}"}}"#);
            assert!(serde_json::from_str::<EnrollRequest>(&text).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_credential_is_never_printed() {
        let answer = EnrollAnswer {
            id: 1,
            credential: "ri_secret".to_owned(),
            labels: BTreeMap::new(),
            step_ms: 10_000,
            expires_ms: None,
        };
        assert!(!format!("{answer:?}").contains("secret"));
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_decoding_panic(bytes: Vec<u8>) {
            // Behind a good header, so that the body decoder is reached.
            let mut frame = codec::encode(FrameKind::Push, &bytes);
            proptest::prop_assert!(Push::decode(&bytes).is_err());
            Push::decode(&frame).ok();
            frame.truncate(frame.len() / 2);
            proptest::prop_assert!(Push::decode(&frame).is_err());
        }
    }

    const GOLDEN_PUSH: &str = "52444c660101000045000000b970d919fe100f0e0d0c0b0a0908070605040302010708fb2c0102fd00d0ca9f1703000001000401085f5f6e616d655f5f02757001010200000000000000f83f01020000000000f07f";
}
