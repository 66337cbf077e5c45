//! Real power cuts under the real program: its data folder is an ext4 of its own.

use std::time::Duration;

use fixtures::dice::{Dice, told};
use fixtures::power::{Mount, NEEDS};

use crate::peers::not_run;
use crate::server::{Server, folder};
use crate::steady::{POLICY, Sender, now_secs};

const CUTS: usize = 12;

#[tokio::test(flavor = "multi_thread")]
async fn real_power_cuts_under_the_real_program_lose_nothing_acknowledged() {
    const TEST: &str = "real_power_cuts_under_the_real_program_lose_nothing_acknowledged";
    let dir = folder();
    let mount = match Mount::new(&dir.path().join("image"), &dir.path().join("data"), 96) {
        Ok(mount) => mount,
        Err(lack) => return not_run(TEST, &format!("{NEEDS}; {}", lack.trim().replace('\n', " "))),
    };
    let seed = told().unwrap_or_else(now_secs);
    eprintln!("ROUNDEL_SEED={seed}");
    let mut dice = Dice::new(seed);
    let mut senders: Vec<Sender> = (0..3).map(Sender::new).collect();
    for _ in 0..CUTS {
        let server = Server::start(dir.path(), &["--policy", POLICY]);
        let pushes: Vec<_> = senders
            .into_iter()
            .map(|mut sender| {
                let url = server.url.clone();
                tokio::spawn(async move {
                    sender.push_until_gone(&url).await;
                    sender
                })
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(dice.below(600))).await;
        mount.cut().unwrap();
        senders = Vec::new();
        for push in pushes {
            senders.push(push.await.unwrap());
        }
        server.kill();
        mount.restore().unwrap();
    }
    let acknowledged: usize = senders.iter().map(Sender::acknowledged).sum();
    assert!(acknowledged > 500, "the push was no push: {acknowledged}");
    let server = Server::start(dir.path(), &["--policy", POLICY]);
    for sender in &mut senders {
        sender.check(&server.url).await;
        assert!(sender.push(&server.url).await);
        sender.check(&server.url).await;
    }
    assert!(server.stop().success());
    let log = std::fs::read_to_string(dir.path().join("log.txt")).unwrap();
    let damage: Vec<&str> = log.lines().filter(|line| line.contains("is damaged")).collect();
    assert!(damage.is_empty(), "ROUNDEL_SEED={seed}: {damage:#?}");
}
