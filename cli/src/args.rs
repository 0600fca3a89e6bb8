//! What can be asked for on the command line and in the environment. No secret is ever an argument: arguments are
//! visible to every user of the machine.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::FalseyValueParser;
use clap::{ArgAction, Parser, Subcommand};
use meshmq::TraceParent;

/// Messages between processes that find each other, trust each other and lose nothing.
///
/// Programs of one user on one machine meet without any set-up: a mesh key is made on first use and kept in the user's
/// configuration folder. Programs on other machines of the same network meet them once they have that key; elsewhere, give
/// them one address as well.
#[derive(Debug, Parser)]
#[command(name = "meshmq", version, arg_required_else_help = true, max_term_width = 100, after_long_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Send each input line as a message, and wait until all are acknowledged
    Push(PushArgs),
    /// Receive messages: print each on a line, or run a command for each
    Pull(PullArgs),
    /// Show what the mesh does: its nodes, links and channels, and the figures of every socket
    Ls(LsArgs),
    /// Make, show or take over the mesh key
    Key(KeyArgs),
    /// Run a whole mesh of processes on this machine, doing real work
    Demo(DemoArgs),
    /// One worker of the demo; told what to do on standard input.
    #[command(hide = true)]
    DemoWorker,
}

/// Sends each input line as a message to whoever pulls from the channel.
///
/// Lines are sent as they come. The command ends once every message has been acknowledged by a puller: exit code 0 means
/// that all of them were handled. While nobody pulls, messages wait here, up to 100,000 of them and 64 MiB; then reading
/// the input waits as well.
#[derive(Debug, clap::Args)]
#[command(after_long_help = PUSH_EXAMPLES)]
pub(crate) struct PushArgs {
    /// Channel to send to
    pub(crate) channel: String,
    /// Files to read, one after the other; `-` is standard input, which is also the default
    #[arg(value_name = "FILE")]
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
    #[command(flatten)]
    pub(crate) metrics: MetricsArgs,
    #[command(flatten)]
    pub(crate) common: CommonArgs,
}

