//! What opens a target: the authority of its certificate, and what it is shown. All of it is in files that
//! are read for each page, so that they may change.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::listen;

/// Bytes of a password or a token: a header has no room for more.
const SECRET_LIMIT: usize = 4 << 10;

/// What a target's labels say of its door; nothing by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Access {
    /// Authorities of its certificate (PEM), instead of the public ones.
    pub(super) authority: Option<PathBuf>,
    pub(super) shown: Option<Shown>,
}

/// What a target is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Shown {
    /// The token in a file.
    Bearer(PathBuf),
    /// A user, and the password in a file.
    Basic(String, PathBuf),
}

impl Access {
    /// What labels of a group say. Errors with the first thing that is wrong with them.
    pub(super) fn read(labels: &BTreeMap<String, String>) -> Result<Self, String> {
        let name = |plain: &str| format!("__{plain}__");
        Self::named(name, |name| labels.get(name).map(String::as_str))
    }

    /// What is written under `ca_file`, `bearer_file`, `username` and `password_file`.
    pub(crate) fn written<'a>(find: impl Fn(&str) -> Option<&'a str>) -> Result<Self, String> {
        Self::named(str::to_owned, find)
    }

    fn named<'a>(
        name: impl Fn(&str) -> String,
        find: impl Fn(&str) -> Option<&'a str>,
    ) -> Result<Self, String> {
        let [ca_file, bearer_file, username, password_file] =
            ["ca_file", "bearer_file", "username", "password_file"].map(name);
        let file = |name: &str| match find(name) {
            None => Ok(None),
            Some(path) if path.starts_with('/') => Ok(Some(PathBuf::from(path))),
            Some(path) => Err(format!("{name} {path:?}: write the whole path, from / on")),
        };
        let shown = match (file(&bearer_file)?, find(&username), file(&password_file)?) {
            (None, None, None) => None,
            (Some(token), None, None) => Some(Shown::Bearer(token)),
            (None, Some(user), Some(password)) if !user.contains(':') => {
                Some(Shown::Basic(user.to_owned(), password))
            }
            (None, Some(user), Some(_)) => {
                return Err(format!("{username} {user:?}: a colon ends it on its way"));
            }
            _ => {
                return Err(format!(
                    "write either {bearer_file}, or {username} and {password_file}"
                ));
            }
        };
        Ok(Self { authority: file(&ca_file)?, shown })
    }

    /// The header that shows it. Reads a file.
    pub(super) fn header(&self) -> Result<Option<HeaderValue>, String> {
        let text = match &self.shown {
            None => return Ok(None),
            Some(Shown::Bearer(file)) => format!("Bearer {}", secret(file)?),
            Some(Shown::Basic(user, file)) => {
                format!("Basic {}", STANDARD.encode(format!("{user}:{}", secret(file)?)))
            }
        };
        let unsent = |_| "what is to be shown holds characters that no header takes".to_owned();
        let mut value = HeaderValue::try_from(text).map_err(unsent)?;
        value.set_sensitive(true);
        Ok(Some(value))
    }

    /// The authorities as they are now; `None` for the public ones. Reads a file.
    pub(super) fn authorities(&self) -> Result<Option<Vec<u8>>, String> {
        let read = |file: &PathBuf| listen::read(file, false).map_err(|error| error.to_string());
        self.authority.as_ref().map(read).transpose()
    }

    /// What TLS is made of with these authorities.
    pub(super) fn tls(&self, pem: &[u8]) -> Result<ClientConfig, String> {
        let file = self.authority.as_deref().unwrap_or_else(|| Path::new(""));
        let mut roots = RootCertStore::empty();
        for root in listen::certificates(file, pem).map_err(|error| error.to_string())? {
            roots.add(root).map_err(|error| format!("{}: {error}", file.display()))?;
        }
        Ok(ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("ring has ciphers for TLS 1.2 and 1.3")
            .with_root_certificates(roots)
            .with_no_client_auth())
    }
}

fn secret(file: &Path) -> Result<String, String> {
    let bytes = listen::read(file, true).map_err(|error| error.to_string())?;
    let text = String::from_utf8(bytes).ok().filter(|text| text.len() <= SECRET_LIMIT);
    let text = text.ok_or_else(|| format!("{}: no password or token", file.display()))?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn what_is_shown_is_whole_or_refused() {
        for (pairs, why) in [
            (&[("__bearer_file__", "token")][..], "write the whole path"),
            (&[("__ca_file__", "ca.pem")], "write the whole path"),
            (&[("__username__", "me")], "write either"),
            (&[("__password_file__", "/p")], "write either"),
            (&[("__bearer_file__", "/t"), ("__username__", "me")], "write either"),
            (&[("__username__", "a:b"), ("__password_file__", "/p")], "a colon"),
        ] {
            let problem = Access::read(&labels(pairs)).unwrap_err();
            assert!(problem.contains(why), "{pairs:?}: {problem}");
        }
        assert_eq!(Access::read(&labels(&[("zone", "a")])), Ok(Access::default()));
    }

    #[test]
    fn a_secret_is_read_each_time_and_must_not_be_everybody_s() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("secret");
        let path = file.to_str().unwrap();
        let write = |text: &str, mode: u32| {
            fs::write(&file, text).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        };
        let bearer = Access::read(&labels(&[("__bearer_file__", path)])).unwrap();
        let basic = labels(&[("__username__", "me"), ("__password_file__", path)]);
        let basic = Access::read(&basic).unwrap();
        let said = |access: &Access| {
            access.header().map(|value| value.unwrap().to_str().unwrap().to_owned())
        };
        assert!(said(&bearer).unwrap_err().contains("secret"));
        write("open sesame\n", 0o600);
        assert_eq!(said(&bearer).unwrap(), "Bearer open sesame");
        assert_eq!(said(&basic).unwrap(), "Basic bWU6b3BlbiBzZXNhbWU=");
        write("other\n", 0o640);
        assert_eq!(said(&bearer).unwrap(), "Bearer other");
        write("other\n", 0o604);
        assert!(said(&bearer).unwrap_err().contains("chmod"));
        write("two\nlines\n", 0o600);
        assert!(said(&bearer).unwrap_err().contains("no header takes"));
        write(&"x".repeat(SECRET_LIMIT + 1), 0o600);
        assert!(said(&bearer).unwrap_err().contains("no password or token"));
    }
}
