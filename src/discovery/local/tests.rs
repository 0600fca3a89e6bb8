use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::*;

fn advert(node: u8, tag: u8) -> Advert {
    Advert {
        mesh_tag: [tag; 8],
        node: NodeId::from_bytes([node; 32]),
        incarnation: u64::from(node) + 100,
        port: 1000 + u16::from(node),
        bound: (Ipv4Addr::UNSPECIFIED, 1000 + u16::from(node)).into(),
    }
}

struct Running {
    task: tokio::task::JoinHandle<()>,
    found: mpsc::Receiver<(usize, Found)>,
}

impl Running {
    fn start(folder: &Path, own: Advert) -> Self {
        let (tell, found) = mpsc::channel(256);
        let env = Env::real(tokio::runtime::Handle::current());
        let source = Arc::new(Local::in_folder(folder.to_owned()));
        Self { task: tokio::spawn(source.run(own, env, Finder::new(0, tell))), found }
    }

    async fn next(&mut self, mut wanted: impl FnMut(&Found) -> bool) -> Found {
        let search = async {
            loop {
                let (_, found) = self.found.recv().await.expect("the source runs");
                if wanted(&found) {
                    return found;
                }
            }
        };
        timeout(Duration::from_secs(20), search).await.expect("it is told")
    }

    async fn seen(&mut self, node: u8) {
        let id = NodeId::from_bytes([node; 32]);
        self.next(|found| matches!(found, Found::Seen { node: Some(seen), .. } if *seen == id)).await;
    }

    async fn gone(&mut self, node: u8) {
        let (id, life) = (NodeId::from_bytes([node; 32]), u64::from(node) + 100);
        self.next(|found| *found == Found::Gone { node: id, incarnation: life }).await;
    }
}

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
    folder
}

#[tokio::test]
async fn whoever_starts_first_both_meet_and_notice_the_end() {
    let folder = folder();
    let mut first = Running::start(folder.path(), advert(1, 1));
    first.next(|found| *found == Found::FirstPass).await;
    let mut second = Running::start(folder.path(), advert(2, 1));
    first.seen(2).await;
    second.seen(1).await;
    second.next(|found| *found == Found::FirstPass).await;
    second.task.abort();
    first.gone(2).await;
    let left = fs::read_dir(folder.path().join("0101010101010101")).unwrap().count();
    assert_eq!(left, 1, "an ended source leaves nothing behind");
}

#[tokio::test]
async fn twenty_five_that_start_at_once_all_meet() {
    let folder = folder();
    let mut all: Vec<_> = (1..=25).map(|node| Running::start(folder.path(), advert(node, 1))).collect();
    for (nth, one) in all.iter_mut().enumerate() {
        let mut missing: Vec<u8> = (1..=25).filter(|node| usize::from(*node) != nth + 1).collect();
        while !missing.is_empty() {
            let found = one.next(|found| matches!(found, Found::Seen { .. })).await;
            let Found::Seen { node: Some(node), .. } = found else { continue };
            missing.retain(|other| NodeId::from_bytes([*other; 32]) != node);
        }
    }
}

#[tokio::test]
async fn another_mesh_is_not_seen() {
    let folder = folder();
    let mut ours = Running::start(folder.path(), advert(1, 1));
    let _theirs = Running::start(folder.path(), advert(2, 9));
    let _third = Running::start(folder.path(), advert(3, 1));
    let found = ours.next(|found| matches!(found, Found::Seen { .. })).await;
    assert!(matches!(found, Found::Seen { node: Some(node), .. } if node == NodeId::from_bytes([3; 32])));
}

#[tokio::test]
async fn the_socket_of_a_process_that_is_gone_is_removed() {
    let folder = folder();
    let mesh = folder.path().join("0101010101010101");
    folder::prepare(&mesh).unwrap();
    let stale = mesh.join("stale.sock");
    drop(std::os::unix::net::UnixListener::bind(&stale).unwrap());
    let mut one = Running::start(folder.path(), advert(1, 1));
    one.next(|found| *found == Found::FirstPass).await;
    assert!(!stale.exists());
}

#[tokio::test]
async fn who_says_nonsense_or_nothing_is_left_alone() {
    let folder = folder();
    let mut one = Running::start(folder.path(), advert(1, 1));
    one.next(|found| *found == Found::FirstPass).await;
    let socket = fs::read_dir(folder.path().join("0101010101010101")).unwrap().next().unwrap().unwrap().path();
    let mut connections = Vec::new();
    for (nth, text) in [&b""[..], b"\xff\xff too long", b"\x00\x05", b"\x00\x03abc"].iter().cycle().take(60).enumerate()
    {
        let mut stream = UnixStream::connect(&socket).await.unwrap();
        stream.write_all(text).await.unwrap();
        if nth % 2 == 0 {
            connections.push(stream);
        }
    }
    let mut two = Running::start(folder.path(), advert(2, 1));
    one.seen(2).await;
    two.seen(1).await;
}

#[test]
fn a_folder_that_is_not_ours_alone_is_refused_with_the_way_out() {
    let above = folder();
    let refused = |path: &Path| folder::prepare(path).unwrap_err();
    let open = above.path().join("open");
    fs::create_dir(&open).unwrap();
    fs::set_permissions(&open, fs::Permissions::from_mode(0o755)).unwrap();
    assert!(refused(&open).contains("chmod 700"));
    let file = above.path().join("file");
    fs::write(&file, "").unwrap();
    assert!(refused(&file).contains("not a real folder"));
    let link = above.path().join("link");
    fs::create_dir(above.path().join("target")).unwrap();
    symlink(above.path().join("target"), &link).unwrap();
    assert!(refused(&link).contains("not a real folder"));
    assert!(refused(Path::new("/proc/nowhere")).contains("cannot be made"));
    if rustix::process::geteuid().is_root() {
        let foreign = above.path().join("foreign");
        folder::prepare(&foreign).unwrap();
        std::os::unix::fs::chown(&foreign, Some(12345), None).unwrap();
        assert!(refused(&foreign).contains("belongs to user 12345"));
    } else {
        eprintln!("skipped in part: only root can give a folder to another user");
    }
}

#[tokio::test]
async fn a_path_that_is_too_long_is_said() {
    let folder = folder();
    let long = folder.path().join("x".repeat(100));
    let mut one = Running::start(&long, advert(1, 1));
    let report = one.next(|found| matches!(found, Found::Report(_))).await;
    assert!(matches!(report, Found::Report(text) if text.contains("too long")));
    one.next(|found| *found == Found::FirstPass).await;
}