/// Receives messages from all pushers of the channel: prints each on a line, or runs a command for each.
///
/// A message is acknowledged after it was written to standard output, or once its command has ended with exit code 0.
/// Whatever is not acknowledged goes to another puller: also what this process holds when it is killed. When standard
/// output is closed by its reader, everything not yet written goes back, and the exit code is 0.
#[derive(Debug, clap::Args)]
#[command(after_long_help = PULL_EXAMPLES)]
pub(crate) struct PullArgs {
    /// Channel to receive from
    pub(crate) channel: String,
    /// Stop after N messages and give back the rest
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,
    /// Run CMD in a shell for each message, with the body on its standard input: exit code 0 acknowledges it, any
    /// other gives it back
    ///
    /// CMD finds MESHMQ_CHANNEL, MESHMQ_ID, MESHMQ_SENDER (the node that sent the message), MESHMQ_ATTEMPT (1 at first)
    /// and MESHMQ_REDELIVERED (0 or 1) in its environment, and each header as MESHMQ_HEADER_NAME, in capitals and with _ for
    /// whatever is no letter or digit of ASCII; of several headers of one such name the first.
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

/// Shows the whole mesh, from any place in it: nodes, links, channels and their sockets with what waits and what moves.
///
/// Joins the mesh to look, asks every node, and waits a second to see how fast messages pass. It is itself left out of the
/// picture; others see a node called `meshmq ls`. A node that does not answer within --timeout (2 s) is shown as such.
/// Where nobody else is there the exit code is 3, or 4 when everybody has refused.
///
/// OLDEST is how long the oldest message that is not settled has waited; FULL how much of its bound a socket uses. IN/S and
/// HANDLED/S are messages a second. RETURNED, FAILED and the like count since a socket was opened, and are shown where
/// there is something to count.
#[derive(Debug, clap::Args)]
#[command(after_long_help = LS_EXAMPLES)]
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

/// Makes, shows or takes over the mesh key: whoever has it can join.
///
/// Without one, the first program that joins a mesh makes one in the user's configuration folder, readable by this user
/// alone. Give it to your other machines, and nobody else.
#[derive(Debug, clap::Args)]
#[command(after_long_help = KEY_EXAMPLES)]
pub(crate) struct KeyArgs {
    #[command(subcommand)]
    pub(crate) action: KeyAction,
    /// File that holds the mesh key [env: MESHMQ_KEY_FILE] [default: mesh.key in the configuration folder]
    #[arg(long, global = true, value_name = "PATH")]
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

/// Counts the words of all text files under a folder in a mesh of separate processes, kills one of them in the middle of
/// its work, and compares the result with a count made in one process.
///
/// The mesh has a key and a folder of its own and ends with the demo: it meets no other program and leaves nothing
/// behind. Text files are those that are UTF-8; hidden folders, and folders marked as caches (CACHEDIR.TAG), are left
/// out. The exit code is 0 only when both counts are equal.
#[derive(Debug, clap::Args)]
pub(crate) struct DemoArgs {
    /// Folder with text files in it or below
    #[arg(default_value = ".")]
    pub(crate) folder: PathBuf,
    /// How many workers start
    #[arg(short, long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(2..=16))]
    pub(crate) workers: u8,
}

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct MetricsArgs {
    /// Serve this node's figures for Prometheus at http://IP:PORT/metrics; whoever can reach the address can read them
    #[arg(long = "metrics", value_name = "IP:PORT")]
    pub(crate) address: Option<SocketAddr>,
}

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct CommonArgs {
    /// Mesh to join: programs meet when both its name and their key are the same
    #[arg(short, long, value_name = "NAME", env = "MESHMQ_MESH", default_value = "default", help_heading = MESH)]
    pub(crate) mesh: String,
    /// File that holds the mesh key; `-` reads it from standard input [env: MESHMQ_KEY_FILE, or the key itself in
    /// MESHMQ_KEY] [default: the user's own key, made on first use]
    #[arg(long, value_name = "PATH", help_heading = MESH)]
    pub(crate) key_file: Option<PathBuf>,
    /// Address of a node, HOST:PORT, where others of the mesh are found; can be given several times
    #[arg(long = "peer", value_name = "ADDR", env = "MESHMQ_PEERS", value_delimiter = ',', help_heading = MESH)]
    pub(crate) peers: Vec<String>,
    /// Address to listen on, IP:PORT; without it, any free port
    #[arg(long, value_name = "ADDR", env = "MESHMQ_LISTEN", help_heading = MESH)]
    pub(crate) listen: Option<SocketAddr>,
    /// Neither be seen nor look for others on the network (mDNS)
    #[arg(long, env = "MESHMQ_NO_MDNS", value_parser = FalseyValueParser::new(), help_heading = MESH)]
    pub(crate) no_mdns: bool,
    /// What others see this node called
    #[arg(long, value_name = "NAME", help_heading = MESH)]
    pub(crate) name: Option<String>,
    /// Give up when this command has waited so long and nothing has moved: 500ms, 5s, 2m, 1h. The exit code is 3, or 4
    /// when everybody who was found has refused this node
    #[arg(long, value_name = "D", value_parser = duration)]
    pub(crate) timeout: Option<Duration>,
    /// Print one JSON object a line: messages (`body`, or `body_base64` where it is not UTF-8), push's summary, or the
    /// picture of ls
    #[arg(long)]
    pub(crate) json: bool,
    /// Say nothing on standard error but errors
    #[arg(short, long, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// Say more on standard error: who comes and goes; twice: what the library does
    #[arg(short, long, action = ArgAction::Count)]
    pub(crate) verbose: u8,
}

/// `500ms`, `5s`, `2m`, `1h`; a number alone is seconds.
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

const MESH: &str = "Mesh";

const EXAMPLES: &str = "\
Examples:
  meshmq pull jobs                      print messages as they come; start as many of these as you like
  seq 1000 | meshmq push jobs           send a thousand; ends when all are handled
  meshmq pull jobs --exec ./resize      run a command for each
  meshmq ls                             see what the mesh does
  meshmq demo                           see it work

Exit codes:
  0 ok · 1 failed · 2 wrong usage · 3 timed out, or nobody was there · 4 refused · 130 interrupted

Environment:
  MESHMQ_MESH, MESHMQ_PEERS (comma-separated), MESHMQ_LISTEN, MESHMQ_NO_MDNS (1)    as the flags of these names
  MESHMQ_KEY, MESHMQ_KEY_FILE    the mesh key, or a file that holds it
  MESHMQ_LOG                     what the library logs, for example meshmq=debug
  NO_COLOR                       no colours";

const PUSH_EXAMPLES: &str = "\
Examples:
  seq 1000 | meshmq push jobs
  tail -f app.log | meshmq push logs
  find . -name '*.png' -print0 | meshmq push -0 images
  meshmq push --whole thumbs a.png b.png
  meshmq push jobs work.txt --timeout 30s || echo 'not all was handled'";

const PULL_EXAMPLES: &str = "\
Examples:
  meshmq pull jobs
  meshmq pull jobs -n 10 --json
  meshmq pull -0 images | xargs -0 -n1 resize
  meshmq pull jobs --exec 'curl -sf -d @- http://localhost:8080/jobs' --jobs 8
  meshmq pull jobs --peer build-1.lan:7000
  meshmq pull jobs --exec ./resize --metrics 127.0.0.1:9464";

const LS_EXAMPLES: &str = "\
Examples:
  meshmq ls
  meshmq ls --watch
  meshmq ls --json | jq '.nodes[].status.sockets[]? | select(.kind == \"push\") | {channel, queued, oldest_s}'
  meshmq ls -m shop --peer build-1.lan:7000";

const KEY_EXAMPLES: &str = "\
Examples:
  meshmq key show | ssh other-machine meshmq key set
  meshmq key new --key-file team.key
  MESHMQ_KEY_FILE=team.key meshmq pull jobs";

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(line: &str) -> Result<Args, clap::Error> {
        Args::try_parse_from(line.split_whitespace())
    }

