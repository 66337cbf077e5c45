//! A server with made-up instances, to look at the pages while working on them.
//!
//! `cargo run -p web --example preview -- 4299` prints where it listens and a link to sign in.

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "made-up figures"
)]

use std::future::ready;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;
use query::memory::{MemoryRead, MemorySeries};
use rrd::{ArchiveSpec, Clock, Kind, Labels, Step, Timestamp};
use web::views::{
    AlertView, AlertsView, ChannelView, DeadLetterView, DeliveriesView, EnrolmentView, Fact,
    FactGroup, FactValue, FleetView, HealthView, InstanceRef, InstanceState, InstanceView, Level,
    Minted, Pending, TokenKind, TokenView, TransitionView,
};
use web::{Sessions, Web};

/// A fixed "now", so that pictures of two runs can be compared.
const NOW: i64 = 1_782_050_709_000;

struct Still;

impl Clock for Still {
    fn wall(&self) -> Timestamp {
        Timestamp::from_millis(NOW)
    }
    fn monotonic(&self) -> Duration {
        Duration::from_secs(1000)
    }
}

struct Fleet(Vec<InstanceView>);

impl FleetView for Fleet {
    fn instances(&self) -> Vec<InstanceView> {
        self.0.clone()
    }
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    Labels::from_pairs(pairs.iter().copied()).expect("made-up labels are sound")
}

fn id(at: usize) -> String {
    format!("{:032x}", 0x9a3f_0000_0000_0000_0000_0000_0000_0001_u128 + at as u128 * 7919)
}

const NAMES: [&str; 7] = [
    "web-1",
    "web-2",
    "db-primary",
    "cache-1",
    "build-7f3a",
    "a-very-long-instance-name.eu-west-3.compute.internal",
    "young",
];

fn fleet() -> Fleet {
    let state = |at| match at {
        3 => InstanceState::Silent,
        4 => InstanceState::Withdrawn,
        _ => InstanceState::Up,
    };
    Fleet(
        NAMES
            .iter()
            .enumerate()
            .map(|(at, name)| InstanceView {
                id: id(at),
                name: (*name).to_owned(),
                selector: labels(&[("instance", name), ("job", "node")]),
                labels: labels(&[
                    ("instance", name),
                    ("job", "node"),
                    ("zone", if at % 2 == 0 { "eu-west-3a" } else { "eu-west-3b" }),
                    ("role", ["web", "web", "db", "cache", "ci", "web", "web"][at]),
                    ("release", "2026.11.3"),
                ]),
                state: state(at),
                evidence: "nothing came for a while".to_owned(),
                enrolled_at: Timestamp::from_millis(NOW - 86_400_000 * 40),
                last_seen: Some(Timestamp::from_millis(
                    NOW - [3000, 6000, 1000, 840_000, 90_000_000, 9000, 4000][at],
                )),
                source: if at == 5 { "remote write" } else { "roundel agent" }.to_owned(),
                series_count: 142,
                file_bytes: 9_437_184,
                policy: "10s:2h,1m:2d,5m:14d,1h:90d,1d:5y".to_owned(),
            })
            .collect(),
    )
}

struct Alerts;

fn about(at: usize) -> InstanceRef {
    InstanceRef { id: id(at), name: NAMES[at].to_owned() }
}

impl AlertsView for Alerts {
    fn open(&self) -> Vec<AlertView> {
        let alert = |rule: &str, at, level, pending, value: &str, threshold: &str, ago| AlertView {
            rule: rule.to_owned(),
            summary: match rule {
                "disk-full" => "/var/lib/postgresql fills up".to_owned(),
                _ => "busy for longer than it should be".to_owned(),
            },
            labels: labels(&[("instance", NAMES[at]), ("job", "node"), ("mountpoint", "/var")]),
            instance: Some(about(at)),
            level,
            pending,
            value: value.to_owned(),
            threshold: threshold.to_owned(),
            since: Timestamp::from_millis(NOW - ago),
        };
        vec![
            alert("cpu-busy", 0, Level::Warning, false, "86.2 %", "> 80 %", 900_000),
            alert("disk-full", 2, Level::Critical, false, "96.1 %", "> 95 %", 7_000_000),
            alert("cpu-busy", 1, Level::Warning, true, "81.0 %", "> 80 %", 40_000),
        ]
    }

    fn history(&self, _: usize) -> Vec<TransitionView> {
        let change = |ago: i64, from, to| TransitionView {
            at: Timestamp::from_millis(NOW - ago),
            rule: "cpu-busy".to_owned(),
            labels: labels(&[("instance", "web-1")]),
            instance: Some(about(0)),
            from,
            to,
            value: "86.2 %".to_owned(),
            threshold: "> 80 %".to_owned(),
        };
        vec![
            change(900_000, Level::Ok, Level::Warning),
            change(4_000_000, Level::Critical, Level::Ok),
            change(4_600_000, Level::Warning, Level::Critical),
        ]
    }

