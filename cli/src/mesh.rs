//! Joining the mesh that the flags and the environment name.

use std::env;
use std::io::{self, BufRead};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use meshmq::{JoinError, MeshKey, Node};

use crate::args::{CommonArgs, MetricsArgs};
use crate::exit::Exit;
use crate::news;
use crate::output::Say;

/// Largest message that the command line sends and receives, in bytes: the library's default.
pub(crate) const MAX_MESSAGE: usize = 16 << 20;
/// How long the end of a command waits for answers and accepted work to arrive.
pub(crate) const DRAIN: Duration = Duration::from_secs(5);

/// A node of the mesh that the user asked for. What happens in the mesh is told on standard error.
pub(crate) async fn join(args: &CommonArgs, say: Say) -> anyhow::Result<Node> {
    let node = enter(args, say).await?;
    tokio::spawn(news::tell(node.events(), say));
    Ok(node)
}

/// The same, without a word of what happens.
pub(crate) async fn enter(args: &CommonArgs, say: Say) -> anyhow::Result<Node> {
    let source = KeySource::find(args.key_file.clone())?;
    // Standard input may be a terminal where nobody types.
    let key = tokio::task::spawn_blocking(move || source.key(say)).await??;
    // Each command drains by itself and says what is left: the last drop has nothing to wait for.
    let mut builder = Node::builder(&args.mesh).key(key).max_message(MAX_MESSAGE).linger(Duration::ZERO);
    if args.no_mdns {
        builder = builder.without_mdns();
    }
    if let Some(name) = &args.name {
        builder = builder.name(name);
    }
    if let Some(listen) = args.listen {
        builder = builder.listen(listen);
    }
    for peer in &args.peers {
        builder = builder.peer(peer);
    }
    let node = builder.await.map_err(refused_to_join)?;
    say.detail(format_args!("node {} of mesh {:?} on {}", node.id(), node.mesh(), node.local_addr()));
    Ok(node)
}

/// Serves the node's figures, if the user wants that.
pub(crate) fn serve_metrics(node: &Node, args: &MetricsArgs, say: Say) -> anyhow::Result<()> {
    if let Some(address) = args.address {
        let bound = node.serve_metrics(address).with_context(|| format!("cannot serve metrics at {address}"))?;
        say.note(format_args!("metrics are at http://{bound}/metrics"));
    }
    Ok(())
}

/// A node could not start: some of it is the user's mistake.
fn refused_to_join(error: JoinError) -> anyhow::Error {
    match error {
        JoinError::Peer(_) | JoinError::MeshName | JoinError::Name => Exit::Usage.because(error),
        _ => error.into(),
    }
}

/// The channel's name is checked before anything is made or joined.
pub(crate) fn check_channel(channel: &str) -> anyhow::Result<()> {
    meshmq::check_channel(channel).map_err(|error| Exit::Usage.because(error))
}

/// Where the mesh key comes from.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum KeySource {
    /// Given in the environment.
    Given(MeshKey),
    /// The first line of standard input.
    Stdin,
    /// A file that the user named: it has to be there.
    File(PathBuf),
    /// The user's own, made on first use.
    Own(PathBuf),
}

impl KeySource {
    /// The flag, or MESHMQ_KEY, or MESHMQ_KEY_FILE, or the user's own.
    pub(crate) fn find(flag: Option<PathBuf>) -> anyhow::Result<Self> {
        // Not read by the parser of arguments: it would show the key in the help.
        let variable = |name| env::var_os(name).filter(|value| !value.is_empty());
        if let Some(path) = flag {
            return Ok(if path == Path::new("-") { Self::Stdin } else { Self::File(path) });
        }
        if let Some(key) = variable("MESHMQ_KEY") {
            let key = key.to_str().context("it is not text").and_then(|text| Ok(text.trim().parse()?));
            return key.map(Self::Given).map_err(|error| Exit::Usage.because(format!("MESHMQ_KEY: {error:#}")));
        }
        if let Some(path) = variable("MESHMQ_KEY_FILE") {
            return Ok(Self::File(path.into()));
        }
        Ok(Self::Own(MeshKey::config_path()?))
    }

    /// The key; the user's own is made when there is none yet.
    pub(crate) fn key(self, say: Say) -> anyhow::Result<MeshKey> {
        match self {
            Self::Given(key) => Ok(key),
            Self::Stdin => read_key(),
            Self::File(path) => Ok(MeshKey::load(&path)?),
            Self::Own(path) => {
                let (key, made) = MeshKey::load_or_create(&path)?;
                if made {
                    say.note(format_args!(
                        "made this user's mesh key, {}: give it to your other machines (meshmq key show) and nobody else",
                        path.display()
                    ));
                }
                Ok(key)
            }
        }
    }
}

/// Reads a key from the first line of standard input.
pub(crate) fn read_key() -> anyhow::Result<MeshKey> {
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line).context("cannot read the mesh key from standard input")?;
    line.trim().parse().context("standard input")
}

#[cfg(test)]
mod tests {
    use clap::{Command, CommandFactory};

    use crate::args::Args;

    fn all(command: Command) -> Vec<Command> {
        let below = command.get_subcommands().cloned().flat_map(all).collect::<Vec<_>>();
        [vec![command], below].concat()
    }

    #[test]
    fn no_argument_is_a_key() {
        let commands = all(Args::command());
        let arguments: Vec<_> = commands.iter().flat_map(Command::get_arguments).collect();
        let variables: Vec<_> = arguments.iter().filter_map(|argument| argument.get_env()).collect();
        assert!(variables.iter().any(|variable| *variable == "MESHMQ_MESH"), "{variables:?}");
        // What is wrong with the value of one of these is said with the value.
        assert!(!variables.iter().any(|variable| *variable == "MESHMQ_KEY"), "{variables:?}");
        for argument in arguments {
            let name = argument.get_id().as_str();
            assert!(!name.contains("key") || name == "key_file", "arguments are seen by every user: {name}");
        }
    }
}
