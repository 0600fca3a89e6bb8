//! What can be asked for on the command line and in the environment. No secret is ever an argument: arguments are
//! visible to every user of the machine.
//!
//! The comments here are what the help and the manual pages say: the first line in short, then the rest.

mod examples;
mod look;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::FalseyValueParser;
use clap::{ArgAction, ArgGroup, CommandFactory, FromArgMatches, Parser, Subcommand, ValueHint};
use clap_complete::Shell;
use meshmq::{InvalidTopic, TraceParent};

pub(crate) use examples::{ENVIRONMENT, examples};

/// Messages between processes that find each other, trust each other and lose nothing.
///
/// Programs of one user on one machine meet without any set-up: a mesh key is made on first use and kept in the user's
/// configuration folder. Programs on other machines of the same network meet them once they have that key; elsewhere, give
/// them one address as well.
#[derive(Debug, Parser)]
#[command(name = "meshmq", version, arg_required_else_help = true, max_term_width = 100)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

impl Args {
    /// What this process was asked for. Ends it where that makes no sense, or is no more than the help.
    pub(crate) fn of_process() -> Self {
        let mut command = Self::command_line();
        let matches = command.get_matches_mut();
        Self::from_arg_matches(&matches).unwrap_or_else(|error| error.format(&mut command).exit())
    }

    /// The command line as people see it.
    pub(crate) fn command_line() -> clap::Command {
        look::look(Self::command(), "")
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Push(PushArgs),
    Pull(PullArgs),
    Pub(PubArgs),
    Sub(SubArgs),
    Req(ReqArgs),
    Rep(RepArgs),
    Ls(LsArgs),
    Key(KeyArgs),
    Demo(DemoArgs),
    Completions(CompletionsArgs),
    Man(ManArgs),
}

/// Send each input line as a message, and wait until all are acknowledged.
///
/// Lines are sent as they come. The command ends once every message has been acknowledged by a puller: exit code 0 means
/// that all of them were handled. While nobody pulls, messages wait here, up to 100,000 of them and 64 MiB; then reading
/// the input waits as well.
#[derive(Debug, clap::Args)]
pub(crate) struct PushArgs {
    /// Channel to send to
    pub(crate) channel: String,
    #[command(flatten)]
    pub(crate) input: InputArgs,
    #[command(flatten)]
    pub(crate) metrics: MetricsArgs,
    #[command(flatten)]
    pub(crate) common: CommonArgs,
}

/// Receive messages: print each on a line, or run a command for each.
///
/// A message is acknowledged after it was written to standard output, or once its command has ended with exit code 0.
/// Whatever is not acknowledged goes to another puller: also what this process holds when it is killed. When standard
/// output is closed by its reader, everything not yet written goes back, and the exit code is 0.
///
/// A command that runs for a message finds MESHMQ_CHANNEL, MESHMQ_ID, MESHMQ_SENDER (the node that sent the message),
/// MESHMQ_ATTEMPT (1 at first) and MESHMQ_REDELIVERED (0 or 1) in its environment, and each header as
/// MESHMQ_HEADER_NAME, in capitals and with _ for whatever is no letter or digit of ASCII; of several headers of one such
/// name the first.
#[derive(Debug, clap::Args)]
pub(crate) struct PullArgs {
    /// Channel to receive from
    pub(crate) channel: String,
    /// Stop after N messages and give back the rest
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,
    /// Run CMD in a shell for each message, with the body on its standard input: exit code 0 acknowledges it, any
    /// other gives it back
    #[arg(long, value_name = "CMD", conflicts_with_all = ["null", "json"])]
    pub(crate) exec: Option<String>,
    /// How many commands run at a time
    #[arg(short, long, value_name = "N", default_value_t = 1, requires = "exec",
          value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) jobs: u16,
    /// Print a NUL byte after each message instead of a line break
    #[arg(short = '0', long = "null", conflicts_with = "json")]
    pub(crate) null: bool,
    #[command(flatten)]
    pub(crate) metrics: MetricsArgs,
    #[command(flatten)]
    pub(crate) common: CommonArgs,
}

