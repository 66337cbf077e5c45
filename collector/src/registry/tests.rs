//! Tests of the registry: names, replay, snapshots.

use rrd::Labels;
use rrd::hex::Hex;

use super::instance::Credential;
use super::*;
use crate::lifecycle::{Evidence, Move, Terms, Who};
use crate::native::Facts;
use crate::secret::Digest;

fn instance(id: u128, name: &str) -> Instance {
    Instance {
        id: InstanceId(id),
        name: name.to_owned(),
        labels: Labels::from_pairs([("instance", name), ("job", "node")]).unwrap(),
        source: Source::Enrolled(Some(TokenId(1))),
        lifecycle: Lifecycle::begun(State::Active, said("enrolled"), Timestamp::from_secs(100)),
        enrolled_at: Timestamp::from_secs(100),
        boot_id: 9,
        facts: Facts { hostname: name.to_owned(), cpus: 2, ..Facts::default() },
        credential: Some(Credential { digest: Digest::from_bytes([7; 32]), expires_at: None }),
        ..Instance::imported(InstanceId(id), "node", name, Timestamp::from_secs(100))
    }
}

fn said(what: &str) -> Evidence {
    Evidence::of(Who::Operator, what)
}

fn token(id: u64) -> Token {
    Token {
        id: TokenId(id),
        kind: TokenKind::Relay,
        name: "prometheus".to_owned(),
        labels: Labels::from_pairs([("team", "a")]).unwrap(),
        allowed_label_keys: None,
        networks: Vec::new(),
        terms: Terms::default(),
        series_quota: None,
        approval: Approval::Auto,
        expires_at: Some(Timestamp::from_secs(5)),
        uses_left: Some(3),
        created_at: Timestamp::from_secs(1),
        revoked: false,
        digest: Digest::from_bytes([1; 32]),
    }
}

fn gone(mut instance: Instance) -> Instance {
    let at = Timestamp::from_secs(200);
    let gone = Move { to: State::Withdrawn, evidence: said("goodbye") };
    instance.lifecycle = instance.lifecycle.moved(gone, at);
    instance
}

#[track_caller]
fn apply(registry: &Registry, seq: u64, change: Change) {
    registry.apply(seq, &Change::encode_all(&[change])).unwrap();
}

#[test]
fn a_name_is_free_again_when_its_holder_is_withdrawn() {
    let registry = Registry::default();
    apply(&registry, 1, Change::Instance(instance(1, "web")));
    apply(&registry, 2, Change::Instance(instance(2, "web-2")));
    let none = HashSet::new();
    assert_eq!(registry.free_name("node", "web", &none), "web-3");
    assert_eq!(registry.free_name("other", "web", &none), "web");
    let taken = HashSet::from([("node".to_owned(), "web-3".to_owned())]);
    assert_eq!(registry.free_name("node", "web", &taken), "web-4");
    apply(&registry, 3, Change::Instance(gone(instance(1, "web"))));
    assert_eq!(registry.free_name("node", "web", &none), "web");
    assert_eq!(registry.named("node", "web-2").unwrap().id, InstanceId(2));
    assert!(registry.named("node", "web").is_none());
}

#[test]
fn a_frame_applied_before_changes_nothing() {
    let registry = Registry::default();
    apply(&registry, 5, Change::Instance(gone(instance(1, "web"))));
    apply(&registry, 4, Change::Instance(instance(1, "web")));
    assert!(!registry.instance(InstanceId(1)).unwrap().is_active());
    assert_eq!(registry.applied_seq(), 5);
}

#[test]
fn a_snapshot_restores_every_record_and_index() {
    let registry = Registry::default();
    let space =
        Namespace { relay: Some(TokenId(1)), job: "j".to_owned(), instance: "a:1".to_owned() };
    let mut relayed = instance(2, "a:1");
    relayed.source = Source::Relay(space.clone());
    relayed.credential = None;
    apply(&registry, 1, Change::Token(token(1)));
    apply(&registry, 2, Change::Instance(instance(1, "web")));
    apply(&registry, 3, Change::Instance(relayed));
    apply(&registry, 4, Change::Instance(gone(instance(3, "old"))));
    let bytes = registry.snapshot();
    let restored = Registry::restore(&bytes).unwrap();
    assert_eq!(restored.snapshot(), bytes);
    assert_eq!(restored.applied_seq(), 4);
    assert_eq!(restored.relayed(&space).unwrap().id, InstanceId(2));
    assert_eq!(restored.relayed_count(Some(TokenId(1))), 1);
    assert_eq!(restored.token(TokenId(1)).unwrap().uses_left, Some(3));
    assert_eq!(format!("{:?}", restored.instances()), format!("{:?}", registry.instances()));
    for cut in 0..bytes.len() {
        assert!(Registry::restore(&bytes[..cut]).is_err(), "cut at {cut}");
    }
}

