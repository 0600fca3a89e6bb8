//! The books behind a [`Ledger`](super::Ledger): a record for each message, and the rules.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::Violation;
use super::ledger::{Answer, Delivered, End, Name, Summary};

/// What is known of all messages.
pub(super) struct Books<Id> {
    records: BTreeMap<Id, Record>,
    open: usize,
    counts: Summary,
    /// Until when a receiver may not have heard that it was given up.
    untold: BTreeMap<Name, Duration>,
    broken: Option<Violation>,
}

struct Record {
    sender: Name,
    steps: Vec<(Duration, Step)>,
    hands: Vec<Hand>,
    /// Attempts of which the sender was told that they are about to be handed out.
    announced: Vec<u32>,
    /// It may not go out before.
    until: Option<Duration>,
    end: Option<End>,
}

/// A delivery.
struct Hand {
    to: Name,
    at: Duration,
    attempt: u32,
    answer: Option<Answer>,
    /// Its application is gone.
    gone: bool,
}

enum Step {
    Accepted(Name),
    Dispatched(Name, u32),
    Announced(Name, u32),
    Delayed(Duration),
    Delivered(Name, Delivered),
    Answered(Name, u32, Answer),
    Crashed(Name),
    Ended(End),
}

impl<Id: Ord + Clone + fmt::Display> Books<Id> {
    pub(super) fn new() -> Self {
        Self { records: BTreeMap::new(), open: 0, counts: Summary::default(), untold: BTreeMap::new(), broken: None }
    }

    pub(super) fn accepted(&mut self, now: Duration, id: Id, by: Name) {
        if self.records.contains_key(&id) {
            return self.broken(ACCEPTED_ONCE, &id, format!("{by} accepts it again at {}", Time(now)));
        }
        self.open += 1;
        self.counts.accepted += 1;
        let steps = vec![(now, Step::Accepted(by.clone()))];
        let (hands, announced) = (Vec::new(), Vec::new());
        self.records.insert(id, Record { sender: by, steps, hands, announced, until: None, end: None });
    }

    pub(super) fn dispatched(&mut self, now: Duration, id: &Id, to: Name, attempt: u32) {
        let Some(record) = self.known(id, now, || format!("goes out to {to}")) else { return };
        record.steps.push((now, Step::Dispatched(to, attempt)));
        if record.end.is_some() {
            return self.broken(NOTHING_AFTER, id, format!("attempt {attempt} goes out"));
        }
        if record.until.take().is_some_and(|until| now < until) {
            self.broken(NOT_BEFORE, id, format!("attempt {attempt} goes out"));
        }
    }

    pub(super) fn announced(&mut self, now: Duration, id: &Id, to: Name, attempt: u32) {
        let Some(record) = self.known(id, now, || format!("is announced by {to}")) else { return };
        record.steps.push((now, Step::Announced(to, attempt)));
        if !record.announced.contains(&attempt) {
            record.announced.push(attempt);
        }
    }

    pub(super) fn delayed(&mut self, now: Duration, id: &Id, until: Duration) {
        let Some(record) = self.known(id, now, || "is delayed".into()) else { return };
        record.steps.push((now, Step::Delayed(until)));
        record.until = Some(until);
    }

    pub(super) fn given_up(&mut self, receiver: Name, heard: Duration) {
        let until = self.untold.entry(receiver).or_default();
        *until = heard.max(*until);
    }

