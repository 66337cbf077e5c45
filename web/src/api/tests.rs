//! The API as a client sees it, over series in memory.

use axum::body::Body;
use axum::http::{Request, header};
use serde_json::{Value, json};

use super::*;
use crate::rig::{ADMIN, Rig, text};

const UP: &str = "up{job=\"a\",instance=\"x\"} 1x59\nup{job=\"b\",instance=\"y\"} 0x59";

fn escaped(path: &str) -> String {
    let mut path = path.replace(' ', "%20");
    for (letter, code) in [("{", "%7B"), ("}", "%7D"), ("\"", "%22"), ("[", "%5B"), ("]", "%5D")] {
        path = path.replace(letter, code);
    }
    format!("/api/v1/{path}")
}

async fn ask(rig: &Rig, path: &str) -> (StatusCode, String) {
    rig.get(&escaped(path)).await
}

#[tokio::test]
async fn questions_answer_in_prometheus_shape() {
    let rig = Rig::with("a", UP);
    for (path, data) in [
        (
            "query?query=up{job=\"a\"}&time=120",
            r#"{"resultType":"vector","result":[{"metric":{"__name__":"up","instance":"x","job":"a"},"value":[120,"1"]}]}"#,
        ),
        (
            "query_range?query=sum(up)&start=60&end=120&step=1m",
            r#"{"resultType":"matrix","result":[{"metric":{},"values":[[60,"1"],[120,"1"]]}]}"#,
        ),
        (
            "query_range?query=vector(2)&start=0&end=2.5&step=0.7",
            r#"{"resultType":"matrix","result":[{"metric":{},"values":[[0,"2"],[0.700,"2"],[1.400,"2"],[2.100,"2"]]}]}"#,
        ),
        ("query?query=1&time=0.5", r#"{"resultType":"scalar","result":[0.5,"1"]}"#),
        ("query?query=1e-7&time=5", r#"{"resultType":"scalar","result":[5,"0.0000001"]}"#),
        (
            "query?query=vector(1e-7)&time=5",
            r#"{"resultType":"vector","result":[{"metric":{},"value":[5,"1e-07"]}]}"#,
        ),
        ("query?query=\"a\"&time=1.5", r#"{"resultType":"string","result":[1.5,"a"]}"#),
        ("labels", r#"["__name__","instance","job"]"#),
        ("label/job/values", r#"["a","b"]"#),
        ("label/job/values?match[]=up{instance=\"y\"}", r#"["b"]"#),
        ("label/job/values?start=4000", "[]"),
        ("label/none/values", "[]"),
        ("series?match[]=up{job=\"a\"}", r#"[{"__name__":"up","instance":"x","job":"a"}]"#),
        (
            "series?match[]=up{job=\"a\"}&match[]=up&limit=5",
            r#"[{"__name__":"up","instance":"x","job":"a"},{"__name__":"up","instance":"y","job":"b"}]"#,
        ),
        ("metadata", r#"{"up":[{"type":"gauge","help":"","unit":""}]}"#),
        ("metadata?metric=down", "{}"),
        ("format_query?query=sum(up)by(job)", r#""sum by (job) (up)""#),
        ("query_exemplars?query=up&start=0&end=1", "[]"),
    ] {
        let whole = format!("{{\"status\":\"success\",\"data\":{data}}}");
        assert_eq!(ask(&rig, path).await, (StatusCode::OK, whole), "{path}");
    }
}

#[tokio::test]
async fn what_is_cut_is_said_and_begins_at_the_beginning() {
    let rig = Rig::with("a", UP);
    let warning = r#","warnings":["results truncated due to limit"]}"#;
    for (path, data) in [
        ("labels?limit=1", r#"["__name__"]"#),
        ("label/job/values?limit=1", r#"["a"]"#),
        ("series?match[]=up&limit=1", r#"[{"__name__":"up","instance":"x","job":"a"}]"#),
        (
            "query?query=sort_desc(up)&time=120&limit=1",
            r#"{"resultType":"vector","result":[{"metric":{"__name__":"up","instance":"x","job":"a"},"value":[120,"1"]}]}"#,
        ),
        (
            "query_range?query=up&start=60&end=60&step=1&limit=1",
            r#"{"resultType":"matrix","result":[{"metric":{"__name__":"up","instance":"x","job":"a"},"values":[[60,"1"]]}]}"#,
        ),
    ] {
        let whole = format!("{{\"status\":\"success\",\"data\":{data}{warning}");
        assert_eq!(ask(&rig, path).await, (StatusCode::OK, whole), "{path}");
    }
}

#[tokio::test]
async fn a_form_asks_like_an_address() {
    let rig = Rig::with("a", UP);
    for path in ["query", "query_range", "series", "labels", "format_query", "query_exemplars"] {
        let asked = "query=sum(up)&time=120&start=0&end=120&step=60&match%5B%5D=up";
        let (status, by_form) = rig.post(&format!("/api/v1/{path}"), asked).await;
        let by_address = rig.get(&format!("/api/v1/{path}?{asked}")).await;
        assert_eq!((status, by_form), by_address, "{path}");
        assert_eq!(by_address.0, StatusCode::OK, "{path}");
    }
}

#[tokio::test]
async fn stats_say_which_rows_answered() {
    let rig = Rig::with("a", UP);
    let (_, text) = ask(&rig, "query?query=up&time=120&stats=all").await;
    let answer: Value = serde_json::from_str(&text).unwrap();
    let stats = &answer["data"]["stats"];
    assert_eq!(stats["resolutions"], json!([{ "step": 60, "first": 120, "last": 120 }]));
    for name in ["evalTotalTime", "execQueueTime", "execTotalTime", "innerEvalTime"] {
        assert!(stats["timings"][name].is_number(), "{name}: {text}");
    }
}

#[tokio::test]
async fn a_lookback_of_the_asker_is_taken_and_said_to_be_unused() {
    let rig = Rig::with("a", UP);
    let (status, text) = ask(&rig, "query?query=up&time=120&lookback_delta=1m").await;
    assert_eq!(status, StatusCode::OK);
    assert!(text.contains("\"warnings\":[\"lookback_delta is not used"), "{text}");
}

#[tokio::test]
async fn a_tree_has_prometheus_names() {
    let (_, text) = ask(&Rig::with("a", ""), "parse_query?query=sum by (job) (rate(up[5m]))").await;
    let answer: Value = serde_json::from_str(&text).unwrap();
    let tree = &answer["data"];
    assert_eq!((&tree["type"], &tree["op"]), (&json!("aggregation"), &json!("sum")));
    assert_eq!(tree["grouping"], json!(["job"]));
    assert_eq!(tree["expr"]["type"], "call");
    assert_eq!(tree["expr"]["args"][0]["type"], "matrixSelector");
    assert_eq!(tree["expr"]["args"][0]["range"], 300_000);
}

#[tokio::test]
async fn alerts_and_rules_are_those_of_the_alerter() {
    let rig = Rig::with("a", "");
    let alert = json!({
        "labels": { "alertname": "cpu-busy", "instance": "a", "severity": "critical", "team": "web" },
        "annotations": { "summary": crate::rig::HOSTILE, "threshold": "> 95 %", "value": "96 %" },
        "state": "firing", "activeAt": "1970-01-01T00:50:00Z", "value": "1e+06",
    });
    let (_, text) = ask(&rig, "alerts").await;
    let answer: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(answer["data"], json!({ "alerts": [alert] }));
    let (_, text) = ask(&rig, "rules").await;
    let answer: Value = serde_json::from_str(&text).unwrap();
    let group = &answer["data"]["groups"][0];
    assert_eq!((&group["name"], &group["file"]), (&json!("host"), &json!("host.toml")));
    assert_eq!(group["interval"], 60);
    assert_eq!(group["rules"][0]["alerts"], json!([alert]));
    let idle = json!({
        "state": "inactive", "name": "idle", "query": "cpu", "duration": 300, "keepFiringFor": 0,
        "labels": { "team": "web" }, "annotations": { "summary": "busy" }, "alerts": [],
        "health": "ok", "evaluationTime": 0, "lastEvaluation": "1970-01-01T00:59:00Z",
        "type": "alerting",
    });
    assert_eq!(group["rules"][1], idle);
    for (choice, count) in [
        ("type=alert", 2),
        ("type=record", 0),
        ("rule_name[]=idle", 1),
        ("rule_name[]=idle&rule_name[]=cpu-busy", 2),
        ("rule_group[]=disk", 0),
        ("file[]=host.toml&exclude_alerts=true", 2),
    ] {
        let (_, text) = ask(&rig, &format!("rules?{choice}")).await;
        assert_eq!(text.matches("\"type\":\"alerting\"").count(), count, "{choice}: {text}");
        assert_eq!(
            text.contains("\"alerts\":"),
            count > 0 && !choice.contains("exclude"),
            "{text}"
        );
    }
}

#[tokio::test]
async fn what_is_wrong_is_said_as_prometheus_says_it() {
    let rig = Rig::with("a", UP);
    let none = "invalid parameter \"query\": 1:1: parse error: no expression found in input";
    let points = "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the \
        query resolution (?step=XX)";
    let step = "invalid parameter \"step\": zero or negative query resolution step widths are not \
        accepted. Try a positive integer";
    for (path, status, kind, message) in [
        ("query", 400, "bad_data", none),
        ("query?query=", 400, "bad_data", none),
        ("query?query=sum(", 400, "bad_data", "invalid parameter \"query\": "),
        ("query?query=frobnicate(up)", 400, "bad_data", "invalid parameter \"query\": "),
        (
            "query?query=up&time=soon",
            400,
            "bad_data",
            "invalid parameter \"time\": cannot parse \"soon\" to a valid timestamp",
        ),
        (
            "query?query=up&timeout=x",
            400,
            "bad_data",
            "invalid parameter \"timeout\": cannot parse \"x\" to a valid duration",
        ),
        ("query?query=up&timeout=0", 503, "timeout", "query timed out in "),
        ("query?query=up&limit=few", 400, "bad_data", "limit must be a number"),
        (
            "query?query=up&lookback_delta=x",
            400,
            "bad_data",
            "invalid parameter \"lookback_delta\": ",
        ),
        ("query?query=up%20%2B%20on()%20up", 422, "execution", ""),
        (
            "query_range?query=up&end=60&step=1",
            400,
            "bad_data",
            "invalid parameter \"start\": cannot parse \"\" to a valid timestamp",
        ),
        (
            "query_range?query=up&start=x&end=60&step=1",
            400,
            "bad_data",
            "invalid parameter \"start\": cannot parse \"x\" to a valid timestamp",
        ),
        (
            "query_range?query=up&start=0&end=60",
            400,
            "bad_data",
            "invalid parameter \"step\": cannot parse \"\" to a valid duration",
        ),
        ("query_range?query=up&start=0&end=60&step=0", 400, "bad_data", step),
        ("query_range?query=up&start=0&end=60&step=-1", 400, "bad_data", step),
        (
            "query_range?query=up&start=60&end=0&step=60",
            400,
            "bad_data",
            "invalid parameter \"end\": end timestamp must not be before start time",
        ),
        ("query_range?query=up&start=0&end=1e9&step=1", 400, "bad_data", points),
        ("query_range?start=0&end=1&step=1", 400, "bad_data", none),
        (
            "query_range?query=up[1m]&start=0&end=1&step=1",
            400,
            "bad_data",
            "invalid expression type \"range vector\" for range query, must be Scalar or instant Vector",
        ),
        (
            "query_range?query=up&start=0&end=60&step=60&resolution=fine",
            400,
            "bad_data",
            "invalid parameter \"resolution\": ",
        ),
        ("series", 400, "bad_data", "no match[] parameter provided"),
        ("series?match[]=sum(up)", 400, "bad_data", "invalid parameter \"match[]\": "),
        ("series?match[]={job=~\".*\"}", 400, "bad_data", "invalid parameter \"match[]\": "),
        ("series?match[]=up&start=x", 400, "bad_data", "invalid parameter \"start\": "),
        ("labels?limit=few", 400, "bad_data", "limit must be a number"),
        ("labels?match[]=up{", 400, "bad_data", "invalid parameter \"match[]\": "),
        ("label/a-b/values", 400, "bad_data", "invalid label name: \"a-b\""),
        ("metadata?limit=x", 400, "bad_data", "limit must be a number"),
        ("rules?type=x", 400, "bad_data", "invalid parameter \"type\": not supported value \"x\""),
        (
            "query_exemplars?query=up&start=1&end=0",
            400,
            "bad_data",
            "end timestamp must not be before start timestamp",
        ),
        ("format_query?query=sum(", 400, "bad_data", "invalid parameter \"query\": "),
        ("parse_query", 400, "bad_data", none),
    ] {
        check_problem(ask(&rig, path).await, (path, status, kind, message));
    }
}

#[track_caller]
fn check_problem(
    (answered, body): (StatusCode, String),
    (asked, status, kind, message): (&str, u16, &str, &str),
) {
    assert_eq!(answered.as_u16(), status, "{asked}: {body}");
    let json: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((&json["status"], &json["errorType"]), (&json!("error"), &json!(kind)), "{asked}");
    let said = json["error"].as_str().unwrap();
    assert!(said.starts_with(message) && !said.is_empty(), "{asked}: {said}");
}

#[tokio::test]
async fn a_body_that_is_no_form_asks_nothing() {
    let rig = Rig::with("a", UP);
    let post = async |kind: &str, address: &str, body: &str| {
        let request = Request::post(format!("/api/v1/query{address}"))
            .header(header::AUTHORIZATION, format!("Bearer {ADMIN}"))
            .header(header::CONTENT_TYPE, kind);
        text(rig.send(request.body(Body::from(body.to_owned())).unwrap()).await).await
    };
    let form = "application/x-www-form-urlencoded";
    let none = "invalid parameter \"query\": 1:1: parse error: no expression found in input";
    for (kind, body) in
        [("application/json", "{\"query\":\"1\"}"), ("text/plain", "query=1"), (form, "")]
    {
        check_problem(post(kind, "", body).await, (kind, 400, "bad_data", none));
    }
    // The address counts whatever the body is.
    assert_eq!(post("text/plain", "?query=1", "").await.0, StatusCode::OK);
    let long = format!("query={}", "a".repeat(request::LONGEST_FORM));
    check_problem(post(form, "", &long).await, ("too long", 413, "bad_data", ""));
}

#[tokio::test]
async fn a_server_that_recovers_answers_no_query() {
    let rig = Rig::with("a", UP);
    rig.health.set_ready(false);
    for path in ["query?query=1", "series?match[]=up", "metadata"] {
        check_problem(ask(&rig, path).await, (path, 503, "unavailable", ""));
    }
}
