//! Tests of kinds and grants: who decides, what is put right, and that label values that churn take
//! no more than an instance was granted.

use std::time::Duration;

use rrd::Kind;

use super::support::*;
use crate::accounting::Reason;
use crate::limits::SERIES_GRANT;

const COUNTER: u8 = 1;
const GAUGE: u8 = 2;

fn series(metric: &str, secs: i64, value: f64) -> WriteBody {
    let labels = [("__name__", metric), ("instance", "a:1"), ("job", "j")];
    WriteBody::default().series(&labels, &[(at(secs), value)])
}

fn kind(server: &Server, metric: &str) -> Kind {
    let found = server.parts().store.select(&[]);
    let mut found = found.iter().filter(|one| one.labels.metric() == Some(metric));
    let kind = found.next().unwrap().kind;
    assert!(found.next().is_none(), "one series of {metric}");
    kind
}

#[tokio::test]
async fn what_a_sender_says_within_ten_minutes_puts_a_guess_right_once() {
    let server = Server::start();
    for metric in ["hits", "odd_total", "level"] {
        assert_eq!(server.write(ADMIN, &series(metric, 0, 1.0).0).await.status, 204);
    }
    server.settle().await;
    let kinds = |server: &Server| ["hits", "odd_total", "level"].map(|metric| kind(server, metric));
    assert_eq!(kinds(&server), [Kind::Unknown, Kind::Total, Kind::Unknown]);
    server.clock.advance(Duration::from_mins(1));
    let told = WriteBody::default().family(COUNTER, "hits").family(GAUGE, "odd_total");
    assert_eq!(server.write(ADMIN, &told.family(GAUGE, "level").0).await.status, 204);
    for metric in ["hits", "odd_total", "level"] {
        assert_eq!(server.write(ADMIN, &series(metric, 60, 2.0).0).await.status, 204);
    }
    server.settle().await;
    assert_eq!(kinds(&server), [Kind::Total, Kind::Gauge, Kind::Unknown]);
    let total = server.parts().accounting.total();
    assert_eq!((total.stored, total.in_flight()), (6, 0));

    let told = WriteBody::default().family(GAUGE, "hits");
    assert_eq!(server.write(ADMIN, &told.0).await.status, 204);
    assert_eq!(server.write(ADMIN, &series("hits", 70, 3.0).0).await.status, 204);
    server.settle().await;
    assert_eq!(kind(&server, "hits"), Kind::Total, "what was said is not changed again");
}

#[tokio::test]
async fn samples_that_come_with_the_word_that_changes_their_kind_are_sent_again_and_kept() {
    let server = Server::start();
    assert_eq!(server.write(ADMIN, &series("hits", 0, 1.0).0).await.status, 204);
    server.settle().await;
    let both = series("hits", 60, 2.0).family(COUNTER, "hits").0;
    server.write(ADMIN, &both).await.is(503, "busy");
    assert_eq!(server.write(ADMIN, &both).await.status, 204);
    server.settle().await;
    assert_eq!(kind(&server, "hits"), Kind::Total);
    let total = server.parts().accounting.total();
    assert_eq!((total.received, total.stored, total.in_flight()), (2, 2, 0));
}

#[tokio::test]
async fn an_older_series_keeps_its_kind_and_the_books_say_how_to_change_it() {
    let server = Server::start();
    assert_eq!(server.write(ADMIN, &series("hits", 0, 1.0).0).await.status, 204);
    server.clock.advance(Duration::from_secs(601));
    assert_eq!(
        server.write(ADMIN, &WriteBody::default().family(COUNTER, "hits").0).await.status,
        204
    );
    assert_eq!(server.write(ADMIN, &series("hits", 601, 1.0).0).await.status, 204);
    server.settle().await;
    assert_eq!(kind(&server, "hits"), Kind::Unknown);
    let told = server.get("/api/v1/accounting").await.json["kinds"].to_string();
    assert!(told.contains("roundel instances drop") && told.contains("__name__=hits"), "{told}");
}

#[tokio::test]
async fn after_a_restart_nothing_is_changed_that_was_there_before() {
    let server = Server::start();
    assert_eq!(server.write(ADMIN, &series("hits", 0, 1.0).0).await.status, 204);
    server.settle().await;
    let (disk, registry) = server.stop();
    let server = Server::over(disk, registry);
    assert_eq!(server.write(ADMIN, &series("hits", 10, 1.0).0).await.status, 204);
    assert_eq!(
        server.write(ADMIN, &WriteBody::default().family(COUNTER, "hits").0).await.status,
        204
    );
    server.settle().await;
    assert_eq!(kind(&server, "hits"), Kind::Unknown, "its rows are older than this process");
}

#[tokio::test]
async fn the_operators_word_comes_first() {
    let server = Server::start();
    let rules = [
        (vec!["job=other".to_owned()], Kind::Gauge),
        (vec!["__name__=~app_.+".to_owned(), "job=j".to_owned()], Kind::Total),
    ];
    server.intake.know_kinds(&rules).unwrap();
    let told = WriteBody::default().family(GAUGE, "app_done");
    assert_eq!(server.write(ADMIN, &told.0).await.status, 204);
    assert_eq!(server.write(ADMIN, &series("app_done", 0, 1.0).0).await.status, 204);
    server.settle().await;
    assert_eq!(kind(&server, "app_done"), Kind::Total);
    let wrong = server.intake.know_kinds(&[(vec!["job".to_owned()], Kind::Gauge)]).unwrap_err();
    assert!(wrong.contains("NAME=VALUE"), "{wrong}");
    assert!(server.intake.know_kinds(&[(vec![], Kind::Gauge)]).is_err());
}

