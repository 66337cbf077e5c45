//! What Azure says of its machines: events of a subscription's resources, as Event Grid sends them in its
//! own schema or as `CloudEvents`.

use serde_json::Value;

use super::word::{Verdict, Word, nothing, plain, text};

/// Bytes of a machine's path: its parts have 90 at most, and it has four.
const PATH_LIMIT: usize = 512;
/// What a path of a machine has in it.
const MACHINES: &str = "/providers/microsoft.compute/virtualmachines/";

/// Whether a body is an event, or a list of them, of Event Grid.
pub(super) fn is_event(body: &Value) -> bool {
    let one = body.as_array().map_or(Some(body), |all| all.first());
    one.is_some_and(|one| kind(one).is_some() && !one["id"].is_null())
}

/// The kind of an event, by either schema.
fn kind(event: &Value) -> Option<&str> {
    let is_cloud_event = event["specversion"].is_string();
    event[if is_cloud_event { "type" } else { "eventType" }].as_str()
}

/// What Event Grid wants to hear before it sends anything here, if that is what it asks.
pub(super) fn validation(body: &Value) -> Option<String> {
    let first = body.as_array().map_or(Some(body), |all| all.first())?;
    let is_one = kind(first)? == "Microsoft.EventGrid.SubscriptionValidationEvent";
    is_one.then(|| text(&first["data"]["validationCode"])).filter(|code| !code.is_empty())
}

/// Reads one event.
pub(super) fn word(event: &Value) -> Word {
    let (id, data) = (text(&event["id"]), &event["data"]);
    let operation = data["operationName"].as_str().unwrap_or_default().to_ascii_lowercase();
    let Some(done) = operation.strip_prefix("microsoft.compute/virtualmachines/") else {
        return nothing(id, "an event that is not of a machine");
    };
    let (verdict, said) = match (kind(event).unwrap_or_default(), done) {
        ("Microsoft.Resources.ResourceDeleteSuccess", "delete") => (Verdict::Gone, "is deleted"),
        ("Microsoft.Resources.ResourceActionSuccess", "deallocate/action" | "poweroff/action") => {
            (Verdict::Gone, "is stopped")
        }
        ("Microsoft.Resources.ResourceActionSuccess", "start/action" | "restart/action") => {
            (Verdict::Runs, "runs")
        }
        _ => return nothing(id, "an event that tells nothing of a machine's end"),
    };
    let of_data = plain(&data["resourceUri"], PATH_LIMIT);
    let machine = if of_data.is_empty() { plain(&event["subject"], PATH_LIMIT) } else { of_data };
    if !machine.to_ascii_lowercase().contains(MACHINES) {
        return nothing(id, "an event that names no machine");
    }
    let what = format!("the cloud says that {machine} {said}");
    Word { id, machine, verdict, what }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const MACHINE: &str =
        "/subscriptions/8d10/resourceGroups/shop/providers/Microsoft.Compute/virtualMachines/web-1";

    /// An event with the fields that Azure documents for resources, in either schema.
    fn events(kind: &str, operation: &str) -> [Value; 2] {
        let data = json!({
            "authorization": {}, "claims": {}, "correlationId": "c", "httpRequest": {},
            "operationName": operation, "resourceProvider": "Microsoft.Compute",
            "resourceUri": MACHINE, "status": "Succeeded", "subscriptionId": "8d10",
            "tenantId": "72f9"});
        let own = json!({
            "id": "e1", "topic": "/subscriptions/8d10", "subject": MACHINE, "eventType": kind,
            "eventTime": "2026-09-21T14:13:00.1234567Z", "dataVersion": "2",
            "metadataVersion": "1", "data": data});
        let cloud_event = json!({
            "id": "e1", "source": "/subscriptions/8d10", "subject": MACHINE, "type": kind,
            "time": "2026-09-21T14:13:00.1234567Z", "specversion": "1.0", "data": data});
        [own, cloud_event]
    }

    #[test]
    fn events_of_either_schema_are_read_as_what_they_say_of_a_machine() {
        let (gone, acted) = (
            "Microsoft.Resources.ResourceDeleteSuccess",
            "Microsoft.Resources.ResourceActionSuccess",
        );
        let of = |name: &str| format!("Microsoft.Compute/virtualMachines/{name}");
        for (kind, operation, verdict, part) in [
            (gone, of("delete"), Verdict::Gone, "web-1 is deleted"),
            (acted, of("deallocate/action"), Verdict::Gone, "is stopped"),
            (acted, of("powerOff/action").to_uppercase(), Verdict::Gone, "is stopped"),
            (acted, of("start/action"), Verdict::Runs, "runs"),
            (gone, of("extensions/delete"), Verdict::Nothing, "nothing of"),
            (acted, of("runCommand/action"), Verdict::Nothing, "nothing of"),
            (
                "Microsoft.Resources.ResourceDeleteFailure",
                of("delete"),
                Verdict::Nothing,
                "nothing",
            ),
            ("Microsoft.Resources.ResourceDeleteCancel", of("delete"), Verdict::Nothing, "nothing"),
            (
                gone,
                "Microsoft.Network/virtualNetworks/delete".to_owned(),
                Verdict::Nothing,
                "not of",
            ),
        ] {
            for event in events(kind, &operation) {
                assert!(is_event(&event) && is_event(&json!([event])), "{event}");
                let read = word(&event);
                assert_eq!(read.verdict, verdict, "{event}");
                assert!(read.what.contains(part), "{event}: {}", read.what);
                assert_eq!(read.id, "e1");
                assert_eq!(validation(&event), None);
            }
        }
        let [mut elsewhere, _] = events(gone, &of("delete"));
        elsewhere["data"]["resourceUri"] = json!("/subscriptions/8d10");
        assert!(word(&elsewhere).what.contains("names no machine"));
        elsewhere["data"]["resourceUri"] = json!(null);
        assert_eq!(word(&elsewhere).machine, MACHINE, "its subject says so too");
    }

    #[test]
    fn a_question_before_the_first_event_is_answered_with_its_code() {
        let ask = |code: Value| {
            json!([{"id": "v1", "topic": "/subscriptions/8d10", "subject": "",
                    "eventType": "Microsoft.EventGrid.SubscriptionValidationEvent",
                    "data": {"validationCode": code, "validationUrl": "https://example.org/"}}])
        };
        assert_eq!(validation(&ask(json!("512d38b6"))).as_deref(), Some("512d38b6"));
        for bad in [json!(7), json!(""), json!("x".repeat(200)), json!("a\nb")] {
            assert_eq!(validation(&ask(bad)), None);
        }
        for other in [json!([]), json!({}), json!("x"), json!([[]])] {
            assert!(!is_event(&other) && validation(&other).is_none(), "{other}");
        }
    }
}
