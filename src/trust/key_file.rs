//! The key file: one user's programs share the key in it, which is made on first use.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::key::{InvalidMeshKey, MeshKey};
use crate::env::{Random, SystemRandom};

/// Far above any key file; a larger one is something else.
const MAX_FILE: u64 = 4096;

impl MeshKey {
    /// Where the user's own key lies: `$XDG_CONFIG_HOME/meshmq/mesh.key`, else `~/.config/meshmq/mesh.key`.
    ///
    /// # Errors
    /// [`KeyError::NoFolder`]: neither `XDG_CONFIG_HOME` nor `HOME` is set to an absolute path.
    pub fn config_path() -> Result<PathBuf, KeyError> {
        let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let folder = absolute("XDG_CONFIG_HOME").or_else(|| Some(absolute("HOME")?.join(".config")));
        Ok(folder.ok_or(KeyError::NoFolder)?.join("meshmq").join("mesh.key"))
    }

    /// Reads a key file.
    ///
    /// # Errors
    /// The file is not there, cannot be read, is open to others, or holds no key.
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        let failed = |error| KeyError::Read { path: path.to_owned(), error };
        let file = File::open(path).map_err(failed)?;
        let meta = file.metadata().map_err(failed)?;
        if meta.mode() & 0o077 != 0 {
            return Err(KeyError::Open { path: path.to_owned(), mode: meta.mode() & 0o777 });
        }
        let mut text = Zeroizing::new(String::new());
        file.take(MAX_FILE).read_to_string(&mut text).map_err(failed)?;
        text.parse().map_err(|error| KeyError::Invalid { path: path.to_owned(), error })
    }

    /// Reads a key file, or makes it with a new key if it is not there. The second value: it was made just now.
    ///
    /// Any number of processes may do so at once: they all get the same key.
    ///
    /// # Errors
    /// As [`load`](Self::load), and [`KeyError::Write`].
    pub fn load_or_create(path: &Path) -> Result<(Self, bool), KeyError> {
        Self::load_or_create_from(path, &SystemRandom)
    }

    /// The same with another randomness.
    pub(crate) fn load_or_create_from(path: &Path, random: &dyn Random) -> Result<(Self, bool), KeyError> {
        match Self::load(path) {
            Err(KeyError::Read { error, .. }) if error.kind() == io::ErrorKind::NotFound => {}
            loaded => return Ok((loaded?, false)),
        }
        let key = Self::generate_from(random).map_err(|error| KeyError::Write { path: path.to_owned(), error })?;
        match key.link_into(path, random) {
            Ok(()) => Ok((key, true)),
            // Somebody else was first: theirs is the key.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok((Self::load(path)?, false)),
            Err(error) => Err(KeyError::Write { path: path.to_owned(), error }),
        }
    }

    /// Writes this key to a file that is not there yet; the same key there is fine.
    ///
    /// # Errors
    /// [`KeyError::Exists`]: the file holds something else, and is left as it is; else as [`load`](Self::load), and
    /// [`KeyError::Write`].
    pub fn save(&self, path: &Path) -> Result<(), KeyError> {
        match self.link_into(path, &SystemRandom) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => match Self::load(path) {
                Ok(there) if there == *self => Ok(()),
                Ok(_) | Err(KeyError::Invalid { .. }) => Err(KeyError::Exists { path: path.to_owned() }),
                Err(error) => Err(error),
            },
            Err(error) => Err(KeyError::Write { path: path.to_owned(), error }),
        }
    }

    /// A whole file appears under the name, or none: written elsewhere, synced, then linked into place.
    fn link_into(&self, path: &Path, random: &dyn Random) -> io::Result<()> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let mut unique = [0; 8];
        random.fill(&mut unique)?;
        let temporary = folder.join(format!(".mesh.key.{:016x}", u64::from_ne_bytes(unique)));
        let written = (|| {
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
            file.write_all(Zeroizing::new(self.reveal()).as_bytes())?;
            file.write_all(b"\n")?;
            file.sync_all()?;
            fs::hard_link(&temporary, path)
        })();
        // Linked or failed, the temporary name has served.
        let _ = fs::remove_file(&temporary);
        if written.is_ok() {
            // So that the name too outlives a power cut: else the next start would make another key, and another mesh.
            // Not every file system can.
            let _ = File::open(folder).and_then(|folder| folder.sync_all());
        }
        written
    }
}

/// The same in a shell and in a program.
const REMEDY: &str = "name a file with MESHMQ_KEY_FILE, or in a program with `Builder::key_file`";

/// A file that is not there was named: the user's own one would have been made.
fn for_reading(path: &Path, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => format!("`meshmq key new --key-file {}` makes one", path.display()),
        _ => REMEDY.into(),
    }
}

/// The mesh key could not be had. No node was started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// There is no folder for it.
    #[error("no place for the mesh key: neither XDG_CONFIG_HOME nor HOME is set to an absolute path; {REMEDY}")]
    NoFolder,
    /// The file cannot be read.
    #[error("cannot read the mesh key from {}: {error}; {}", path.display(), for_reading(path, error))]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the operating system says.
        error: io::Error,
    },
    /// Others can read the file.
    #[error("the key file {} is open to others (mode {mode:03o}): anybody who reads it can join; run `chmod 600 {}`", path.display(), path.display())]
    Open {
        /// Which file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file holds no key.
    #[error("{} holds no mesh key: {error}", path.display())]
    Invalid {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        error: InvalidMeshKey,
    },
    /// The file cannot be made. Nothing is left of the attempt.
    #[error("cannot make the key file {}: {error}; {REMEDY}", path.display())]
    Write {
        /// Which file.
        path: PathBuf,
        /// What the operating system says.
        error: io::Error,
    },
    /// Another key is there.
    #[error("{} exists and holds something else; move it away first, if its mesh is no longer needed", path.display())]
    Exists {
        /// Which file.
        path: PathBuf,
    },
}
