//! What an event means: which machine, and whether it is gone.

use serde_json::Value;

use super::{azure, gcp};

/// Bytes of an id that we look up or remember.
const ID_LIMIT: usize = 128;
/// Bytes of an address that a person is asked to open.
const ADDRESS_LIMIT: usize = 2_048;

/// An event, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Word {
    /// The event's own id; empty when it has none.
    pub(super) id: String,
    /// What the cloud calls the machine.
    pub(super) machine: String,
    pub(super) verdict: Verdict,
    /// The event in words.
    pub(super) what: String,
}

/// What an event says of its machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is, or will be, gone.
    Gone,
    /// It runs.
    Runs,
    /// Nothing that matters here.
    Nothing,
    /// A person has to do something in the cloud.
    Person,
}

/// What a body holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// One event.
    One(Word),
    /// Several in one body.
    Many(Vec<Word>),
    /// A question that is to be answered with this.
    Validation(String),
}

/// Reads what a cloud sends, whichever it is. Errors in words.
pub(super) fn told(body: &[u8]) -> Result<Told, String> {
    let event: Value = serde_json::from_slice(body)
        .map_err(|error| format!("the body is not the JSON expected: {error}"))?;
    // Of SNS' messages a signature covers some parts alone: the others must not make another event of it.
    if event["Type"].is_string() {
        return of_aws(&event).map(Told::One);
    }
    if azure::is_event(&event) {
        return Ok(match (azure::validation(&event), event.as_array()) {
            (Some(code), _) => Told::Validation(code),
            (None, Some(all)) => Told::Many(all.iter().map(azure::word).collect()),
            (None, None) => Told::One(azure::word(&event)),
        });
    }
    if gcp::is_pushed(&event) {
        return Ok(Told::One(gcp::word(&event)));
    }
    of_aws(&event).map(Told::One)
}

/// Reads an event of `EventBridge`, or a notification of SNS around one.
fn of_aws(event: &Value) -> Result<Word, String> {
    match event["Type"].as_str() {
        Some("Notification") => notification(event),
        Some(kind @ ("SubscriptionConfirmation" | "UnsubscribeConfirmation")) => {
            Ok(subscription(event, kind))
        }
        _ => bridge(event, text(&event["id"])),
    }
}

fn notification(envelope: &Value) -> Result<Word, String> {
    let message = envelope["Message"].as_str().unwrap_or_default();
    let id = text(&envelope["MessageId"]);
    let Ok(event) = serde_json::from_str::<Value>(message) else {
        return Ok(nothing(id, "a notification that is no event of a machine"));
    };
    if event.get("detail-type").is_some() {
        return bridge(&event, id);
    }
    // An autoscaling group tells SNS in words of its own.
    let said = [&event["Event"], &event["LifecycleTransition"]];
    let said = said.into_iter().find_map(Value::as_str).unwrap_or_default();
    let machine = text(&event["EC2InstanceId"]);
    let verdict = match said {
        "autoscaling:EC2_INSTANCE_TERMINATE" | "autoscaling:EC2_INSTANCE_TERMINATING" => {
            Verdict::Gone
        }
        "autoscaling:EC2_INSTANCE_LAUNCH" | "autoscaling:EC2_INSTANCE_LAUNCHING" => Verdict::Runs,
        _ => return Ok(nothing(id, "a notification that tells nothing of a machine")),
    };
    named(Word {
        id,
        what: format!("the autoscaling group says {said} of {machine}"),
        machine,
        verdict,
    })
}

fn subscription(envelope: &Value, kind: &str) -> Word {
    let url = envelope["SubscribeURL"].as_str().unwrap_or_default();
    let is_address = url.starts_with("https://") && url.len() <= ADDRESS_LIMIT;
    if is_address && !url.chars().any(char::is_control) {
        tracing::warn!(url, kind, "SNS asks a person to open this address");
    }
    Word {
        id: text(&envelope["MessageId"]),
        machine: String::new(),
        verdict: Verdict::Person,
        what: "SNS asks for its subscription to be confirmed: open the address in the log"
            .to_owned(),
    }
}