#[tokio::test]
async fn label_values_that_churn_take_no_more_than_the_grant_and_known_series_go_on() {
    const VALUES: usize = 10_000;
    const IN_REQUEST: usize = 1_000;
    let server = Server::start();
    let labels = |value: &str| {
        [("__name__", "veth"), ("instance", "a:1"), ("job", "j"), ("device", value)]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
    };
    let add = |body: WriteBody, value: &str, secs: i64| {
        let labels = labels(value);
        let labels: Vec<_> = labels.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        body.series(&labels, &[(at(secs), 1.0)])
    };
    let first = (0..100).fold(WriteBody::default(), |body, n| add(body, &format!("eth{n}"), 0));
    assert_eq!(server.write(ADMIN, &first.0).await.status, 204);
    let mut refused = 0;
    let mut bytes_at_grant = None;
    for round in 0..VALUES / IN_REQUEST {
        let secs = i64::try_from(round).unwrap() + 1;
        let churn = (0..IN_REQUEST)
            .fold(WriteBody::default(), |body, n| add(body, &format!("veth{round}-{n}"), secs));
        let known = (0..100).fold(churn, |body, n| add(body, &format!("eth{n}"), secs));
        let answer = server.write(ADMIN, &known.0).await;
        server.settle().await;
        let held = server.parts().store.instances();
        assert_eq!(held.len(), 1);
        assert!(held[0].series_count <= SERIES_GRANT, "{}", held[0].series_count);
        if answer.status == 400 {
            refused += 1;
            assert!(answer.reasons().iter().all(|reason| *reason == "series_limit"));
            let full = *bytes_at_grant.get_or_insert(held[0].file_len);
            assert_eq!(held[0].file_len, full, "the file does not grow any more");
        }
    }
    assert_eq!(refused, VALUES / IN_REQUEST - 1, "the grant is reached in the second round");
    let total = server.parts().accounting.total();
    let new = u64::try_from(SERIES_GRANT - 100).unwrap();
    let known = 100 * (1 + u64::try_from(VALUES / IN_REQUEST).unwrap());
    assert_eq!(total.refused[&Reason::SeriesLimit], u64::try_from(VALUES).unwrap() - new);
    assert_eq!((total.stored + total.duplicate, total.in_flight()), (new + known, 0));
    let select = |value: &str| {
        let device = rrd::Matcher::new("device", rrd::MatchOp::Equal, value).unwrap();
        server.parts().store.select(&[device]).len()
    };
    assert_eq!((select("eth0"), select("eth99"), select("veth9-0")), (1, 1, 0));
}

/// Ten thousand devices that come and go, a thousand a day, in an instance that may have as many.
#[tokio::test]
async fn what_label_values_kept_that_churned_is_found_in_the_others_of_their_metric() {
    const DAYS: i64 = 11;
    const DAY_SECS: i64 = 25 * 3600;
    const A_DAY: usize = 940;
    let server = Server::start();
    let token = server.token(serde_json::json!({"kind": "relay", "series_quota": 1000})).await;
    let add = |body: WriteBody, device: &str, (secs, value): (i64, f64)| {
        let labels = [("__name__", "veth"), ("device", device), ("instance", "a:1"), ("job", "j")];
        body.series(&labels, &[(at(secs + 60), value), (at(secs + 120), value)])
    };
    let find = |name: &str, value: &str| {
        let matcher = rrd::Matcher::new(name, rrd::MatchOp::Equal, value).unwrap();
        server.parts().store.select(&[matcher])
    };
    let row = |series: &str, secs: i64| {
        let found = find("__name__", series).remove(0);
        assert_eq!(found.labels.get("series"), Some("__other__"));
        let span = rrd::Span::new(at(secs + 60), at(secs + 120)).unwrap();
        server.parts().store.rows_of(&found, 0, span).average
    };
    let mut first = None;
    for day in 0..DAYS {
        let secs = day * DAY_SECS;
        server.clock.advance(Duration::from_secs(if day == 0 { 180 } else { 25 * 3600 }));
        #[expect(clippy::cast_precision_loss, reason = "eleven days")]
        let value = day as f64;
        let running = (0..40)
            .fold(WriteBody::default(), |body, n| add(body, &format!("eth{n}"), (secs, value)));
        assert_eq!(server.write(&token, &running.0).await.status, 204);
        server.settle().await;
        let column = find("device", "eth7")[0].series.column;
        assert_eq!(*first.get_or_insert(column), column, "who runs keeps the column");
        let devices: Vec<String> = (0..A_DAY).map(|n| format!("veth{day}-{n}")).collect();
        for part in devices.chunks(470) {
            let body = part
                .iter()
                .fold(WriteBody::default(), |body, device| add(body, device, (secs, value)));
            let answer = server.write(&token, &body.0).await;
            assert_eq!(answer.status, 204, "day {day}: {:?}", answer.reasons());
        }
        server.settle().await;
        assert!(server.parts().store.instances()[0].series_count <= 1000);
        if day > 0 {
            assert_eq!(row("other:veth:avg", secs - DAY_SECS), [value - 1.0], "day {day}");
            let count = row("other:veth:count", secs - DAY_SECS)[0];
            assert!((900.0..=940.0).contains(&count), "day {day}: {count}");
        }
    }
    let len = server.parts().store.instances()[0].file_len;
    let last = (DAYS - 2) * DAY_SECS;
    let before = row("other:veth:count", last);
    let round = server.parts().store.begin_round(1 << 40, 1);
    assert_eq!(round.write().failed, []);
    server.parts().store.finish_round(1 << 40);
    assert_eq!(row("other:veth:count", last), before);
    assert_eq!(server.parts().store.instances()[0].file_len, len);
    assert_eq!(server.parts().store.damage(), []);
    let total = server.parts().accounting.total();
    assert_eq!((total.stale_generation, total.in_flight()), (0, 0));
}
