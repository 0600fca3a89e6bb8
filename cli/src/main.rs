//! `meshmq`: messages between processes that find each other, from a shell.
//!
//! Data goes to standard output, everything else to standard error; how each command ends is in `exit`.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod args;
mod completions;
mod demo;
mod exec;
mod exit;
mod input;
mod jobs;
mod key;
mod ls;
mod man;
mod mesh;
mod news;
mod output;
mod publish;
mod pull;
mod push;
mod refused;
mod reply;
mod request;
mod screen;
mod signals;
mod split;
mod stdout;
mod subscribe;
mod table;
mod waiting;
mod words;

use std::process::ExitCode;

use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use args::{Args, Command};
use exit::Exit;
use output::Say;
use signals::Signals;

fn main() -> ExitCode {
    // No command of the user's, and nothing that a help should tell.
    let end = if demo::is_worker() {
        log(0);
        block_on(async { demo::work().await.map(|()| Exit::Ok) })
    } else {
        let command = Args::of_process().command;
        log(verbosity(&command));
        block_on(run(command))
    };
    match end {
        Ok(exit) => exit.into(),
        Err(error) => {
            Say::new(false, 0).error(&error);
            Exit::of(&error).into()
        }
    }
}

fn block_on(command: impl Future<Output = anyhow::Result<Exit>>) -> anyhow::Result<Exit> {
    // One thread is enough: the mesh runs on one of its own.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let end = runtime.block_on(command);
    // A read or a write that is stuck ends with the process.
    runtime.shutdown_background();
    end
}

async fn run(command: Command) -> anyhow::Result<Exit> {
    match command {
        Command::Push(args) => with_signals(async |signals| push::run(args, signals).await).await,
        Command::Pull(args) => with_signals(async |signals| pull::run(args, signals).await).await,
        Command::Pub(args) => with_signals(async |signals| publish::run(args, signals).await).await,
        Command::Sub(args) => with_signals(async |signals| subscribe::run(args, signals).await).await,
        Command::Req(args) => with_signals(async |signals| request::run(args, signals).await).await,
        Command::Rep(args) => with_signals(async |signals| reply::run(args, signals).await).await,
        Command::Ls(args) => with_signals(async |signals| ls::run(args, signals).await).await,
        Command::Demo(args) => with_signals(async |signals| demo::run(args, signals).await).await,
        Command::Key(args) => key::run(args),
        Command::Completions(args) => completions::run(args),
        Command::Man(args) => man::run(args),
    }
}

/// The first signal is the command's to heed; the second one ends it wherever it is.
async fn with_signals(command: impl AsyncFnOnce(&Signals) -> anyhow::Result<Exit>) -> anyhow::Result<Exit> {
    let signals = Signals::install()?;
    tokio::select! {
        biased;
        () = signals.give_up() => Ok(Exit::Interrupted),
        end = command(&signals) => end,
    }
}

fn verbosity(command: &Command) -> u8 {
    match command {
        Command::Push(args) => args.common.verbose,
        Command::Pull(args) => args.common.verbose,
        Command::Pub(args) => args.common.verbose,
        Command::Sub(args) => args.common.verbose,
        Command::Req(args) => args.common.verbose,
        Command::Rep(args) => args.common.verbose,
        Command::Ls(args) => args.common.verbose,
        _ => 0,
    }
}

/// What the library logs: as MESHMQ_LOG says, all of its own with `-vv`, or nothing.
fn log(verbose: u8) {
    let filter = match std::env::var("MESHMQ_LOG") {
        Ok(filter) if !filter.is_empty() => filter,
        _ if verbose > 1 => "meshmq=debug".to_owned(),
        _ => return,
    };
    match filter.parse::<Targets>() {
        Ok(targets) => {
            let lines = tracing_subscriber::fmt::layer()
                .with_ansi(output::coloured(&std::io::stderr()))
                .with_writer(std::io::stderr);
            tracing_subscriber::registry().with(lines).with(targets).init();
        }
        Err(error) => eprintln!("meshmq: MESHMQ_LOG is ignored: {error}; for example meshmq=debug,meshmq::link=trace"),
    }
}
