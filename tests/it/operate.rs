//! What an operator does with a data folder: how large, is it whole, a copy of it, and back.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use rrd::{Disk as _, OsDisk, SlotView, inspect_slots};
use serde_json::Value;
use tempfile::TempDir;

use crate::server::{Server, eventually, folder, roundel};
use crate::steady::{POLICY, SERIES, Sender};

fn start(dir: &Path) -> Server {
    Server::start(dir, &["--policy", POLICY])
}

/// Exit code, and all that it printed.
fn run(command: &mut Command) -> (i32, String) {
    let output = command.output().unwrap();
    let printed = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8(printed).unwrap())
}

fn fsck(data: &Path, more: &[&str]) -> (i32, String) {
    run(roundel().arg("fsck").arg("--data").arg(data).args(more))
}

fn backup(dir: &Path, to: &Path) -> Command {
    let mut command = roundel();
    command.arg("backup").arg("--data").arg(dir.join("data")).arg("--to").arg(to);
    command
}

fn restore(from: &Path, dir: &Path) -> Command {
    let mut command = roundel();
    command.arg("restore").arg("--from").arg(from).arg("--data").arg(dir.join("data"));
    command
}

/// The complaint of a command that must not succeed.
#[track_caller]
fn refusal(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stderr).unwrap()
}

/// A folder of a stopped server with some minutes of series in it, and who sent them.
async fn filled(steps: usize) -> (TempDir, Sender) {
    let (dir, mut sender) = (folder(), Sender::new(0));
    let server = start(dir.path());
    for _ in 0..steps {
        assert!(sender.push(&server.url).await);
    }
    assert!(server.stop().success());
    (dir, sender)
}

