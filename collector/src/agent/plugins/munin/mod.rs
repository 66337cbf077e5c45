//! Munin plugins, run directly: a node that has them needs no `munin-node` for us.

mod conf;
mod plugin;
mod said;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::crew::Crew;
use super::exec::Program;
use super::written::{Manner, read};
use crate::agent::source::Source;
use conf::Conf;
use plugin::Plugin;

/// Plugins of one agent; a busy Munin node has fifty.
const PLUGINS_MAX: usize = 200;
/// Bytes that a plugin may write: the configuration of a graph for each of a hundred disks.
const OUTPUT_MAX: usize = 512 << 10;
/// Whom plugins run as when we are root and nobody says otherwise, as Munin has it.
const USER: &str = "nobody";

/// The table of a source `kind = "munin"`.
#[derive(Debug, Deserialize)]
struct Written {
    #[serde(flatten)]
    manner: Manner,
    /// The folder of plugins, or of links to them.
    #[serde(default = "plugins")]
    plugins: PathBuf,
    /// Those of the folder that are run; all when nobody says.
    only: Option<Vec<String>>,
    /// The folder of settings of plugins.
    #[serde(default = "conf")]
    conf: PathBuf,
    /// Where Munin's own files are, such as `plugins/plugin.sh`.
    #[serde(default = "libdir")]
    libdir: PathBuf,
    /// Where plugins keep what they remember.
    #[serde(default = "state")]
    state: PathBuf,
    /// More of the environment of all plugins.
    #[serde(default)]
    env: BTreeMap<String, String>,
    #[serde(flatten)]
    rest: BTreeMap<String, toml::Value>,
}

fn plugins() -> PathBuf {
    "/etc/munin/plugins".into()
}

fn conf() -> PathBuf {
    "/etc/munin/plugin-conf.d".into()
}

fn libdir() -> PathBuf {
    "/usr/share/munin".into()
}

fn state() -> PathBuf {
    "/var/lib/munin-node/plugin-state".into()
}

/// The source that a table describes, running.
pub(in crate::agent) fn build(_: &str, table: toml::Table) -> Result<Box<dyn Source>, String> {
    Ok(Box::new(Crew::start(found(table)?)))
}

/// The plugins that there are.
fn found(table: toml::Table) -> Result<Vec<Plugin>, String> {
    let written: Written = read(table)?;
    if let Some(key) = written.rest.keys().next() {
        return Err(format!("there is no key {key:?}"));
    }
    let conf = Conf::read(&written.conf)?;
    let names = names(&written.plugins)?;
    let is_wanted = |name: &&String| written.only.as_ref().is_none_or(|only| only.contains(name));
    if let Some(missing) = written.only.iter().flatten().find(|wanted| !names.contains(wanted)) {
        return Err(format!("{}: there is no plugin {missing:?}", written.plugins.display()));
    }
    let plugin = |name: &String| {
        let program = written.program(name, &conf);
        let program = program.map_err(|why| format!("plugin {name:?}: {why}"))?;
        Ok(Plugin::new(name, written.manner.times().0, program))
    };
    names.iter().filter(is_wanted).map(plugin).collect()
}

impl Written {
    fn program(&self, name: &str, conf: &Conf) -> Result<Program, String> {
        let of_plugin = conf.of(name);
        if of_plugin.command {
            return Err("its settings have a `command`, which is not done here; take it out".into());
        }
        let is_root = rustix::process::geteuid().is_root();
        let usual = Manner { user: is_root.then(|| USER.to_owned()), ..Manner::default() };
        let manner = of_plugin.manner.or(&self.manner).or(&usual);
        let account = manner.account()?;
        let folder = self.state.join(manner.user.as_deref().unwrap_or("own"));
        // Without it a plugin that remembers says so itself; most do not.
        if fs::create_dir_all(&folder).is_ok() {
            let (user, group) = (account.map(|a| a.user), account.map(|a| a.group));
            let _not_ours = chown(&folder, user, group);
        }
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let mut environment = BTreeMap::from([
            ("MUNIN_LIBDIR".to_owned(), text(&self.libdir)),
            ("MUNIN_PLUGSTATE".to_owned(), text(&folder)),
            ("MUNIN_STATEFILE".to_owned(), text(&folder.join(format!("{name}-roundel")))),
            ("MUNIN_CAP_DIRTYCONFIG".to_owned(), "1".to_owned()),
            ("MUNIN_CAP_MULTIGRAPH".to_owned(), "1".to_owned()),
            ("MUNIN_DEBUG".to_owned(), "0".to_owned()),
        ]);
        environment.extend(self.env.clone());
        environment.extend(of_plugin.env);
        Ok(Program {
            path: self.plugins.join(name),
            arguments: Vec::new(),
            environment: environment.into_iter().collect(),
            account,
            timeout: manner.times().1,
            output_max: OUTPUT_MAX,
        })
    }
}

/// The names of the programs in a folder, without what editors and packages leave there.
fn names(folder: &Path) -> Result<Vec<String>, String> {
    let unreadable = |error| format!("{}: {error}", folder.display());
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        let plain = |c: char| c.is_ascii_alphanumeric() || "_-+:".contains(c);
        let is_program = fs::metadata(&path)
            .is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0);
        if is_program && name.chars().all(plain) {
            names.push(name.to_owned());
        }
    }
    if names.len() > PLUGINS_MAX {
        return Err(format!(
            "{}: more than {PLUGINS_MAX} plugins; name some with `only`",
            folder.display()
        ));
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plugins_are_the_programs_of_a_folder() {
        let dir = tempfile::tempdir().unwrap();
        for (name, mode) in [
            ("load", 0o755),
            ("if_eth0", 0o755),
            ("load.bak", 0o755),
            (".x", 0o755),
            ("txt", 0o644),
        ] {
            let path = dir.path().join(name);
            fs::write(&path, "").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        }
        assert_eq!(names(dir.path()).unwrap(), ["if_eth0", "load"]);
        let table = |more: &str| {
            let dirs = dir.path().display();
            let text =
                format!("plugins = \"{dirs}\"\nconf = \"{dirs}/none\"\nstate = \"{dirs}/s\"\n");
            toml::from_str(&format!("{text}{more}")).unwrap()
        };
        assert_eq!(found(table("only = [\"load\"]")).unwrap().len(), 1);
        assert_eq!(found(table("")).unwrap().len(), 2);
        for (more, said) in [
            ("only = [\"cpu\"]", "there is no plugin \"cpu\""),
            ("others = []", "there is no key \"others\""),
            ("user = \"no one\"", "plugin \"if_eth0\": there is no user"),
        ] {
            let problem = found(table(more)).err().unwrap();
            assert!(problem.contains(said), "{more}: {problem}");
        }
    }
}
