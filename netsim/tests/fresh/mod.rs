//! A test's trace in another process: nothing of this one's memory or order of execution may be in it.

use std::process::Command;

/// The hash that the ignored test `fresh_process` of the same file prints.
pub(crate) fn hash_of_a_fresh_process() -> String {
    let test = std::env::current_exe().unwrap();
    let out = Command::new(test).args(["--exact", "fresh_process", "--ignored", "--nocapture"]).output().unwrap();
    let out = String::from_utf8(out.stdout).unwrap();
    out.lines().find_map(|line| line.strip_prefix("hash ")).unwrap_or_else(|| panic!("no hash in {out}")).to_owned()
}