    #[test]
    fn the_definition_is_sound() {
        Args::command().debug_assert();
    }

    #[test]
    fn a_push_with_everything() {
        let args = parse("meshmq push jobs a.txt - -0 -m shop --peer a:1 --peer b:2,c:3 --no-mdns --timeout 1.5s -vv")
            .unwrap();
        let Command::Push(push) = args.command else { panic!("not a push") };
        assert_eq!(push.files, [PathBuf::from("a.txt"), PathBuf::from("-")]);
        assert!(push.null && !push.whole);
        assert_eq!(push.common.mesh, "shop");
        assert_eq!(push.common.peers, ["a:1", "b:2", "c:3"]);
        assert!(push.common.no_mdns);
        assert_eq!(push.common.timeout, Some(Duration::from_millis(1500)));
        assert_eq!(push.common.verbose, 2);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for line in [
            "meshmq push",
            "meshmq push jobs --whole -0",
            "meshmq push jobs --listen here",
            "meshmq push jobs -q -v",
            "meshmq pull jobs -n 0",
            "meshmq pull jobs --jobs 4",
            "meshmq pull jobs --exec true --json",
            "meshmq pull jobs --no-such-flag",
            "meshmq pull jobs --timeout 5parsecs",
            "meshmq ls jobs",
            "meshmq key",
            "meshmq key show --key meshkey1abc",
            "meshmq demo . --workers 1",
        ] {
            let error = parse(line).expect_err(line);
            assert_eq!(error.exit_code(), 2, "{line}");
        }
    }

    #[test]
    fn durations_have_units() {
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("2"), Ok(Duration::from_secs(2)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(duration("1h"), Ok(Duration::from_secs(3600)));
        for bad in ["", "s", "-1s", "0s", "1.2.3s", "1d", "99999999999999999999h"] {
            assert!(duration(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn help_shows_no_secret_and_no_hidden_command() {
        let help = Args::command().render_long_help().to_string();
        assert!(help.contains("Exit codes") && !help.contains("demo-worker"), "{help}");
    }
}