/// Publish each input line to everybody who has subscribed to its topic.
///
/// Lines are published as they come, once the mesh is known and the subscribers that are there have their subscriptions in
/// force. The command ends when all has arrived at them. Who subscribes later misses what was published before, except
/// for what --retain keeps, and who has no subscriber publishes to nobody, which is said.
///
/// A subscriber that is slower than the input loses the oldest of what waits for it, 10,000 messages or 16 MiB, and is told
/// so; with --block the input waits for it instead.
///
/// A topic has parts with dots between them, like app.web. Without --topic it is the channel's name.
#[derive(Debug, clap::Args)]
pub(crate) struct PubArgs {
    /// Channel to publish on
    pub(crate) channel: String,
    /// Topic of each message [default: the name of the channel]
    #[arg(short, long, value_name = "TOPIC", value_parser = topic)]
    pub(crate) topic: Option<String>,
    /// Each message begins with its topic and a tab, as `meshmq sub --topics` prints it
    #[arg(long, conflicts_with_all = ["topic", "whole"])]
    pub(crate) topic_from_line: bool,
    #[command(flatten)]
    pub(crate) input: InputArgs,
    /// Wait first until N subscribers are there
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) wait_subscribers: usize,
    /// Keep the last N messages of each topic for those who subscribe later, as long as the command runs
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) retain: usize,
    /// Let the input wait for a subscriber that has no room, for as long at each message: 500ms, 5s, 2m
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) block: Option<Duration>,
    #[command(flatten)]
    pub(crate) metrics: MetricsArgs,
    #[command(flatten)]
    pub(crate) common: CommonArgs,
}

/// Subscribe to topics: print each message on a line, or run a command for each.
///
/// Prints the bodies, so that what was published comes out again; with --topics the topic and a tab stand before each. In
/// a TOPIC * stands for any one part and a final > for all that follow: app.*, eu.dax.>. Without one every topic is wanted.
/// With -v it is said when the subscriptions are in force.
///
/// What was missed, as this command was too slow or its link was lost for too long, is told on standard error and, with
/// --json, in its place on standard output.
///
/// A command that runs for a message finds MESHMQ_TOPIC, MESHMQ_CHANNEL, MESHMQ_ID, MESHMQ_SENDER (the node that published
/// it) and its headers as MESHMQ_HEADER_NAME in its environment. Nothing comes again: a command that fails is told on
/// standard error, and the exit code is 1 in the end.
#[derive(Debug, clap::Args)]
pub(crate) struct SubArgs {
    /// Channel to subscribe on
    pub(crate) channel: String,
    /// Topics that are wanted
    #[arg(value_name = "TOPIC", value_parser = pattern)]
    pub(crate) patterns: Vec<String>,
    /// Print the topic and a tab before each message
    #[arg(short, long, conflicts_with_all = ["json", "exec"])]
    pub(crate) topics: bool,
    /// Stop after N messages
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,
    /// Run CMD in a shell for each message, with the body on its standard input
    #[arg(long, value_name = "CMD", conflicts_with_all = ["null", "json"])]
    pub(crate) exec: Option<String>,
    /// How many commands run at a time
    #[arg(short, long, value_name = "N", default_value_t = 1, requires = "exec",
          value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) jobs: u16,
    /// Print a NUL byte after each message instead of a line break
    #[arg(short = '0', long = "null", conflicts_with = "json")]
    pub(crate) null: bool,
    #[command(flatten)]
    pub(crate) metrics: MetricsArgs,
    #[command(flatten)]
    pub(crate) common: CommonArgs,
}

/// Ask a request, and print its reply.
///
/// The request goes to one of the repliers on the channel. Where none is there, one is waited for, up to --timeout (10 s). The
/// reply is printed as it is, with a line break where it does not end with one.
///
/// Exit codes: 0 with a reply; 1 where it failed, and it is said how; 3 where nobody was there, nobody had room, or no answer
/// came in time.
#[derive(Debug, clap::Args)]
pub(crate) struct ReqArgs {
    /// Channel to ask on
    pub(crate) channel: String,
    /// What is asked; without it, all of standard input
    #[arg(value_name = "BODY")]
    pub(crate) body: Option<String>,
    /// Header to add to the request; can be given several times
    #[arg(long = "header", value_name = "NAME=VALUE", value_parser = header)]
    pub(crate) headers: Vec<(String, String)>,
    /// Ask every replier, and print each reply; who has not replied is said on standard error, and the exit code is 1 then
    #[arg(long, conflicts_with_all = ["idempotent", "no_wait"])]
    pub(crate) all: bool,
    /// Where the replier is lost before it has answered, ask another one: it does no harm if two work on it
    #[arg(long)]
    pub(crate) idempotent: bool,
    /// Where no replier is there, do not wait for one
    #[arg(long)]
    pub(crate) no_wait: bool,
    /// Print replies exactly as they are, without a line break behind them
    #[arg(long, conflicts_with = "json")]
    pub(crate) raw: bool,
    #[command(flatten)]
    pub(crate) common: CommonArgs,
}

