//! Processes of one user on one host meet in a folder, with no network.

mod advert;
mod folder;
mod presence;

use std::path::PathBuf;
use std::sync::Arc;

use self::folder::Folder;
use self::presence::Presence;
use super::{Advert, Finder, Found, Source};
use crate::env::{BoxFuture, Env};

/// Finds the other processes of this user and mesh on this host, and tells at once when one of them ends.
///
/// Each process listens on a Unix-domain socket in a folder that only the user may enter. A newcomer connects to all
/// sockets that are there; both ends introduce themselves and hold the connection. Its end, and a socket that nobody
/// listens on any more, tell that the process has ended, also when it was killed. At most 1,024 connections are held.
#[derive(Debug, Clone)]
pub struct Local {
    base: Option<PathBuf>,
}

impl Local {
    /// Meets in the user's runtime folder: `$XDG_RUNTIME_DIR/meshmq`, or `/tmp/meshmq-<uid>` where that variable does
    /// not name a folder of this user. Each mesh has its own folder in it. Nothing is touched before the source runs.
    pub fn of_user() -> Self {
        Self { base: None }
    }

    /// Meets in this folder, in which each mesh has its own. It is made where it is missing, but not its parents, and
    /// is refused unless it belongs to this user and has mode 0700.
    pub fn in_folder(folder: PathBuf) -> Self {
        Self { base: Some(folder) }
    }
}

impl Source for Local {
    fn name(&self) -> &'static str {
        "local"
    }

    fn run(self: Arc<Self>, own: Advert, env: Env, found: Finder) -> BoxFuture<()> {
        Box::pin(async move {
            let entered = Folder::open(self.base.as_deref(), own.mesh_tag)
                .and_then(|folder| Presence::enter(folder, own, env, found.clone()));
            match entered {
                Ok(presence) => presence.watch().await,
                Err(unusable) => {
                    found.tell(Found::Trouble(format!("no other process of this host can be found: {unusable}"))).await;
                    found.tell(Found::FirstPass).await;
                }
            }
        })
    }
}

#[cfg(test)]
mod tests;
