//! A test's trace in another process: nothing of this one's memory or order of execution may be in it.

#![allow(dead_code)]

use std::process::Command;

/// The hash that the ignored test `fresh_process` of the same file prints.
pub(crate) fn hash_of_a_fresh_process() -> String {
    printed("fresh_process", "hash ", &[])
}

/// What follows this word on a line that an ignored test of the same file prints.
pub(crate) fn printed(test: &str, word: &str, variables: &[(&str, &str)]) -> String {
    let out = output(test, variables);
    out.lines().find_map(|line| line.strip_prefix(word)).unwrap_or_else(|| panic!("no {word}in {out}")).to_owned()
}

/// All that an ignored test of the same file says.
pub(crate) fn output_of(test: &str) -> String {
    output(test, &[])
}

fn output(test: &str, variables: &[(&str, &str)]) -> String {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--ignored", "--nocapture"]).envs(variables.iter().copied());
    let out = command.output().unwrap();
    String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr)
}
