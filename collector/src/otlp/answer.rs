//! Answers of OTLP, in the encoding of the request: what was left out, or why nothing was taken.

use http::StatusCode;
use serde::Serialize;

use super::Encoding;

/// Data points that were not stored, though the request was.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Rejected {
    #[serde(serialize_with = "as_text")]
    pub(crate) rejected_data_points: u64,
    pub(crate) error_message: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Success {
    #[serde(skip_serializing_if = "Option::is_none")]
    partial_success: Option<Rejected>,
}

#[derive(Serialize)]
struct Status<'a> {
    code: u8,
    message: &'a str,
}

impl Encoding {
    pub(crate) const fn content_type(self) -> &'static str {
        match self {
            Self::Protobuf => "application/x-protobuf",
            Self::Json => "application/json",
        }
    }
}

/// The body of a success; `None` when all of the request was stored.
pub(crate) fn partial_success(encoding: Encoding, rejected: Option<Rejected>) -> Vec<u8> {
    match encoding {
        Encoding::Json => json(&Success { partial_success: rejected }),
        Encoding::Protobuf => rejected.map_or_else(Vec::new, |rejected| {
            let mut inner = vec![0x08];
            push_varint(&mut inner, rejected.rejected_data_points);
            push_bytes(&mut inner, 0x12, rejected.error_message.as_bytes());
            let mut body = Vec::new();
            push_bytes(&mut body, 0x0a, &inner);
            body
        }),
    }
}

/// The body of a failure: a `google.rpc.Status`.
pub(crate) fn status(encoding: Encoding, status: StatusCode, message: &str) -> Vec<u8> {
    let code = code(status);
    match encoding {
        Encoding::Json => json(&Status { code, message }),
        Encoding::Protobuf => {
            let mut body = vec![0x08, code];
            push_bytes(&mut body, 0x12, message.as_bytes());
            body
        }
    }
}

/// The code of gRPC that says the same.
const fn code(status: StatusCode) -> u8 {
    match status {
        StatusCode::UNAUTHORIZED => 16,
        StatusCode::FORBIDDEN => 7,
        StatusCode::PAYLOAD_TOO_LARGE | StatusCode::TOO_MANY_REQUESTS => 8,
        StatusCode::SERVICE_UNAVAILABLE => 14,
        _ => 3,
    }
}

fn json(body: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(body).expect("texts and numbers have a form in JSON")
}

fn push_varint(out: &mut Vec<u8>, mut number: u64) {
    while let Ok(byte) = u8::try_from(number & 0x7f) {
        number >>= 7;
        if number == 0 {
            return out.push(byte);
        }
        out.push(byte | 0x80);
    }
}

fn push_bytes(out: &mut Vec<u8>, key: u8, bytes: &[u8]) {
    out.push(key);
    push_varint(out, u64::try_from(bytes.len()).expect("a message is short"));
    out.extend_from_slice(bytes);
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it so")]
fn as_text<S: serde::Serializer>(number: &u64, into: S) -> Result<S::Ok, S::Error> {
    into.collect_str(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_success_says_what_it_left_out_and_nothing_else() {
        let rejected = || Rejected { rejected_data_points: 300, error_message: "why".to_owned() };
        let json = String::from_utf8(partial_success(Encoding::Json, Some(rejected()))).unwrap();
        let told = r#"{"partialSuccess":{"rejectedDataPoints":"300","errorMessage":"why"}}"#;
        assert_eq!(json, told);
        assert_eq!(partial_success(Encoding::Json, None), b"{}");
        let told = b"\x0a\x08\x08\xac\x02\x12\x03why";
        assert_eq!(partial_success(Encoding::Protobuf, Some(rejected())), told);
        assert_eq!(partial_success(Encoding::Protobuf, None), b"");
    }

    #[test]
    fn a_failure_is_a_status() {
        let (bad, busy) = (StatusCode::BAD_REQUEST, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(status(Encoding::Protobuf, bad, "why"), b"\x08\x03\x12\x03why");
        assert_eq!(status(Encoding::Json, busy, "why"), br#"{"code":14,"message":"why"}"#);
    }
}