fn bridge(event: &Value, id: String) -> Result<Word, String> {
    let kind = event["detail-type"].as_str().unwrap_or_default();
    let detail = &event["detail"];
    let of = |machine: &Value, verdict, said: String| {
        let machine = text(machine);
        let what = format!("the cloud says that {machine} {said}");
        named(Word { id: id.clone(), machine, verdict, what })
    };
    match kind {
        "EC2 Instance State-change Notification" => {
            let state = detail["state"].as_str().unwrap_or_default();
            let verdict = match state {
                "terminated" | "shutting-down" | "stopped" | "stopping" => Verdict::Gone,
                "running" | "pending" => Verdict::Runs,
                _ => return Ok(nothing(id, "a state of a machine that is not known here")),
            };
            of(&detail["instance-id"], verdict, format!("is {state}"))
        }
        "EC2 Spot Instance Interruption Warning" => {
            let action = text(&detail["instance-action"]);
            let said = format!("is taken back from spot ({action})");
            of(&detail["instance-id"], Verdict::Gone, said)
        }
        "EC2 Instance-terminate Lifecycle Action" | "EC2 Instance Terminate Successful" => {
            let group = text(&detail["AutoScalingGroupName"]);
            let said = format!("leaves autoscaling group {group}");
            of(&detail["EC2InstanceId"], Verdict::Gone, said)
        }
        "EC2 Instance-launch Lifecycle Action" | "EC2 Instance Launch Successful" => {
            of(&detail["EC2InstanceId"], Verdict::Runs, "was launched".to_owned())
        }
        "" => Err("this is no event of EventBridge, SNS, Pub/Sub or Event Grid: it has neither \
                   detail-type, Type, message nor eventType"
            .to_owned()),
        _ => Ok(nothing(id, "an event of a kind that tells nothing of a machine's end")),
    }
}

fn named(word: Word) -> Result<Word, String> {
    if word.machine.is_empty() {
        return Err("the event names no machine".to_owned());
    }
    Ok(word)
}

pub(super) fn nothing(id: String, what: &str) -> Word {
    Word { id, machine: String::new(), verdict: Verdict::Nothing, what: what.to_owned() }
}

/// A short plain text; anything else is none.
pub(super) fn text(value: &Value) -> String {
    plain(value, ID_LIMIT)
}

/// A plain text of so many bytes at most; anything else is none.
pub(super) fn plain(value: &Value, limit: usize) -> String {
    let is_plain = |text: &&str| text.len() <= limit && !text.chars().any(char::is_control);
    value.as_str().filter(is_plain).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn events_are_read_as_what_they_say_of_a_machine() {
        let state = |state: &str| {
            json!({"id": "e1", "detail-type": "EC2 Instance State-change Notification",
                   "source": "aws.ec2", "detail": {"instance-id": "i-1", "state": state}})
        };
        let spot = json!({"id": "e1", "detail-type": "EC2 Spot Instance Interruption Warning",
                          "detail": {"instance-id": "i-1", "instance-action": "terminate"}});
        let hook = json!({"id": "e1", "detail-type": "EC2 Instance-terminate Lifecycle Action",
                          "detail": {"EC2InstanceId": "i-1", "AutoScalingGroupName": "web"}});
        let inside = |event: Value| json!({"Type": "Notification", "MessageId": "m1", "Message": event.to_string()});
        let group = json!({"Event": "autoscaling:EC2_INSTANCE_TERMINATE", "EC2InstanceId": "i-1"});
        for (event, verdict, part) in [
            (state("terminated"), Verdict::Gone, "i-1 is terminated"),
            (state("shutting-down"), Verdict::Gone, "shutting-down"),
            (state("stopped"), Verdict::Gone, "stopped"),
            (state("running"), Verdict::Runs, "running"),
            (state("dreaming"), Verdict::Nothing, "not known"),
            (spot.clone(), Verdict::Gone, "taken back from spot (terminate)"),
            (hook, Verdict::Gone, "leaves autoscaling group web"),
            (inside(spot), Verdict::Gone, "spot"),
            (inside(group), Verdict::Gone, "EC2_INSTANCE_TERMINATE of i-1"),
            (inside(json!("hello")), Verdict::Nothing, "nothing of a machine"),
            (json!({"detail-type": "Scheduled Event"}), Verdict::Nothing, "no"),
        ] {
            let Ok(Told::One(read)) = told(event.to_string().as_bytes()) else {
                panic!("{event}");
            };
            assert_eq!(read.verdict, verdict, "{event}");
            assert!(read.what.contains(part), "{event}: {}", read.what);
        }
        // What SNS did not sign does not make another event of its message.
        let mut dressed = inside(json!("hello"));
        let event = json!({"specversion": "1.0", "type": "Microsoft.Resources.ResourceDeleteSuccess",
            "id": "e", "data": {"operationName": "Microsoft.Compute/virtualMachines/delete",
            "resourceUri": "/providers/Microsoft.Compute/virtualMachines/web"}});
        let entry = json!({"insertId": "i", "severity": "INFO",
            "protoPayload": {"methodName": "v1.compute.instances.delete"},
            "resource": {"type": "gce_instance", "labels": {"instance_id": "1"}}});
        for more in [event, entry] {
            let Ok(Told::One(plain)) = told(more.to_string().as_bytes()) else { panic!("{more}") };
            assert_eq!(plain.verdict, Verdict::Gone);
            dressed.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let Ok(Told::One(read)) = told(dressed.to_string().as_bytes()) else {
                panic!("{dressed}");
            };
            assert_eq!(read.verdict, Verdict::Nothing);
        }
        for bad in ["{}", "[", "7", r#"{"detail-type":"EC2 Instance Terminate Successful"}"#] {
            assert!(told(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
