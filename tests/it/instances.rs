//! Instances at the operator's command: listed, changed, shrunk, given back, by the program itself.

use fixtures::remote_write::Series;
use serde_json::Value;

use crate::http;
use crate::server::{Server, folder, roundel};

/// The line of `list` that names this instance.
#[track_caller]
fn line<'a>(list: &'a str, name: &str) -> Vec<&'a str> {
    let lines = list.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    lines.into_iter().find(|words| words.get(2) == Some(&name)).unwrap()
}

#[track_caller]
fn said(server: &Server, arguments: &[&str]) -> String {
    server.said(&[&["instances"], arguments].concat())
}

#[track_caller]
fn refusal(server: &Server, arguments: &[&str]) -> String {
    let output = server.asked(&[&["instances"], arguments].concat());
    assert_eq!(output.status.code(), Some(1), "{arguments:?} was not refused");
    String::from_utf8(output.stderr).unwrap()
}

/// A sample of each of these metrics of an instance, now.
async fn send(server: &Server, instance: &str, metrics: &[&str]) {
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis();
    let now = i64::try_from(now).unwrap();
    let series = |metric: &&str| {
        Series::new(&[("__name__", *metric), ("instance", instance), ("job", "it")])
            .reading(now, 1.0)
    };
    let series: Vec<_> = metrics.iter().map(series).collect();
    let answer = http::remote_write(&server.url, &series).await.unwrap();
    assert_eq!(answer.status, 204, "{}", answer.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_lists_changes_drops_withdraws_and_reclaims() {
    let dir = folder();
    let server = Server::start(dir.path(), &["--policy", "1m:2d,5m:14d", "--disk-limit", "1GiB"]);
    send(&server, "web-1", &["up", "load", "lost"]).await;
    send(&server, "web-2", &["up"]).await;
    let list = said(&server, &["list"]);
    assert_eq!(list.lines().count(), 2, "{list}");
    let web = line(&list, "web-1");
    assert_eq!((&web[3..5], web[7]), (&["3", "series"][..], "1m:2d,5m:14d"), "{list}");

    let days = said(&server, &["policy", "web-1", "1m:2d,1d@Europe/Paris:5y", "--dry-run"]);
    assert!(days.contains("loses rows of 5m, of which there are 14 days; wider"), "{days}");
    let shorter = said(&server, &["policy", "web-1", "1m:2d", "--dry-run"]);
    assert!(shorter.contains("loses rows of 5m, of which there are 14 days\n"), "{shorter}");
    let tried = said(&server, &["policy", "web-1", "5m:7d,1h:90d", "--dry-run"]);
    assert!(tried.contains("loses rows of 1m") && tried.contains("nothing was changed"), "{tried}");
    let changed = said(&server, &["policy", "web-1", "5m:7d,1h:90d"]);
    assert!(changed.contains("changed; the file follows"), "{changed}");
    let busy = refusal(&server, &["policy", "web-1", "5m:8d"]);
    assert!(busy.contains("being changed already; try again in a minute (status 409)"), "{busy}");
    let list: Value = serde_json::from_str(&said(&server, &["list", "--json"])).unwrap();
    let web = list.as_array().unwrap().iter().find(|one| one["name"] == "web-1").unwrap();
    assert_eq!(web["archive"]["policy"], "5m:7d,1h:90d");

    let listed = said(&server, &["drop", "web-1", "--match", "__name__=~lo.*", "--dry-run"]);
    assert!(
        listed.contains("lost") && listed.ends_with("2 series would go; nothing was changed\n")
    );
    let dropped = said(&server, &["drop", "web-1", "--match", "__name__=~lo.*"]);
    assert!(dropped.contains("2 series dropped"), "{dropped}");

    assert!(refusal(&server, &["reclaim", "web-2"]).contains("withdraw it first (status 409)"));
    assert_eq!(said(&server, &["withdraw", "web-2", "--reason", "gone"]), "withdrawn\n");
    let id =
        list.as_array().unwrap().iter().find(|one| one["name"] == "web-2").unwrap()["id"].clone();
    let reclaimed = said(&server, &["reclaim", id.as_str().unwrap()]);
    assert!(reclaimed.contains("are free within a minute"), "{reclaimed}");
    let list = said(&server, &["list"]);
    assert_eq!(line(&list, "web-2")[1..5], ["reclaimed", "web-2", "no", "archive"], "{list}");
    assert!(list.contains("withdrawn by an operator: gone"), "{list}");

    // A last round writes what was changed; the next server has it.
    assert!(server.stop().success());
    let archives = std::fs::read_dir(dir.path().join("data/archives")).unwrap().count();
    assert_eq!(archives, 1, "the archive of web-2 is gone");
    let server = Server::start(dir.path(), &[]);
    let list = said(&server, &["list"]);
    let web = line(&list, "web-1");
    assert_eq!((&web[3..5], web[7]), (&["1", "series"][..], "5m:7d,1h:90d"), "{list}");
    let limit = std::fs::read_to_string(dir.path().join("data/disk-limit")).unwrap();
    assert!(limit.trim().parse::<u64>().unwrap() > 0, "kept at the first start without a limit");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_operator_got_wrong_is_told() {
    let dir = folder();
    let server = Server::start(dir.path(), &[]);
    send(&server, "web-1", &["up"]).await;
    assert!(refusal(&server, &["policy", "web-9", "1m:1d"]).contains("no instance has this name"));
    assert!(refusal(&server, &["policy", "web-1", "90s:1d"]).contains("its finest step is 1m"));
    assert!(refusal(&server, &["drop", "web-1", "--match", "up"]).contains("write NAME=VALUE"));
    let mut stranger = roundel();
    stranger.env("ROUNDEL_ADMIN_TOKEN", "x").args(["instances", "--server", &server.url, "list"]);
    let complaint = String::from_utf8(stranger.output().unwrap().stderr).unwrap();
    assert!(complaint.contains("ROUNDEL_ADMIN_TOKEN is not the one"), "{complaint}");
    let mut alone = roundel();
    alone.env_remove("ROUNDEL_ADMIN_TOKEN").args(["instances", "list"]);
    let complaint = String::from_utf8(alone.output().unwrap().stderr).unwrap();
    assert!(complaint.contains("ROUNDEL_ADMIN_TOKEN"), "{complaint}");
    let nobody = roundel().args(["instances", "list", "--server", "http://127.0.0.1:1"]).output();
    let complaint = String::from_utf8(nobody.unwrap().stderr).unwrap();
    assert!(complaint.contains("is the server running"), "{complaint}");
}
