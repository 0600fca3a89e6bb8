//! The demo's processes and the folder in which they find each other. Nothing of either is left behind.

use std::env;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::Context;
use meshmq::{MeshKey, NodeId};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::timeout;

use super::task::Start;

/// The argument that makes this program a worker.
pub(super) const WORKER: &str = "demo-worker";

/// Tells a worker that the demo is over, and that this process lives to clean up.
const FAREWELL: &[u8] = b"farewell\n";
/// How long a process may take to end once it was told to.
const LEAVING: Duration = Duration::from_secs(2);

const NAMES: [&str; 17] = [
    "otter", "heron", "lynx", "raven", "marten", "finch", "badger", "swift", "hare", "kite", "stoat", "wren", "fox",
    "crane", "vole", "owl", "elk",
];

/// The workers, each a process.
pub(super) struct Crew {
    key: MeshKey,
    /// Where the words go that workers say on standard error; `None`: to this process's own.
    pub(super) say: Option<UnboundedSender<String>>,
    pub(super) members: Vec<Member>,
    // Dropped last: the processes are gone by then.
    folder: Folder,
}

/// One worker.
pub(super) struct Member {
    pub(super) name: &'static str,
    pub(super) pid: u32,
    /// Known once it has reported over the mesh.
    pub(super) node: Option<NodeId>,
    /// When that was.
    pub(super) joined: Option<Instant>,
    pub(super) killed: Option<Instant>,
    child: Child,
    /// Its end tells the worker to leave, also when this process is killed.
    stdin: Option<ChildStdin>,
}

impl Crew {
    pub(super) fn new() -> anyhow::Result<Self> {
        let key = MeshKey::generate().context("no randomness for a mesh key")?;
        Ok(Self { key, say: None, members: Vec::new(), folder: Folder::new()? })
    }

    pub(super) fn key(&self) -> MeshKey {
        self.key.clone()
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder.0
    }

    /// Starts one more worker.
    pub(super) async fn hire(&mut self) -> anyhow::Result<&Member> {
        let name = NAMES[self.members.len() % NAMES.len()];
        let program = env::current_exe().context("cannot find this program's own file")?;
        let mut child = Command::new(program)
            .arg(WORKER)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(if self.say.is_some() { Stdio::piped() } else { Stdio::inherit() })
            // A group of its own: Ctrl-C is for the first process, which then ends the others.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .context("cannot start a worker")?;
        if let (Some(say), Some(stderr)) = (self.say.clone(), child.stderr.take()) {
            tokio::spawn(async move {
                let mut lines = BufReader::new(stderr).lines();
                while let Ok(Some(line)) = lines.next_line().await {
                    // Told as long as anybody listens.
                    let _ = say.send(line);
                }
            });
        }
        let pid = child.id().context("a worker ended as it started")?;
        let mut stdin = child.stdin.take().context("a worker has no standard input")?;
        let start = Start { key: self.key(), folder: self.folder().to_owned(), name: name.to_owned() };
        // Not an argument, and not the environment: both can be read by others.
        let line = serde_json::to_string(&start)? + "\n";
        stdin
            .write_all(line.as_bytes())
            .await
            .with_context(|| format!("worker {name} (pid {pid}) ended as it started"))?;
        self.members.push(Member { name, pid, node: None, joined: None, killed: None, child, stdin: Some(stdin) });
        Ok(self.members.last().expect("just pushed"))
    }

    /// The worker that reported as this node.
    pub(super) fn find(&self, node: NodeId) -> Option<usize> {
        self.members.iter().position(|member| member.node == Some(node))
    }

    /// Ends all workers, and waits until they have ended.
    pub(super) async fn dismiss(&mut self) {
        for member in &mut self.members {
            if let Some(mut stdin) = member.stdin.take() {
                // It may have ended by itself.
                let _ = stdin.write_all(FAREWELL).await;
            }
        }
        for member in &mut self.members {
            if timeout(LEAVING, member.child.wait()).await.is_err() {
                member.kill().await;
            }
        }
    }
}

impl Member {
    /// SIGKILL: the worker gets no chance to do anything about it.
    pub(super) async fn kill(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill().await;
        self.killed = Some(Instant::now());
    }
}

/// A folder of this user alone that is removed in the end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> anyhow::Result<Self> {
        let base = env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|base| base.is_dir());
        let base = base.unwrap_or_else(|| PathBuf::from("/tmp"));
        for attempt in 0..100 {
            let path = base.join(format!("meshmq-demo-{}-{attempt}", std::process::id()));
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Ok(Self(path)),
                // Left by a process of the same number that was killed.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error).with_context(|| format!("cannot make a folder in {}", base.display())),
            }
        }
        anyhow::bail!("cannot make a folder in {}: all names are taken", base.display())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        remove(&self.0);
    }
}

/// Removes the folder, whoever else is about to do so, or is still making a file in it as it ends.
pub(super) fn remove(folder: &Path) {
    for _ in 0..100 {
        match fs::remove_dir_all(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return,
            // Gone, unless somebody makes it anew: look once more.
            _ => {}
        }
    }
}
