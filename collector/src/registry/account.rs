//! Who pays for a machine: an account of AWS, a project of GCP or a subscription of Azure.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// Bytes of a name: Azure's, the longest, have 36.
const NAME_LIMIT: usize = 128;
/// What machines call their clouds in `cloud_provider`.
const CLOUDS: [&str; 3] = ["aws", "gcp", "azure"];
/// What documents say of an account; Google's tells a project by its number and by its name.
const LABELS: [&str; 2] = ["cloud_account", "cloud_project"];

/// An account of one cloud, written `aws:123456789012`. Clouds count each for themselves, so that a name
/// alone could be that of another's customer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    cloud: &'static str,
    name: String,
}

/// Text that names no account.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0:?} is no account; write aws:123456789012, gcp:PROJECT or azure:SUBSCRIPTION")]
pub struct AccountError(String);

impl Account {
    /// True when these labels, which a cloud signed, are of a machine of this account.
    pub(crate) fn owns(&self, signed: &BTreeMap<String, String>) -> bool {
        let is_its = |label: &&str| {
            signed.get(*label).is_some_and(|name| name.eq_ignore_ascii_case(&self.name))
        };
        signed.get("cloud_provider").is_some_and(|cloud| cloud == self.cloud)
            && LABELS.iter().any(is_its)
    }
}

impl FromStr for Account {
    type Err = AccountError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = text.split_once(':').and_then(|(cloud, name)| {
            let cloud = CLOUDS.into_iter().find(|known| *known == cloud)?;
            // A project of a domain is written example.com:project.
            let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
            let is_name = (1..=NAME_LIMIT).contains(&name.len()) && name.chars().all(is_plain);
            is_name.then(|| Self { cloud, name: name.to_owned() })
        });
        known.ok_or_else(|| AccountError(text.chars().take(NAME_LIMIT).collect()))
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.cloud, self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signed(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn an_account_owns_machines_of_its_own_cloud_alone() {
        let aws = signed(&[("cloud_provider", "aws"), ("cloud_account", "123")]);
        let gcp = signed(&[
            ("cloud_provider", "gcp"),
            ("cloud_account", "123"),
            ("cloud_project", "shop-1"),
        ]);
        let azure = signed(&[("cloud_provider", "azure"), ("cloud_account", "8d10-ab")]);
        for (account, labels, owns) in [
            ("aws:123", &aws, true),
            ("aws:124", &aws, false),
            ("gcp:123", &aws, false),
            ("gcp:123", &gcp, true),
            ("gcp:shop-1", &gcp, true),
            ("gcp:shop", &gcp, false),
            ("aws:123", &gcp, false),
            ("azure:8D10-AB", &azure, true),
            ("azure:8d10-ab", &signed(&[("cloud_account", "8d10-ab")]), false),
        ] {
            let account: Account = account.parse().unwrap();
            assert_eq!(account.owns(labels), owns, "{account} {labels:?}");
        }
    }

    #[test]
    fn an_account_is_read_as_it_is_written() {
        for text in ["aws:123456789012", "gcp:example.com:shop", "azure:8d10"] {
            assert_eq!(text.parse::<Account>().unwrap().to_string(), text);
        }
        for bad in ["", "123", "aws:", "moon:1", "aws:1 2", "AWS:1", "gcp:\u{e4}"] {
            let error = bad.parse::<Account>().unwrap_err().to_string();
            assert!(error.contains("write aws:"), "{bad}: {error}");
        }
        assert!(format!("aws:{}", "1".repeat(129)).parse::<Account>().is_err());
    }
}
