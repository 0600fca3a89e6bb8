//! A node by itself: where it runs, how long it takes to settle, and what it logs.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::fs;
use std::future::IntoFuture;
use std::io::Write;
use std::net::UdpSocket;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use data_encoding::{BASE64_NOPAD, BASE64URL_NOPAD, HEXLOWER, HEXUPPER, Specification};
use futures_util::FutureExt;
use meshmq::{Builder, JoinError, MeshKey};
use support::{PATIENCE, Place, Role, run, until};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::format::FmtSpan;

fn here(place: &Place) -> Builder {
    place.builder().without_local().listen("127.0.0.1:0".parse().unwrap())
}

/// Two nodes on the runtime that this is called on, and a message each way.
async fn round_trip() {
    let place = Place::new();
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    let one = here(&place).on_current_runtime().await.unwrap();
    assert!(tasks() > before, "the node's tasks are on this runtime");
    let two = here(&place).peer(&one.local_addr().to_string()).on_current_runtime().await.unwrap();
    for (from, to) in [(&one, &two), (&two, &one)] {
        let (push, pull) = (from.push("jobs").await.unwrap(), to.pull("jobs").await.unwrap());
        let (sent, ()) = tokio::join!(push.send("hello").handled(), async {
            let job = pull.recv().await.unwrap();
            assert_eq!((job.sender(), &**job), (from.id(), &b"hello"[..]));
            job.ack();
        });
        sent.unwrap();
    }
    assert_eq!([&one, &two].map(|node| node.metrics().links), [1, 1]);
    for node in [one, two] {
        assert!(node.shutdown(Duration::from_secs(1)).await.is_empty());
    }
    until("no task is left", || tasks() == before).await;
}

#[test]
fn it_can_run_on_the_runtime_of_its_caller() {
    run(round_trip());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    // A task of the runtime, as most of an application is: `block_on` itself is none.
    let task = runtime.spawn(async { tokio::time::timeout(PATIENCE, round_trip()).await });
    runtime.block_on(task).unwrap().expect("the test takes too long");
}

#[test]
fn without_a_runtime_it_says_so() {
    let joined = here(&Place::new()).on_current_runtime().into_future().now_or_never();
    let error = joined.expect("there is nothing to wait for").unwrap_err();
    assert!(matches!(error, JoinError::NoRuntime), "{error:?}");
    assert!(error.to_string().contains("leave out on_current_runtime()"), "the remedy is named: {error}");
}

#[test]
fn it_is_settled_after_its_limit_though_somebody_does_not_answer() {
    run(async {
        let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
        let began = Instant::now();
        let node = here(&Place::new()).peer(&silent.local_addr().unwrap().to_string()).await.unwrap();
        node.settled().await;
        let took = began.elapsed();
        println!("a node with a silent peer was settled after {took:?}");
        // Until then it waits; 1.5 s are promised, and other tests keep the machine busy meanwhile.
        assert!((Duration::from_millis(1500)..Duration::from_millis(2500)).contains(&took), "{took:?}");
        node.settled().await;
        assert_eq!(node.peers().len(), 0);
    });
}

/// A role: writes down all that anybody logs, while two nodes meet and work and a third one is refused. Argument: the
/// folder for their identities and the log.
#[test]
fn logger() {
    let Some(role) = Role::of("logger") else { return };
    let log = Log::default();
    tracing_subscriber::fmt()
        .with_max_level(LevelFilter::TRACE)
        .with_span_events(FmtSpan::FULL)
        .with_ansi(false)
        .with_writer(log.clone())
        .init();
    run(async {
        let builder = |name: &str| {
            let identity = format!("{}/{name}", role.args[0]);
            role.builder().without_local().identity_file(identity).listen("127.0.0.1:0".parse().unwrap())
        };
        let one = builder("one").await.unwrap();
        let address = one.local_addr().to_string();
        let two = builder("two").peer(&address).await.unwrap();
        let (push, pull) = (one.push("jobs").await.unwrap(), two.pull("jobs").await.unwrap());
        let (sent, ()) = tokio::join!(push.send("hello").handled(), async { pull.recv().await.unwrap().ack() });
        sent.unwrap();
        let stranger = builder("stranger").key(MeshKey::generate().unwrap()).peer(&address).await.unwrap();
        until("the stranger is refused", || one.metrics().refused > 0).await;
        for node in [stranger, two, one] {
            drop(node.shutdown(Duration::from_secs(1)).await);
        }
    });
    fs::write(format!("{}/log", role.args[0]), &*log.0.lock().unwrap()).unwrap();
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl tracing_subscriber::fmt::MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

/// Its text, and the ways in which its bytes get into a log.
fn forms(secret: &str) -> Vec<String> {
    let mut base32 = Specification::new();
    base32.symbols.push_str("abcdefghijklmnopqrstuvwxyz234567");
    let bytes = base32.encoding().unwrap().decode(secret.as_bytes()).unwrap();
    let bytes = &bytes[..32];
    let (decimal, hex) = (format!("{bytes:?}"), format!("{bytes:02x?}"));
    let mut forms = vec![secret.to_owned(), bytes.escape_ascii().to_string()];
    forms.extend([decimal, hex].map(|list| list.trim_matches(['[', ']']).to_owned()));
    forms.extend([HEXLOWER, HEXUPPER, BASE64_NOPAD, BASE64URL_NOPAD].map(|form| form.encode(bytes)));
    forms
}

#[test]
fn it_logs_no_key() {
    let (place, folder) = (Place::new(), tempfile::tempdir().unwrap());
    assert!(place.start("logger", &[&folder.path().display()]).wait().success());
    let written = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
    let log = written("log");
    for word in ["meshmq::node", "quinn", "TRACE", "link open"] {
        assert!(log.contains(word), "all was logged, and so was {word}: {log}");
    }
    let key = place.key.reveal();
    let identities = ["one", "two", "stranger"].map(written);
    let identities = identities.iter().map(|text| ("an identity", text.trim()));
    for (what, secret) in identities.chain([("the key", &key["meshkey1".len()..])]) {
        for form in forms(secret) {
            assert!(!log.contains(&form), "{what} is in the log, as {form}");
        }
    }
}
