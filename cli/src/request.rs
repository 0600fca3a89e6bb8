//! `meshmq req`: asks, and prints the reply.

use std::future::IntoFuture;
use std::io::{self, ErrorKind, Read};
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use meshmq::{NewMessage, Node, Reply, RequestError, Requester};

use crate::args::ReqArgs;
use crate::exit::Exit;
use crate::mesh::{self, MAX_MESSAGE};
use crate::output::{Form, Say, Shown, counted};
use crate::refused::refusal;
use crate::signals::Signals;
use crate::stdout::Stdout;

/// How long an answer is waited for, unless the user says otherwise.
const ANSWER: Duration = Duration::from_secs(10);
/// After so long without an answer the command says what it waits for.
const SILENT: Duration = Duration::from_secs(5);

pub(crate) async fn run(args: ReqArgs, signals: &Signals) -> anyhow::Result<Exit> {
    let say = Say::new(args.common.quiet, args.common.verbose);
    mesh::check_channel(&args.channel)?;
    if args.body.is_none() && args.common.key_file.as_deref().is_some_and(|file| file.as_os_str() == "-") {
        return Err(Exit::Usage.because("standard input cannot be both the mesh key and the request: name a BODY"));
    }
    let node = mesh::join(&args.common, say).await?;
    let requester = node.requester(&args.channel).await?;
    let end = tokio::select! {
        biased;
        () = signals.stop() => Ok(Exit::Interrupted),
        end = ask(&args, &node, &requester, say) => end,
    };
    // A request that is given up is told to whoever has it.
    let _ = node.shutdown(Duration::from_secs(1)).await;
    end
}

async fn ask(args: &ReqArgs, node: &Node, requester: &Requester, say: Say) -> anyhow::Result<Exit> {
    let body = match &args.body {
        Some(body) => Bytes::copy_from_slice(body.as_bytes()),
        // Standard input may be a terminal where nobody types.
        None => tokio::task::spawn_blocking(read).await??,
    };
    let headers = args.headers.iter().map(|(name, value)| (name, value));
    let message = NewMessage::new(body).with_headers(headers);
    let patience = args.common.timeout.unwrap_or(ANSWER);
    let asked = async {
        match args.all {
            true => ask_all(args, requester, message, patience, say).await,
            false => ask_one(args, requester, message, patience).await,
        }
    };
    tokio::pin!(asked);
    let end = tokio::select! {
        biased;
        end = &mut asked => end,
        () = tokio::time::sleep(SILENT) => {
            say.note(waited_for(requester));
            asked.await
        }
    };
    end.map_err(|error| match error.downcast_ref::<RequestError>() {
        Some(RequestError::NoReplier | RequestError::TimedOut | RequestError::NotSent) => {
            let refusal = refusal(node, &args.common.peers).map(|refusal| Exit::Refused.because(refusal));
            refusal.unwrap_or_else(|| failed(error, &args.channel))
        }
        _ => failed(error, &args.channel),
    })
}

fn waited_for(requester: &Requester) -> String {
    match requester.repliers() {
        0 => format!("waiting for a replier on channel {:?}", requester.channel()),
        repliers => format!(
            "waiting for an answer on channel {:?}: {} there",
            requester.channel(),
            counted(repliers as u64, "replier")
        ),
    }
}

async fn ask_one(
    args: &ReqArgs,
    requester: &Requester,
    message: NewMessage,
    patience: Duration,
) -> anyhow::Result<Exit> {
    let mut ask = requester.request(message).timeout(patience);
    if args.idempotent {
        ask = ask.idempotent();
    }
    if !args.no_wait {
        ask = ask.wait_for_replier();
    }
    let reply = ask.into_future().await?;
    print(args, &reply).await
}

async fn ask_all(
    args: &ReqArgs,
    requester: &Requester,
    message: NewMessage,
    patience: Duration,
    say: Say,
) -> anyhow::Result<Exit> {
    let mut replies = requester.request_all(message).timeout(patience).await?;
    let mut count = 0_u64;
    while let Some(reply) = replies.recv().await {
        count += 1;
        print(args, &reply).await?;
    }
    for missing in replies.missing() {
        say.error(&anyhow::anyhow!("no reply from node {}: {}", missing.node.short(), missing.why));
    }
    let all = counted(count + replies.missing().len() as u64, "replier");
    say.detail(format_args!("{} of {all} have replied", count));
    Ok(if replies.missing().is_empty() { Exit::Ok } else { Exit::Failed })
}

/// The reply as the user wants it.
async fn print(args: &ReqArgs, reply: &Reply) -> anyhow::Result<Exit> {
    let mut text = Vec::with_capacity(reply.len() + 1);
    if args.common.json {
        let _ = Form::Json.write(&Shown::reply(&args.channel, reply), &mut text);
    } else {
        text.extend_from_slice(reply);
        if !args.raw && text.last() != Some(&b'\n') {
            text.push(b'\n');
        }
    }
    match Stdout::open()?.write(text).await {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(Exit::Ok),
        end => end.context("cannot write to standard output").map(|()| Exit::Ok),
    }
}

/// Why there is no reply, with the exit code for it.
fn failed(error: anyhow::Error, channel: &str) -> anyhow::Error {
    let Some(why) = error.downcast_ref::<RequestError>() else { return error };
    let text = format!("no reply on channel {channel:?}: {why}");
    match why {
        RequestError::NoReplier | RequestError::Busy | RequestError::NotSent | RequestError::TimedOut => {
            Exit::TimedOut.because(text)
        }
        _ => Exit::Failed.because(text),
    }
}

fn read() -> io::Result<Bytes> {
    let mut body = Vec::new();
    io::stdin().lock().take(MAX_MESSAGE as u64 + 1).read_to_end(&mut body)?;
    if body.len() > MAX_MESSAGE {
        let most = MAX_MESSAGE >> 20;
        let text = format!("standard input is longer than {most} MiB, the most that a request may have");
        return Err(io::Error::new(ErrorKind::InvalidData, text));
    }
    Ok(body.into())
}
