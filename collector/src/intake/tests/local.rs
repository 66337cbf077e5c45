//! Tests of the door from inside: what the server gathers itself is named, granted and booked.

use rrd::Kind;

use super::support::*;
use crate::accounting::Reason;
use crate::intake::{Look, LookSample};
use crate::registry::Lifecycle;

fn sample(metric: &str, secs: i64, value: f64) -> LookSample {
    let labels = vec![("__name__".to_owned(), metric.to_owned())];
    LookSample { labels, kind: Kind::Gauge, at: at(secs), value }
}

fn look(samples: Vec<LookSample>) -> Look {
    Look { job: "probe".to_owned(), instance: "shop".to_owned(), samples }
}

#[tokio::test]
async fn a_look_of_our_own_becomes_an_instance_and_balances_in_the_books() {
    let server = Server::start();
    let samples = vec![
        sample("probe_success", 0, 1.0),
        sample("probe_duration_seconds", 0, 0.2),
        sample("", 0, 1.0),
        sample("probe_success", 3600, 1.0),
    ];
    let stored = server.intake.store_local(look(samples)).await.unwrap();
    assert_eq!((stored.samples, stored.refused), (2, 2));
    let reasons: Vec<_> = stored.shown.iter().map(|one| one.reason.as_str()).collect();
    assert_eq!(reasons, ["no_name", "future"]);
    server.settle().await;
    let instance = server.parts().registry.named("probe", "shop").unwrap();
    assert_eq!(instance.labels.get("job"), Some("probe"));
    let books = server.parts().accounting.instance(instance.id);
    assert_eq!((books.received, books.stored, books.in_flight()), (2, 2, 0));
    let total = server.parts().accounting.total();
    assert_eq!((total.received, total.in_flight()), (4, 0));
}

#[tokio::test]
async fn a_withdrawn_target_is_back_with_a_value_and_not_with_a_straggler() {
    let server = Server::start();
    server.intake.store_local(look(vec![sample("probe_success", -120, 1.0)])).await.unwrap();
    let id = server.parts().registry.named("probe", "shop").unwrap().id;
    let path = format!("/v1/instances/{id}/withdraw");
    server.json("POST", &path, ADMIN, serde_json::json!({})).await;
    let stored = server.intake.store_local(look(vec![sample("probe_success", -60, 1.0)])).await;
    let stored = stored.unwrap();
    assert_eq!((stored.samples, stored.refused), (0, 1));
    assert_eq!(server.parts().accounting.total().refused.get(&Reason::Withdrawn), Some(&1));
    server.clock.advance(std::time::Duration::from_mins(1));
    server.intake.store_local(look(vec![sample("probe_success", 60, 1.0)])).await.unwrap();
    let instance = server.parts().registry.instance(id).unwrap();
    assert_eq!(instance.lifecycle, Lifecycle::Active);
}
