//! What is to be counted, and how often, so that there are some seconds of work to watch on any machine.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use super::text::{Counts, Texts, add, count, total};

/// About how many pieces there are: few enough to follow, many enough to share.
const PIECES: usize = 240;
/// Smallest piece that a text is cut into, in bytes.
const SMALL: usize = 256;
/// The most text that is read, in bytes.
const MOST: usize = 64 << 20;
/// How much text shows how fast this machine counts, in bytes.
const SAMPLE: usize = 1 << 20;
/// The longest that the count in one process takes.
const ALONE: Duration = Duration::from_secs(2);
/// How long the mesh is to work.
const TOGETHER: Duration = Duration::from_secs(4);

/// The work of one demo.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) texts: Texts,
    /// The text of each piece of one pass.
    pub(super) chunks: Vec<String>,
    /// How often each chunk is pushed, as a piece of its own each time.
    pub(super) passes: u32,
    /// How often a worker counts each piece.
    pub(super) times: u64,
    /// What one process counted, reading each text once.
    pub(super) once: Counts,
}

impl Plan {
    /// Reads the texts below the folder and counts them in this process.
    pub(super) fn make(folder: &Path, workers: usize) -> anyhow::Result<Self> {
        let mut texts = Texts::below(folder, MOST)?;
        let speed = speed(&texts);
        texts.keep((speed * ALONE.as_secs_f64()) as usize);
        let mut once = Counts::new();
        for text in &texts.files {
            count(text, &mut once);
        }
        let chunks = texts.pieces((texts.bytes / PIECES).max(SMALL));
        let passes = PIECES.div_ceil(chunks.len()) as u32;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let wanted = TOGETHER.as_secs_f64() * speed * workers.min(cores) as f64;
        let times = (wanted / (texts.bytes as f64 * f64::from(passes))).round().max(1.0) as u64;
        Ok(Self { texts, chunks, passes, times, once })
    }

    pub(super) fn pieces(&self) -> u32 {
        self.chunks.len() as u32 * self.passes
    }

    /// How often each text is counted in all.
    pub(super) fn rounds(&self) -> u64 {
        u64::from(self.passes) * self.times
    }

    /// Number, from 1, and text of each piece.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &str)> {
        let passes = (0..self.passes).flat_map(|_| &self.chunks);
        (1..).zip(passes.map(String::as_str))
    }

    /// What the mesh should find.
    pub(super) fn expected(&self) -> Counts {
        let mut expected = Counts::new();
        add(&mut expected, &self.once, self.rounds());
        expected
    }

    /// Words that occur most, for people to see that something was counted.
    pub(super) fn frequent(&self, most: usize) -> Vec<&str> {
        let sorted: BTreeMap<_, _> =
            self.once.iter().map(|(word, count)| ((u64::MAX - count, word.as_str()), ())).collect();
        sorted.into_keys().map(|(_, word)| word).take(most).collect()
    }

    pub(super) fn words(&self) -> u64 {
        total(&self.once)
    }
}

/// Bytes a second that this process counts.
fn speed(texts: &Texts) -> f64 {
    let started = Instant::now();
    let (mut bytes, mut counts) = (0, Counts::new());
    for text in &texts.files {
        count(text, &mut counts);
        bytes += text.len();
        if bytes >= SAMPLE {
            break;
        }
    }
    bytes as f64 / started.elapsed().max(Duration::from_micros(1)).as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn little_text_is_counted_often_and_every_piece_is_expected() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a"), "one two two").unwrap();
        let plan = Plan::make(folder.path(), 3).unwrap();
        assert_eq!(plan.pieces(), 240);
        assert!(plan.times > 1);
        let mut counted = Counts::new();
        for (_, text) in plan.iter() {
            let mut once = Counts::new();
            count(text, &mut once);
            add(&mut counted, &once, plan.times);
        }
        assert_eq!(counted, plan.expected());
        assert_eq!(plan.iter().map(|(number, _)| number).collect::<Vec<_>>(), (1..=240).collect::<Vec<_>>());
        assert_eq!(plan.frequent(5), ["two", "one"]);
        assert_eq!(plan.words(), 3);
    }

    #[test]
    fn much_text_is_counted_in_as_many_pieces() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a"), "some words that are repeated ".repeat(10_000)).unwrap();
        let plan = Plan::make(folder.path(), 3).unwrap();
        assert!((200..=480).contains(&plan.pieces()), "{}", plan.pieces());
    }
}
