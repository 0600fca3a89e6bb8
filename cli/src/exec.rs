//! `meshmq pull --exec`: a command for each message, whose exit code is the answer.

use std::collections::BTreeMap;
use std::process::{ExitStatus, Stdio};

use meshmq::{Delivery, Headers, Pull};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};
use tokio::task::JoinSet;

use crate::args::PullArgs;
use crate::exit::Exit;
use crate::output::{Say, counted};
use crate::pull::wanted;
use crate::signals::Signals;
use crate::waiting::{Waited, Waiting};

pub(crate) async fn run(
    command: &str,
    args: &PullArgs,
    pull: &Pull,
    waiting: &mut Waiting<'_>,
    signals: &Signals,
    say: Say,
) -> anyhow::Result<Exit> {
    let mut running = JoinSet::new();
    // How many more have to be handled.
    let mut left = args.count.unwrap_or(u64::MAX);
    while left > 0 && !signals.stopped() {
        // While a command runs, it is not the mesh that we wait for.
        let idle = running.is_empty();
        let room = running.len() < usize::from(args.jobs) && (running.len() as u64) < left;
        let next = async {
            tokio::select! {
                biased;
                Some(ended) = running.join_next() => Next::Ended(ended),
                delivery = pull.recv(), if room => Next::Delivery(delivery),
            }
        };
        let received = || idle.then(|| pull.metrics().received);
        match waiting.on(next, received, || wanted(pull)).await {
            Waited::Ready(Next::Ended(handled)) => left -= u64::from(handled?),
            Waited::Ready(Next::Delivery(delivery)) => {
                running.spawn(handle(command.to_owned(), pull.channel().to_owned(), delivery?, say));
            }
            Waited::Stopped => break,
            Waited::TimedOut => return Err(waiting.timed_out(&wanted(pull))),
        }
    }
    pull.close();
    if !running.is_empty() {
        let commands = counted(running.len() as u64, "command");
        say.note(format_args!("waiting for {commands} to end; interrupt again to end at once"));
    }
    while running.join_next().await.is_some() {}
    Ok(if left > 0 { Exit::Interrupted } else { Exit::Ok })
}

enum Next<D, E> {
    Delivery(D),
    Ended(E),
}

/// Runs the command and answers; says whether the message is handled.
async fn handle(command: String, channel: String, delivery: Delivery, say: Say) -> bool {
    let ended = run_one(&command, &channel, &delivery).await;
    let failed = match ended {
        Ok(status) if status.success() => {
            delivery.ack();
            return true;
        }
        Ok(status) => status.to_string(),
        Err(error) => format!("cannot run it: {error}"),
    };
    say.note(format_args!("message {} goes back after attempt {}: {failed}", delivery.id(), delivery.attempt()));
    delivery.nack();
    false
}

async fn run_one(command: &str, channel: &str, delivery: &Delivery) -> std::io::Result<ExitStatus> {
    let child = Command::new("sh")
        .args(["-c", command])
        .env("MESHMQ_CHANNEL", channel)
        .env("MESHMQ_ID", delivery.id().to_string())
        .env("MESHMQ_SENDER", delivery.sender().to_string())
        .env("MESHMQ_ATTEMPT", delivery.attempt().to_string())
        .env("MESHMQ_REDELIVERED", u8::from(delivery.redelivered()).to_string())
        .envs(header_variables(&delivery.headers()))
        .stdin(Stdio::piped())
        // A group of its own: Ctrl-C is for us, and lets the commands that run finish their work.
        .process_group(0)
        .spawn()?;
    let mut group = Group::new(child);
    let stdin = group.child.stdin.take();
    let feed = async {
        if let Some(mut stdin) = stdin {
            // A command need not read its input. Dropped here, it ends.
            let _ = stdin.write_all(delivery).await;
        }
        std::future::pending().await
    };
    let status = tokio::select! {
        status = group.child.wait() => status,
        never = feed => never,
    };
    // It has ended: its number may be another's from now on.
    group.id = None;
    status
}

/// The variables that headers become. The name has a beginning that is ours: no header can be PATH, or one of the others.
fn header_variables(headers: &Headers) -> BTreeMap<String, &str> {
    let mut variables = BTreeMap::new();
    for (name, value) in headers {
        let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
        let name = format!("MESHMQ_HEADER_{}", name.chars().map(plain).collect::<String>());
        variables.entry(name).or_insert(value);
    }
    variables
}

/// A command and all that it has started: killed when nobody waits for it any more.
struct Group {
    child: Child,
    id: Option<Pid>,
}

impl Group {
    fn new(child: Child) -> Self {
        let id = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        Self { child, id }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            // It may have ended by itself.
            let _ = kill_process_group(id, Signal::KILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_never_another_variable() {
        let headers = meshmq::NewMessage::new("").header("kind", "a").header("PATH", "/tmp").header("x-y=z ü", "$(b)");
        let headers = headers.header("Kind", "later").header("ID", "1").headers();
        let variables: Vec<_> = header_variables(&headers).into_iter().collect();
        let expected = [("ID", "1"), ("KIND", "a"), ("PATH", "/tmp"), ("X_Y_Z__", "$(b)")];
        assert_eq!(variables, expected.map(|(name, value)| (format!("MESHMQ_HEADER_{name}"), value)));
    }
}
