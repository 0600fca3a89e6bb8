//! Looking for what comes next instead of sleeping, for a moment, where requests and replies follow each other fast.
//!
//! To wake a thread whose core has gone to sleep costs more than all that a node does for a request and its reply, and a
//! round trip does that six times. A node's own thread that looks again instead, for as long as the next word of the
//! dialogue takes as a rule, saves it, and its core stays awake for the others. Locks that spin before they sleep do the
//! same, and the halt polling of KVM, which learns as [`Patience`] does whether it is worth it.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// What the carriers of lanes tell the thread that looks. By default there is none.
#[derive(Debug, Clone, Default)]
pub(crate) struct BusyPoll(Option<Arc<Dialogues>>);

/// All of it is touched by the node's thread alone.
#[derive(Debug, Default)]
struct Dialogues {
    /// Words that were spoken, in either direction.
    words: AtomicU64,
    look: Notify,
    patience: Mutex<Patience>,
}

impl BusyPoll {
    /// For a thread that has nothing else to do. A single core it would keep from the application.
    pub(super) fn where_there_are_cores() -> Self {
        let cores = thread::available_parallelism().map_or(1, |cores| cores.get());
        Self((cores > 1).then(Arc::default))
    }

    /// Something came in over a lane whose other side waits for what follows, or goes out over it.
    pub(crate) fn word(&self, now: Instant) {
        let Some(dialogues) = &self.0 else { return };
        dialogues.words.fetch_add(1, Relaxed);
        if dialogues.patience().is_worth_it(now) {
            dialogues.look.notify_one();
        }
    }

    /// Keeps the thread that it runs on awake where that is worth it. Ends only where there is nothing to do.
    pub(super) async fn run(self) {
        let Some(dialogues) = self.0 else { return };
        loop {
            dialogues.look.notified().await;
            let spoken = dialogues.hear_more().await;
            dialogues.patience().learn(spoken);
        }
    }
}

impl Dialogues {
    /// Whether there is a further word before the time is up, and before somebody else needs the core.
    async fn hear_more(&self) -> bool {
        let words = self.words.load(Relaxed);
        let begun = Instant::now();
        let mut now = begun;
        while now - begun < LONGEST {
            thread::yield_now();
            let back = Instant::now();
            if back - now > CROWDED {
                return false;
            }
            // All tasks that are ready run, and the runtime looks at its sockets.
            tokio::task::yield_now().await;
            if self.words.load(Relaxed) != words {
                return true;
            }
            now = Instant::now();
        }
        false
    }

    fn patience(&self) -> MutexGuard<'_, Patience> {
        self.patience.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Is it worth looking? Only in a dialogue that goes fast, and less and less often where nothing came in time: where a handler
/// takes longer, it looks in vain after one word in [`RAREST`].
#[derive(Debug, Default)]
struct Patience {
    last: Option<Instant>,
    /// After the last look in vain, as many words are left out.
    leave_out: u32,
    left_out: u32,
}

impl Patience {
    fn is_worth_it(&mut self, now: Instant) -> bool {
        let last = self.last.replace(now);
        if last.is_none_or(|last| now.saturating_duration_since(last) > PAUSE) {
            return false;
        }
        if self.left_out < self.leave_out {
            self.left_out += 1;
            return false;
        }
        true
    }

    fn learn(&mut self, spoken: bool) {
        self.left_out = 0;
        self.leave_out = if spoken { 0 } else { (2 * self.leave_out + 1).min(RAREST) };
    }
}

/// How long it looks. As long as a round trip of which every thread has to be woken on a core that sleeps: with less, a
/// dialogue that begins on such cores would not get faster, and so never be worth it.
const LONGEST: Duration = Duration::from_micros(200);
/// Away for longer, this thread was not alone on its core: whoever looks would keep it from one who works.
const CROWDED: Duration = Duration::from_micros(30);
/// What comes more rarely than this can wait for a wake-up.
const PAUSE: Duration = Duration::from_millis(1);
/// The most words that are left out after looks in vain.
const RAREST: u32 = 255;

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;

    #[test]
    fn only_words_that_follow_each_other_fast_are_worth_it() {
        let mut patience = Patience::default();
        let start = Instant::now();
        for (at, worth) in [(0, false), (1_000, true), (1_500, true), (2_501, false), (2_600, true)] {
            assert_eq!(patience.is_worth_it(start + Duration::from_micros(at)), worth, "at {at} µs");
        }
    }

    #[test]
    fn after_each_look_in_vain_more_words_are_left_out_and_after_a_good_one_none() {
        let mut patience = Patience::default();
        let now = Instant::now();
        patience.is_worth_it(now);
        assert!(patience.is_worth_it(now));
        for words in [2, 4, 8, 16, 32, 64, 128, 256, 256] {
            patience.learn(false);
            let mut until_next = || 1 + (0..1_000).take_while(|_| !patience.is_worth_it(now)).count();
            assert_eq!(until_next(), words);
        }
        patience.learn(true);
        assert!(patience.is_worth_it(now));
    }

    const WORDS: usize = 40;
    const MOST: usize = 30;

    /// The answer takes a moment: a thread that waits for it goes to sleep, unless it looks.
    #[test]
    fn in_a_dialogue_the_thread_stays_awake() {
        let parked = Arc::new(AtomicU64::new(0));
        let count = parked.clone();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .on_thread_park(move || _ = count.fetch_add(1, Relaxed))
            .build()
            .unwrap();
        let (ask, asked) = std::sync::mpsc::channel::<()>();
        let (answer, mut answers) = mpsc::channel(1);
        let application = thread::spawn(move || {
            while asked.recv().is_ok() {
                let begun = Instant::now();
                while begun.elapsed() < Duration::from_micros(20) {}
                answer.blocking_send(()).unwrap();
            }
        });
        let busy_poll = BusyPoll(Some(Arc::default()));
        runtime.spawn(busy_poll.clone().run());
        // Beside others it makes way, or is not there when the answer comes: one good round is enough.
        let mut stayed_awake = 0;
        for _ in 0..200 {
            stayed_awake = runtime.block_on(async {
                let mut awake = 0;
                for _ in 0..WORDS {
                    busy_poll.word(Instant::now());
                    let before = parked.load(Relaxed);
                    ask.send(()).unwrap();
                    answers.recv().await.unwrap();
                    busy_poll.word(Instant::now());
                    awake += usize::from(parked.load(Relaxed) == before);
                }
                awake
            });
            if stayed_awake > MOST {
                break;
            }
        }
        drop(ask);
        application.join().unwrap();
        assert!(stayed_awake > MOST, "{stayed_awake} of {WORDS}");
    }

    #[tokio::test]
    async fn who_looks_in_vain_gives_up() {
        let dialogues = Dialogues::default();
        assert!(!dialogues.hear_more().await);
    }
}
