//! The example `lan_workers`, on hosts of a network of their own.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::support::Place;
use crate::support::netns::Lab;

fn example() -> PathBuf {
    // Beside the folder of the tests.
    let tests = std::env::current_exe().unwrap();
    let example = tests.parent().unwrap().parent().unwrap().join("examples/lan_workers");
    assert!(example.exists(), "{} is missing: `cargo test` builds it, or `cargo build --examples`", example.display());
    example
}

#[test]
fn the_picture_is_whole_though_a_host_dies() {
    let Some(mut lab) = Lab::new("the_picture_is_whole_though_a_host_dies") else { return };
    lab.lan("lan", [("boss", "10.0.0.1/24"), ("a", "10.0.0.2/24"), ("b", "10.0.0.3/24"), ("c", "10.0.0.4/24")]);
    let place = Place::new();
    let key = place.path().join("key");
    let on = |host: &str, arguments: &[&str]| {
        let mut command = lab.command(host, example());
        // Hosts share the disk, and have runtime folders of their own: they meet by the network alone.
        let runtime = place.path().join(host);
        std::fs::create_dir_all(&runtime).unwrap();
        command.args(arguments).env("XDG_CONFIG_HOME", &key).env("XDG_RUNTIME_DIR", runtime);
        command
    };
    let start = |mut command: Command| Worker(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    let _workers = [start(on("a", &["worker"])), start(on("b", &["worker"]))];
    let mut dies = start(on("c", &["worker"]));
    let (drawn, alone) = (place.path().join("drawn.png"), place.path().join("alone.png"));
    let mut boss =
        on("boss", &["draw", drawn.to_str().unwrap()]).stderr(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    for line in BufReader::new(boss.stderr.take().unwrap()).lines() {
        if line.unwrap().contains("10.0.0.4") {
            // Its host falls silent, as a rule with a tile in hand.
            lab.cut("c", "lan");
            dies.0.kill().unwrap();
        }
    }
    let boss = boss.wait_with_output().unwrap();
    assert!(boss.status.success());
    let told = String::from_utf8(boss.stdout).unwrap();
    for host in ["10.0.0.2", "10.0.0.3", "10.0.0.4"] {
        assert!(told.contains(host), "{told}");
    }
    assert!(Command::new(example()).arg("alone").arg(&alone).status().unwrap().success());
    assert_eq!(std::fs::read(drawn).unwrap(), std::fs::read(alone).unwrap());
}

struct Worker(std::process::Child);

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
