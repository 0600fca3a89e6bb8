use std::fs::{self, DirBuilder, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::runtime::Handle;
use tokio::sync::{broadcast, mpsc};
use tokio::task::JoinHandle;

use super::*;
use crate::id::NodeId;

const FOLDER: &str = "MESHMQ_TEST_LOCAL_FOLDER";

/// A source that runs until it is dropped, or [`Running::stop`] has returned.
struct Running {
    task: JoinHandle<()>,
    found: mpsc::Receiver<(usize, Found)>,
}

impl Running {
    fn start(folder: &Path, own: Advert) -> Self {
        let (tell, found) = mpsc::channel(64);
        let source = Arc::new(Local::in_folder(folder.to_owned()));
        let task = tokio::spawn(source.run(
            own,
            Env::real(Handle::current()),
            Finder::new(0, tell, broadcast::Sender::new(1)),
        ));
        Self { task, found }
    }

    async fn next(&mut self) -> Found {
        let next = tokio::time::timeout(Duration::from_secs(20), self.found.recv());
        next.await.expect("nothing is told").expect("the source has ended").1
    }

    /// The next of what is not for people.
    async fn fact(&mut self) -> Found {
        loop {
            match self.next().await {
                Found::Report(_) => {}
                fact => return fact,
            }
        }
    }

    async fn report(&mut self) -> String {
        loop {
            if let Found::Report(report) | Found::Trouble(report) = self.next().await {
                return report;
            }
        }
    }

    async fn stop(mut self) {
        self.task.abort();
        assert!((&mut self.task).await.unwrap_err().is_cancelled());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn advert(node: u8) -> Advert {
    let bound = SocketAddr::from(([0, 0, 0, 0], 0));
    let (node, port) = (NodeId::from_bytes([node; 32]), 7000 + u16::from(node));
    Advert { mesh_tag: [0xab; 8], node, incarnation: 0x51 + u64::from(port), port, bound }
}

fn seen(advert: &Advert) -> Found {
    let addresses = vec![SocketAddr::from(([127, 0, 0, 1], advert.port))];
    Found::Seen { node: Some(advert.node), incarnation: Some(advert.incarnation), in_touch: true, addresses }
}

fn gone(advert: &Advert) -> Found {
    Found::Gone { node: advert.node, incarnation: advert.incarnation }
}

fn private() -> tempfile::TempDir {
    tempfile::Builder::new().permissions(Permissions::from_mode(0o700)).tempdir().unwrap()
}

/// The folder of the mesh, made as a source makes it.
fn mesh_folder(base: &Path) -> PathBuf {
    let folder = base.join("abababababababab");
    DirBuilder::new().mode(0o700).recursive(true).create(&folder).unwrap();
    folder
}

fn sockets(base: &Path) -> usize {
    fs::read_dir(mesh_folder(base)).unwrap().count()
}

#[tokio::test]
async fn two_meet_and_the_end_of_one_is_told() {
    let base = private();
    for (early, late) in [(1, 2), (2, 1)] {
        let (early, late) = (advert(early), advert(late));
        let mut first = Running::start(base.path(), early.clone());
        assert_eq!(first.fact().await, Found::FirstPass);
        let mut second = Running::start(base.path(), late.clone());
        assert_eq!(second.fact().await, seen(&early));
        assert_eq!(second.fact().await, Found::FirstPass);
        assert_eq!(first.fact().await, seen(&late));
        second.stop().await;
        assert_eq!(first.fact().await, gone(&late));
        first.stop().await;
        assert_eq!(sockets(base.path()), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_of_many_that_start_at_once_meet_each_other_once() {
    const NODES: u8 = 25;
    let base = private();
    let mut all: Vec<_> = (0..NODES).map(|node| Running::start(base.path(), advert(node))).collect();
    for (own, running) in (0..NODES).zip(&mut all) {
        let mut missing: Vec<_> = (0..NODES).filter(|node| *node != own).map(|node| seen(&advert(node))).collect();
        let mut first_pass = false;
        while !(missing.is_empty() && first_pass) {
            match running.fact().await {
                Found::FirstPass => first_pass = true,
                fact => {
                    let place = missing.iter().position(|expected| *expected == fact).expect("told once");
                    missing.swap_remove(place);
                }
            }
        }
    }
    assert_eq!(sockets(base.path()), usize::from(NODES));
    all.pop().unwrap().stop().await;
    for running in &mut all {
        assert_eq!(running.fact().await, gone(&advert(NODES - 1)));
    }
}

/// Not a test of its own: the other process of the next one.
#[tokio::test]
async fn other_process() {
    if let Some(folder) = std::env::var_os(FOLDER) {
        let mut running = Running::start(Path::new(&folder), advert(9));
        loop {
            running.fact().await;
        }
    }
}

#[tokio::test]
async fn a_killed_process_is_gone_and_its_socket_removed() {
    let base = private();
    let mut here = Running::start(base.path(), advert(1));
    assert_eq!(here.fact().await, Found::FirstPass);
    let mut other = tokio::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "discovery::local::tests::other_process"])
        .env(FOLDER, base.path())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    assert_eq!(here.fact().await, seen(&advert(9)));
    other.kill().await.unwrap();
    assert_eq!(here.fact().await, gone(&advert(9)));
    assert_eq!(sockets(base.path()), 1);
}

#[tokio::test]
async fn a_stale_socket_is_removed_and_other_files_are_not() {
    let base = private();
    let folder = mesh_folder(base.path());
    drop(std::os::unix::net::UnixListener::bind(folder.join("stale-1.sock")).unwrap());
    fs::write(folder.join("file.sock"), "").unwrap();
    let mut running = Running::start(base.path(), advert(1));
    assert_eq!(running.fact().await, Found::FirstPass);
    assert!(!folder.join("stale-1.sock").exists());
    assert!(folder.join("file.sock").exists());
}

#[tokio::test]
async fn another_mesh_is_not_seen() {
    let base = private();
    let other = Advert { mesh_tag: [0xcd; 8], ..advert(2) };
    let mut first = Running::start(base.path(), advert(1));
    assert_eq!(first.fact().await, Found::FirstPass);
    let mut second = Running::start(base.path(), other.clone());
    assert_eq!(second.fact().await, Found::FirstPass);
    // Nor does it get in by saying so.
    let socket = Folder::open(Some(base.path()), [0xab; 8]).unwrap().socket_of(advert(1).node, advert(1).incarnation);
    let mut stranger = UnixStream::connect(&socket).await.unwrap();
    stranger.write_all(&advert::encode(&other)).await.unwrap();
    let mut rest = Vec::new();
    stranger.read_to_end(&mut rest).await.unwrap();
    let mut friend = UnixStream::connect(&socket).await.unwrap();
    friend.write_all(&advert::encode(&advert(3))).await.unwrap();
    assert_eq!(first.fact().await, seen(&advert(3)));
    assert!(second.found.try_recv().is_err());
}

#[tokio::test]
async fn hostile_and_silent_processes_are_cut_off() {
    let base = private();
    let folder = mesh_folder(base.path());
    let silent = UnixListener::bind(folder.join("silent-1.sock")).unwrap();
    let mut running = Running::start(base.path(), advert(1));
    let socket = Folder::open(Some(base.path()), [0xab; 8]).unwrap().socket_of(advert(1).node, advert(1).incarnation);
    let (mut called, _) = silent.accept().await.unwrap();
    assert_eq!(running.fact().await, Found::FirstPass, "one that is silent holds nobody up for ever");
    called.read_to_end(&mut Vec::new()).await.unwrap();

    let nested = [&1000_u16.to_be_bytes()[..], &[0x91; 1000]].concat();
    let length = [0xff; 2].to_vec();
    let nonsense = [&4_u16.to_be_bytes()[..], b"what"].concat();
    for hostile in [nested, length, nonsense, Vec::new()] {
        let mut stream = UnixStream::connect(&socket).await.unwrap();
        stream.write_all(&hostile).await.unwrap();
        let mut rest = Vec::new();
        // Bytes that it has not read make a reset of the close.
        let _ = stream.read_to_end(&mut rest).await;
        assert_eq!(rest, advert::encode(&advert(1)));
    }
    assert!(silent.local_addr().unwrap().as_pathname().unwrap().exists(), "a live socket stays");
}

#[tokio::test]
async fn a_live_peer_whose_connection_ends_is_not_gone() {
    let base = private();
    let peer = advert(2);
    let path = Folder::open(Some(base.path()), peer.mesh_tag).unwrap().socket_of(peer.node, peer.incarnation);
    let listener = UnixListener::bind(&path).unwrap();
    let mut running = Running::start(base.path(), advert(1));
    let text = advert::encode(&peer);
    let mut held = listener.accept().await.unwrap().0;
    held.write_all(&text).await.unwrap();
    assert_eq!(running.fact().await, seen(&peer));
    assert_eq!(running.fact().await, Found::FirstPass);
    drop(held);
    let mut again = listener.accept().await.unwrap().0;
    again.write_all(&text).await.unwrap();
    again.read_exact(&mut vec![0; advert::encode(&advert(1)).len()]).await.unwrap();
    assert!(running.found.try_recv().is_err());
    drop(listener);
    drop(again);
    assert_eq!(running.fact().await, gone(&peer));
}

#[tokio::test]
async fn a_folder_that_is_not_the_users_alone_is_refused() {
    let base = private();
    let place = |name: &str| base.path().join(name);
    DirBuilder::new().create(place("open")).unwrap();
    fs::set_permissions(place("open"), Permissions::from_mode(0o755)).unwrap();
    fs::write(place("file"), "").unwrap();
    mesh_folder(&place("target"));
    symlink(place("target"), place("link")).unwrap();
    DirBuilder::new().mode(0o700).create(place("inner")).unwrap();
    symlink(place("target"), place("inner").join("abababababababab")).unwrap();
    let long = "long".repeat(30);
    for (name, remedy) in [
        ("open", "chmod 700"),
        ("file", "is not a folder; remove it"),
        ("link", "is not a folder; remove it"),
        ("inner", "is not a folder; remove it"),
        ("missing/below", "make its parent folder writable"),
        (&long, "name another folder (XDG_RUNTIME_DIR"),
    ] {
        let mut running = Running::start(&place(name), advert(1));
        let report = running.report().await;
        assert!(report.contains(remedy), "{name}: {report}");
        assert_eq!(running.next().await, Found::FirstPass);
        assert!(running.found.recv().await.is_none(), "the source has ended");
    }
    // Only root can make a folder another user's, and to anybody else root is another user.
    let (others, owner) = if rustix::process::geteuid().is_root() { (place("others"), 1) } else { ("/".into(), 0) };
    if owner != 0 {
        fs::create_dir(&others).unwrap();
        std::os::unix::fs::chown(&others, Some(owner), None).unwrap();
    }
    assert!(Running::start(&others, advert(1)).report().await.contains(&format!("belongs to user {owner}")));
}

#[tokio::test]
async fn folders_are_made_for_the_user_alone() {
    let base = private();
    let folder = base.path().join("new");
    let mut running = Running::start(&folder, advert(1));
    assert_eq!(running.fact().await, Found::FirstPass);
    for folder in [&folder, &mesh_folder(&folder)] {
        assert_eq!(fs::metadata(folder).unwrap().mode() & 0o777, 0o700);
    }
}

#[test]
fn the_address_is_one_that_reaches_the_peer() {
    for (own, peer, expected) in [
        ("[::]:0", "[::]:0", "127.0.0.1:7001"),
        ("[::]:0", "0.0.0.0:0", "127.0.0.1:7001"),
        ("0.0.0.0:0", "[::]:0", "127.0.0.1:7001"),
        ("[::1]:0", "[::]:0", "[::1]:7001"),
        ("[::]:0", "10.1.2.3:7001", "10.1.2.3:7001"),
        ("[::]:0", "[::1]:7001", "[::1]:7001"),
    ] {
        let of = |bound: &str| Advert { bound: bound.parse().unwrap(), ..advert(1) };
        assert_eq!(advert::address(&of(own), &of(peer)), expected.parse().unwrap(), "{own} to {peer}");
    }
}
