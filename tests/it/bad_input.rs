//! Bad input from outside: a clear answer each, the process lives, nothing acknowledged is lost.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use ::http::{Request, StatusCode};
use bytes::Bytes;
use fixtures::remote_write::Series;
use http_body_util::Full;

use crate::http;
use crate::peers::not_run;
use crate::server::{ADMIN, Server, eventually, folder};
use crate::steady::now_secs;

const POLICY: [&str; 2] = ["--policy", "1s:10m,1m:1d"];

pub(crate) fn write_request(url: &str, token: &str, body: Vec<u8>) -> Request<Full<Bytes>> {
    Request::post(format!("{url}/api/v1/write"))
        .header("authorization", format!("Bearer {token}"))
        .header("content-type", "application/x-protobuf")
        .header("content-encoding", "snappy")
        .body(Full::from(body))
        .unwrap()
}

fn gauge(instance: &str, at_secs: u64, value: f64) -> Series {
    Series::new(&[("__name__", "level"), ("job", "bad"), ("instance", instance)])
        .reading(i64::try_from(at_secs).unwrap() * 1000, value)
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_requests_get_their_status_and_the_server_lives() {
    let dir = folder();
    let mut server = Server::start(dir.path(), &POLICY);
    let good = fixtures::remote_write::body(&[gauge("a", now_secs(), 1.0)]);
    let bomb = vec![0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0, 0, 0, 0];
    for (what, token, body, status) in [
        ("a wrong token", "wrong", good.clone(), StatusCode::UNAUTHORIZED),
        ("a body that is no snappy", ADMIN, vec![7; 100], StatusCode::BAD_REQUEST),
        ("a header that claims 4 GiB", ADMIN, bomb, StatusCode::BAD_REQUEST),
        ("a body over the limit", ADMIN, vec![0; 9 << 20], StatusCode::PAYLOAD_TOO_LARGE),
    ] {
        let answer = http::send(write_request(&server.url, token, body)).await;
        // A server that refuses a large body may close before all of it is sent.
        if let Some(answer) = answer {
            assert_eq!(answer.status, status, "{what}: {}", answer.text());
        }
        assert!(server.lives(), "{what}");
    }
    let answer = http::send(write_request(&server.url, ADMIN, good)).await.unwrap();
    assert!(answer.status.is_success(), "{}", answer.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_and_api_are_closed_without_a_credential() {
    let dir = folder();
    let server = Server::start(dir.path(), &[]);
    for (path, status) in [
        ("/", StatusCode::SEE_OTHER),
        ("/alerts", StatusCode::SEE_OTHER),
        ("/api/v1/query?query=up", StatusCode::UNAUTHORIZED),
        ("/v1/instances", StatusCode::UNAUTHORIZED),
        ("/healthz", StatusCode::OK),
        ("/readyz", StatusCode::OK),
    ] {
        let answer = http::get_bare(&format!("{}{path}", server.url)).await;
        assert_eq!(answer.status, status, "{path}");
    }
}

/// The one archive of a data folder.
fn archive(dir: &Path) -> PathBuf {
    let files = fs::read_dir(dir.join("data/archives")).unwrap();
    files
        .map(|file| file.unwrap().path())
        .find(|p| p.extension().is_some_and(|e| e == "rrd"))
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_truncated_archive_is_reported_and_the_others_go_on() {
    let dir = folder();
    let server = Server::start(dir.path(), &POLICY);
    let now = now_secs();
    for at in now - 10..now {
        http::remote_write(&server.url, &[gauge("a", at, 1.0)]).await.unwrap();
    }
    server.stop();
    let file = fs::File::options().write(true).open(archive(dir.path())).unwrap();
    file.set_len(1000).unwrap();
    drop(file);

    let mut server = Server::start(dir.path(), &POLICY);
    let log = fs::read_to_string(dir.path().join("log.txt")).unwrap();
    let name = archive(dir.path()).file_name().unwrap().to_string_lossy().into_owned();
    assert!(log.contains(&name), "the damaged file is not named:\n{log}");
    for at in now - 10..now {
        let answer = http::remote_write(&server.url, &[gauge("b", at, 2.0)]).await.unwrap();
        assert!(answer.status.is_success(), "{}", answer.text());
    }
    let url = server.url.clone();
    eventually("the other instance", Duration::from_secs(10), async || {
        let time = f64::from(u32::try_from(now - 2).unwrap());
        http::query(&url, "level{instance=\"b\"}", Some(time)).await.first().cloned()
    })
    .await;
    assert!(server.lives());
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_frames_of_a_truncated_archive_are_set_aside() {
    let dir = folder();
    let server = Server::start(dir.path(), &POLICY);
    let now = now_secs();
    for at in now - 10..now {
        let answer = http::remote_write(&server.url, &[gauge("a", at, 1.0)]).await.unwrap();
        assert!(answer.status.is_success(), "{}", answer.text());
    }
    // No round was written: the journal alone holds the samples.
    server.kill();
    let file = fs::File::options().write(true).open(archive(dir.path())).unwrap();
    file.set_len(1000).unwrap();
    drop(file);
    let server = Server::start(dir.path(), &POLICY);
    let aside: Vec<_> = fs::read_dir(dir.path().join("data/aside")).unwrap().collect();
    assert_eq!(aside.len(), 1);
    let path = aside.into_iter().next().unwrap().unwrap().path();
    let name = archive(dir.path()).file_stem().unwrap().to_string_lossy().into_owned();
    assert!(path.file_name().unwrap().to_string_lossy().starts_with(&name), "{}", path.display());
    assert!(fs::metadata(&path).unwrap().len() > 10 * 80, "ten frames of samples and a grant");
    let answer = http::remote_write(&server.url, &[gauge("a", now, 1.0)]).await.unwrap();
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{}", answer.text());
}

/// A small file system of its own, unmounted when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: &Path, size: &str) -> Option<Self> {
        fs::create_dir_all(at).unwrap();
        let size = format!("size={size}");
        let mut mount = Command::new("mount");
        let done = mount.args(["-t", "tmpfs", "-o", &size, "roundel-test"]).arg(at).status();
        done.is_ok_and(|status| status.success()).then(|| Self(at.to_owned()))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // A mount that does not go is the machine's to clean; the test has its verdict.
        let _status = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_new_series_and_loses_nothing() {
    let dir = folder();
    let Some(_disk) = SmallDisk::mount(&dir.path().join("data"), "20M") else {
        not_run("a full disk at enrolment", "root, to mount a small file system");
        return;
    };
    // 16 MiB of journal leave 4 MiB for archives.
    let server = Server::start(dir.path(), &["--policy", "1s:1d"]);
    let now = now_secs();
    let mut kept = Vec::new();
    let refused = loop {
        let name = format!("i-{}", kept.len());
        let answer = http::remote_write(&server.url, &[gauge(&name, now - 5, 1.0)]).await.unwrap();
        if !answer.status.is_success() {
            break answer;
        }
        kept.push(name);
        assert!(kept.len() < 1000, "the disk is never full");
    };
    assert_eq!(refused.status, StatusCode::INSUFFICIENT_STORAGE, "{}", refused.text());
    assert!(!kept.is_empty(), "not one fitted");
    for name in &kept {
        let answer = http::remote_write(&server.url, &[gauge(name, now - 4, 2.0)]).await.unwrap();
        assert!(answer.status.is_success(), "{name}: {}", answer.text());
    }
    server.kill();
    let server = Server::start(dir.path(), &["--policy", "1s:1d"]);
    let time = f64::from(u32::try_from(now - 4).unwrap());
    let found = http::query(&server.url, "level", Some(time)).await;
    assert_eq!(found.len(), kept.len(), "an acknowledged sample is gone");
}
