//! The folder: nobody but its owner may be able to put something there.

use std::fs::{self, DirBuilder};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

/// `$XDG_RUNTIME_DIR/meshmq`, else `/tmp/meshmq-<uid>`.
pub(super) fn of_user() -> PathBuf {
    let session = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    match session.filter(|path| path.is_absolute() && path.is_dir()) {
        Some(session) => session.join("meshmq"),
        None => PathBuf::from(format!("/tmp/meshmq-{}", rustix::process::getuid().as_raw())),
    }
}

/// Makes the folder if it is not there, and makes sure that it is ours alone.
pub(super) fn prepare(folder: &Path) -> Result<(), String> {
    let refused = |why: String| Err(format!("the runtime folder {} {why}", folder.display()));
    match DirBuilder::new().mode(0o700).create(folder) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        Err(error) => return refused(format!("cannot be made: {error}; set XDG_RUNTIME_DIR to a folder of yours")),
    }
    // Of the name itself: a link to somewhere else is not a folder of ours.
    let meta = match fs::symlink_metadata(folder) {
        Ok(meta) => meta,
        Err(error) => return refused(format!("cannot be read: {error}")),
    };
    let uid = rustix::process::geteuid().as_raw();
    if !meta.is_dir() {
        return refused("is not a real folder; remove it, or set XDG_RUNTIME_DIR to another place".to_owned());
    }
    if meta.uid() != uid {
        let owner = meta.uid();
        return refused(format!(
            "belongs to user {owner}, not to you ({uid}); set XDG_RUNTIME_DIR to a folder of yours"
        ));
    }
    if meta.mode() & 0o077 != 0 {
        let mode = meta.mode() & 0o777;
        return refused(format!("is open to others (mode {mode:03o}); run `chmod 700 {}`", folder.display()));
    }
    Ok(())
}
