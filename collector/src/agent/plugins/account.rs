//! An account of this machine: the numbers behind a user's and a group's name.

use std::path::Path;

/// Whom a program runs as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) user: u32,
    pub(crate) group: u32,
}

impl Account {
    /// The account called `user`, with the group `group` or its own. Errors name what is not there.
    pub(crate) fn named(user: &str, group: Option<&str>) -> Result<Self, String> {
        Self::under(Path::new("/etc"), user, group)
    }

    fn under(etc: &Path, user: &str, group: Option<&str>) -> Result<Self, String> {
        let passwd = line(&etc.join("passwd"), user);
        let number = |at: usize| passwd.as_ref()?.split(':').nth(at)?.parse().ok();
        let uid = number(2).or_else(|| user.parse().ok());
        let uid =
            uid.ok_or_else(|| format!("there is no user {user:?}; name one of /etc/passwd"))?;
        let gid = match group {
            None => number(3).or_else(|| passwd.is_none().then_some(uid)),
            Some(group) => {
                let known = line(&etc.join("group"), group);
                let number = known.as_ref().and_then(|line| line.split(':').nth(2)?.parse().ok());
                number.or_else(|| group.parse().ok())
            }
        };
        let group = group.unwrap_or(user);
        let gid =
            gid.ok_or_else(|| format!("there is no group {group:?}; name one of /etc/group"))?;
        Ok(Self { user: uid, group: gid })
    }
}

/// The line of a file of accounts that begins with `name`.
fn line(file: &Path, name: &str) -> Option<String> {
    let text = std::fs::read_to_string(file).ok()?;
    text.lines().find(|line| line.split(':').next() == Some(name)).map(ToOwned::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_found_and_others_refused() {
        let etc = tempfile::tempdir().unwrap();
        let passwd = "root:x:0:0:root:/root:/bin/sh\nmunin:x:110:117::/:/bin/false\n";
        std::fs::write(etc.path().join("passwd"), passwd).unwrap();
        std::fs::write(etc.path().join("group"), "adm:x:4:\n").unwrap();
        for (user, group, expected) in [
            ("munin", None, Some((110, 117))),
            ("munin", Some("adm"), Some((110, 4))),
            ("munin", Some("7"), Some((110, 7))),
            ("65534", None, Some((65534, 65534))),
            ("mun", None, None),
            ("munin", Some("wheel"), None),
        ] {
            let found = Account::under(etc.path(), user, group);
            assert_eq!(found.ok().map(|a| (a.user, a.group)), expected, "{user} {group:?}");
        }
    }
}