    fn deliveries(&self) -> DeliveriesView {
        let channel = |name: &str, target: &str, dead, error: Option<&str>| ChannelView {
            name: name.to_owned(),
            target: target.to_owned(),
            delivered: 41,
            waiting: u64::from(error.is_some()),
            dead,
            last_error: error.map(str::to_owned),
        };
        DeliveriesView {
            channels: vec![
                channel("mail", "roundel-data/mail/*.eml", 0, None),
                channel("scaler", "https://scale.example.net/hook", 1, Some("connection refused")),
            ],
            dead: vec![DeadLetterView {
                at: Timestamp::from_millis(NOW - 80_000_000),
                channel: "scaler".to_owned(),
                subject: "cpu-busy on web-2: OK".to_owned(),
                reason: "answered 410 Gone".to_owned(),
            }],
        }
    }
}

struct Enrolment;

impl EnrolmentView for Enrolment {
    fn mint(&self, _: TokenKind, _: String) -> Pending<Result<Minted, String>> {
        Box::pin(ready(Ok(Minted {
            token: "rj_7Yk2mQ0Zt4uB1xWv9sLd3Fh8".to_owned(),
            expires_at: Some(Timestamp::from_millis(NOW + 3_600_000)),
        })))
    }

    fn tokens(&self) -> Vec<TokenView> {
        vec![TokenView {
            kind: TokenKind::Relay,
            note: "the old Prometheus".to_owned(),
            minted_at: Timestamp::from_millis(NOW - 86_400_000),
            expires_at: None,
            used: 12,
        }]
    }
}

struct Health;

impl HealthView for Health {
    fn recovered(&self) -> bool {
        true
    }

    fn ready(&self) -> bool {
        true
    }

    fn facts(&self) -> Vec<FactGroup> {
        let fact = |name: &str, value, level, note: &str| Fact {
            name: name.to_owned(),
            value,
            level,
            note: note.to_owned(),
        };
        vec![
            FactGroup {
                title: "Journal".to_owned(),
                facts: vec![
                    fact("Fill", FactValue::Share(0.124), Level::Ok, ""),
                    fact(
                        "Lag of the worker",
                        FactValue::Millis(12),
                        Level::Ok,
                        "from durable to applied",
                    ),
                    fact(
                        "Last checkpoint",
                        FactValue::Moment(Timestamp::from_millis(NOW - 41_000)),
                        Level::Ok,
                        "",
                    ),
                ],
            },
            FactGroup {
                title: "Samples".to_owned(),
                facts: vec![
                    fact("Stored", FactValue::Count(18_234_551), Level::Ok, ""),
                    fact(
                        "Late",
                        FactValue::Count(12),
                        Level::Warning,
                        "came after their row had closed; look at that sender's clock",
                    ),
                    fact("Repeated", FactValue::Count(0), Level::Ok, ""),
                ],
            },
            FactGroup {
                title: "Disk".to_owned(),
                facts: vec![
                    fact(
                        "Archives",
                        FactValue::Bytes(66_060_288),
                        Level::Ok,
                        "allocated in full; does not grow with time",
                    ),
                    fact("Free", FactValue::Share(0.93), Level::Critical, ""),
                ],
            },
            FactGroup {
                title: "Program".to_owned(),
                facts: vec![fact("Version", FactValue::Text("0.1.0".to_owned()), Level::Ok, "")],
            },
        ]
    }

    fn metrics(&self, out: &mut String) {
        out.push_str("# TYPE roundel_up gauge\nroundel_up 1\n");
    }
}

/// A repeatable noise in 0..1.
fn noise(seed: u64, at: u64) -> f64 {
    let mut x = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ at.wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 31)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^= x >> 29;
    (x >> 11) as f64 / (1_u64 << 53) as f64
}

