//! How long messages have waited, without a look at the clock for each of them.
//!
//! Messages are numbered as they are accepted. Now and then it is noted how far the numbers have come; what a number
//! below has waited follows from that. The notes are bounded: when there are too many, they are made more rarely.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// When sequences were accepted, about.
#[derive(Debug)]
pub(crate) struct Ages {
    /// In order of both.
    notes: VecDeque<Note>,
    /// The least time between two notes.
    step: Duration,
    /// Everything below it is noted, or was settled before.
    noted: u64,
}

/// Messages below `end`, and not below the end of the note before, were accepted at about this time.
#[derive(Debug, Clone, Copy)]
struct Note {
    end: u64,
    at: Instant,
}

impl Default for Ages {
    fn default() -> Self {
        Self { notes: VecDeque::new(), step: RESOLUTION, noted: 0 }
    }
}

impl Ages {
    /// Everything below `end` is accepted by now, and everything below `unsettled` is settled. Says when it is to be told
    /// again; `None`: nothing new has come since the last time, so not before something does.
    pub(crate) fn note(&mut self, now: Instant, end: u64, unsettled: u64) -> Option<Instant> {
        while self.notes.front().is_some_and(|note| note.end <= unsettled) {
            self.notes.pop_front();
        }
        if self.notes.is_empty() {
            self.step = RESOLUTION;
        }
        if end == self.noted {
            return None;
        }
        self.noted = end;
        match self.notes.back_mut() {
            Some(last) if now < last.at + self.step => last.end = end,
            _ => self.notes.push_back(Note { end, at: now }),
        }
        while self.notes.len() > NOTES {
            self.thin_out();
        }
        Some(now + self.step)
    }

    /// How long ago this message was accepted.
    pub(crate) fn age(&self, now: Instant, sequence: u64) -> Duration {
        let note = self.notes.partition_point(|note| note.end <= sequence);
        // What is not noted yet has only just come.
        self.notes.get(note).map_or(Duration::ZERO, |note| now.saturating_duration_since(note.at))
    }

    /// A note stands also for those that follow within the new step: rather too old than too young.
    fn thin_out(&mut self) {
        self.step *= 2;
        let mut thinned: VecDeque<Note> = VecDeque::with_capacity(NOTES);
        for note in self.notes.drain(..) {
            match thinned.back_mut() {
                Some(last) if note.at < last.at + self.step => last.end = note.end,
                _ => thinned.push_back(note),
            }
        }
        self.notes = thinned;
    }
}

/// How exactly it is known when a message was accepted.
pub(crate) const RESOLUTION: Duration = Duration::from_millis(250);
/// Most notes of a socket.
const NOTES: usize = 128;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ms(time: u64) -> Duration {
        Duration::from_millis(time)
    }

    #[test]
    fn who_has_nothing_new_is_not_asked_again() {
        let start = Instant::now();
        let mut ages = Ages::default();
        assert_eq!(ages.note(start, 0, 0), None);
        assert_eq!(ages.note(start, 3, 0), Some(start + RESOLUTION));
        assert_eq!(ages.note(start + ms(250), 3, 0), None);
        assert_eq!(ages.age(start + ms(9_000), 0), ms(9_000));
        assert_eq!(ages.age(start + ms(9_000), 3), ms(0), "not noted yet");
        assert_eq!(ages.note(start + ms(9_000), 4, 3), Some(start + ms(9_250)));
        assert_eq!(ages.age(start + ms(9_500), 3), ms(500));
    }

    #[test]
    fn who_is_behind_for_long_keeps_few_notes_and_knows_the_age_of_each_message() {
        let start = Instant::now();
        let mut ages = Ages::default();
        let seconds = 3600;
        for second in 0..seconds {
            ages.note(start + ms(second * 1000), second + 1, 0);
            assert!(ages.notes.len() <= NOTES);
        }
        let now = start + ms(seconds * 1000);
        for sequence in 0..seconds {
            let (real, told) = (ms((seconds - sequence) * 1000), ages.age(now, sequence));
            assert!(told >= real && told <= real + ms(seconds * 1000) / 32, "{sequence}: {told:?} for {real:?}");
        }
    }

    #[test]
    fn each_note_is_exact_while_there_are_few_and_stands_for_two_once_there_are_more() {
        let start = Instant::now();
        let mut ages = Ages::default();
        let step = RESOLUTION.as_millis() as u64;
        let at = |note: u64| start + ms(note * step);
        // It is told when it wants to be, to the millisecond.
        for note in 0..NOTES as u64 {
            assert_eq!(ages.note(at(note), note + 1, 0), Some(at(note + 1)));
        }
        let now = at(1000);
        for sequence in 0..NOTES as u64 {
            assert_eq!(ages.age(now, sequence), now - at(sequence));
        }
        // One more is one too many.
        let last = NOTES as u64;
        assert_eq!(ages.note(at(last), last + 1, 0), Some(at(last + 2)));
        for sequence in 0..=last {
            assert_eq!(ages.age(now, sequence), now - at(sequence / 2 * 2), "{sequence}");
        }
    }

    proptest! {
        /// Messages come and are settled at random; the oldest is never told younger than it is by more than the
        /// resolution, and never older by more than that and a 64th of the time that the socket has been behind.
        #[test]
        fn ages_are_about_right(steps in proptest::collection::vec((1_u64..2_000, 0_u64..20, 0_u64..25), 1..2_000)) {
            let start = Instant::now();
            let (mut ages, mut now, mut accepted, mut unsettled) = (Ages::default(), start, Vec::new(), 0_u64);
            let (mut look, mut behind_since) = (None, start);
            for (time, come, gone) in steps {
                let until = now + ms(time);
                // As the dispatcher does: at its time, or when something comes and it has no time.
                while let Some(at) = look.filter(|at| *at <= until) {
                    look = ages.note(at, accepted.len() as u64, unsettled);
                }
                now = until;
                accepted.extend(std::iter::repeat_n(now, come as usize));
                if look.is_none() && come > 0 {
                    look = ages.note(now, accepted.len() as u64, unsettled);
                }
                unsettled = (unsettled + gone).min(accepted.len() as u64);
                prop_assert!(ages.notes.len() <= NOTES);
                let Some(oldest) = accepted.get(unsettled as usize) else { behind_since = now; continue };
                let (real, told) = (now - *oldest, ages.age(now, unsettled));
                let behind = now - behind_since;
                prop_assert!(told + RESOLUTION.max(behind / 64) >= real, "{told:?} for {real:?}");
                prop_assert!(told <= real + RESOLUTION + behind / 64, "{told:?} for {real:?} after {behind:?}");
            }
        }
    }
}
