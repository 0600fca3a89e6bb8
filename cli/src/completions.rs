//! `meshmq completions`: what makes a shell complete commands and flags.

use crate::args::{Args, CompletionsArgs};
use crate::exit::Exit;
use crate::output::print;

pub(crate) fn run(args: CompletionsArgs) -> anyhow::Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Args::command_line(), "meshmq", &mut script);
    print(&script)
}