fn fill(read: &mut MemoryRead, instance: &str, seed: u64, count: u64, gap: bool) {
    let fine = Step::from_secs(10).expect("not zero");
    let shape =
        |secs, row_count| ArchiveSpec::even(Step::from_secs(secs).expect("not zero"), row_count);
    let archives: Arc<[ArchiveSpec]> = vec![
        shape(10, 720),
        shape(60, 2880),
        shape(300, 4032),
        shape(3600, 2160),
        shape(86400, 1825),
    ]
    .into();
    let last = Timestamp::from_millis(NOW).floor(fine);
    let first = last.plus_millis(-10_000 * (count.cast_signed() - 1));
    let mut add =
        |name: &str, extra: &[(&str, &str)], kind, level: &dyn Fn(f64, f64) -> f64, salt: u64| {
            let mut smooth = 0.5;
            let values = (0..count)
                .map(|at| {
                    smooth += (noise(seed + salt, at / 6) - smooth) * 0.08;
                    let day = (at as f64 / 8640.0 * std::f64::consts::TAU).sin() * 0.5 + 0.5;
                    let hidden = gap && (150..190).contains(&(count - at));
                    if hidden {
                        f64::NAN
                    } else {
                        level(smooth + 0.15 * (noise(seed + salt + 1, at) - 0.5), day).max(0.0)
                    }
                })
                .collect();
            let mut pairs = vec![("__name__", name), ("instance", instance), ("job", "node")];
            pairs.extend_from_slice(extra);
            read.add(MemorySeries {
                labels: labels(&pairs),
                kind,
                archives: Arc::clone(&archives),
                visible_ms: Some(60_000),
                first_end: first,
                values,
            });
        };
    let gib = 1024.0 * 1024.0 * 1024.0;
    for (salt, (mode, size)) in [
        ("user", 0.5),
        ("system", 0.2),
        ("iowait", 0.08),
        ("softirq", 0.03),
        ("steal", 0.02),
        ("irq", 0.0),
        ("nice", 0.01),
    ]
    .into_iter()
    .enumerate()
    {
        add(
            "node_cpu_seconds_total",
            &[("mode", mode)],
            Kind::Total,
            &|s, d| size * 4.0 * s * (0.4 + d),
            salt as u64 * 2,
        );
    }
    add(
        "node_cpu_seconds_total",
        &[("mode", "idle")],
        Kind::Total,
        &|s, d| 4.0 - 2.4 * s * (0.4 + d) * 0.84,
        40,
    );
    add("node_load1", &[], Kind::Gauge, &|s, d| 5.0 * s * (0.3 + d), 50);
    add("node_load5", &[], Kind::Gauge, &|s, d| 3.5 * s * (0.4 + d), 52);
    add("node_load15", &[], Kind::Gauge, &|s, d| 3.0 * s * (0.5 + d), 54);
    add("node_memory_MemTotal_bytes", &[], Kind::Gauge, &|_, _| 16.0 * gib, 60);
    add("node_memory_MemFree_bytes", &[], Kind::Gauge, &|s, _| (1.0 + 2.0 * s) * gib, 62);
    add(
        "node_memory_MemAvailable_bytes",
        &[],
        Kind::Gauge,
        &|s, d| (9.0 + 2.0 * s - 3.0 * d) * gib,
        62,
    );
    add("node_memory_Buffers_bytes", &[], Kind::Gauge, &|s, _| (0.3 + 0.2 * s) * gib, 64);
    add("node_memory_Cached_bytes", &[], Kind::Gauge, &|s, d| (5.0 + s + d) * gib, 66);
    for (device, size) in [("eth0", 1.2e6), ("wg0", 2.0e5)] {
        add(
            "node_network_receive_bytes_total",
            &[("device", device)],
            Kind::Total,
            &|s, d| size * s * (0.3 + d),
            70 + size as u64,
        );
        add(
            "node_network_transmit_bytes_total",
            &[("device", device)],
            Kind::Total,
            &|s, d| 2.0 * size * s * (0.3 + d),
            72 + size as u64,
        );
    }
    add(
        "node_disk_read_bytes_total",
        &[("device", "nvme0n1")],
        Kind::Total,
        &|s, _| 4e6 * (s - 0.45),
        80,
    );
    add(
        "node_disk_written_bytes_total",
        &[("device", "nvme0n1")],
        Kind::Total,
        &|s, d| 9e6 * s * d,
        82,
    );
    add(
        "node_disk_io_time_seconds_total",
        &[("device", "nvme0n1")],
        Kind::Total,
        &|s, d| 0.3 * s * d,
        84,
    );
    for (mount, used) in [("/", 0.42), ("/var/lib/postgresql", 0.961), ("/boot/efi", 0.08)] {
        add(
            "node_filesystem_size_bytes",
            &[("mountpoint", mount), ("fstype", "ext4")],
            Kind::Gauge,
            &|_, _| 100.0 * gib,
            90,
        );
        add(
            "node_filesystem_avail_bytes",
            &[("mountpoint", mount), ("fstype", "ext4")],
            Kind::Gauge,
            &|s, _| 100.0 * gib * (1.0 - used - 0.004 * s),
            92,
        );
    }
    for (name, size) in [("cpu_waiting", 0.04), ("io_waiting", 0.02), ("memory_waiting", 0.0)] {
        add(
            &format!("node_pressure_{name}_seconds_total"),
            &[],
            Kind::Total,
            &|s, d| size * s * d,
            96,
        );
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let port: u16 = std::env::args().nth(1).map_or(Ok(0), |port| port.parse())?;
    let mut read = MemoryRead::default();
    for (at, name) in NAMES.iter().enumerate() {
        match *name {
            "build-7f3a" => {}
            "young" => fill(&mut read, name, 9, 13, false),
            "web-1" => fill(&mut read, name, 1000, 40 * 24 * 360, false),
            _ => fill(&mut read, name, at as u64 * 1000, 24 * 360, at == 1),
        }
    }
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    let address = listener.local_addr()?;
    let sessions = Arc::new(Sessions::new(false, address.port()));
    let token = sessions.issue_token(Still.monotonic())?;
    let web = Web {
        read: Arc::new(read),
        clock: Arc::new(Still),
        fleet: Arc::new(fleet()),
        alerts: Arc::new(Alerts),
        enrolment: Arc::new(Enrolment),
        health: Arc::new(Health),
        sessions,
        admin_token: Some("preview".into()),
        public_url: format!("http://{address}").into(),
        zone: TimeZone::get("Europe/Paris")?,
    };
    writeln!(std::io::stdout(), "http://{address}/login?token={token}")?;
    axum::serve(listener, web::router(web)).await?;
    Ok(())
}
