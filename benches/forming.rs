//! Processes of one host that start together: from the start of the first to a full mesh of admitted links.
//!
//! ```sh
//! cargo bench --bench forming                    # 8 processes, 9 rounds
//! cargo bench --bench forming -- 20 5 --check    # 20 processes, 5 rounds; a missed target is an error
//! ```
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::process::ExitCode;
use std::time::Instant;

use support::{Options, Place, Process, Role, Table, run};

fn main() -> ExitCode {
    if let Some(role) = Role::of_this_process() {
        run(member(&role));
        return ExitCode::SUCCESS;
    }
    let options = Options::read();
    let (processes, rounds) = (options.number(0, 8), options.number(1, 9));
    let mut table = Table::new(&options);
    let took = (0..rounds).map(|_| form(processes)).collect();
    table.row(
        &format!("{processes} processes, from start to a full mesh"),
        " s",
        took,
        (processes == 8).then_some(1.0),
    );
    table.end()
}

async fn member(role: &Role) {
    let node = role.builder().await.unwrap();
    node.wait_for_peers(role.arg(0)).await.unwrap();
    role.say("linked with all");
    // Nobody leaves before all have met.
    role.told();
}

fn form(processes: usize) -> f64 {
    let place = Place::new();
    let begun = Instant::now();
    let members: Vec<Process> = (0..processes).map(|_| place.start("member", &[&(processes - 1)])).collect();
    let last = members.iter().map(|member| member.hear_this("linked with all")).max().unwrap();
    (last - begun).as_secs_f64()
}
