//! Hosts on networks of their own: each is a network namespace, and one more has the bridges that join them. Nothing of
//! it is seen outside, and all of it goes with the value, also in a panic.
#![allow(dead_code, missing_docs, unreachable_pub, clippy::unwrap_used)]

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// Set to `1` where a machine that allows no namespaces is a failure.
const REQUIRED: &str = "MESHMQ_REQUIRE_NETNS";

/// Tests that this machine cannot run fail here, instead of being skipped.
pub fn is_required() -> bool {
    std::env::var_os(REQUIRED).is_some_and(|value| value == "1")
}

/// Some hosts and networks.
pub struct Lab {
    name: String,
    namespaces: Vec<String>,
}

impl Lab {
    /// `None`: this machine allows no network namespaces; said on standard error, whatever the test harness captures.
    pub fn new(test: &str) -> Option<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        remove_left_over();
        let name = format!("meshmq-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let mut lab = Self { name, namespaces: Vec::new() };
        match lab.make(SWITCH) {
            Ok(()) => Some(lab),
            Err(why) if is_required() => {
                panic!("{test} needs network namespaces ({REQUIRED}=1): {why}")
            }
            Err(why) => {
                let _ = writeln!(std::io::stderr(), "SKIPPED {test}: no network namespaces here: {why}");
                None
            }
        }
    }

    /// A host with nothing but its loopback interface.
    pub fn host(&mut self, host: &str) {
        self.make(host).unwrap();
        self.ip(host, "link set lo up");
    }

    /// A network, and hosts on it at these addresses.
    pub fn lan<const N: usize>(&mut self, network: &str, hosts: [(&str, &str); N]) {
        self.network(network);
        for (host, address) in hosts {
            self.host(host);
            self.plug(host, network, address);
        }
    }

    /// A network that hosts can be plugged into.
    pub fn network(&self, network: &str) {
        self.ip(SWITCH, &format!("link add {network} type bridge"));
        self.ip(SWITCH, &format!("link set {network} up"));
    }

    /// Gives the host an interface of the network's name, with this address.
    pub fn plug(&self, host: &str, network: &str, address: &str) {
        let (port, namespace) = (port(host, network), self.namespace(host));
        self.ip(SWITCH, &format!("link add {port} type veth peer name {network} netns {namespace}"));
        self.ip(SWITCH, &format!("link set {port} master {network} up"));
        self.ip(host, &format!("address add {address} dev {network}"));
        self.ip(host, &format!("link set {network} up"));
    }

    /// What the kernel would hand on as one large packet leaves the host as the packets that a wire has.
    pub fn segment(&self, host: &str, network: &str) {
        self.ip(host, &format!("link set {network} gso_max_segs 1"));
    }

    /// The host passes on what others send through it, but no multicast, as routers do.
    pub fn route_through(&self, host: &str) {
        let forward = "echo 1 >/proc/sys/net/ipv4/ip_forward";
        assert!(self.command(host, "sh").args(["-c", forward]).status().unwrap().success());
    }

    /// Packets above this size are lost between the host and the network from now on, both ways; nobody is told. What
    /// the kernel hands on as one large packet passes all the same: see [`segment`](Self::segment).
    pub fn narrow(&self, host: &str, network: &str, mtu: u32) {
        self.ip(SWITCH, &format!("link set {} mtu {mtu}", port(host, network)));
    }

    /// What the host sends to the network is lost from now on, and the other way round; nobody is told.
    pub fn cut(&self, host: &str, network: &str) {
        self.ip(SWITCH, &format!("link set {} nomaster", port(host, network)));
    }

    pub fn heal(&self, host: &str, network: &str) {
        self.ip(SWITCH, &format!("link set {} master {network}", port(host, network)));
    }

    /// A command that runs on the host, in place of `ip`: its process is the program's.
    pub fn command(&self, host: &str, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace(host)]).arg(program.as_ref());
        command
    }

    pub fn ip(&self, host: &str, arguments: &str) {
        let namespace = self.namespace(host);
        run(&[&["-n", &namespace], &*arguments.split(' ').collect::<Vec<_>>()].concat()).unwrap();
    }

    fn make(&mut self, host: &str) -> Result<(), String> {
        let namespace = self.namespace(host);
        run(&["netns", "add", &namespace])?;
        self.namespaces.push(namespace);
        Ok(())
    }

    fn namespace(&self, host: &str) -> String {
        format!("{}-{host}", self.name)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for namespace in &self.namespaces {
            let _ = run(&["netns", "delete", namespace]);
        }
    }
}

/// The namespace of the bridges.
const SWITCH: &str = "switch";

/// An interface's name has 15 characters at most.
fn port(host: &str, network: &str) -> String {
    format!("{host}-{network}")
}

fn run(arguments: &[&str]) -> Result<(), String> {
    let output = Command::new("ip").args(arguments).stdin(Stdio::null()).output().map_err(|error| error.to_string())?;
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if output.status.success() { Ok(()) } else { Err(format!("ip {}: {said}", arguments.join(" "))) }
}

/// Namespaces of a test process that was killed.
fn remove_left_over() {
    let Ok(names) = std::fs::read_dir("/run/netns") else { return };
    for name in names.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()) {
        let pid = name.strip_prefix("meshmq-").and_then(|rest| rest.split('-').next());
        if pid.is_some_and(|pid| pid.parse::<u32>().is_ok() && !Path::new("/proc").join(pid).exists()) {
            let _ = run(&["netns", "delete", &name]);
        }
    }
}
