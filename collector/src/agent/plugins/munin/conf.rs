//! Munin's settings of plugins: the sections of the files in `plugin-conf.d`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::agent::plugins::written::Manner;

/// Bytes of all files together.
const BYTES_MAX: usize = 1 << 20;

/// All sections, in the order in which they are written.
#[derive(Debug, Default)]
pub(super) struct Conf(Vec<(String, Settings)>);

/// What is said of a plugin.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Settings {
    pub(super) manner: Manner,
    pub(super) env: BTreeMap<String, String>,
    /// Another program is to be run in its place.
    pub(super) command: bool,
}

impl Conf {
    /// The files of a folder, by name; a folder that is not there says nothing.
    pub(super) fn read(folder: &Path) -> Result<Self, String> {
        let Ok(entries) = fs::read_dir(folder) else { return Ok(Self::default()) };
        let mut files: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
        files.retain(|path| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or(".");
            let plain = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c);
            path.is_file() && name.chars().all(plain)
        });
        files.sort();
        let mut conf = Self::default();
        let mut bytes = 0;
        for file in files {
            let text = fs::read(&file).map_err(|error| format!("{}: {error}", file.display()))?;
            bytes += text.len();
            if bytes > BYTES_MAX {
                return Err(format!("{}: over {BYTES_MAX} bytes of settings", folder.display()));
            }
            let text = String::from_utf8_lossy(&text);
            conf.add(&text).map_err(|why| format!("{}: {why}", file.display()))?;
        }
        Ok(conf)
    }

    fn add(&mut self, text: &str) -> Result<(), String> {
        let mut current: Option<Settings> = None;
        let mut name = "";
        for (line, number) in text.lines().zip(1..) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if let Some(section) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                self.0
                    .extend(current.replace(Settings::default()).map(|one| (name.to_owned(), one)));
                name = section.trim();
                continue;
            }
            let settings = current.as_mut();
            let settings = settings.ok_or(format!("line {number} is in no section"))?;
            let (key, value) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
            settings.set(key, value.trim()).map_err(|why| format!("line {number}: {why}"))?;
        }
        self.0.extend(current.map(|one| (name.to_owned(), one)));
        Ok(())
    }

    /// What is said of a plugin: under its name, else under the longest beginning of it with a star.
    pub(super) fn of(&self, plugin: &str) -> Settings {
        let mut sections: Vec<_> =
            self.0.iter().filter(|(pattern, _)| matches(pattern, plugin)).collect();
        // Later words of one section win, and a star is shorter than a name.
        sections.reverse();
        sections
            .sort_by_key(|(pattern, _)| std::cmp::Reverse((!pattern.contains('*'), pattern.len())));
        let mut all = Settings::default();
        for (_, settings) in sections {
            all.manner = all.manner.or(&settings.manner);
            all.command |= settings.command;
            for (name, value) in &settings.env {
                all.env.entry(name.clone()).or_insert_with(|| value.clone());
            }
        }
        all
    }
}

impl Settings {
    fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        match key {
            "user" => self.manner.user = Some(value.to_owned()),
            // The first of several; one in brackets may be missing and is not looked for.
            "group" => {
                let first = value.split(',').map(str::trim).find(|group| !group.starts_with('('));
                self.manner.group = first.map(ToOwned::to_owned);
            }
            "timeout" => {
                let seconds =
                    value.parse().map_err(|_| format!("timeout {value:?} is no number"))?;
                self.manner.timeout = Some(Duration::from_secs(seconds));
            }
            "command" => self.command = true,
            _ => {
                if let Some(name) = key.strip_prefix("env.").filter(|name| !name.is_empty()) {
                    self.env.insert(name.to_owned(), value.to_owned());
                }
            }
        }
        Ok(())
    }
}

fn matches(pattern: &str, plugin: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| plugin.strip_prefix(first)) else {
        return false;
    };
    let mut last = None;
    for part in parts {
        if let Some(part) = last.replace(part) {
            match rest.split_once(part) {
                Some((_, tail)) => rest = tail,
                None => return false,
            }
        }
    }
    last.map_or(rest.is_empty(), |end| rest.ends_with(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_anything() {
        for (pattern, plugin, expected) in [
            ("if_*", "if_eth0", true),
            ("if_*", "if_err_eth0", true),
            ("if_", "if_eth0", false),
            ("*", "load", true),
            ("*_eth0", "if_eth0", true),
            ("i*_*0", "if_eth0", true),
            ("i*_*0", "if_eth1", false),
            ("load", "load", true),
            ("loa", "load", false),
            ("", "load", false),
        ] {
            assert_eq!(matches(pattern, plugin), expected, "{pattern} {plugin}");
        }
    }

    #[test]
    fn the_section_of_a_plugin_wins_over_those_with_stars() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        write("10-all", "# comment\n[*]\nuser munin\nenv.a star\nenv.b star\ntimeout 30\n");
        write(
            "20-df",
            "[df]\n  env.a  one two \n\n[df*]\nuser root\ngroup (wheel), adm\nenv.b df\n",
        );
        write("30-df.dpkg-old", "[df]\nenv.a old\n");
        write("40-again", "[df]\nenv.c late\nhost_name x\n");
        let conf = Conf::read(dir.path()).unwrap();
        let df = conf.of("df");
        let env: Vec<_> = df.env.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(env, [("a", "one two"), ("b", "df"), ("c", "late")]);
        assert_eq!(
            (df.manner.user.as_deref(), df.manner.group.as_deref()),
            (Some("root"), Some("adm"))
        );
        assert_eq!(df.manner.timeout, Some(Duration::from_secs(30)));
        assert_eq!(conf.of("load").manner.user.as_deref(), Some("munin"));
        assert_eq!(Conf::read(&dir.path().join("none")).unwrap().of("df"), Settings::default());
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        for (text, said) in [
            ("user root\n", "line 1 is in no section"),
            ("[a]\n\ntimeout soon\n", "line 3: timeout \"soon\" is no number"),
        ] {
            assert_eq!(Conf::default().add(text).unwrap_err(), said);
        }
        let mut conf = Conf::default();
        conf.add("[a]\ncommand sudo %c\n").unwrap();
        assert!(conf.of("a").command);
    }
}
