//! Programs of others that the tests run: where they are, and what to say when they are not.

use std::io::Write as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

/// A program of Debian's, unpacked by `cargo xtask test` or installed; `None`, and said, without it.
pub(crate) fn program(test: &str, name: &str) -> Option<PathBuf> {
    let unpacked = unpacked();
    let folders = ["usr/bin", "usr/sbin"];
    let places = folders.map(|folder| unpacked.join(folder).join(name));
    let mut places = places.into_iter().chain([Path::new("/usr/bin").join(name)]);
    let found = places.find(|path| path.exists());
    if found.is_none() {
        not_run(test, name);
    }
    found
}

/// The folder that Debian's packages were unpacked into.
pub(crate) fn unpacked() -> PathBuf {
    std::env::var_os("ROUNDEL_PEERS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target/peers"), PathBuf::from)
}

/// The unpacked libraries, for `LD_LIBRARY_PATH`.
pub(crate) fn libraries() -> std::ffi::OsString {
    let all = std::fs::read_dir(unpacked().join("usr/lib")).into_iter().flatten().flatten();
    let folders = all.map(|entry| entry.path());
    let folders = folders.filter(|path| path.to_string_lossy().contains("-linux-gnu"));
    std::env::join_paths(folders).unwrap()
}

/// A file that a package of Debian's brings, unpacked or installed; `None`, and said, without it.
pub(crate) fn file(test: &str, path: &str) -> Option<PathBuf> {
    let places = [unpacked().join(path), Path::new("/").join(path)];
    let found = places.into_iter().find(|path| path.exists());
    if found.is_none() {
        not_run(test, path);
    }
    found
}

/// Says that a test did not run, and what it lacks, where `cargo xtask test` reads it.
#[expect(clippy::print_stderr, reason = "the runner shows it")]
pub(crate) fn not_run(test: &str, needs: &str) {
    let line = format!("not run: {test} (needs {needs})\n");
    eprint!("{line}");
    if let Some(file) = std::env::var_os("ROUNDEL_NOT_RUN") {
        let mut file = std::fs::File::options().create(true).append(true).open(file).unwrap();
        file.write_all(line.as_bytes()).unwrap();
    }
}

/// A port of loopback that was free a moment ago, for programs that cannot take port 0.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A running program of others. Dropped, it is killed.
pub(crate) struct Peer(Child);

impl Peer {
    /// Starts it, its output kept in `log`.
    pub(crate) fn start(command: &mut Command, log: &Path) -> Self {
        let log = std::fs::File::create(log).unwrap();
        Self(command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap())
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // Already gone is as good as killed.
        let _gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}
