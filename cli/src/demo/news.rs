//! How often words have been found so far: published while the work goes on, and asked for in the end.
//!
//! This process publishes the counts of the most frequent words, one topic each, and keeps the last of each for who comes
//! later. Each worker subscribes to them. In the end this process asks every worker what it has heard: who is there, also
//! the one that was hired late, has to know the last count of every word, and whoever was killed is not asked.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context;
use meshmq::{Message, Node, Publisher, RecvError, Replier, Requester, Subscriber, WhenFull};
use serde::{Deserialize, Serialize};

use super::plan::Plan;
use super::text::Counts;

/// Channel of the counts so far.
const OFTEN: &str = "often";
/// Channel on which workers are asked what they know.
const ASK: &str = "ask";
/// How many words are told of.
const WORDS: usize = 8;
/// The longest that workers may take to answer.
const ANSWER: Duration = Duration::from_secs(5);

/// What the first process tells, and asks.
pub(super) struct Teller {
    publisher: Publisher,
    requester: Requester,
    words: Vec<String>,
    /// How many counts were published.
    pub(super) published: u32,
}

/// How many workers were asked, and how many of them know what they should.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) workers: usize,
    pub(super) right: usize,
    pub(super) words: usize,
    pub(super) published: u32,
}

/// A word and its count, as the body of a message; its topic says which of the most frequent words it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Often {
    word: String,
    count: u64,
}

impl Teller {
    pub(super) async fn open(node: &Node, plan: &Plan) -> anyhow::Result<Self> {
        let words = plan.frequent(WORDS).into_iter().map(str::to_owned).collect();
        // Of each word only the last count is of any use.
        let publisher = node.publisher(OFTEN).retain_last(1).when_full(WhenFull::Latest).await?;
        Ok(Self { publisher, requester: node.requester(ASK).await?, words, published: 0 })
    }

    /// Publishes how often the words have been found by now.
    pub(super) async fn tell(&mut self, found: &Counts) -> anyhow::Result<()> {
        for (word, number) in self.words.iter().zip(1_u32..) {
            let often = Often { word: word.clone(), count: found.get(word).copied().unwrap_or_default() };
            self.publisher.publish(format!("word.{number}"), serde_json::to_vec(&often)?).await?;
            self.published += 1;
        }
        Ok(())
    }

    /// Asks all workers what they have heard of these final counts.
    pub(super) async fn ask(&mut self, found: &Counts, workers: usize) -> anyhow::Result<Asked> {
        self.tell(found).await?;
        self.publisher.flush().await?;
        let should: BTreeMap<_, _> =
            self.words.iter().map(|word| (word.clone(), found.get(word).copied().unwrap_or_default())).collect();
        let mut replies = self.requester.request_all("what have you heard?").timeout(ANSWER).await?;
        let mut right = 0;
        while let Some(reply) = replies.recv().await {
            let heard: BTreeMap<String, u64> = serde_json::from_slice(&reply).context("a reply that cannot be read")?;
            right += usize::from(heard == should);
        }
        Ok(Asked { workers, right, words: self.words.len(), published: self.published })
    }
}

/// What a worker hears, and answers.
pub(super) struct Listener {
    subscriber: Subscriber,
    replier: Replier,
}

impl Listener {
    pub(super) async fn open(node: &Node) -> anyhow::Result<Self> {
        Ok(Self { subscriber: node.subscriber(OFTEN).topic("word.*").await?, replier: node.replier(ASK).await? })
    }

    /// Answers until the node ends.
    pub(super) async fn answer(&self) -> anyhow::Result<()> {
        let mut heard = BTreeMap::new();
        let answer = |_: Message| {
            let known = self.hear(&mut heard).map(|()| serde_json::to_vec(&heard).expect("plain data, into memory"));
            std::future::ready(known.map_err(|error| error.to_string()))
        };
        self.replier.serve(1, answer).await?;
        Ok(())
    }

    /// Takes in what has come.
    fn hear(&self, heard: &mut BTreeMap<String, u64>) -> anyhow::Result<()> {
        loop {
            match self.subscriber.try_recv() {
                Ok(Some(news)) => {
                    let Often { word, count } = serde_json::from_slice(&news)?;
                    heard.insert(word, count);
                }
                Ok(None) | Err(RecvError::Closed) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }
}