#[test]
fn a_policy_is_restored_with_its_accounts_or_without() {
    let registry = Registry::default();
    let policy = |name: &str, accounts: &[&str]| JoinPolicy {
        name: name.to_owned(),
        networks: Vec::new(),
        name_like: None,
        labels: std::collections::BTreeMap::new(),
        token: Some(TokenId(7)),
        requires_document: true,
        accounts: accounts.iter().map(|text| text.parse().unwrap()).collect(),
        started_within_ms: Some(9),
        forced: Labels::default(),
        terms: Terms::default(),
    };
    let all = [policy("few", &["aws:123", "gcp:shop"]), policy("none", &[])];
    for (seq, policy) in (1..).zip(&all) {
        apply(&registry, seq, Change::Policy(policy.clone()));
    }
    let restored = Registry::restore(&registry.snapshot()).unwrap();
    for registry in [&registry, &restored] {
        let held: Vec<JoinPolicy> =
            registry.policies().iter().map(|one| JoinPolicy::clone(one)).collect();
        assert_eq!(held, all);
    }
}

#[test]
fn a_token_can_be_forgotten() {
    let registry = Registry::default();
    apply(&registry, 1, Change::Token(token(1)));
    apply(&registry, 2, Change::Forget(TokenId(1)));
    apply(&registry, 3, Change::Forget(TokenId(1)));
    assert!(registry.tokens().is_empty());
}

#[test]
fn no_secret_or_hash_is_ever_printed() {
    let printed = format!("{:?} {:?}", instance(1, "web"), token(1));
    assert!(!printed.contains("7, 7") && !printed.contains("1, 1"), "{printed}");
    assert!(printed.contains("Digest(…)"));
}

#[test]
fn the_bytes_of_a_change_are_these() {
    let hex = |bytes: Vec<u8>| Hex(&bytes).to_string();
    assert_eq!(hex(Change::encode_all(&[Change::Token(token(1))])), GOLDEN_TOKEN);
    assert_eq!(
        hex(Change::encode_all(&[Change::Instance(gone(instance(1, "w")))])),
        GOLDEN_INSTANCE
    );
}

/// What the first version wrote.
#[test]
fn records_of_the_first_version_are_read() {
    let bytes = |hex: &str| -> Vec<u8> {
        let digits = hex.as_bytes().chunks(2);
        let byte =
            |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
        digits.map(byte).collect()
    };
    let registry = Registry::default();
    registry.apply(1, &bytes(FIRST_TOKEN)).unwrap();
    registry.apply(2, &bytes(FIRST_INSTANCE)).unwrap();
    let (token, instance) = (registry.tokens()[0].clone(), registry.instances()[0].clone());
    assert_eq!(
        (token.kind, token.uses_left, token.approval),
        (TokenKind::Relay, Some(3), Approval::Auto)
    );
    assert_eq!((instance.name.as_str(), instance.boot_id), ("w", 9));
    let life = &instance.lifecycle;
    assert_eq!((life.state, life.since), (State::Withdrawn, Timestamp::from_secs(200)));
    assert_eq!(life.sentence(), "goodbye");
    assert!(instance.credential.is_some() && instance.key.is_none());
}

const FIRST_TOKEN: &str = "52444c66010200004100000035102c00010201010a70726f6d65746865757301047465616d016101fb10270103fbd007000101010101010101010101010101010101010101010101010101010101010101";
const FIRST_INSTANCE: &str = "52444c660102000058000000260a39f601010101770208696e7374616e63650177036a6f62046e6f646500010101fc801a060007676f6f64627965fc400d030009017700000200010707070707070707070707070707070707070707070707070707070707070707";

const GOLDEN_TOKEN: &str = "52444c66010200004900000091265e0b010501010a70726f6d65746865757301047465616d0161000000000000000001fb10270103fbd007000101010101010101010101010101010101010101010101010101010101010101";
const GOLDEN_INSTANCE: &str = "52444c660102000084000000d5fa333101040101770208696e7374616e63650177036a6f62046e6f646500010106fc801a06000007676f6f646279650106fc801a06000007676f6f646279650102fc400d03000008656e726f6c6c6564fc400d03000901770000020000000000000000000107070707070707070707070707070707070707070707070707070707070707070000";

#[test]
fn ten_thousand_of_one_name_are_numbered_without_a_gap() {
    let registry = Registry::default();
    let mut taken = HashSet::new();
    for number in 1..=10_000 {
        let name = registry.free_name("node", "web", &taken);
        let expected = if number == 1 { "web".to_owned() } else { format!("web-{number}") };
        assert_eq!(name, expected);
        taken.insert(("node".to_owned(), name));
    }
}
