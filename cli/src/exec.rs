//! A command for a message: it has the body on its standard input, and what else is known in its environment.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::process::{ExitStatus, Stdio};

use meshmq::{Headers, Message};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};

/// How much of what a command says on standard error is kept, in bytes: its end. With some words before it, it has to fit what
/// a failed request may say.
const TAIL: usize = 900;
/// Bytes that are read at a time.
const READ: usize = 16 << 10;

/// What is to be run for what.
pub(crate) struct Call<'a> {
    /// For a shell.
    pub(crate) command: &'a str,
    pub(crate) channel: &'a str,
    /// Of a message that was published.
    pub(crate) topic: Option<&'a str>,
    pub(crate) message: &'a Message,
}

/// Runs it to its end. Dropped before, the command is killed, and whatever it has started.
pub(crate) async fn run(call: &Call<'_>) -> io::Result<ExitStatus> {
    let mut group = Group::new(call.command().spawn()?);
    let feed = group.feed(call.message);
    let status = tokio::select! {
        status = group.child.wait() => status,
        never = feed => never,
    };
    group.has_ended();
    status
}

/// What a command has answered.
pub(crate) struct Answer {
    pub(crate) status: ExitStatus,
    /// Its standard output.
    pub(crate) said: Vec<u8>,
    /// The end of its standard error.
    pub(crate) tail: String,
}

/// Runs it to its end, for what it prints; what it says on standard error is passed on. `None`: it printed more than so many
/// bytes, and was killed. Dropped before its end, it is killed as well.
pub(crate) async fn ask(call: &Call<'_>, most: usize) -> io::Result<Option<Answer>> {
    let mut group = Group::new(call.command().stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?);
    let (stdout, stderr) = (group.child.stdout.take(), group.child.stderr.take());
    let feed = group.feed(call.message);
    // Its end is that of its output, and not the exit of the shell alone: what that has started may still be writing.
    let answer =
        async { tokio::try_join!(read(stdout, most), pass_on(stderr), async { Ok(group.child.wait().await?) }) };
    let answer = tokio::select! {
        answer = answer => answer,
        never = feed => never,
    };
    match answer {
        Ok((said, tail, status)) => {
            group.has_ended();
            Ok(Some(Answer { status, said, tail }))
        }
        Err(Trouble::TooMuch) => Ok(None),
        Err(Trouble::Io(error)) => Err(error),
    }
}

/// Why there is no answer.
enum Trouble {
    TooMuch,
    Io(io::Error),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

async fn read(from: Option<ChildStdout>, most: usize) -> Result<Vec<u8>, Trouble> {
    let mut said = Vec::new();
    if let Some(from) = from {
        from.take(most as u64 + 1).read_to_end(&mut said).await?;
    }
    if said.len() > most { Err(Trouble::TooMuch) } else { Ok(said) }
}

/// Passes on what is said on standard error, and keeps its end.
async fn pass_on(from: Option<ChildStderr>) -> Result<String, Trouble> {
    let (mut tail, mut buffer) = (Vec::new(), vec![0; READ]);
    if let Some(mut from) = from {
        loop {
            let count = from.read(&mut buffer).await?;
            if count == 0 {
                break;
            }
            // Nobody may be left to read it.
            let _ = io::stderr().write_all(&buffer[..count]);
            tail.extend_from_slice(&buffer[..count]);
            tail.drain(..tail.len().saturating_sub(TAIL));
        }
    }
    Ok(String::from_utf8_lossy(&tail).trim().to_owned())
}

impl Call<'_> {
    fn command(&self) -> Command {
        let Self { command, channel, topic, message } = self;
        let mut sh = Command::new("sh");
        sh.args(["-c", command])
            .env("MESHMQ_CHANNEL", channel)
            .env("MESHMQ_ID", message.id().to_string())
            .env("MESHMQ_SENDER", message.sender().to_string())
            .env("MESHMQ_ATTEMPT", message.attempt().to_string())
            .env("MESHMQ_REDELIVERED", u8::from(message.redelivered()).to_string())
            .envs(topic.map(|topic| ("MESHMQ_TOPIC", topic)))
            .envs(header_variables(&message.headers()))
            .stdin(Stdio::piped())
            // A group of its own: Ctrl-C is for us, and lets the commands that run finish their work.
            .process_group(0);
        sh
    }
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

    /// Hands it the message; is never ready.
    fn feed<T>(&mut self, message: &Message) -> impl Future<Output = T> + use<T> {
        let (stdin, message) = (self.child.stdin.take(), message.clone());
        async move {
            if let Some(mut stdin) = stdin {
                // A command need not read its input. Dropped here, it ends.
                let _ = stdin.write_all(&message).await;
            }
            std::future::pending().await
        }
    }

    /// Its number may be another's from now on.
    fn has_ended(&mut self) {
        self.id = None;
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
