//! The key: what makes this machine itself to its collector, made at the first start and kept in
//! `agent.key`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use ring::signature::{Ed25519KeyPair, KeyPair as _};
use rrd::Timestamp;
use rrd::hex::{Hex, bytes_of_hex};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::credential::{check_mode, replace};
use super::error::AgentError;
use crate::identity::{KEY_HEADER, PROOF_HEADER, PublicKey, Signed, TIME_HEADER};

const FILE_NAME: &str = "agent.key";

/// A machine's key. It never leaves the machine; what it signs does.
#[derive(Clone)]
pub(super) struct Key(Arc<Inner>);

struct Inner {
    pair: Ed25519KeyPair,
    /// The time in the last proof: the next has a later one.
    last_ms: AtomicI64,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    seed: String,
    /// A hash of what tells this machine from one that was made of its image.
    machine: String,
}

/// A key as it was found.
pub(super) enum Found {
    /// It is this machine's.
    Own(Key),
    /// It was another machine's, of whose disk this one is a copy.
    Copied,
    /// There is none.
    None,
}

impl Key {
    /// The key kept in `dir` by the machine that calls itself `machine`.
    pub(super) fn load(dir: &Path, machine: &str) -> Result<Found, AgentError> {
        let path = dir.join(FILE_NAME);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::None),
            Err(problem) => return Err(AgentError::State { path, problem }),
        };
        check_mode(&path)?;
        let damaged = |problem: &str| AgentError::StateDamaged {
            path: path.clone(),
            problem: problem.to_owned(),
        };
        let stored: Stored =
            serde_json::from_slice(&text).map_err(|error| damaged(&error.to_string()))?;
        if stored.machine != machine {
            return Ok(Found::Copied);
        }
        let seed: [u8; 32] =
            bytes_of_hex(&stored.seed).ok_or_else(|| damaged("its seed is no key"))?;
        Ok(Found::Own(Self::of(&seed)))
    }

    /// A new key, kept in `dir` from now on.
    pub(super) fn create(dir: &Path, machine: &str) -> Result<Self, AgentError> {
        let mut seed = [0_u8; 32];
        getrandom::fill(&mut seed).map_err(AgentError::Random)?;
        let stored = Stored { seed: Hex(&seed).to_string(), machine: machine.to_owned() };
        let text = serde_json::to_vec_pretty(&stored).expect("texts always are JSON");
        let path: PathBuf = dir.join(FILE_NAME);
        replace(dir, FILE_NAME, &text).map_err(|problem| AgentError::State { path, problem })?;
        Ok(Self::of(&seed))
    }

    fn of(seed: &[u8; 32]) -> Self {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).expect("any 32 bytes are a seed");
        Self(Arc::new(Inner { pair, last_ms: AtomicI64::new(0) }))
    }

    /// What a person compares before approving this machine.
    pub(super) fn fingerprint(&self) -> String {
        self.public().fingerprint()
    }

    /// The half of it that others may know.
    pub(super) fn public(&self) -> PublicKey {
        let bytes = self.0.pair.public_key().as_ref();
        PublicKey(bytes.try_into().expect("an Ed25519 key has 32 bytes"))
    }

    /// The headers that prove who sends this at `now`, by the collector's clock.
    pub(super) fn proof(
        &self,
        (method, path): (&str, &str),
        body: &[u8],
        now: Timestamp,
    ) -> Vec<(&'static str, String)> {
        let next = |last: i64| Some(now.as_millis().max(last.saturating_add(1)));
        let last = self.0.last_ms.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
        let at_ms = last.ok().and_then(next).expect("there always is a next moment");
        let signed = Signed { method, path, at: Timestamp::from_millis(at_ms), body };
        let signature = self.0.pair.sign(&signed.bytes());
        vec![
            (KEY_HEADER, Hex(self.0.pair.public_key().as_ref()).to_string()),
            (TIME_HEADER, at_ms.to_string()),
            (PROOF_HEADER, Hex(signature.as_ref()).to_string()),
        ]
    }
}

/// What tells this machine from a copy, as far as it says: systemd makes a new machine id where an image
/// has none. A copy that kept the id is told apart by the collector.
pub(super) fn machine() -> String {
    machine_of(Path::new("/etc/machine-id"))
}

fn machine_of(machine_id: &Path) -> String {
    let id = fs::read_to_string(machine_id).unwrap_or_default();
    let digest: [u8; 32] = Sha256::digest(id.trim().as_bytes()).into();
    Hex(&digest[..16]).to_string()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_key_is_kept_for_its_machine_and_its_user_alone() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("state");
        assert!(matches!(Key::load(&dir, "one").unwrap(), Found::None));
        let made = Key::create(&dir, "one").unwrap();
        let Found::Own(kept) = Key::load(&dir, "one").unwrap() else { panic!("it is its own") };
        assert_eq!(kept.fingerprint(), made.fingerprint());
        assert!(matches!(Key::load(&dir, "two").unwrap(), Found::Copied));
        let path = dir.join(FILE_NAME);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(
            Key::load(&dir, "one"),
            Err(AgentError::StateTooOpen { mode: 0o644, .. })
        ));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "{}").unwrap();
        assert!(matches!(Key::load(&dir, "one"), Err(AgentError::StateDamaged { .. })));
    }

    #[test]
    fn no_two_proofs_have_one_time() {
        let key = Key::of(&[7; 32]);
        let time = |secs| key.proof(("GET", "/"), b"", Timestamp::from_secs(secs))[1].1.clone();
        assert_eq!([time(5), time(5), time(4), time(6)], ["5000", "5001", "5002", "6000"]);
    }

    #[test]
    fn a_machine_is_told_by_its_id() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("machine-id");
        let nobody = machine_of(&path);
        fs::write(&path, "abc\n").unwrap();
        assert_ne!(machine_of(&path), nobody);
        assert_eq!(machine_of(&path).len(), 32);
    }
}
