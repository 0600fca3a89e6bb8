//! `5.ms()`: durations as one reads them.

use std::time::Duration;

/// Durations as one reads them: `5.ms()`, `2.s()`.
///
/// ```
/// use netsim::Units;
///
/// assert_eq!(2.s(), 2_000.ms());
/// ```
pub trait Units {
    /// So many nanoseconds.
    fn ns(self) -> Duration;
    /// So many microseconds.
    fn us(self) -> Duration;
    /// So many milliseconds.
    fn ms(self) -> Duration;
    /// So many seconds.
    fn s(self) -> Duration;
}

impl Units for u64 {
    fn ns(self) -> Duration {
        Duration::from_nanos(self)
    }

    fn us(self) -> Duration {
        Duration::from_micros(self)
    }

    fn ms(self) -> Duration {
        Duration::from_millis(self)
    }

    fn s(self) -> Duration {
        Duration::from_secs(self)
    }
}
