//! What a command reads: lines, parts or whole files, each a message.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use anyhow::Context;
use bytes::Bytes;
use tokio::sync::mpsc;

use crate::args::{CommonArgs, InputArgs};
use crate::exit::Exit;
use crate::mesh::MAX_MESSAGE;
use crate::split::Splitter;

/// Bytes that are read at a time.
const READ: usize = 64 << 10;
/// Reads that may be ahead of what was sent.
const AHEAD: usize = 4;

/// Messages that were read together, or why no more can be.
pub(crate) type Input = mpsc::Receiver<io::Result<Vec<Bytes>>>;

/// What can be known to be wrong before anything is sent.
pub(crate) fn check(args: &InputArgs, common: &CommonArgs) -> anyhow::Result<()> {
    let stdin = args.files.is_empty() || args.files.iter().any(|file| is_stdin(file));
    if stdin && common.key_file.as_deref().is_some_and(is_stdin) {
        return Err(Exit::Usage.because("standard input cannot be both the mesh key and the messages: name a FILE"));
    }
    for file in args.files.iter().filter(|file| !is_stdin(file)) {
        let meta = std::fs::metadata(file).with_context(|| format!("cannot read {}", file.display()))?;
        anyhow::ensure!(!meta.is_dir(), "cannot read {}: it is a folder", file.display());
    }
    Ok(())
}

fn is_stdin(path: &Path) -> bool {
    path == Path::new("-")
}

/// Reads all inputs on a thread of its own, since a read from a terminal or a pipe cannot be cancelled.
pub(crate) fn read(args: &InputArgs) -> Input {
    let files = if args.files.is_empty() { vec![PathBuf::from("-")] } else { args.files.clone() };
    let separator = if args.null { 0 } else { b'\n' };
    let whole = args.whole;
    let (ready, messages) = mpsc::channel(AHEAD);
    std::thread::spawn(move || {
        for file in files {
            let read = open(&file)
                .and_then(|input| if whole { read_whole(input, &ready) } else { read_parts(input, separator, &ready) });
            if let Err(error) = read {
                // The command may have ended: then nobody is left to be told.
                let _ = ready.blocking_send(Err(named(&file, error)));
                return;
            }
        }
    });
    messages
}

fn open(file: &Path) -> io::Result<Box<dyn Read>> {
    Ok(if is_stdin(file) { Box::new(io::stdin().lock()) } else { Box::new(File::open(file)?) })
}

fn named(file: &Path, error: io::Error) -> io::Error {
    let name = if is_stdin(file) { "standard input".into() } else { file.to_string_lossy() };
    io::Error::new(error.kind(), format!("{name}: {error}"))
}

fn too_long(what: impl std::fmt::Display) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("{what} is longer than {} MiB, the most that a message may have", MAX_MESSAGE >> 20),
    )
}

type Ready = mpsc::Sender<io::Result<Vec<Bytes>>>;

fn read_parts(mut input: impl Read, separator: u8, ready: &Ready) -> io::Result<()> {
    let mut splitter = Splitter::new(separator, MAX_MESSAGE);
    let mut buffer = vec![0; READ];
    loop {
        let count = match input.read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            read => read?,
        };
        splitter.feed(&buffer[..count]);
        let mut messages = Vec::new();
        let whole = loop {
            match splitter.take() {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => break Ok(()),
                Err(long) => break Err(too_long(format_args!("message {}", long.message))),
            }
        };
        if count == 0 {
            messages.extend(splitter.rest());
        }
        if !messages.is_empty() && ready.blocking_send(Ok(messages)).is_err() {
            return Ok(());
        }
        whole?;
        if count == 0 {
            return Ok(());
        }
    }
}

fn read_whole(input: impl Read, ready: &Ready) -> io::Result<()> {
    let mut body = Vec::new();
    input.take(MAX_MESSAGE as u64 + 1).read_to_end(&mut body)?;
    if body.len() > MAX_MESSAGE {
        return Err(too_long("it"));
    }
    // Nobody wants it any more when the command has ended.
    let _ = ready.blocking_send(Ok(vec![body.into()]));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(run: impl FnOnce(&Ready) -> io::Result<()>) -> (Vec<Bytes>, Option<String>) {
        let (ready, mut messages) = mpsc::channel(1000);
        let error = run(&ready).err().map(|error| error.to_string());
        drop(ready);
        let mut all = Vec::new();
        while let Some(batch) = messages.blocking_recv() {
            all.extend(batch.unwrap());
        }
        (all, error)
    }

    #[test]
    fn lines_of_an_input_are_messages() {
        let (all, error) = messages(|ready| read_parts(&b"one\ntwo\nthree"[..], b'\n', ready));
        assert_eq!(all, ["one", "two", "three"]);
        assert_eq!(error, None);
    }

    #[test]
    fn what_stands_before_a_line_that_is_too_long_is_sent() {
        let input = [b"one\n".to_vec(), vec![b'x'; MAX_MESSAGE + 1]].concat();
        let (all, error) = messages(|ready| read_parts(&input[..], b'\n', ready));
        assert_eq!(all, ["one"]);
        assert_eq!(error.unwrap(), "message 2 is longer than 16 MiB, the most that a message may have");
    }

    #[test]
    fn a_whole_file_is_a_message() {
        let (all, _) = messages(|ready| read_whole(&b"a\nb"[..], ready));
        assert_eq!(all, ["a\nb"]);
        let (all, error) = messages(|ready| read_whole(io::repeat(b'x'), ready));
        assert!(all.is_empty() && error.unwrap().starts_with("it is longer"));
    }
}
