//! The node's figures for a collector that comes and asks: HTTP/1.1, `GET /metrics`, and nothing else.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::hall::Hall;
use crate::observe::prometheus::{About, CONTENT_TYPE, page};

impl Hall {
    /// Serves the figures there until the node ends; says where, as the port may be one that was free.
    pub(super) fn serve_metrics(self: &Arc<Self>, address: SocketAddr) -> io::Result<SocketAddr> {
        if self.over.is_cancelled() {
            return Err(io::Error::new(io::ErrorKind::NotConnected, "the node is closed"));
        }
        let listener = self.env.network.listen(address)?;
        let bound = listener.local_addr()?;
        let hall = self.clone();
        self.env.spawn(async move {
            tokio::select! {
                biased;
                () = hall.over.cancelled() => {}
                () = hall.take_collectors(listener) => {}
            }
        });
        Ok(bound)
    }

    async fn take_collectors(self: &Arc<Self>, listener: TcpListener) {
        let places = Arc::new(Semaphore::new(COLLECTORS));
        loop {
            let Ok((mut stream, _)) = listener.accept().await else {
                // As a rule there are no file descriptors left: a moment later there may be.
                self.env.sleep(AGAIN).await;
                continue;
            };
            // Beyond the limit: closed again.
            let Ok(place) = places.clone().try_acquire_owned() else { continue };
            let hall = self.clone();
            self.env.spawn(async move {
                let _place = place;
                tokio::select! {
                    biased;
                    () = hall.over.cancelled() => {}
                    // Who is slow or gone hears nothing more.
                    _ = hall.env.timeout(CONVERSATION, hall.answer_collector(&mut stream)) => {}
                }
            });
        }
    }

    async fn answer_collector(&self, stream: &mut TcpStream) -> io::Result<()> {
        let mut head = Vec::with_capacity(1024);
        let answer = loop {
            if head.windows(4).any(|end| end == b"\r\n\r\n") {
                break self.answer(&head);
            }
            if head.len() >= HEAD {
                break Answer::plain("431 Request Header Fields Too Large", "at most 8 KiB");
            }
            let room = HEAD - head.len();
            if stream.take(room as u64).read_buf(&mut head).await? == 0 {
                return Ok(());
            }
        };
        stream.write_all(answer.head().as_bytes()).await?;
        if !head.starts_with(b"HEAD ") {
            stream.write_all(answer.body.as_bytes()).await?;
        }
        stream.shutdown().await
    }

    fn answer(&self, head: &[u8]) -> Answer {
        let line = head.split(|byte| *byte == b'\r').next().and_then(|line| std::str::from_utf8(line).ok());
        let mut words = line.unwrap_or_default().split(' ');
        let (Some(method), Some(target), Some(version), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Answer::plain("400 Bad Request", "not HTTP");
        };
        if !version.starts_with("HTTP/1.") {
            return Answer::plain("505 HTTP Version Not Supported", "HTTP/1.1, please");
        }
        if !matches!(method, "GET" | "HEAD") {
            return Answer::plain("405 Method Not Allowed", "only GET");
        }
        if target.split('?').next() != Some("/metrics") {
            return Answer::plain("404 Not Found", "there is only /metrics");
        }
        match self.page() {
            Ok(body) => Answer { status: "200 OK", kind: CONTENT_TYPE, body },
            Err(error) => Answer::plain("500 Internal Server Error", &error.to_string()),
        }
    }

    fn page(&self) -> Result<String, std::fmt::Error> {
        let (sockets, metrics) = self.numbered_metrics();
        let links = self.peer_infos().into_iter().map(|peer| (peer.id, peer.name, peer.round_trip)).collect();
        page(&About { node: self.id, name: &self.name, mesh: &self.mesh, sockets, links }, &metrics)
    }
}

struct Answer {
    status: &'static str,
    kind: &'static str,
    body: String,
}

impl Answer {
    fn plain(status: &'static str, text: &str) -> Self {
        Self { status, kind: "text/plain; charset=utf-8", body: format!("{text}\n") }
    }

    fn head(&self) -> String {
        let Self { status, kind, body } = self;
        let length = body.len();
        format!(
            "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nAllow: GET, HEAD\r\nConnection: close\r\n\r\n"
        )
    }
}

/// Most collectors that are answered at a time.
const COLLECTORS: usize = 16;
/// Longest head of a request, in bytes.
const HEAD: usize = 8 << 10;
/// How long one may take, from its connection to the end of the answer.
const CONVERSATION: Duration = Duration::from_secs(5);
/// After a connection could not be taken.
const AGAIN: Duration = Duration::from_millis(100);
