//! Figures in few letters.

use std::time::Duration;

use meshmq::NodeId;

use crate::output::grouped;

/// `0.21 ms`, `4.0 ms`, `1.5 s`, `2 m 10 s`, `3 h 5 m`, `12 d 4 h`
pub(crate) fn time(time: Duration) -> String {
    let (millis, seconds) = (time.as_secs_f64() * 1e3, time.as_secs());
    match seconds {
        0 if millis < 1.0 => format!("{millis:.2} ms"),
        0 if millis < 10.0 => format!("{millis:.1} ms"),
        0 => format!("{millis:.0} ms"),
        1..10 => format!("{:.1} s", time.as_secs_f64()),
        10..60 => format!("{seconds} s"),
        60..3_600 => format!("{} m {} s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{} h {} m", seconds / 3_600, seconds / 60 % 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds / 3_600 % 24),
    }
}

/// `0`, `0.4`, `17.5`, `1,250`
pub(crate) fn rate(per_second: f64) -> String {
    match per_second {
        0.0 => "0".into(),
        slow if slow < 99.95 => format!("{slow:.1}"),
        fast => grouped(fast.round() as u64),
    }
}

/// How much of a bound is used: `0 %`, `<1 %`, `37 %`
pub(crate) fn share(used: u64, bound: u64) -> String {
    match used as f64 * 100.0 / bound.max(1) as f64 {
        0.0 => "0 %".into(),
        little if little < 1.0 => "<1 %".into(),
        // Full is what is full.
        much => format!("{:.0} %", much.floor()),
    }
}

/// `thumbs (vy5z4oormk)`; who was given no name is called by its id, and need not be twice.
pub(crate) fn called(name: &str, node: NodeId) -> String {
    let short = node.short();
    if name == short { short } else { format!("{name} ({short})") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_two_figures() {
        for (millis, text) in [
            (0, "0.00 ms"),
            (4, "4.0 ms"),
            (42, "42 ms"),
            (999, "999 ms"),
            (1_500, "1.5 s"),
            (12_900, "12 s"),
            (130_000, "2 m 10 s"),
            (11_100_000, "3 h 5 m"),
            (1_051_200_000, "12 d 4 h"),
        ] {
            assert_eq!(time(Duration::from_millis(millis)), text);
        }
        assert_eq!(time(Duration::from_micros(213)), "0.21 ms");
    }

    #[test]
    fn who_has_no_name_is_called_once() {
        let node = NodeId::from_bytes([7; 32]);
        assert_eq!(called(&node.short(), node), node.short());
        assert_eq!(called("thumbs", node), format!("thumbs ({})", node.short()));
    }

    #[test]
    fn rates_and_shares() {
        for (per_second, text) in [(0.0, "0"), (0.44, "0.4"), (17.45, "17.4"), (99.96, "100"), (1_250.2, "1,250")] {
            assert_eq!(rate(per_second), text);
        }
        for (used, bound, text) in [(0, 10, "0 %"), (1, 1_000, "<1 %"), (999, 1_000, "99 %"), (10, 10, "100 %")] {
            assert_eq!(share(used, bound), text);
        }
    }
}
