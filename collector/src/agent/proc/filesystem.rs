//! Filesystems: which are mounted, and how full they are; `/proc/self/mounts` and statvfs.

use std::collections::HashMap;
use std::io;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread;
use std::time::Duration;

use super::DEVICES_MAX;
use super::scan::{fields, lines, text};
use crate::agent::reading::Readings;

/// Kinds that hold no files of their own, or are never full.
const NOT_REAL: [&str; 29] = [
    "autofs",
    "binfmt_misc",
    "bpf",
    "cgroup",
    "cgroup2",
    "configfs",
    "debugfs",
    "devpts",
    "devtmpfs",
    "erofs",
    "fusectl",
    "hugetlbfs",
    "iso9660",
    "mqueue",
    "nsfs",
    "overlay",
    "proc",
    "procfs",
    "pstore",
    "ramfs",
    "rpc_pipefs",
    "securityfs",
    "selinuxfs",
    "squashfs",
    "sysfs",
    "tmpfs",
    "tracefs",
    "efivarfs",
    "fuse.lxcfs",
];

/// How long one filesystem may take to answer. A healthy one needs microseconds; a network
/// filesystem whose server is gone never answers.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(500);

/// Threads that may wait for a hung filesystem at one time. Beyond it filesystems are no longer
/// asked until one of them answers: a machine with this many hung mounts has other troubles.
const HUNG_MAX: usize = 4;

/// One mounted filesystem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mount {
    device: String,
    mountpoint: String,
    fstype: String,
    readonly: bool,
}

/// The real filesystems of a text in the form of `/proc/self/mounts`, each device once.
pub(super) fn mounts(bytes: &[u8]) -> Vec<Mount> {
    let mut found: Vec<Mount> = Vec::new();
    for mount in lines(bytes).filter_map(mount) {
        // What is mounted over another hides it.
        found.retain(|known| known.mountpoint != mount.mountpoint);
        if !is_real(&mount) {
            continue;
        }
        // A device mounted twice (a bind, a subvolume) is one filesystem; its shortest path names it.
        match found.iter().position(|known| known.device == mount.device) {
            Some(at) if mount.mountpoint.len() < found[at].mountpoint.len() => found[at] = mount,
            None if found.len() < DEVICES_MAX => found.push(mount),
            _ => {}
        }
    }
    found
}

fn mount(line: &[u8]) -> Option<Mount> {
    let mut fields = fields(line);
    let device = unescaped(text(fields.next()?)?);
    let mountpoint = unescaped(text(fields.next()?)?);
    let fstype = text(fields.next()?)?.to_owned();
    let readonly = text(fields.next()?)?.split(',').any(|option| option == "ro");
    Some(Mount { device, mountpoint, fstype, readonly })
}

fn is_real(mount: &Mount) -> bool {
    // A container's own root is an overlay, and is the one of its kind that tells of this machine.
    if mount.mountpoint == "/" {
        return mount.fstype != "rootfs";
    }
    let system = ["/proc/", "/sys/", "/dev/", "/run/credentials/", "/var/lib/docker/"];
    !NOT_REAL.contains(&mount.fstype.as_str())
        && !system.iter().any(|start| mount.mountpoint.starts_with(start))
}

/// The kernel writes blanks and backslashes in a path as three octal digits.
fn unescaped(field: &str) -> String {
    let mut parts = field.split('\\');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let code = part.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match (code, part.get(3..)) {
            (Some(code), Some(rest)) if code.is_ascii() => {
                plain.push(char::from(code));
                plain.push_str(rest);
            }
            _ => {
                plain.push('\\');
                plain.push_str(part);
            }
        }
    }
    plain
}

/// What a filesystem says of itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    block_bytes: u64,
    blocks: u64,
    blocks_free: u64,
    blocks_available: u64,
    files: u64,
    files_free: u64,
}

/// Asks the kernel how full the filesystem at `path` is. May never return.
fn room(path: &str) -> io::Result<Room> {
    let stat = rustix::fs::statvfs(path)?;
    Ok(Room {
        block_bytes: stat.f_frsize,
        blocks: stat.f_blocks,
        blocks_free: stat.f_bfree,
        blocks_available: stat.f_bavail,
        files: stat.f_files,
        files_free: stat.f_ffree,
    })
}

