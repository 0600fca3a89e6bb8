//! The transcripts of `docs/command-line.md`, run as they stand there.

use std::path::Path;

use crate::common::{Process, User, run};

const PAGE: &str = include_str!("../../../docs/command-line.md");

/// A command of a transcript, and what is shown below it.
#[derive(Debug, PartialEq, Eq)]
struct Step<'a> {
    command: &'a str,
    shown: String,
}

/// The blocks that are marked `console`.
fn transcripts(page: &str) -> Vec<Vec<Step<'_>>> {
    let blocks = page.split("\n```console\n").skip(1).map(|rest| rest.split("\n```").next().unwrap());
    blocks.map(steps).collect()
}

fn steps(block: &str) -> Vec<Step<'_>> {
    let mut steps: Vec<Step<'_>> = Vec::new();
    for line in block.lines() {
        match (line.strip_prefix("$ "), steps.last_mut()) {
            (Some(command), _) => steps.push(Step { command, shown: String::new() }),
            (None, Some(step)) => step.shown += &format!("{line}\n"),
            (None, None) => panic!("it begins without a command: {line}"),
        }
    }
    steps
}

#[test]
fn every_transcript_shows_what_happens() {
    let transcripts = transcripts(PAGE);
    assert_eq!(transcripts.len(), 3, "work, news, questions");
    for steps in transcripts {
        let user = User::new();
        // That a key is made on first use is no part of them.
        assert_eq!(run(&mut user.meshmq(&["key", "new"]), "").code, Some(0));
        let program = Path::new(env!("CARGO_BIN_EXE_meshmq"));
        let mut shell = user.shell("exec bash 2>&1");
        let path = std::env::var("PATH").unwrap();
        shell.env("PATH", format!("{}:{path}", program.parent().unwrap().display()));
        let mut shell = Process::start(&mut shell);
        for Step { command, shown } in steps {
            // What a command leaves running must not read what follows.
            shell.write(format!("{{ {command}\n}} < /dev/null\necho \"end of the step\"\n"));
            let lines = std::iter::repeat_with(|| shell.line()).take_while(|line| line != "end of the step");
            let lines: String = lines.map(|line| line + "\n").collect();
            assert_eq!(lines, shown, "$ {command}");
        }
        let ended = shell.end();
        assert_eq!((ended.code, &ended.stdout[..]), (Some(0), ""), "{}", ended.stderr);
    }
}

#[test]
fn transcripts_are_read() {
    let page = "text\n```console\n$ one\n1\n\n2\n$ two &\n$ three\n```\n```sh\nno\n```\n";
    let step = |command, shown: &str| Step { command, shown: shown.to_owned() };
    assert_eq!(transcripts(page), [[step("one", "1\n\n2\n"), step("two &", ""), step("three", "")]]);
}