/// Answer requests: with what a command prints, or with what was asked.
///
/// A command has the body of a request on its standard input; what it prints is the reply, once it has ended with exit code 0.
/// With any other the request fails with the code exit_1 (or whichever it was, or signal_9) and the end of what the command
/// said on standard error. A command whose request nobody waits for any more is killed, with all that it has started.
///
/// It finds MESHMQ_CHANNEL, MESHMQ_ID, MESHMQ_SENDER (the node that asks), MESHMQ_ATTEMPT and the headers of the request as
/// MESHMQ_HEADER_NAME in its environment.
#[derive(Debug, clap::Args)]
#[command(group = ArgGroup::new("answer").args(["exec", "echo"]).required(true))]
pub(crate) struct RepArgs {
    /// Channel to answer on
    pub(crate) channel: String,
    /// Run CMD in a shell for each request
    #[arg(long, value_name = "CMD")]
    pub(crate) exec: Option<String>,
    /// Answer each request with its own body and headers
    #[arg(long)]
    pub(crate) echo: bool,
    /// How many commands run at a time
    #[arg(short = 'j', long, visible_alias = "jobs", value_name = "N", default_value_t = 8, conflicts_with = "echo",
          value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) concurrency: u16,
    /// Stop after N requests
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,
    #[command(flatten)]
    pub(crate) metrics: MetricsArgs,
    #[command(flatten)]
    pub(crate) common: CommonArgs,
}

/// Show what the mesh does: nodes, links, channels, and the figures of every socket.
///
/// Joins the mesh to look, asks every node, and waits a second to see how fast messages pass. It is itself left out of the
/// picture; others see a node called `meshmq ls`. A node that does not answer within --timeout (2 s) is shown as such.
/// Where nobody else is there the exit code is 3, or 4 when everybody has refused.
///
/// OLDEST is how long the oldest message that is not settled has waited; FULL how much of its bound a socket uses. IN/S and
/// HANDLED/S are messages a second. RETURNED, NACKED and the like count since a socket was opened, and are shown where
/// there is something to count.
#[derive(Debug, clap::Args)]
pub(crate) struct LsArgs {
    /// Look again each second: on a terminal a live picture, elsewhere one after the other
    #[arg(short, long)]
    pub(crate) watch: bool,
    /// Show each link, however many there are
    #[arg(short, long)]
    pub(crate) links: bool,
    #[command(flatten)]
    pub(crate) common: CommonArgs,
}

/// Make, show or take over the mesh key.
///
/// Whoever has the key can join. Without one, the first program that joins a mesh makes one in the user's configuration
/// folder, readable by this user alone. Give it to your other machines, and nobody else.
#[derive(Debug, clap::Args)]
pub(crate) struct KeyArgs {
    #[command(subcommand)]
    pub(crate) action: KeyAction,
    /// File that holds the mesh key [env: MESHMQ_KEY_FILE] [default: mesh.key in the configuration folder]
    #[arg(long, global = true, value_name = "PATH", value_hint = ValueHint::FilePath)]
    pub(crate) key_file: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Subcommand)]
pub(crate) enum KeyAction {
    /// Make a new key in the key file; refuses to replace one
    New,
    /// Print the key, making one on first use
    Show,
    /// Read a key from standard input into the key file; refuses to replace another one
    Set,
    /// Print the path of the key file
    Path,
}

/// Run a whole mesh of processes on this machine, doing real work.
///
/// Counts the words of all text files under a folder in a mesh of separate processes, kills one of them in the middle of
/// its work, and compares the result with a count made in one process. On a terminal a table shows who does what;
/// elsewhere each second is a line.
///
/// The mesh has a key and a folder of its own and ends with the demo: it meets no other program and leaves nothing
/// behind. Text files are those that are UTF-8; hidden folders, and folders marked as caches (CACHEDIR.TAG), are left
/// out. The exit code is 0 only when both counts are equal.
#[derive(Debug, clap::Args)]
pub(crate) struct DemoArgs {
    /// Folder with text files in it or below
    #[arg(default_value = ".", value_hint = ValueHint::DirPath)]
    pub(crate) folder: PathBuf,
    /// How many workers start
    #[arg(short, long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(2..=16))]
    pub(crate) workers: u8,
}

/// Print what makes a shell complete commands and flags.
#[derive(Debug, clap::Args)]
pub(crate) struct CompletionsArgs {
    /// The shell that reads it
    pub(crate) shell: Shell,
}

/// Print a manual page, or write all of them into a folder.
///
/// A page is named as its command, with dashes: meshmq-push.1, meshmq-key-new.1.
#[derive(Debug, clap::Args)]
pub(crate) struct ManArgs {
    /// Command that the page is about, for example `push` or `key new`; without one, meshmq itself
    #[arg(value_name = "COMMAND", conflicts_with = "dir")]
    pub(crate) command: Vec<String>,
    /// Write all pages into this folder, which is made if it is missing
    #[arg(long, value_name = "FOLDER", value_hint = ValueHint::DirPath)]
    pub(crate) dir: Option<PathBuf>,
}

