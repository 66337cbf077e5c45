//! Tells the linker how the program's addresses are kept.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // Half a mebibyte of a table becomes 7 KiB, and every process reads all of it at its start. The system's
    // linker must be of 2022 or later (glibc 2.36).
    if std::env::var("CARGO_CFG_TARGET_ENV").is_ok_and(|env| env == "gnu") {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}
