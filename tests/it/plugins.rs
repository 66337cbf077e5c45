//! Real plugins of Nagios and Munin, run by our agent as an operator configures them.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::json;

use crate::http;
use crate::peers::{Peer, file};
use crate::server::{Server, eventually, folder, roundel};

const PATIENCE: Duration = Duration::from_mins(1);
/// Steps of a second, so that rows close soon.
pub(crate) const POLICY: [&str; 2] = ["--policy", "1s:1h,1m:1d"];

/// A server, and an agent `web-1` of it with these sources.
pub(crate) struct Scene {
    pub(crate) server: Server,
    _agent: Peer,
}

impl Scene {
    pub(crate) async fn with(dir: &Path, sources: &str) -> Self {
        let server = Server::start(dir, &POLICY);
        let wanted = json!({ "kind": "join", "name": "test" });
        let token = http::post_json(&format!("{}/v1/tokens", server.url), &wanted).await.json();
        let file = dir.join("agent.toml");
        fs::write(&file, format!("step = \"1s\"\nname = \"web-1\"\n{sources}")).unwrap();
        let agent = Peer::start(
            roundel()
                .args(["agent", "--collector", &server.url, "--config"])
                .arg(&file)
                .args(["--token", token["token"].as_str().unwrap(), "--state"])
                .arg(dir.join("agent"))
                .stdin(Stdio::null()),
            &dir.join("agent.log"),
        );
        Self { server, _agent: agent }
    }

