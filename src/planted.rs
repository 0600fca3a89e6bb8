//! Bugs that are put in on purpose, to see whether our tests find them; each is switched on for one thread alone.
//!
//! A switch is `planted!(Name)`. It is plain `false`, and the compiler leaves nothing of it, unless this is a test of the
//! crate itself or the feature `planted` is on, which is for the tests of netsim and for nothing else.

/// Whether this bug is switched on.
#[cfg(any(test, feature = "planted"))]
macro_rules! planted {
    ($bug:ident) => {
        $crate::planted::is_planted($crate::planted::Bug::$bug)
    };
}

/// Nothing is planted.
#[cfg(not(any(test, feature = "planted")))]
macro_rules! planted {
    ($bug:ident) => {
        false
    };
}

#[cfg(any(test, feature = "planted"))]
pub use switches::{Bug, plant, uproot};

#[cfg(any(test, feature = "planted"))]
pub(crate) use switches::is_planted;

#[cfg(any(test, feature = "planted"))]
mod switches {
    use std::cell::Cell;

    macro_rules! bugs {
        ($($name:ident: $what:literal,)*) => {
            /// A bug that can be planted.
            #[derive(Debug, Clone, Copy, PartialEq, Eq)]
            #[non_exhaustive]
            pub enum Bug {
                $(#[doc = $what] $name,)*
            }

            impl Bug {
                /// All of them.
                pub const ALL: &[Self] = &[$(Self::$name,)*];

                /// What is wrong.
                pub const fn what(self) -> &'static str {
                    match self {
                        $(Self::$name => $what,)*
                    }
                }
            }
        };
    }

    bugs! {
        AckBeforeHandOver: "a batch is acknowledged before all of it was handed out",
        AnswerWakesNobody: "an answer does not wake the lane's writer",
        AttemptNotRaised: "a message goes out again with the attempt it had",
        BeforeAdmitted: "a connection is the link before both have said Admitted",
        BothLinksKept: "the older link stays when another one is admitted",
        BoundForgetsHeaders: "the bound does not count headers",
        CreditFromNowhere: "a new lane begins with credit that nobody gave",
        CreditLeak: "the slots of a closed lane are not free again",
        DelayIgnored: "a nacked message does not wait for its time",
        DispatcherSleeps: "an accepted message does not wake the dispatcher",
        FailureOfTheUnhanded: "a failure is counted for what was never handed out",
        GateOpen: "a message is handed out before its pusher has heard of that",
        GrantStarves: "the same lane gets every slot",
        HalfFrameWhole: "a half-written frame is taken for a whole one when its lane is lost",
        IncarnationIgnored: "the present life of a peer is refused for a link with an earlier one",
        LateFromAnybody: "a late answer counts from a node that was never given the message",
        LivenessBlind: "a silent peer is never given up",
        MissedSettling: "who waits for a message is not told that it was rejected",
        RedeliveredForgotten: "what was handed out goes out again as if for the first time",
        RequeuedAtBack: "what came back waits behind everything else",
        RoomWakesNobody: "room that is free again wakes no sender",
        StaleLinkKept: "a link that the peer knows to be dead is kept",
        WaiveIgnored: "a slot that is handed back stays taken",
        WindowNeverShrinks: "a window does not shrink for a slow worker",
        // Of publishers and subscribers.
        BoundUncounted: "what waits for a subscriber is not held against its bound",
        ConfirmedEarly: "a subscription is confirmed before it is in force",
        DataBeforeConfirmation: "a lane carries what it has before the subscription is confirmed",
        GapMiscounted: "one message too few is told to be missing",
        HoleAtSeam: "what is published while retained messages are looked up is not handed on",
        LatestKeepsOlder: "of a topic the older message stays where the newer one should",
        OverlapAtSeam: "a pattern more brings retained messages that another one has brought",
        ResumeOffByOne: "a lane that goes on begins one message too late",
        TrieForgetsRest: "a final `>` does not stand for a single part",
        // Of requesters and repliers.
        AskedAgainForEver: "a request that is asked again has no deadline any more",
        BusyIsTheEnd: "a request ends where one replier is full, though another one has room",
        CancelLost: "a replier is not told that nobody waits for a request any more",
        DeadlineStays: "a request's deadline does not travel with it",
        EndsTwice: "a request ends once more when an answer comes late",
        LimitIgnored: "a replier takes in more requests than its limit",
        OutcomeWakesNobody: "whoever waits for a reply is not woken when it comes",
        ReplyToAnother: "a reply goes to another request of its lane",
        RequestRoomLost: "the room of a request is not free again when it has ended",
        RunsAgain: "an idempotent request that comes again is handed out again",
        SentIsNotSent: "a request that was sent and lost ends as not sent",
        // These live in the rooms around: only real nodes meet them.
        CarrierTellsNobody: "the end of a lane is not told that its carrier is gone",
        LaneLossUnnoticed: "a pusher keeps what is in flight on a lane that is lost",
        TypesIgnored: "sockets meet whatever types they say",
    }

    thread_local! {
        static PLANTED: Cell<u64> = const { Cell::new(0) };
    }

    /// Switches a bug on, for this thread.
    pub fn plant(bug: Bug) {
        PLANTED.set(PLANTED.get() | 1 << bug as u64);
    }

    /// Switches all bugs off, for this thread.
    pub fn uproot() {
        PLANTED.set(0);
    }

    pub(crate) fn is_planted(bug: Bug) -> bool {
        let planted = PLANTED.get();
        // Never so: it makes a program with a switch carry the mark.
        assert_ne!(planted, u64::MAX, "{MARK}");
        planted >> bug as u64 & 1 == 1
    }

    /// By this a program with switches can be told from one without.
    const MARK: &str = "meshmq is built with planted bugs";
}
