//! `meshmq key`: the mesh key's file. The key itself is printed by `show` alone.

use std::env;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use meshmq::MeshKey;

use crate::args::{KeyAction, KeyArgs};
use crate::exit::Exit;
use crate::mesh::{KeySource, read_key};
use crate::output::Say;
use crate::stdout::is_closed;

pub(crate) fn run(args: KeyArgs) -> anyhow::Result<Exit> {
    let say = Say::new(false, 0);
    let key_file = args.key_file;
    if key_file.as_deref() == Some(Path::new("-")) {
        return Err(Exit::Usage.because("these commands are about a key file: `-` is none"));
    }
    match args.action {
        KeyAction::New => {
            let path = file(key_file)?;
            MeshKey::generate().context("no randomness for a mesh key")?.save(&path)?;
            say.note(format_args!("made a new mesh key, {}", path.display()));
        }
        KeyAction::Show => {
            let mut out = open_output().context("cannot print the mesh key")?;
            let key = KeySource::find(key_file)?.key(say)?;
            writeln!(out, "{}", key.reveal()).context("cannot print the mesh key")?;
        }
        KeyAction::Set => {
            let path = file(key_file)?;
            if io::stdin().is_terminal() {
                say.note("paste the mesh key and press Enter:");
            }
            read_key()?.save(&path)?;
            say.note(format_args!("the mesh key is in {}", path.display()));
        }
        KeyAction::Path => {
            let mut out = open_output().context("cannot print the path")?;
            writeln!(out, "{}", file(key_file)?.display()).context("cannot print the path")?;
            if env::var_os("MESHMQ_KEY").is_some_and(|key| !key.is_empty()) {
                say.note("MESHMQ_KEY is set, and is used instead of this file");
            }
        }
    }
    Ok(Exit::Ok)
}

/// Where the answer goes: what is written to a closed one would vanish without an error.
fn open_output() -> anyhow::Result<io::Stdout> {
    anyhow::ensure!(!is_closed(io::stdout())?, "standard output is closed");
    Ok(io::stdout())
}

/// The file that is meant, whether it is there or not.
fn file(flag: Option<PathBuf>) -> anyhow::Result<PathBuf> {
    let named = flag.or_else(|| env::var_os("MESHMQ_KEY_FILE").filter(|path| !path.is_empty()).map(PathBuf::from));
    Ok(named.map_or_else(MeshKey::config_path, Ok)?)
}