type Ask = fn(&str) -> io::Result<Room>;

/// The filesystems of this machine, asked in a thread of their own, so that a hung one stops nobody.
pub(super) struct Filesystems {
    ask: Ask,
    timeout: Duration,
    helper: Option<Helper>,
    /// Threads that wait for an answer, by the mountpoint they asked.
    hung: HashMap<String, Helper>,
}

struct Helper {
    questions: Sender<String>,
    answers: Receiver<io::Result<Room>>,
}

impl Default for Filesystems {
    fn default() -> Self {
        Self { ask: room, timeout: ANSWER_TIMEOUT, helper: None, hung: HashMap::new() }
    }
}

impl Filesystems {
    /// Reads how full the mounted filesystems are; returns how many did not answer.
    pub(super) fn read(&mut self, bytes: &[u8], out: &mut Readings) -> u32 {
        self.welcome_back();
        let mut failures = 0;
        for mount in mounts(bytes) {
            match self.answer(&mount.mountpoint) {
                Some(room) => report(&mount, room, out),
                None => failures += 1,
            }
        }
        failures
    }

    /// Takes back a thread whose filesystem has answered at last.
    fn welcome_back(&mut self) {
        self.hung.retain(|_, helper| matches!(helper.answers.try_recv(), Err(TryRecvError::Empty)));
    }

    fn answer(&mut self, mountpoint: &str) -> Option<Room> {
        if self.hung.contains_key(mountpoint) || self.hung.len() >= HUNG_MAX {
            return None;
        }
        let helper = match self.helper.take() {
            Some(helper) => helper,
            None => Helper::start(self.ask)?,
        };
        helper.questions.send(mountpoint.to_owned()).ok()?;
        if let Ok(answer) = helper.answers.recv_timeout(self.timeout) {
            self.helper = Some(helper);
            return answer.ok();
        }
        self.hung.insert(mountpoint.to_owned(), helper);
        None
    }
}

