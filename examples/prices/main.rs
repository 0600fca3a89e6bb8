//! A price feed: everybody gets the prices that they want, the last ones at once, and knows how many they have missed.
//!
//! ```sh
//! cargo run --example prices                       # one process: a feed, and four who watch it
//! cargo run --example prices -- watch 'eu.*'       # in as many terminals as you like …
//! cargo run --example prices -- feed               # … and in one more
//! ```

use std::collections::BTreeMap;
use std::time::Duration;

use meshmq::{Node, Publisher, Result, Subscriber};

const MESH: &str = "prices-example";
const MARKETS: [&str; 6] = ["eu.dax", "eu.cac", "eu.ftse", "us.dow", "us.nasdaq", "asia.nikkei"];

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    match arguments.next().as_deref() {
        None => alone().await,
        Some("feed") => {
            feed(&Node::join(MESH).await?, arguments.next().map_or(Ok(300), |rounds| rounds.parse())?).await
        }
        Some("watch") => watch(&Node::join(MESH).await?, arguments.collect()).await,
        Some(other) => Err(format!("{other}: say `feed [ROUNDS]`, `watch PATTERN…`, or nothing").into()),
    }
}

/// Publishes a price of each market, ten times a second.
async fn feed(node: &Node, rounds: u32) -> Result<()> {
    // Whoever comes later gets the last price of each market at once.
    let prices = node.publisher("prices").retain_last(1).await?;
    eprintln!("feed on node {}: {rounds} rounds", node.id().short());
    for round in 0..rounds {
        publish(&prices, round).await?;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // Everybody who is connected has them all.
    prices.flush().await?;
    Ok(())
}

async fn publish(prices: &Publisher, round: u32) -> Result<()> {
    for (number, market) in (0..).zip(MARKETS) {
        let price = 1000 * (number + 1) + (round * 7 + number * 13) % 100;
        prices.publish(market, price.to_string()).await?;
    }
    Ok(())
}

/// Prints what comes, for ever.
async fn watch(node: &Node, patterns: Vec<String>) -> Result<()> {
    let mut builder = node.subscriber("prices");
    for pattern in &patterns {
        builder = builder.topic(pattern);
    }
    // Once this is ready, nothing that is published from now on is missed without a word.
    let prices = builder.await?;
    eprintln!("watching on node {}", node.id().short());
    loop {
        let price = prices.recv().await?;
        if let Some(gap) = price.missed() {
            println!("… {} missed", gap.count);
        }
        println!("{:12} {}", price.topic(), String::from_utf8_lossy(&price));
    }
}

/// A feed and four who watch it, on one node: the same sockets, which meet in memory.
async fn alone() -> Result<()> {
    const ROUNDS: u32 = 200;
    let node = Node::isolated().await?;
    let prices = node.publisher("prices").retain_last(1).bound(50, 1 << 20).await?;
    let all = node.subscriber("prices").await?;
    let eu = node.subscriber("prices").topic("eu.*").await?;
    // Has one message here at a time, and looks at none of them until the feed is over.
    let slow = node.subscriber("prices").prefetch(1).await?;

    let fed = async {
        for round in 0..ROUNDS {
            publish(&prices, round).await?;
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Ok::<(), meshmq::Error>(())
    };
    let everything = (ROUNDS as usize) * MARKETS.len();
    let (_, all, eu) = tokio::try_join!(fed, count(&all, everything), count(&eu, everything / 2))?;
    println!("all    {all}");
    println!("eu.*   {eu}");
    println!("slow   {}", count(&slow, everything).await?);

    let late = node.subscriber("prices").await?;
    let mut last = BTreeMap::new();
    while last.len() < MARKETS.len() {
        let price = late.recv().await?;
        last.insert(price.topic().to_owned(), String::from_utf8_lossy(&price).into_owned());
    }
    println!("late   has the last price of each market at once: {last:?}");
    Ok(())
}

/// Takes prices until these are all, the missed ones counted.
async fn count(prices: &Subscriber, all: usize) -> Result<String> {
    let (mut taken, mut missed) = (0, 0);
    while taken + missed < all {
        let price = prices.recv().await?;
        taken += 1;
        missed += price.missed().map_or(0, |gap| gap.count as usize);
    }
    Ok(format!("{taken:4} prices, {missed:4} missed, {:4} in all", taken + missed))
}