    /// The value that an expression has at last, when it is one that `is_good` takes.
    pub(crate) async fn value(&self, expr: &str, is_good: impl Fn(f64) -> bool) -> f64 {
        eventually(expr, PATIENCE, async || {
            let found = http::query(&self.server.url, expr, None).await;
            let value = found.first()?["value"][1].as_str()?.parse().unwrap();
            is_good(value).then_some(value)
        })
        .await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nagios_plugins_give_states_and_values() {
    let Some(load) = file("nagios plugins", "usr/lib/nagios/plugins/check_load") else { return };
    let plugins = load.parent().unwrap().display();
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let dir = folder();
    let sources = format!(
        r#"
[sources.checks]
kind = "nagios"
every = "1s"
[sources.checks.checks.load]
command = ["{plugins}/check_load", "-w", "500,400,300", "-c", "900,800,700"]
thresholds = true
[sources.checks.checks.disk]
command = ["{plugins}/check_disk", "-w", "1%", "-c", "1%", "-p", "/"]
[sources.checks.checks.warns]
command = ["{plugins}/check_dummy", "1", "it could be better"]
[sources.checks.checks.closed]
command = ["{plugins}/check_tcp", "-H", "127.0.0.1", "-p", "{closed}"]
[sources.checks.checks.hangs]
command = ["/bin/sleep", "1000"]
timeout = "300ms"
[sources.checks.checks.missing]
command = ["/nonexistent/check_nothing"]
"#
    );
    let scene = Scene::with(dir.path(), &sources).await;
    for (check, state) in [
        ("load", 0.0),
        ("disk", 0.0),
        ("warns", 1.0),
        ("closed", 2.0),
        ("hangs", 3.0),
        ("missing", 3.0),
    ] {
        let expr = format!("nagios_state{{instance=\"web-1\",check=\"{check}\"}}");
        scene.value(&expr, |found| (found - state).abs() < 0.5).await;
    }
    let five = "{check=\"load\",label=\"load5\"}";
    let load = scene.value(&format!("nagios_perfdata{five}"), |_| true).await;
    let node = scene.value("node_load5", |_| true).await;
    assert!((load - node).abs() < 3.0, "{load} by the plugin, {node} by the agent");
    let warning = format!("nagios_perfdata_warning_above{five}");
    scene.value(&warning, |found| (found - 400.0).abs() < 0.5).await;
    let used = "nagios_perfdata{check=\"disk\",label=\"/\",unit=\"bytes\"}";
    scene.value(used, |found| found > 1e6).await;
    // A state that is there at every look, though the check takes its turn once a second.
    let known = "count_over_time(nagios_state{check=\"warns\"}[5s])";
    scene.value(known, |found| found >= 5.0).await;
    let log = fs::read_to_string(dir.path().join("agent.log")).unwrap();
    assert!(log.contains("it could be better"), "the text of a check is in the log: {log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn munin_plugins_give_levels_and_rates() {
    let test = "munin plugins";
    let Some(shared) = file(test, "usr/share/munin/plugins/load") else { return };
    let Some(perl) = file(test, "usr/share/perl5/Munin/Plugin.pm") else { return };
    let shared = shared.parent().unwrap();
    let (libdir, perl) = (shared.parent().unwrap(), perl.ancestors().nth(2).unwrap());
    let dir = folder();
    let (plugins, conf) = (dir.path().join("plugins"), dir.path().join("plugin-conf.d"));
    fs::create_dir(&plugins).unwrap();
    fs::create_dir(&conf).unwrap();
    for (name, plugin) in [("load", "load"), ("cpu", "cpu"), ("df", "df"), ("if_lo", "if_")] {
        symlink(shared.join(plugin), plugins.join(name)).unwrap();
    }
    // The percentages of `cpu` are per processor with this, which tells that the setting arrived.
    fs::write(conf.join("test"), "[cp*]\nenv.HZ 200\n\n[df]\nenv.exclude none\n").unwrap();
    let user = if rustix::process::geteuid().is_root() { "user = \"root\"\n" } else { "" };
    let sources = format!(
        "[sources.munin]\nkind = \"munin\"\nevery = \"1s\"\n{user}plugins = {plugins:?}\n\
         conf = {conf:?}\nlibdir = {libdir:?}\nstate = {:?}\nenv = {{ PERL5LIB = {perl:?} }}\n",
        dir.path().join("state"),
    );
    let scene = Scene::with(dir.path(), &sources).await;
    let load = scene.value("munin_value{plugin=\"load\",field=\"load\"}", |_| true).await;
    let node = scene.value("node_load5", |_| true).await;
    assert!((load - node).abs() < 3.0, "{load} by the plugin, {node} by the agent");
    scene.value("sum(munin_value{plugin=\"df\"})", |found| found > 0.0).await;
    for plugin in ["load", "cpu", "df", "if_lo"] {
        scene.value(&format!("munin_plugin_up{{plugin=\"{plugin}\"}}"), |up| up > 0.5).await;
    }
    let processors = scene.value("node_cpus", |_| true).await;
    // Hundredths of a second a second.
    let all = scene.value("sum(rate(munin_total{plugin=\"cpu\"}[10s]))", |_| true).await;
    assert!(all > 0.0 && all < processors * 400.0, "{all} of {processors} processors");
    let traffic = "rate(munin_total{plugin=\"if_lo\",field=\"down\"}[10s])";
    scene.value(traffic, |found| found > 0.0).await;
}

#[test]
fn once_shows_what_plugins_say_and_a_wrong_table_is_named() {
    let dir = folder();
    let file = dir.path().join("agent.toml");
    let table = "[sources.checks]\nkind = \"nagios\"\n[sources.checks.checks.here]\n";
    fs::write(&file, format!("{table}command = [\"/bin/sh\", \"-c\", \"echo 'OK | a=5ms'\"]\n"))
        .unwrap();
    let once = || roundel().args(["agent", "--once", "--config"]).arg(&file).output().unwrap();
    let output = String::from_utf8(once().stdout).unwrap();
    assert!(output.contains("nagios_state{check=\"here\"} 0"), "{output}");
    let value = "nagios_perfdata{check=\"here\",label=\"a\",unit=\"seconds\"} 0.005";
    assert!(output.contains(value), "{output}");
    fs::write(&file, format!("{table}command = [\"check_load\"]\n")).unwrap();
    let errors = String::from_utf8(once().stderr).unwrap();
    assert!(errors.contains("check \"here\": command must begin with the whole path"), "{errors}");
}
