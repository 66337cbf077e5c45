//! The API for programs, in Prometheus' shape.

pub(crate) mod json;
pub(crate) mod meta;
pub(crate) mod query;
pub(crate) mod request;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use self::json::body;

/// An error as Prometheus' API says it.
pub(crate) fn problem(status: StatusCode, kind: &str, message: &str) -> Response {
    let mut text = String::from("{\"status\":\"error\",\"errorType\":");
    json::text(&mut text, kind);
    text.push_str(",\"error\":");
    json::text(&mut text, message);
    text.push('}');
    (status, body(text)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rig::Rig;

    const UP: &str = "up{job=\"a\",instance=\"x\"} 1x59\nup{job=\"b\",instance=\"y\"} 0x59";

    #[tokio::test]
    async fn queries_answer_in_prometheus_shape() {
        let rig = Rig::with("a", UP);
        for (path, json) in [
            (
                "query?query=up{job=\"a\"}&time=120",
                r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{"__name__":"up","instance":"x","job":"a"},"value":[120,"1"]}]}}"#,
            ),
            (
                "query_range?query=sum(up)&start=60&end=120&step=1m",
                r#"{"status":"success","data":{"resultType":"matrix","result":[{"metric":{},"values":[[60,"1"],[120,"1"]]}]}}"#,
            ),
            (
                "query?query=1&time=0.5",
                r#"{"status":"success","data":{"resultType":"scalar","result":[0.5,"1"]}}"#,
            ),
            ("labels", r#"{"status":"success","data":["__name__","instance","job"]}"#),
            ("label/job/values", r#"{"status":"success","data":["a","b"]}"#),
            ("label/job/values?match[]=up{instance=\"y\"}", r#"{"status":"success","data":["b"]}"#),
            (
                "series?match[]=up{job=\"a\"}",
                r#"{"status":"success","data":[{"__name__":"up","instance":"x","job":"a"}]}"#,
            ),
            (
                "labels?limit=1",
                r#"{"status":"success","data":["__name__"],"warnings":["results truncated due to limit"]}"#,
            ),
        ] {
            let path = path.replace('{', "%7B").replace('}', "%7D").replace('"', "%22");
            assert_eq!(
                rig.get(&format!("/api/v1/{path}")).await,
                (StatusCode::OK, json.to_owned()),
                "{path}"
            );
        }
    }

    #[tokio::test]
    async fn a_form_asks_like_an_address() {
        let rig = Rig::with("a", UP);
        let (_, by_form) = rig.post("/api/v1/query", "query=sum(up)&time=120").await;
        let (_, by_address) = rig.get("/api/v1/query?query=sum(up)&time=120").await;
        assert_eq!(by_form, by_address);
        assert!(by_form.contains("[120,\"1\"]"), "{by_form}");
    }

    #[tokio::test]
    async fn what_is_wrong_is_said_with_its_kind() {
        let rig = Rig::with("a", UP);
        for (path, status, kind) in [
            ("query", 400, "bad_data"),
            ("query?query=sum(", 400, "bad_data"),
            ("query?query=up&time=soon", 400, "bad_data"),
            ("query?query=up&timeout=0", 400, "bad_data"),
            ("query?query=up%20%2B%20on()%20up", 422, "execution"),
            ("query_range?query=up&start=0&end=60&step=0", 400, "bad_data"),
            ("query_range?query=up&start=60&end=0&step=60", 400, "bad_data"),
            ("query_range?query=up&start=0&end=60", 400, "bad_data"),
            ("query_range?query=up&start=0&end=1e9&step=1", 400, "bad_data"),
            ("query_range?query=up&start=0&end=60&step=60&resolution=fine", 400, "bad_data"),
            ("series", 400, "bad_data"),
            ("series?match[]=sum(up)", 400, "bad_data"),
            ("labels?limit=few", 400, "bad_data"),
        ] {
            let (answered, body) = rig.get(&format!("/api/v1/{path}")).await;
            assert_eq!(answered.as_u16(), status, "{path}: {body}");
            let json: serde_json::Value = serde_json::from_str(&body).unwrap();
            assert_eq!(
                (&json["status"], &json["errorType"]),
                (&"error".into(), &kind.into()),
                "{path}"
            );
            assert!(!json["error"].as_str().unwrap().is_empty(), "{path}");
        }
    }

    #[tokio::test]
    async fn a_form_over_the_limit_is_refused() {
        let rig = Rig::with("a", "");
        let form = format!("query={}", "a".repeat(request::LONGEST_FORM));
        assert_eq!(rig.post("/api/v1/query", &form).await.0, StatusCode::PAYLOAD_TOO_LARGE);
    }
}