    pub(super) fn delivered(&mut self, now: Duration, id: &Id, to: Name, how: Delivered) {
        let untold = self.untold.get(&to).copied().unwrap_or_default();
        let Some(record) = self.known(id, now, || format!("is delivered to {to}")) else { return };
        record.steps.push((now, Step::Delivered(to.clone(), how)));
        // That this one was given up may still be on its way, while the next attempt is handed out.
        let first = record.hands.iter().all(|hand| hand.attempt > how.attempt && now < hand.at.max(untold) + UNDER_WAY);
        let once = record.hands.iter().all(|hand| hand.attempt != how.attempt) && how.attempt > 0;
        let mut failed: Vec<u32> = record.announced.clone();
        failed.extend(record.hands.iter().map(|hand| hand.attempt));
        failed.retain(|attempt| *attempt != how.attempt);
        failed.sort_unstable();
        failed.dedup();
        record.hands.push(Hand { to: to.clone(), at: now, attempt: how.attempt, answer: None, gone: false });
        let second = record.hands.len() == 2;
        self.counts.delivered += 1;
        self.counts.duplicated += u64::from(second);
        self.counts.attempts = self.counts.attempts.max(how.attempt);
        if !first && !how.redelivered {
            self.broken(REDELIVERED, id, format!("{to} is handed it as if for the first time"));
        } else if !once {
            self.broken(ATTEMPT, id, format!("{to} is handed attempt {}", how.attempt));
        } else if how.failures as usize > failed.len() {
            let why = format!("{} failures, but {} earlier attempts were handed out", how.failures, failed.len());
            self.broken(FAILURES, id, why);
        }
    }

    pub(super) fn answered(&mut self, now: Duration, id: &Id, by: Name, attempt: u32, answer: Answer) {
        let Some(record) = self.known(id, now, || format!("is answered by {by}")) else { return };
        record.steps.push((now, Step::Answered(by.clone(), attempt, answer)));
        let hand = record.hands.iter_mut().find(|hand| hand.to == by && hand.attempt == attempt && !hand.gone);
        match hand {
            Some(hand) if hand.answer.is_none() => hand.answer = Some(answer),
            _ => self.broken(ONE_ANSWER, id, format!("{by} answers attempt {attempt}")),
        }
        *match answer {
            Answer::Acked => &mut self.counts.acknowledged,
            Answer::Nacked => &mut self.counts.nacked,
            Answer::Rejected => &mut self.counts.refused,
            Answer::Dropped => &mut self.counts.dropped,
        } += 1;
    }

    pub(super) fn settled(&mut self, now: Duration, id: &Id, end: End) {
        let Some(record) = self.known(id, now, || format!("ends: {end}")) else { return };
        record.steps.push((now, Step::Ended(end)));
        if record.end.is_some() {
            return self.broken(ENDS_ONCE, id, format!("it is told again: {end}"));
        }
        record.end = Some(end);
        let broken = match end {
            End::Handled if !record.was(Answer::Acked) => Some((HANDLED, "nobody has acknowledged it".into())),
            End::Rejected if !record.was(Answer::Rejected) => Some((HANDLED, "nobody has rejected it".into())),
            End::Exhausted(failures) if failures as usize > record.may_have_failed() => {
                Some((FAILURES, format!("{failures} failures, but {} attempts", record.may_have_failed())))
            }
            _ => None,
        };
        self.open -= 1;
        *match end {
            End::Handled => &mut self.counts.handled,
            End::Rejected => &mut self.counts.rejected,
            End::Exhausted(_) => &mut self.counts.exhausted,
            End::HandedBack => &mut self.counts.handed_back,
            End::Lost => &mut self.counts.lost,
        } += 1;
        if let Some((rule, what)) = broken {
            self.broken(rule, id, what);
        }
    }

    pub(super) fn flushed(&mut self, now: Duration, by: &Name) {
        let open = self.records.iter().filter(|(_, record)| record.end.is_none() && record.sender == *by);
        let ends = |record: &Record| match (record.was(Answer::Acked), record.was(Answer::Rejected)) {
            (true, _) => Some(End::Handled),
            (_, true) => Some(End::Rejected),
            _ => None,
        };
        for (id, end) in open.map(|(id, record)| (id.clone(), ends(record))).collect::<Vec<_>>() {
            match end {
                Some(end) => self.settled(now, &id, end),
                None => self.broken(FLUSHED, &id, format!("{by} has flushed at {}", Time(now))),
            }
        }
    }

    pub(super) fn crashed(&mut self, now: Duration, who: &Name) {
        let mut lost = Vec::new();
        for (id, record) in &mut self.records {
            let in_hand = record.hands.iter_mut().filter(|hand| hand.to == *who && !hand.gone);
            let in_hand = in_hand.map(|hand| hand.gone = true).count() > 0;
            let own = record.sender == *who && record.end.is_none();
            if in_hand || own {
                record.steps.push((now, Step::Crashed(who.clone())));
            }
            if own {
                lost.push(id.clone());
            }
        }
        for id in lost {
            self.settled(now, &id, End::Lost);
        }
    }

