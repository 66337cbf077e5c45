//! The house rules that a machine can hold: arrows, first lines, folders of the design card.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The crates of ours, without the root and the tools beside it.
const PARTS: [&str; 6] = ["rrd", "journal", "query", "collector", "alerter", "web"];

/// The table of ARCHITECTURE.md: a crate, and those of ours that it may use.
fn arrows() -> BTreeMap<String, BTreeSet<String>> {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let rows = text.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| {
        let mut cells = row.split('|').skip(1).map(words);
        let name = cells.next().unwrap().pop_first().unwrap();
        (name, cells.next().unwrap())
    })
    .collect()
}

/// The names in backquotes of a table cell; `rrd::disk` counts as `rrd`.
fn words(cell: &str) -> BTreeSet<String> {
    let quoted = cell.split('`').skip(1).step_by(2);
    quoted.map(|word| word.split(':').next().unwrap_or(word).to_owned()).collect()
}

/// The crates of ours in the `[dependencies]` of a Cargo.toml.
fn dependencies(manifest: &Path) -> BTreeSet<String> {
    let text = fs::read_to_string(manifest).unwrap();
    let section = text.split("\n[dependencies]\n").nth(1).unwrap_or_default();
    let section = section.split("\n[").next().unwrap_or_default();
    let names = section.lines().filter_map(|line| line.split(['.', ' ', '=']).next());
    names.filter(|name| PARTS.contains(name)).map(str::to_owned).collect()
}

#[test]
fn crates_use_only_what_the_architecture_lets_them() {
    let table = arrows();
    for part in PARTS {
        let may = table.get(part).unwrap_or_else(|| panic!("ARCHITECTURE.md has no row of {part}"));
        let does = dependencies(&root().join(part).join("Cargo.toml"));
        let beyond: Vec<_> = does.difference(may).collect();
        assert!(beyond.is_empty(), "{part} uses {beyond:?}, which ARCHITECTURE.md does not allow");
    }
}

#[test]
fn the_store_knows_no_runtime_and_no_serde() {
    let text = fs::read_to_string(root().join("rrd/Cargo.toml")).unwrap();
    let section = text.split("[dev-dependencies]").next().unwrap();
    for banned in ["tokio", "serde"] {
        assert!(!section.contains(banned), "rrd depends on {banned}");
    }
}

#[test]
fn the_test_data_depend_on_no_crate_of_ours() {
    assert!(dependencies(&root().join("fixtures/Cargo.toml")).is_empty());
}

#[test]
fn every_source_file_says_first_what_it_is() {
    let mut silent = Vec::new();
    for file in sources(&root()) {
        let text = fs::read_to_string(&file).unwrap();
        if !text.lines().next().is_some_and(|line| line.starts_with("//! ")) {
            silent.push(file);
        }
    }
    assert!(silent.is_empty(), "no first-line doc: {silent:#?}");
}

#[test]
fn unsafe_code_lives_in_one_small_module() {
    let spelled = ["unsafe", " {"].concat();
    for file in sources(&root()) {
        let text = fs::read_to_string(&file).unwrap();
        let home = file.ends_with("rrd/src/map.rs");
        assert!(home || !text.contains(&spelled), "{} is unsafe", file.display());
        assert!(!home || text.lines().count() < 150, "rrd/src/map.rs is no longer small");
    }
}

#[test]
fn the_folders_of_the_design_stand() {
    for name in ["collector", "rrd", "alerter", "web", "benches", "fixtures"] {
        assert!(root().join(name).join("Cargo.toml").is_file(), "{name}/ is missing");
    }
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    for name in
        ["tokio", "axum", "plotters", "bincode", "memmap2", "serde", "lettre", "prometheus-parse"]
    {
        assert!(manifest.contains(&format!("\n{name} = ")), "{name} is no dependency");
    }
}

#[test]
fn the_readme_names_the_two_commands() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    for command in ["cargo run --release", "cargo xtask test"] {
        assert!(readme.contains(command), "README.md does not name {command}");
    }
}

/// Every Rust file of the repository.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}
