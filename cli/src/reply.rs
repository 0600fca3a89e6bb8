//! `meshmq rep`: answers requests with what a command prints.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use meshmq::{NewMessage, Replier, Request};

use crate::args::RepArgs;
use crate::exec::{self, Answer, Call};
use crate::exit::Exit;
use crate::jobs::Jobs;
use crate::mesh::{self, DRAIN, MAX_MESSAGE};
use crate::output::Say;
use crate::signals::Signals;
use crate::waiting::Waiting;

pub(crate) async fn run(args: RepArgs, signals: &Signals) -> anyhow::Result<Exit> {
    let say = Say::new(args.common.quiet, args.common.verbose);
    mesh::check_channel(&args.channel)?;
    let node = mesh::join(&args.common, say).await?;
    mesh::serve_metrics(&node, &args.metrics, say)?;
    let replier = node.replier(&args.channel).await?;
    say.detail(format_args!("answers on channel {:?}", args.channel));
    let mut waiting = Waiting::new(&node, signals, say, &args.common);
    let jobs = Jobs {
        at_a_time: args.concurrency.into(),
        count: args.count,
        next: async || Ok(replier.recv().await?),
        begin: |request| answer(args.exec.clone(), args.channel.clone(), request, say),
        progress: || replier.metrics().received,
        wanted: || wanted(&replier),
        close: || replier.close(),
    };
    let end = jobs.run(&mut waiting, say).await;
    // What was not handed out goes to others at once; then the answers have to arrive.
    replier.close();
    let _ = node.shutdown(DRAIN).await;
    end
}

fn wanted(replier: &Replier) -> String {
    format!("requests on channel {:?}", replier.channel())
}

/// Answers a request, unless nobody waits for it any more: then its command is killed.
async fn answer(command: Option<String>, channel: String, request: Request, say: Say) -> bool {
    let Some(command) = command else {
        let echo = NewMessage::new(request.body()).with_headers(&request.headers());
        // What does not fit is told to whoever asked.
        let _ = request.reply(echo);
        return true;
    };
    let id = request.id();
    let call = Call { command: &command, channel: &channel, topic: None, message: &request };
    let answer = tokio::select! {
        biased;
        () = request.cancelled() => None,
        answer = exec::ask(&call, MAX_MESSAGE) => Some(answer),
    };
    let (code, why) = match answer {
        None => {
            say.note(format_args!("request {id} was given up by whoever asked: its command is killed"));
            return true;
        }
        Some(Ok(Some(Answer { status, said, .. }))) if status.success() => {
            let _ = request.reply(said);
            return true;
        }
        Some(Ok(Some(Answer { status, tail, .. }))) => {
            let why = if tail.is_empty() { status.to_string() } else { format!("{status}: {tail}") };
            (code(status), why)
        }
        Some(Ok(None)) => {
            ("too_large".to_owned(), format!("the command prints more than {} MiB: it is killed", MAX_MESSAGE >> 20))
        }
        Some(Err(error)) => ("exec".to_owned(), format!("cannot run the command: {error}")),
    };
    say.note(format_args!("request {id} has failed with code {code}: {why}"));
    request.fail(code, why);
    true
}

/// What a program goes by.
fn code(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit_{code}"),
        (None, Some(signal)) => format!("signal_{signal}"),
        (None, None) => "exit".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_tells_how_a_command_has_ended() {
        assert_eq!(code(ExitStatus::from_raw(3 << 8)), "exit_3");
        assert_eq!(code(ExitStatus::from_raw(9)), "signal_9");
    }
}
