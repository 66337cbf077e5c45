//! What GCP says of its machines: entries of the audit log, as Pub/Sub pushes them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::word::{Verdict, Word, nothing, text};

/// Whether a body is a message that Pub/Sub pushes, or an entry of the log without a message around it.
pub(super) fn is_pushed(body: &Value) -> bool {
    (body["message"].is_object() && body["subscription"].is_string()) || is_entry(body)
}

fn is_entry(body: &Value) -> bool {
    body["protoPayload"].is_object() && body["insertId"].is_string()
}

/// Reads what was pushed. What tells nothing of a machine is taken all the same: Pub/Sub would send it
/// again for days.
pub(super) fn word(body: &Value) -> Word {
    if is_entry(body) {
        return entry(body, text(&body["insertId"]));
    }
    let id = text(&body["message"]["messageId"]);
    let data = body["message"]["data"].as_str().and_then(|data| STANDARD.decode(data).ok());
    let read = data.and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
    match read {
        Some(read) if is_entry(&read) => entry(&read, id),
        _ => nothing(id, "a message of Pub/Sub that is no entry of an audit log"),
    }
}

/// An entry of the log: who did what to which machine, or what befell it.
fn entry(entry: &Value, id: String) -> Word {
    let (resource, payload) = (&entry["resource"], &entry["protoPayload"]);
    let method = payload["methodName"].as_str().unwrap_or_default();
    let Some((_, method)) = method.rsplit_once("compute.instances.") else {
        return nothing(id, "an entry of the log that is not of a machine");
    };
    let machine = text(&resource["labels"]["instance_id"]);
    if resource["type"] != "gce_instance" || machine.is_empty() {
        return nothing(id, "an entry of the log that names no machine");
    }
    let has_failed = payload["status"]["code"].as_i64().is_some_and(|code| code != 0);
    if has_failed || entry["severity"] == "ERROR" {
        return nothing(id, "something that was tried with a machine and has failed");
    }
    // What takes its time is told twice; it may fail in between.
    if entry["operation"]["first"] == true && entry["operation"]["last"] != true {
        return nothing(id, "something that has begun with a machine; its end is told too");
    }
    let (verdict, said) = match method {
        "delete" => (Verdict::Gone, "is deleted"),
        "preempted" => (Verdict::Gone, "is taken back (preempted)"),
        "stop" | "guestTerminate" => (Verdict::Gone, "is stopped"),
        "suspend" => (Verdict::Gone, "is suspended"),
        "terminateOnHostMaintenance" => (Verdict::Gone, "is stopped for its host's maintenance"),
        "insert" | "start" | "resume" | "automaticRestart" | "reset" => (Verdict::Runs, "runs"),
        _ => return nothing(id, "an entry of the log that tells nothing of a machine's end"),
    };
    let what = format!("the cloud says that {machine} {said}");
    Word { id, machine, verdict, what }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// An entry with the fields that Google documents for audit logs of machines.
    fn entry_of(method: &str, more: &Value) -> Value {
        let mut entry = json!({
            "insertId": "-a1b2c3",
            "logName": "projects/shop/logs/cloudaudit.googleapis.com%2Factivity",
            "severity": "NOTICE",
            "timestamp": "2026-09-21T14:13:00.123456Z",
            "resource": {"type": "gce_instance", "labels": {
                "instance_id": "6513401010101010101", "project_id": "shop",
                "zone": "europe-west1-b"}},
            "protoPayload": {
                "@type": "type.googleapis.com/google.cloud.audit.AuditLog",
                "serviceName": "compute.googleapis.com", "methodName": method,
                "resourceName": "projects/shop/zones/europe-west1-b/instances/web-1"},
            "operation": {"id": "operation-1", "producer": "compute.googleapis.com", "last": true},
        });
        for (name, value) in more.as_object().unwrap() {
            entry[name.as_str()] = value.clone();
        }
        entry
    }

    fn pushed(data: &str) -> Value {
        json!({"subscription": "projects/shop/subscriptions/roundel",
               "message": {"messageId": "m1", "publishTime": "2026-09-21T14:13:01Z",
                           "attributes": {}, "data": STANDARD.encode(data)}})
    }

    #[test]
    fn entries_of_the_log_are_read_as_what_they_say_of_a_machine() {
        let event = "compute.instances.preempted";
        let begun = json!({"operation": {"id": "o", "first": true}});
        let at_once = json!({"operation": {"id": "o", "first": true, "last": true},
                             "severity": "INFO"});
        let failed = json!({"severity": "ERROR", "protoPayload": {
            "methodName": "v1.compute.instances.delete", "status": {"code": 7}}});
        let refused = json!({"protoPayload": {
            "methodName": "v1.compute.instances.delete", "status": {"code": 7}}});
        let disk = json!({"resource": {"type": "gce_disk", "labels": {"disk_id": "1"}}});
        for (method, more, verdict, part) in [
            ("v1.compute.instances.delete", json!({}), Verdict::Gone, "0101 is deleted"),
            ("beta.compute.instances.delete", json!({}), Verdict::Gone, "is deleted"),
            (event, at_once, Verdict::Gone, "taken back (preempted)"),
            (event, json!({"operation": null}), Verdict::Gone, "taken back"),
            ("v1.compute.instances.stop", json!({}), Verdict::Gone, "is stopped"),
            ("compute.instances.guestTerminate", json!({}), Verdict::Gone, "is stopped"),
            ("v1.compute.instances.suspend", json!({}), Verdict::Gone, "is suspended"),
            ("v1.compute.instances.start", json!({}), Verdict::Runs, "runs"),
            ("compute.instances.automaticRestart", json!({}), Verdict::Runs, "runs"),
            ("v1.compute.instances.delete", begun, Verdict::Nothing, "has begun"),
            ("v1.compute.instances.delete", failed, Verdict::Nothing, "has failed"),
            ("v1.compute.instances.delete", refused, Verdict::Nothing, "has failed"),
            ("v1.compute.instances.delete", disk, Verdict::Nothing, "names no machine"),
            ("v1.compute.instances.setLabels", json!({}), Verdict::Nothing, "nothing of"),
            ("v1.compute.disks.delete", json!({}), Verdict::Nothing, "not of a machine"),
        ] {
            let entry = entry_of(method, &more);
            for body in [pushed(&entry.to_string()), entry] {
                assert!(is_pushed(&body));
                let read = word(&body);
                assert_eq!(read.verdict, verdict, "{method} {more}");
                assert!(read.what.contains(part), "{method} {more}: {}", read.what);
                assert!(!read.id.is_empty());
            }
        }
    }

    #[test]
    fn what_is_no_entry_of_a_log_is_taken_and_passed_over() {
        let mut bad = pushed("");
        bad["message"]["data"] = json!("%");
        for body in [pushed("hello"), pushed("{}"), pushed("7"), bad] {
            assert_eq!(word(&body).verdict, Verdict::Nothing, "{body}");
        }
        for other in [json!({}), json!({"message": "m", "subscription": "s"}), json!([])] {
            assert!(!is_pushed(&other), "{other}");
        }
    }
}
