//! A service that makes pictures smaller: requests with deadlines, shared by whoever answers.
//!
//! ```sh
//! cargo run --example thumbnails                              # one process: two who answer, and one who asks
//! cargo run --example thumbnails -- serve                     # in as many terminals as you like …
//! cargo run --example thumbnails -- ask large.png small.png   # … and in one more
//! ```

use std::collections::BTreeMap;
use std::io::Cursor;
use std::time::Duration;

use meshmq::{Message, Node, RemoteError, Replier, RequestError, Result};

const MESH: &str = "thumbnails-example";

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => alone().await,
        ["serve"] => {
            let node = Node::join(MESH).await?;
            eprintln!("answering on node {}", node.id().short());
            serve(&node.replier("shrink").await?).await
        }
        ["ask", large, small] => ask(large, small).await,
        _ => Err("say `serve`, `ask LARGE.png SMALL.png`, or nothing".into()),
    }
}

/// Four at a time; each answer is the handler's result.
async fn serve(shrink: &Replier) -> Result<()> {
    Ok(shrink.serve(4, |request: Message| async move { shrunk(&request) }).await?)
}

async fn ask(large: &str, small: &str) -> Result<()> {
    let node = Node::join(MESH).await?;
    let shrink = node.requester("shrink").await?;
    // The work can be done twice without harm: should its replier die, another one is asked, in the same two seconds.
    let picture = std::fs::read(large)?;
    let reply = shrink.request(picture).timeout(Duration::from_secs(2)).idempotent().wait_for_replier().await?;
    std::fs::write(small, reply.body())?;
    println!("{small}: {} bytes, from node {}", reply.len(), reply.sender().short());
    Ok(())
}

/// Two who answer and one who asks, on one node: the same sockets, which meet in memory.
async fn alone() -> Result<()> {
    let node = Node::isolated().await?;
    for _ in 0..2 {
        let shrink = node.replier("shrink").await?;
        tokio::spawn(async move { serve(&shrink).await });
    }
    let shrink = node.requester("shrink").await?;
    shrink.wait_for_repliers(2).await?;

    // Any number of requests at a time: each reply goes to whoever has asked.
    let pictures: BTreeMap<u32, Vec<u8>> = (1..=8).map(|size| (size * 40, gradient(size * 40))).collect();
    let shrink = &shrink;
    let asked = pictures.iter().map(|(size, picture)| async move {
        let reply = shrink.request(picture.clone()).await?;
        println!("{size:3} × {size:3}: {:6} bytes are {:6}", picture.len(), reply.len());
        Ok::<(), meshmq::Error>(())
    });
    futures_util::future::try_join_all(asked).await?;

    // What can't be done is an answer, too, with a code for programs and words for people.
    match shrink.request("no picture").await {
        Err(RequestError::Remote { code, message }) => println!("{code}: {message}"),
        other => return Err(format!("a text has no thumbnail: {other:?}").into()),
    }
    // Where nobody answers, that is said at once.
    match node.requester("enlarge").await?.request("anything").await {
        Err(RequestError::NoReplier) => println!("nobody enlarges pictures here"),
        other => return Err(format!("there is nobody: {other:?}").into()),
    }
    Ok(())
}

/// Half as wide and half as high: of each four points one.
fn shrunk(picture: &[u8]) -> std::result::Result<Vec<u8>, RemoteError> {
    let refuse = |error: png::DecodingError| RemoteError::new("no_png", error.to_string());
    let mut reader = png::Decoder::new(Cursor::new(picture)).read_info().map_err(refuse)?;
    let info = reader.info();
    let (width, height, color, depth) = (info.width, info.height, info.color_type, info.bit_depth);
    let points = info.bytes_per_pixel();
    if depth != png::BitDepth::Eight || width < 2 || height < 2 {
        return Err(RemoteError::new("not_supported", "only pictures of 8 bits a channel, of 2 × 2 points and more"));
    }
    let size =
        reader.output_buffer_size().ok_or_else(|| RemoteError::new("too_large", "it does not fit into memory"))?;
    let mut pixels = vec![0; size];
    reader.next_frame(&mut pixels).map_err(refuse)?;
    let line = width as usize * points;
    let small: Vec<u8> = pixels
        .chunks_exact(line)
        .step_by(2)
        .take(height as usize / 2)
        .flat_map(|line| line.chunks_exact(points).step_by(2).take(width as usize / 2).flatten().copied())
        .collect();
    encoded(width / 2, height / 2, color, &small).map_err(|error| RemoteError::new("error", error.to_string()))
}

fn gradient(size: u32) -> Vec<u8> {
    let point = |n| (n * 255 / size) as u8;
    let pixels: Vec<u8> = (0..size).flat_map(|y| (0..size).flat_map(move |x| [point(x), point(y), 128])).collect();
    encoded(size, size, png::ColorType::Rgb, &pixels).expect("memory takes it")
}

fn encoded(
    width: u32,
    height: u32,
    color: png::ColorType,
    pixels: &[u8],
) -> std::result::Result<Vec<u8>, png::EncodingError> {
    let mut out = Vec::new();
    let mut png = png::Encoder::new(&mut out, width, height);
    png.set_color(color);
    let mut writer = png.write_header()?;
    writer.write_image_data(pixels)?;
    writer.finish()?;
    Ok(out)
}
