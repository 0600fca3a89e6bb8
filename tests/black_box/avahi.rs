//! Another implementation of multicast DNS sees our nodes, and shares its port with them: avahi, with a bus of its own,
//! on a host that is a network namespace.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use crate::support::netns::{Lab, is_required};
use crate::support::{PATIENCE, Place, Role, run};
use meshmq::NodeId;

/// Not a test of its own: a node that tells who it is and where, and whom it meets.
#[test]
fn member() {
    let Some(role) = Role::of("member") else { return };
    run(async {
        let node = role.on_networks().without_local().await.unwrap();
        role.say(node.id());
        role.say(node.local_addr().port());
        node.wait_for_peers(1).await.unwrap();
        role.say("met");
        tokio::task::spawn_blocking(|| std::io::stdin().lock().lines().count()).await.unwrap();
        node.shutdown(Duration::from_secs(5)).await;
    });
}

#[test]
fn avahi_sees_our_nodes_and_they_see_each_other_beside_it() {
    let test = "avahi_sees_our_nodes_and_they_see_each_other_beside_it";
    let missing = ["avahi-daemon", "avahi-browse", "dbus-daemon"].into_iter().find(|program| !is_installed(program));
    if let Some(program) = missing {
        assert!(!is_required(), "{test} needs {program}");
        let _ = writeln!(std::io::stderr(), "SKIPPED {test}: {program} is not installed");
        return;
    }
    let Some(mut lab) = Lab::new(test) else { return };
    lab.lan("lan", [("a", "10.0.0.1/24"), ("b", "10.0.0.2/24")]);
    let mut browse = Browse::start(&lab, "b");
    let place = Place::new();
    let members = ["a", "b"].map(|host| place.start_on(&lab, host, "member", &[]));
    let said = members.each_ref().map(|member| (member.hear().parse::<NodeId>().unwrap(), member.hear()));
    members.iter().for_each(|member| member.hear_this("met"));
    for ((node, port), address) in said.iter().zip(["10.0.0.1", "10.0.0.2"]) {
        // =;interface;protocol;name;type;domain;host;address;port;properties
        let expected = format!(";IPv4;{node};_meshmq._udp;local;{node}.local;{address};{port};");
        let line = browse.line(|line| line.starts_with('=') && line.contains(&expected));
        let properties = line.split_once(&expected).unwrap().1;
        assert!(properties.contains("\"v=1\"") && properties.contains("\"mesh="), "{line}");
        assert!(!line.contains("\"test\""), "no name of a mesh is said: {line}");
    }
    // Its goodbye is understood.
    let [mut leaving, _staying] = members;
    assert!(leaving.wait().success());
    let (left, _) = said[0];
    browse.line(|line| line.starts_with('-') && line.contains(&format!(";lan;IPv4;{left};")));
}

/// avahi's daemon on a host, and what its browser says.
struct Browse {
    child: Child,
    lines: Receiver<String>,
    heard: Vec<String>,
    _folder: tempfile::TempDir,
}

impl Browse {
    fn start(lab: &Lab, host: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("bus.conf"), BUS).unwrap();
        std::fs::write(folder.path().join("avahi.conf"), AVAHI).unwrap();
        let mut child = lab
            .command(host, "unshare")
            // All of it ends with this process.
            .args(["--pid", "--fork", "--kill-child", "sh", "-c", SCRIPT])
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Self { child, lines, heard: Vec::new(), _folder: folder }
    }

    /// A line that it has said, or will say.
    fn line(&mut self, wanted: impl Fn(&str) -> bool) -> String {
        loop {
            if let Some(line) = self.heard.iter().find(|line| wanted(line)) {
                return line.clone();
            }
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => self.heard.push(line),
                Err(_) => panic!("it only said {:#?}", self.heard),
            }
        }
    }
}

impl Drop for Browse {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn is_installed(program: &str) -> bool {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&folders).chain(["/usr/sbin".into()]).any(|folder| folder.join(program).exists())
}

/// Its files in `/run` are of a mount namespace of its own, which `ip netns exec` makes.
const SCRIPT: &str = "
    mount -t tmpfs tmpfs /run && mkdir /run/avahi-daemon || exit 1
    PATH=$PATH:/usr/sbin
    export DBUS_SYSTEM_BUS_ADDRESS=unix:path=/run/bus
    # Each goes into the background once it serves.
    dbus-daemon --config-file=bus.conf --fork &&
        avahi-daemon --daemonize --no-drop-root --no-chroot --no-rlimits --file=avahi.conf || exit 1
    exec avahi-browse --parsable --resolve _meshmq._udp
";
const BUS: &str = "
    <busconfig>
      <type>system</type>
      <listen>unix:path=/run/bus</listen>
      <policy context='default'>
        <allow send_destination='*'/><allow receive_sender='*'/><allow own='*'/><allow user='*'/>
      </policy>
    </busconfig>
";
const AVAHI: &str = "
[server]
use-ipv4=yes
use-ipv6=yes
[publish]
publish-workstation=no
";