impl Helper {
    fn start(ask: Ask) -> Option<Self> {
        let (questions, inbox) = channel::<String>();
        let (outbox, answers) = channel();
        let work = move || {
            // Ends when the other side is dropped, at the latest after the answer it waits for.
            while let Ok(path) = inbox.recv() {
                if outbox.send(ask(&path)).is_err() {
                    break;
                }
            }
        };
        thread::Builder::new().name("filesystems".into()).spawn(work).ok()?;
        Some(Self { questions, answers })
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "sizes below 8 PiB are exact, larger ones near enough"
)]
fn report(mount: &Mount, room: Room, out: &mut Readings) {
    if room.blocks == 0 {
        return; // A filesystem without blocks (a control or a gateway) has no size to be full.
    }
    let labels = [
        ("device", mount.device.as_str()),
        ("fstype", mount.fstype.as_str()),
        ("mountpoint", mount.mountpoint.as_str()),
    ];
    let bytes = |blocks: u64| blocks as f64 * room.block_bytes as f64;
    out.gauge("node_filesystem_size_bytes", &labels, bytes(room.blocks));
    out.gauge("node_filesystem_free_bytes", &labels, bytes(room.blocks_free));
    out.gauge("node_filesystem_avail_bytes", &labels, bytes(room.blocks_available));
    out.gauge("node_filesystem_readonly", &labels, f64::from(u8::from(mount.readonly)));
    if room.files > 0 {
        out.gauge("node_filesystem_files", &labels, room.files as f64);
        out.gauge("node_filesystem_files_free", &labels, room.files_free as f64);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    const MOUNTS: &[u8] = b"\
proc /proc proc rw,relatime 0 0
tmpfs /dev/shm tmpfs rw,relatime,size=24684092k 0 0
/dev/vda1 /srv/data ext4 rw,relatime 0 0
/dev/vda1 / ext4 rw,relatime,discard 0 0
/dev/vda1 /etc/hosts ext4 rw,relatime 0 0
/dev/vdb /mnt/my\\040disk xfs ro,relatime 0 0
nas:/home /home nfs4 rw,vers=4.2 0 0
overlay /var/lib/docker/overlay2/ab/merged overlay rw 0 0
/dev/loop3 /snap/core/9 squashfs ro,nodev 0 0
cut short
";

    #[test]
    fn real_filesystems_are_found_once_each() {
        let found: Vec<_> =
            mounts(MOUNTS).into_iter().map(|m| (m.mountpoint, m.readonly)).collect();
        let expected = [("/", false), ("/mnt/my disk", true), ("/home", false)];
        assert_eq!(found, expected.map(|(path, readonly)| (path.to_owned(), readonly)));
    }

    #[test]
    fn what_is_mounted_over_another_hides_it() {
        let text = b"/dev/vda /mnt ext4 rw 0 0\n/dev/vdb /mnt xfs rw 0 0\n\
            /dev/vdc /srv xfs rw 0 0\ntmpfs /srv tmpfs rw 0 0\n";
        let found: Vec<_> = mounts(text).into_iter().map(|mount| mount.device).collect();
        assert_eq!(found, ["/dev/vdb"]);
    }

    #[test]
    fn a_containers_root_overlay_is_kept() {
        assert_eq!(mounts(b"overlay / overlay rw,relatime 0 0\n").len(), 1);
    }

    #[test]
    fn escapes_in_a_path_are_undone_and_others_left() {
        for (written, path) in [("/a\\040b", "/a b"), ("/a\\134b", "/a\\b"), ("/a\\9", "/a\\9")] {
            assert_eq!(unescaped(written), path);
        }
    }

    #[expect(clippy::unnecessary_wraps, reason = "the form of what asks the kernel")]
    fn room_of_ten(_: &str) -> io::Result<Room> {
        Ok(Room {
            block_bytes: 4096,
            blocks: 10,
            blocks_free: 5,
            blocks_available: 4,
            files: 7,
            files_free: 3,
        })
    }

    #[test]
    fn sizes_are_in_bytes_and_carry_device_and_kind() {
        let mut filesystems = Filesystems { ask: room_of_ten, ..Filesystems::default() };
        let mut out = Readings::default();
        assert_eq!(filesystems.read(b"/dev/vdb /mnt xfs ro 0 0\n", &mut out), 0);
        let labels = [("device", "/dev/vdb"), ("fstype", "xfs"), ("mountpoint", "/mnt")];
        for (metric, value) in [
            ("node_filesystem_size_bytes", 40_960.0),
            ("node_filesystem_free_bytes", 20_480.0),
            ("node_filesystem_avail_bytes", 16_384.0),
            ("node_filesystem_files", 7.0),
            ("node_filesystem_files_free", 3.0),
            ("node_filesystem_readonly", 1.0),
        ] {
            assert_eq!(out.value(metric, &labels), Some(value), "{metric}");
        }
    }

    /// Held by the test below: who asks for `/home` waits until it is let go.
    static NAS: Mutex<()> = Mutex::new(());

    fn hung_home(path: &str) -> io::Result<Room> {
        if path == "/home" {
            drop(NAS.lock());
        }
        room_of_ten(path)
    }

    #[test]
    fn a_hung_filesystem_is_counted_and_the_others_still_report() {
        let text = b"nas:/home /home nfs4 rw 0 0\n/dev/vda / ext4 rw 0 0\n";
        let timeout = Duration::from_millis(20);
        let mut filesystems = Filesystems { ask: hung_home, timeout, ..Filesystems::default() };
        let held = NAS.lock().unwrap();
        for _ in 0..3 {
            let mut out = Readings::default();
            assert_eq!(filesystems.read(text, &mut out), 1);
            assert_eq!(out.len(), 6, "the root filesystem reports");
        }
        assert_eq!(filesystems.hung.len(), 1, "one thread waits, however often we look");
        drop(held);
        filesystems.timeout = Duration::from_mins(1);
        let helper = filesystems.hung.remove("/home").unwrap();
        assert!(helper.answers.recv().unwrap().is_ok(), "the thread comes back");
        let mut out = Readings::default();
        assert_eq!(filesystems.read(text, &mut out), 0);
    }
}