    pub(super) fn open(&self) -> usize {
        self.open
    }

    pub(super) fn end(&self, id: &Id) -> Option<End> {
        self.records.get(id)?.end
    }

    pub(super) fn history(&self, id: &Id) -> Vec<String> {
        let Some(record) = self.records.get(id) else { return Vec::new() };
        record.steps.iter().map(|(time, step)| format!("{} {step}", Time(*time))).collect()
    }

    pub(super) fn summary(&self) -> Summary {
        self.counts
    }

    pub(super) fn check(&self) -> Result<(), Violation> {
        self.broken.clone().map_or(Ok(()), Err)
    }

    pub(super) fn finish(&mut self, now: Duration) -> Result<Summary, Violation> {
        if self.open > 0 && self.broken.is_none() {
            let open = self.records.iter().find(|(_, record)| record.end.is_none());
            if let Some(id) = open.map(|(id, _)| id.clone()) {
                let what = format!("it is open at {}, one of {}", Time(now), self.open);
                self.broken(ENDS, &id, what);
            }
        }
        self.check().map(|()| self.counts)
    }

    fn known(&mut self, id: &Id, now: Duration, what: impl FnOnce() -> String) -> Option<&mut Record> {
        if !self.records.contains_key(id) {
            self.broken(ACCEPTED, id, format!("it {} at {}, and nobody has accepted it", what(), Time(now)));
        }
        self.records.get_mut(id)
    }

    /// The first one is kept: the others may follow from it.
    fn broken(&mut self, rule: &'static str, id: &Id, what: String) {
        if self.broken.is_none() {
            let violation = Violation::new(rule, format!("message {id}: {what}"));
            self.broken = Some(violation.with_history(self.history(id)));
        }
    }
}

impl Record {
    fn was(&self, answer: Answer) -> bool {
        self.hands.iter().any(|hand| hand.answer == Some(answer))
    }

    fn may_have_failed(&self) -> usize {
        let handed = self.hands.iter().filter(|hand| !self.announced.contains(&hand.attempt)).count();
        handed + self.announced.len()
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accepted(by) => write!(f, "{by} accepts it"),
            Self::Dispatched(to, attempt) => write!(f, "goes out to {to}, attempt {attempt}"),
            Self::Announced(to, attempt) => write!(f, "is heard to be handed out by {to}, attempt {attempt}"),
            Self::Delayed(until) => write!(f, "waits until {}", Time(*until)),
            Self::Delivered(to, Delivered { attempt, failures, redelivered }) => {
                write!(f, "{to} is handed it, attempt {attempt}, {failures} failures, redelivered: {redelivered}")
            }
            Self::Answered(by, attempt, answer) => write!(f, "{by} answers attempt {attempt}: {answer:?}"),
            Self::Crashed(who) => write!(f, "{who} crashes"),
            Self::Ended(end) => write!(f, "ends: {end}"),
        }
    }
}

/// A time since the start of the run, in seconds to the microsecond.
pub(super) struct Time(pub(super) Duration);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06}", self.0.as_secs(), self.0.subsec_micros())
    }
}

/// How long it may take until a worker hears that it was given up, whatever the next one is handed meanwhile; where it is
/// known to take longer, so long after that.
const UNDER_WAY: Duration = Duration::from_millis(200);

const ACCEPTED_ONCE: &str = "a message is accepted once";
const ACCEPTED: &str = "only what was accepted is delivered";
const REDELIVERED: &str = "`redelivered` is false only for what no application was handed before";
const ATTEMPT: &str = "an attempt is handed out once";
const FAILURES: &str = "a failure is counted only for what was handed out";
const ONE_ANSWER: &str = "an answer is for a delivery, and each has one";
const HANDLED: &str = "handled is only what an application has acknowledged, rejected only what one has rejected";
const ENDS_ONCE: &str = "a message ends once";
const NOTHING_AFTER: &str = "nothing of a message goes out after its end";
const NOT_BEFORE: &str = "nothing goes out before its time";
const FLUSHED: &str = "a flush is done when everything accepted is settled";
const ENDS: &str = "every accepted message ends in exactly one state";