fn archives(data: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(data.join("archives")).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

fn flip(path: &Path, at: u64) {
    let file = File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_disk_that_was_said_is_the_disk_that_is_taken() {
    let (dir, _) = filled(3).await;
    let data = dir.path().join("data");
    // A sender of remote write tells no kinds: its numbers are kept whole.
    let arguments =
        ["--series=20", "--policy=1s:1h,1m:1d", "--cell=f64", "--journal=16MiB", "--json"];
    let (code, text) = run(roundel().arg("size").args(arguments));
    let said: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(code, 0);
    let [archive] = &archives(&data)[..] else { panic!("one instance, one file") };
    assert_eq!(fs::metadata(archive).unwrap().len(), said["instance_bytes"].as_u64().unwrap());
    let files = fs::read_dir(data.join("journal")).unwrap();
    let files = files.map(|entry| entry.unwrap().metadata().unwrap());
    let (len, used) = files.fold((0, 0), |sum, m| (sum.0 + m.len(), sum.1 + m.blocks() * 512));
    assert_eq!(len, said["journal_bytes"].as_u64().unwrap());
    assert!(used >= len, "the journal's {len} bytes are not all allocated: {used}");
    let (_, text) = run(roundel().arg("size").args(&arguments[..4]));
    for part in ["reaches back", "1 hour", "blocks of 4 + 16 columns", "never grows"] {
        assert!(text.contains(part), "{part:?} is missing:\n{text}");
    }
}

#[test]
fn days_of_a_zone_take_the_disk_that_plain_days_take() {
    let said = |days: &str| {
        let policy = format!("--policy=1m:2d,5m:14d,1h:90d,{days}:5y");
        let arguments = ["size", "--series=300", &policy, "--json"];
        let (code, text) = run(roundel().args(arguments));
        assert_eq!(code, 0, "{text}");
        serde_json::from_str::<Value>(&text).unwrap()
    };
    let [plain, zoned] = ["1d", "1d@Europe/Paris"].map(said);
    assert_eq!(zoned["policy"], "1m:2d,5m:14d,1h:90d,1d@Europe/Paris:5y");
    assert_eq!(zoned["archives"][3]["zone"], "Europe/Paris");
    assert_eq!(zoned["instance_bytes"], plain["instance_bytes"]);
    let policy = "--policy=1h:2d,1d@Asia/Kolkata:5y";
    let refused = roundel().args(["size", "--series=1", policy]).output().unwrap();
    let text = String::from_utf8(refused.stderr).unwrap();
    assert!(text.contains("choose a finest step that divides 30m"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_is_clean_until_a_bit_changes_and_after_it_is_mended() {
    let (dir, _) = filled(120).await;
    let data = dir.path().join("data");
    let (code, text) = fsck(&data, &[]);
    assert_eq!((code, text.starts_with("clean: 1 archive, 20 series")), (0, true), "{text}");
    let [archive] = &archives(&data)[..] else { panic!("one instance, one file") };
    let end = fs::metadata(archive).unwrap().len();
    // Somewhere in the cells: any bit of a tile that holds rows is noticed.
    let mut bad = 0;
    for at in (20_480..end).step_by(4096 + 64) {
        flip(archive, at);
        let (code, text) = fsck(&data, &[]);
        if code == 2 && text.contains("checksum does not match") {
            assert!(text.contains("steady") && text.contains(" UTC)"), "{text}");
            bad += 1;
            let alone = run(roundel().arg("fsck").arg(archive));
            assert_eq!(alone.0, 2, "{}", alone.1);
            break;
        }
        flip(archive, at);
    }
    assert_eq!(bad, 1, "no flipped bit was in a cell");
    let (code, text) = fsck(&data, &["--repair"]);
    assert_eq!((code, text.contains("repaired  DAMAGE")), (1, true), "{text}");
    let (code, text) = fsck(&data, &[]);
    assert_eq!(code, 0, "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn leftovers_are_named_and_removed_and_what_is_damaged_beyond_help_stays() {
    let (dir, _) = filled(5).await;
    let data = dir.path().join("data");
    let leftover = data.join("archives").join(format!("{:032x}.new", 7));
    fs::write(&leftover, b"x").unwrap();
    let (code, text) = fsck(&data, &["--json"]);
    let json: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((code, &json["remarks"], &json["damage"]), (1, &1.into(), &0.into()), "{text}");
    assert!(leftover.exists());
    assert_eq!(fsck(&data, &["--repair"]).0, 1);
    assert!(!leftover.exists());
    assert_eq!(fsck(&data, &[]).0, 0);
    for (file, at, says) in [
        (archives(&data)[0].clone(), 5, "not an archive of this program"),
        (data.join("state/registry.a"), 40, "registry"),
        (data.join("journal/checkpoint"), 20, "checkpoint record"),
    ] {
        flip(&file, at);
        let (code, text) = fsck(&data, &["--repair"]);
        assert!(code > 0 && text.contains(says), "{code} {text}");
        flip(&file, at);
    }
    assert_eq!(fsck(&data, &[]).0, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_in_use_is_not_verified_and_one_that_was_killed_is_clean() {
    let dir = folder();
    let server = start(dir.path());
    let data = dir.path().join("data");
    let said = refusal(roundel().arg("fsck").arg("--data").arg(&data));
    assert!(said.contains("stopped server") && said.contains(&server.pid().to_string()), "{said}");
    let url = server.url.clone();
    let killer = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(300)).await;
        server.kill();
    });
    Sender::new(0).push_until_gone(&url).await;
    killer.await.unwrap();
    let before = fs::read(data.join("journal/segment-001")).unwrap();
    let (code, text) = fsck(&data, &[]);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("20 series"), "replay was looked at too: {text}");
    assert!(before == fs::read(data.join("journal/segment-001")).unwrap(), "nothing is written");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_under_steady_push_has_everything_acknowledged_before_it_began() {
    let (dir, to, other) = (folder(), folder(), folder());
    let server = start(dir.path());
    let (url, mut sender) = (server.url.clone(), Sender::new(0));
    let told = Arc::new(Mutex::new(sender.clone()));
    let telling = Arc::clone(&told);
    let pushing = tokio::spawn(async move {
        while sender.has_more() && sender.push(&url).await {
            *telling.lock().unwrap() = sender.clone();
        }
    });
    let before = eventually("some rows", Duration::from_secs(20), async || {
        let told = told.lock().unwrap();
        (told.acknowledged() > 100 * SERIES).then(|| told.clone())
    })
    .await;
    let (data, copy) = (dir.path().to_owned(), to.path().join("copy"));
    let target = copy.clone();
    let (code, text) = tokio::task::spawn_blocking(move || {
        // Killed in its midst some times, then let go on.
        for lines in 1..6 {
            let mut child = backup(&data, &target).stdout(Stdio::null()).spawn().unwrap();
            let partial = target.join("backup.partial");
            while child.try_wait().unwrap().is_none() {
                let written = fs::read_to_string(&partial).unwrap_or_default();
                if written.lines().filter(|line| line.contains("file ")).count() >= lines {
                    child.kill().unwrap();
                }
                std::thread::yield_now();
            }
        }
        run(&mut backup(&data, &target))
    })
    .await
    .unwrap();
    assert_eq!(code, 0, "{text}");
    server.kill();
    pushing.await.unwrap();
    let after = told.lock().unwrap().acknowledged();
    assert!(after > before.acknowledged(), "pushed while it was copied");
    let (code, text) = fsck(&copy, &[]);
    assert_eq!(code, 0, "{text}");
    let (code, text) = run(&mut restore(&copy, other.path()));
    assert_eq!(code, 0, "{text}");
    let (code, text) = fsck(&other.path().join("data"), &[]);
    assert_eq!(code, 0, "{text}");
    before.check(&start(other.path()).url).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_copies_what_changed_and_a_changed_bit_in_it_is_named_and_refused() {
    let (dir, sender) = filled(30).await;
    let (to, other) = (folder(), folder());
    let copy = to.path().join("copy");
    age(&dir.path().join("data"));
    let (code, first) = run(&mut backup(dir.path(), &copy));
    assert_eq!(code, 0, "{first}");
    let (code, again) = run(&mut backup(dir.path(), &copy));
    assert_eq!((code, again.contains(" 0 B copied")), (0, true), "{again}");
    let [archive] = &archives(&copy)[..] else { panic!("one instance, one file") };
    for name in [archive.clone(), copy.join("state/registry.a"), copy.join("journal/segment-000")] {
        flip(&name, 3000.min(fs::metadata(&name).unwrap().len() - 1));
        let said = refusal(&mut restore(&copy, other.path()));
        assert!(said.contains(name.to_str().unwrap()), "{said}");
        assert!(!other.path().join("data").exists(), "nothing is restored of it");
        assert_eq!(fsck(&copy, &[]).0, 2);
        flip(&name, 3000.min(fs::metadata(&name).unwrap().len() - 1));
    }
    let refused = refusal(&mut restore(&copy, dir.path()));
    assert!(refused.contains("not empty"), "{refused}");
    assert_eq!(run(&mut restore(&copy, other.path())).0, 0);
    for dir in [&dir, &other] {
        let server = start(dir.path());
        assert_eq!(sender.stored(&server.url).await, sender.expected());
    }
}

#[test]
fn a_backup_that_was_cut_short_is_no_data_folder() {
    let (dir, to) = (folder(), folder());
    fs::create_dir(to.path().join("data")).unwrap();
    fs::write(to.path().join("data/backup.partial"), "\n").unwrap();
    let data = to.path().join("data");
    for command in ["serve", "rrd"] {
        let mut roundel = roundel();
        match command {
            "serve" => roundel.args(["serve", "--no-local-agent", "--listen", "127.0.0.1:0"]),
            _ => roundel.args(["rrd", "import"]).arg(dir.path()),
        };
        let (code, said) = run(roundel.arg("--data").arg(&data));
        assert_ne!(code, 0, "{said}");
        assert!(said.contains("a backup that was not finished"), "{said}");
    }
    assert!(!data.join("archives").exists(), "nothing is made in it");
}

#[test]
fn a_copy_that_is_refused_leaves_no_folder_in_the_data_folder() {
    let dir = folder();
    let data = dir.path().join("data");
    fs::create_dir(&data).unwrap();
    let inside = data.join("copy");
    let said = refusal(&mut backup(dir.path(), &inside));
    assert!(said.contains("cannot lie in the data folder"), "{said}");
    assert!(!inside.exists());
}

#[test]
fn a_file_of_the_rrd_commands_is_verified_whatever_its_name() {
    let dir = folder();
    let file = dir.path().join("load.rrd");
    let rrd = |words: &[&str]| {
        let (command, more) = words.split_first().unwrap();
        let (code, said) = run(roundel().args(["rrd", command]).arg(&file).args(more));
        assert_eq!(code, 0, "{said}");
    };
    rrd(&["create", "-b", "1700000040", "-s", "60", "DS:load:GAUGE:120:0:U", "RRA:LAST:0.5:1:100"]);
    for minute in 1..5 {
        rrd(&["update", &format!("{}:{minute}", 1_700_000_040 + 60 * minute)]);
    }
    let (code, said) = run(roundel().arg("fsck").arg(&file));
    assert_eq!(
        (code, said.starts_with("clean: 1 archive, 1 series, 1 tile,")),
        (0, true),
        "{said}"
    );
    let bytes = fs::read(&file).unwrap();
    let last = bytes.iter().rposition(|&byte| byte != 0).unwrap();
    flip(&file, last as u64);
    let (code, said) = run(roundel().arg("fsck").arg(&file));
    assert!(code == 2 && said.contains("load.rrd") && said.contains("checksum"), "{said}");
    fs::write(&file, "").unwrap();
    let (code, said) = run(roundel().arg("fsck").arg(&file));
    assert!(code == 2 && said.contains("load.rrd: shorter than it was made"), "{said}");
}

/// Two senders, and an archive of one that was cut while the server ran: what stood at the stop before,
/// the archive, and who sent. The frames since are set aside.
async fn apart() -> (TempDir, PathBuf, Vec<u8>, Vec<Sender>) {
    let (dir, mut senders) = (folder(), vec![Sender::new(0), Sender::new(1)]);
    let data = dir.path().join("data");
    let server = start(dir.path());
    for sender in &mut senders {
        assert!(sender.push(&server.url).await && sender.push(&server.url).await);
    }
    assert!(server.stop().success());
    let archive = archives(&data).remove(0);
    let whole = fs::read(&archive).unwrap();
    let server = start(dir.path());
    for sender in &mut senders {
        for _ in 0..20 {
            assert!(sender.push(&server.url).await);
        }
    }
    File::options().write(true).open(&archive).unwrap().set_len(4096).unwrap();
    assert!(server.stop().success());
    (dir, archive, whole, senders)
}

/// Where the slot begins that does not count.
fn older_slot(archive: &Path) -> u64 {
    let slots = inspect_slots(OsDisk.open(archive).unwrap().as_ref()).unwrap().unwrap();
    let seq = |slot: SlotView| match slot {
        SlotView::Whole { seq, .. } => seq,
        other => panic!("{other:?}"),
    };
    if seq(slots.slots[0]) < seq(slots.slots[1]) { 1024 } else { 1536 }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_set_apart_is_verified_mended_and_copied_where_it_stands() {
    let (dir, archive, whole, senders) = apart().await;
    let data = dir.path().join("data");
    let frames: Vec<_> = fs::read_dir(data.join("aside")).unwrap().map(Result::unwrap).collect();
    let [frames] = &frames[..] else { panic!("one archive, one round: {frames:?}") };
    let (code, text) = fsck(&data, &["--repair"]);
    assert_eq!(
        (code, text.contains("shorter than it was made"), text.contains("wait here")),
        (2, true, true),
        "{text}"
    );
    fs::remove_file(&archive).unwrap();
    let (code, text) = fsck(&data, &[]);
    let missing = format!("{}: missing, though", archive.display());
    assert!(code == 2 && text.contains(&missing), "{text}");

    fs::write(&archive, whole).unwrap();
    let (code, text) = fsck(&data, &[]);
    let says = [
        "20 acknowledged frames wait here",
        "the last rounds could not write it",
        "2 remarks, no damage",
    ];
    assert_eq!((code, says.map(|says| text.contains(says))), (1, [true; 3]), "{text}");
    flip(&frames.path(), 100);
    let (code, text) = fsck(&data, &[]);
    assert!(code == 2 && text.contains("set aside are damaged"), "{text}");
    flip(&frames.path(), 100);
    flip(&archive, older_slot(&archive) + 9);
    let (code, text) = fsck(&data, &["--repair"]);
    assert_eq!((code, text.contains("1 repaired, 2 remarks, no damage")), (1, true), "{text}");

    let (to, other) = (folder(), folder());
    let copy = to.path().join("copy");
    let (code, text) = run(&mut backup(dir.path(), &copy));
    assert_eq!(code, 0, "{text}");
    assert_eq!(run(&mut restore(&copy, other.path())).0, 0);
    for dir in [&dir, &other] {
        let data = dir.path().join("data");
        let (code, text) = fsck(&data, &[]);
        assert_eq!((code, text.contains(says[2])), (1, true), "{text}");
        let server = start(dir.path());
        for sender in &senders {
            assert_eq!(sender.stored(&server.url).await, sender.expected());
        }
        assert!(server.stop().success());
    }
}

/// Makes files look as if they had not been written to for an hour.
#[expect(clippy::disallowed_methods, reason = "what the file system would say of old files")]
fn age(dir: &Path) {
    let hour_ago = SystemTime::now() - Duration::from_hours(1);
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            age(&entry.path());
        } else {
            File::options().write(true).open(entry.path()).unwrap().set_modified(hour_ago).unwrap();
        }
    }
}
