//! The folder in which the processes of one user and one mesh meet. Whoever can write to it could pretend to be there,
//! so nobody else may.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use tokio::net::UnixListener;

use crate::id::NodeId;

/// Longest path of a Unix socket that Linux takes, in bytes: 108 with the closing NUL.
const MAX_SOCKET_PATH: usize = 107;
const PRIVATE: u32 = 0o700;
const ELSEWHERE: &str = "name another folder (XDG_RUNTIME_DIR, or local_folder of the builder)";

/// Why the folder cannot be used, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unusable {
    #[error("{} cannot be used: {source}; make its parent folder writable, or {ELSEWHERE}", .path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{} is not a folder; remove it, or {ELSEWHERE}", .0.display())]
    NotFolder(PathBuf),
    #[error("{} belongs to user {owner}; remove it, or {ELSEWHERE}", .path.display())]
    Foreign { path: PathBuf, owner: u32 },
    #[error("{path} has mode {mode:o}; it must be yours alone: `chmod 700 {path}`", path = .path.display())]
    Open { path: PathBuf, mode: u32 },
    #[error("{} is longer than the {MAX_SOCKET_PATH} bytes of a Unix socket; {ELSEWHERE}", .0.display())]
    TooLong(PathBuf),
}

/// A folder that is this user's alone.
#[derive(Debug)]
pub(super) struct Folder(PathBuf);

impl Folder {
    /// The folder of this mesh below `base`, or below the user's runtime folder; made where it is missing.
    pub(super) fn open(base: Option<&Path>, mesh_tag: [u8; 8]) -> Result<Self, Unusable> {
        let base = base.map_or_else(of_user, Path::to_owned);
        ensure_private(&base)?;
        let path = base.join(data_encoding::HEXLOWER.encode(&mesh_tag));
        ensure_private(&path)?;
        Ok(Self(path))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// Where this life of a node listens.
    pub(super) fn socket_of(&self, node: NodeId, incarnation: u64) -> PathBuf {
        self.0.join(format!("{}-{incarnation:016x}.sock", node.short()))
    }

    /// All sockets in it, also those that nobody listens on any more.
    pub(super) fn sockets(&self) -> io::Result<Vec<PathBuf>> {
        let mut sockets = Vec::new();
        for entry in fs::read_dir(&self.0)? {
            let entry = entry?;
            let path = entry.path();
            if path.extension().is_some_and(|extension| extension == "sock") && entry.file_type()?.is_socket() {
                sockets.push(path);
            }
        }
        Ok(sockets)
    }
}

/// A socket that others find in the folder for as long as this value lives.
#[derive(Debug)]
pub(super) struct OwnSocket {
    path: PathBuf,
    pub(super) listener: UnixListener,
}

impl OwnSocket {
    pub(super) fn bind(path: PathBuf) -> Result<Self, Unusable> {
        let unseen = path.with_extension("new");
        if path.as_os_str().as_bytes().len() > MAX_SOCKET_PATH {
            return Err(Unusable::TooLong(path));
        }
        // A socket refuses between `bind` and `listen`, and would be taken for stale: it gets its name afterwards.
        let bound = UnixListener::bind(&unseen).and_then(|listener| {
            fs::rename(&unseen, &path).inspect_err(|_| discard(&unseen))?;
            Ok(listener)
        });
        match bound {
            Ok(listener) => Ok(Self { path, listener }),
            Err(source) => Err(Unusable::Io { path, source }),
        }
    }
}

impl Drop for OwnSocket {
    fn drop(&mut self) {
        discard(&self.path);
    }
}

/// Removes a socket that nobody listens on. A name is never used by two processes, so it is not another's by now.
pub(super) fn discard(socket: &Path) {
    if let Err(error) = fs::remove_file(socket)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::debug!(target: "meshmq::discovery", path = %socket.display(), %error, "a stale socket stays");
    }
}

fn user() -> u32 {
    rustix::process::geteuid().as_raw()
}

fn of_user() -> PathBuf {
    // After `su` the variable may still name another user's folder, in which nothing of ours may be left.
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|folder| {
        folder.is_absolute() && fs::metadata(folder).is_ok_and(|found| found.is_dir() && found.uid() == user())
    });
    runtime.map_or_else(|| PathBuf::from(format!("/tmp/meshmq-{}", user())), |folder| folder.join("meshmq"))
}

fn ensure_private(path: &Path) -> Result<(), Unusable> {
    let failed = |source| Unusable::Io { path: path.to_owned(), source };
    match DirBuilder::new().mode(PRIVATE).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed(error)),
        _ => {}
    }
    // Not followed: a symbolic link is not a folder.
    let found = fs::symlink_metadata(path).map_err(failed)?;
    let mode = found.mode() & 0o7777;
    if !found.is_dir() {
        Err(Unusable::NotFolder(path.to_owned()))
    } else if found.uid() != user() {
        Err(Unusable::Foreign { path: path.to_owned(), owner: found.uid() })
    } else if mode & 0o777 != PRIVATE {
        Err(Unusable::Open { path: path.to_owned(), mode })
    } else {
        Ok(())
    }
}
