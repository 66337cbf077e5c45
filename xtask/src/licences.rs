//! Licences and bans: `deny.toml` read against what Cargo says of every dependency.
//!
//! `cargo deny` itself takes minutes to build; this reads the same file for the two checks that
//! need no database.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use crate::{cargo, root};

#[derive(Deserialize)]
struct Deny {
    licenses: Licenses,
    bans: Bans,
}

#[derive(Deserialize)]
struct Licenses {
    allow: BTreeSet<String>,
}

#[derive(Deserialize)]
struct Bans {
    deny: Vec<Ban>,
}

#[derive(Deserialize)]
struct Ban {
    #[serde(rename = "crate")]
    name: String,
    reason: String,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
    license: Option<String>,
    source: Option<String>,
}

/// Fails on a licence that is not allowed, a banned crate, or a source that is not the registry.
pub(crate) fn check() -> Result<()> {
    let text = std::fs::read_to_string(root().join("deny.toml")).context("deny.toml")?;
    let deny: Deny = toml::from_str(&text).context("deny.toml")?;
    let metadata = ["metadata", "--format-version", "1", "--locked", "--quiet"];
    let output = cargo().args(metadata).output()?;
    if !output.status.success() {
        bail!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    }
    let metadata: Metadata = serde_json::from_slice(&output.stdout)?;
    let mut problems = Vec::new();
    for package in &metadata.packages {
        problems.extend(problem(package, &deny));
    }
    if !problems.is_empty() {
        bail!("{}", problems.join("\n"));
    }
    Ok(())
}

fn problem(package: &Package, deny: &Deny) -> Option<String> {
    let Package { name, version, .. } = package;
    if let Some(ban) = deny.bans.deny.iter().find(|ban| &ban.name == name) {
        return Some(format!("{name} {version} is banned: {}", ban.reason));
    }
    if package.source.as_ref().is_some_and(|source| !source.starts_with("registry+")) {
        return Some(format!("{name} {version} does not come from the registry"));
    }
    let licence = package.license.as_deref().unwrap_or_default();
    (!allowed(licence, &deny.licenses.allow))
        .then(|| format!("{name} {version}: licence {licence:?} is not allowed in deny.toml"))
}

/// True when one side of every `AND` has an allowed `OR` choice. Old crates write `/` for `OR`.
fn allowed(expression: &str, allow: &BTreeSet<String>) -> bool {
    let plain = expression.replace(['(', ')'], " ").replace('/', " OR ");
    plain.split(" AND ").all(|all| all.split(" OR ").any(|one| allow.contains(one.trim())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_allowed_choice_of_each_part_is_enough() {
        let allow = BTreeSet::from(["MIT".to_owned(), "ISC".to_owned()]);
        for (expression, expected) in [
            ("MIT", true),
            ("GPL-3.0", false),
            ("GPL-3.0 OR MIT", true),
            ("MIT/Apache-2.0", true),
            ("ISC AND (GPL-3.0 OR MIT)", true),
            ("ISC AND GPL-3.0", false),
            ("", false),
        ] {
            assert_eq!(allowed(expression, &allow), expected, "{expression}");
        }
    }
}