// What is sent.
#[derive(Debug, clap::Args)]
pub(crate) struct InputArgs {
    /// Files to read, one after the other; `-` is standard input, which is also the default
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) files: Vec<PathBuf>,
    /// Messages end with a NUL byte instead of a line break
    #[arg(short = '0', long = "null", conflicts_with = "whole")]
    pub(crate) null: bool,
    /// Each file is one message
    #[arg(long)]
    pub(crate) whole: bool,
    /// Header to add to each message; can be given several times
    #[arg(long = "header", value_name = "NAME=VALUE", value_parser = header)]
    pub(crate) headers: Vec<(String, String)>,
}

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct MetricsArgs {
    /// Serve this node's figures for Prometheus at http://IP:PORT/metrics, for whoever can reach it
    #[arg(long = "metrics", value_name = "IP:PORT", value_parser = address)]
    pub(crate) address: Option<SocketAddr>,
}

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct CommonArgs {
    /// Mesh to join: programs meet when both its name and their key are the same
    #[arg(short, long, value_name = "NAME", env = "MESHMQ_MESH", default_value = "default", help_heading = MESH)]
    pub(crate) mesh: String,
    /// File that holds the mesh key; `-` reads it from standard input [env: MESHMQ_KEY_FILE, or the key itself in
    /// MESHMQ_KEY] [default: the user's own key, made on first use]
    #[arg(long, value_name = "PATH", value_hint = ValueHint::FilePath, help_heading = MESH)]
    pub(crate) key_file: Option<PathBuf>,
    /// Address of a node, HOST:PORT, where others of the mesh are found; can be given several times
    #[arg(long = "peer", value_name = "ADDR", env = "MESHMQ_PEERS", value_delimiter = ',', help_heading = MESH)]
    pub(crate) peers: Vec<String>,
    /// Address to listen on, IP:PORT; without it, any free port
    #[arg(long, value_name = "ADDR", env = "MESHMQ_LISTEN", value_parser = address, help_heading = MESH)]
    pub(crate) listen: Option<SocketAddr>,
    /// Neither be seen nor look for others on the network (mDNS)
    #[arg(long, env = "MESHMQ_NO_MDNS", value_parser = FalseyValueParser::new(), help_heading = MESH)]
    pub(crate) no_mdns: bool,
    /// What others see this node called
    #[arg(long, value_name = "NAME", help_heading = MESH)]
    pub(crate) name: Option<String>,
    /// Give up when this command has waited so long and nothing has moved: 500ms, 5s, 2m, 1h. The exit code is 3, or 4
    /// when everybody who was found has refused this node
    #[arg(long, value_name = "TIME", value_parser = duration, help_heading = COMMON)]
    pub(crate) timeout: Option<Duration>,
    /// Print one JSON object a line: messages and replies (`body`, or `body_base64` where it is not UTF-8), the summary of
    /// push or pub, or the picture of ls
    #[arg(long, help_heading = COMMON)]
    pub(crate) json: bool,
    /// Say nothing on standard error but errors
    #[arg(short, long, conflicts_with = "verbose", help_heading = COMMON)]
    pub(crate) quiet: bool,
    /// Say more on standard error: who comes and goes; twice: what the library does
    #[arg(short, long, action = ArgAction::Count, help_heading = COMMON)]
    pub(crate) verbose: u8,
}

const MESH: &str = "Mesh";
const COMMON: &str = "Common";

fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
    if name.is_empty() {
        return Err("it has no name: expected NAME=VALUE".to_owned());
    }
    if let Some(control) = text.chars().find(|c| c.is_control()) {
        return Err(format!("it has the control character {control:?}: put such text into the message"));
    }
    if name == TraceParent::HEADER {
        value.parse::<TraceParent>().map_err(|error| error.to_string())?;
    }
    Ok((name.to_owned(), value.to_owned()))
}

fn topic(text: &str) -> Result<String, InvalidTopic> {
    meshmq::check_topic(text).map(|()| text.to_owned())
}

fn pattern(text: &str) -> Result<String, InvalidTopic> {
    meshmq::check_pattern(text).map(|()| text.to_owned())
}

/// An address of this machine. A name could be several.
fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "write IP:PORT, like 127.0.0.1:7000, or [::]:7000 for all addresses".to_owned())
}

/// `500ms`, `5s`, `2m`, `1h`; a number alone is seconds.
fn duration(text: &str) -> Result<Duration, String> {
    let at = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(at);
    let seconds = match unit {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(format!("unknown unit {unit:?}: use ms, s, m or h")),
    };
    let number: f64 =
        number.parse().map_err(|_| "expected a number and a unit, like 500ms, 5s, 2m or 1h".to_owned())?;
    match Duration::try_from_secs_f64(number * seconds) {
        Ok(Duration::ZERO) => Err("no time at all: use at least 1ms".to_owned()),
        Ok(duration) => Ok(duration),
        Err(_) => Err("too long".to_owned()),
    }
}
