//! A Mandelbrot picture, drawn by all machines of a network that have the same mesh key, and written as a PNG file.
//!
//! ```sh
//! cargo run --release --example lan_workers -- worker                 # on as many machines as you like …
//! cargo run --release --example lan_workers -- draw mandelbrot.png    # … and on one of them
//! ```

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufWriter;
use std::path::Path;

use meshmq::{Delivery, Node, NodeId, Result};

use picture::{HEIGHT, TILE_BYTES, TILES, WIDTH, draw};

mod picture;

const MESH: &str = "lan-workers-example";
const USAGE: &str = "say `worker`, `draw FILE.png`, or `alone FILE.png`";

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["worker"] => worker().await,
        ["draw", file] => boss(file.as_ref()).await,
        ["alone", file] => write(file.as_ref(), &(0..TILES).flat_map(draw).collect::<Vec<u8>>()),
        _ => Err(USAGE.into()),
    }
}

/// Draws tiles for whoever asks, for ever.
async fn worker() -> Result<()> {
    let node = Node::join(MESH).await?;
    // One tile in hand and none behind it: another machine may be idle.
    let tiles = node.pull("tiles").prefetch(1).await?;
    let pixels = node.push("pixels").await?;
    eprintln!("worker on node {} is ready", node.id().short());
    while let Ok(job) = tiles.recv().await {
        let Some(tile) = number(&job) else {
            job.reject("a job is the number of a tile");
            continue;
        };
        // First the pixels are in the boss's hands, then the tile counts as drawn: a worker that dies in between leaves
        // a tile that is drawn twice, and not one that is missing.
        let drawn = [&(tile as u32).to_be_bytes()[..], &draw(tile)].concat();
        pixels.send(drawn).handled().await?;
        job.ack();
    }
    Ok(())
}

/// Hands the tiles out, puts the picture together, and says who drew what.
async fn boss(file: &Path) -> Result<()> {
    let node = Node::join(MESH).await?;
    let tiles = node.push("tiles").await?;
    let pixels = node.pull("pixels").await?;
    eprintln!("boss on node {} waits for a worker", node.id().short());
    tiles.wait_for_pullers(1).await?;
    for tile in 0..TILES {
        tiles.send(tile.to_string()).await?;
    }

    let mut picture: Vec<Option<Vec<u8>>> = vec![None; TILES];
    let mut shares: BTreeMap<NodeId, (String, u32)> = BTreeMap::new();
    let mut missing = TILES;
    while missing > 0 {
        let result = pixels.recv().await?;
        let Some((tile, drawn)) = drawn(&result) else {
            result.reject("a result is the number of a tile and its pixels");
            continue;
        };
        // At least once: a tile may come twice, and its number says so.
        if picture[tile].is_none() {
            picture[tile] = Some(drawn.to_vec());
            missing -= 1;
            let sender = result.sender();
            let place = || node.peers().iter().find(|peer| peer.id == sender).map(|peer| peer.address.ip().to_string());
            let share = shares.entry(sender).or_insert_with(|| (place().unwrap_or_else(|| "gone by now".into()), 0));
            share.1 += 1;
            eprintln!("tile {:3} of {TILES} by {} at {}", tile + 1, sender.short(), share.0);
        }
        result.ack();
    }
    // All pixels are here, but their workers may not have said so yet; and whoever draws a tile a second time waits until
    // its pixels are taken.
    let again = async {
        while let Ok(result) = pixels.recv().await {
            result.ack();
        }
    };
    tokio::select! {
        flushed = tiles.flush() => flushed?,
        () = again => {}
    }

    write(file, &picture.into_iter().flatten().flatten().collect::<Vec<u8>>())?;
    for (worker, (place, count)) in shares {
        println!("{count:3} tiles by {} at {place}", worker.short());
    }
    println!("{} tiles dispatched again; {} is {WIDTH} x {HEIGHT}", tiles.metrics().redelivered, file.display());
    Ok(())
}

fn number(job: &[u8]) -> Option<usize> {
    std::str::from_utf8(job).ok()?.parse().ok().filter(|tile| *tile < TILES)
}

fn drawn(result: &Delivery) -> Option<(usize, &[u8])> {
    let (tile, drawn) = result.split_first_chunk::<4>()?;
    let tile = u32::from_be_bytes(*tile) as usize;
    (tile < TILES && drawn.len() == TILE_BYTES).then_some((tile, drawn))
}

fn write(file: &Path, pixels: &[u8]) -> Result<()> {
    let mut png = png::Encoder::new(BufWriter::new(File::create(file)?), WIDTH as u32, HEIGHT as u32);
    png.set_color(png::ColorType::Rgb);
    let mut writer = png.write_header()?;
    writer.write_image_data(pixels)?;
    writer.finish()?;
    Ok(())
}
