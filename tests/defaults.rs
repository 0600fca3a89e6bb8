//! Holds `docs/defaults.md` against `src/wire/limits.rs`: the same constants, with the same values.

use std::collections::BTreeMap;

const PAGE: &str = include_str!("../docs/defaults.md");
const SOURCE: &str = include_str!("../src/wire/limits.rs");

#[test]
fn the_page_tells_each_constant_and_its_value() {
    let mut told: BTreeMap<&str, &str> = BTreeMap::new();
    for row in PAGE.lines().filter(|line| line.starts_with('|')) {
        let cells: Vec<_> = row.trim_matches('|').split('|').map(str::trim).collect();
        let name = cells.last().expect("a row has cells").trim_matches('`');
        if name.contains('_') || name.chars().all(|c| c.is_ascii_uppercase()) && !name.is_empty() {
            told.insert(name, cells[1]);
        }
    }
    for (name, value) in constants(SOURCE) {
        let cell = told.remove(name).unwrap_or_else(|| panic!("the page does not tell {name}"));
        let value = shown(value);
        let stands = cell == value || cell.strip_prefix(&value).is_some_and(|unit| unit.starts_with(' '));
        assert!(stands, "{name}: the page says {cell}, the source {value}");
    }
    assert!(told.is_empty(), "the page tells what is not in the source: {told:?}");
}

#[test]
fn values_are_shown_as_people_write_them() {
    for (value, text) in [
        ("16 << 20", "16 MiB"),
        ("64 << 10", "64 KiB"),
        ("1 << 29", "512 MiB"),
        ("65_536", "65,536"),
        ("1024", "1,024"),
        ("255", "255"),
        ("Duration::from_millis(2500)", "2,500 ms"),
        ("Duration::from_secs(25)", "25 s"),
        ("[ Duration::ZERO, Duration::from_millis(10), Duration::from_secs(1), ]", "0, 10 ms, then 1 s"),
    ] {
        assert_eq!(shown(value), text);
    }
}

/// Name and value of each constant.
fn constants(source: &str) -> impl Iterator<Item = (&str, &str)> {
    source.split("pub(crate) const ").skip(1).map(|rest| {
        let (head, rest) = rest.split_once('=').expect("a constant has a value");
        let (name, _) = head.split_once(':').expect("and a type");
        (name, rest.split_once(';').expect("and an end").0.trim())
    })
}

fn shown(value: &str) -> String {
    if let Some(list) = value.strip_prefix('[') {
        let times: Vec<_> =
            list.trim_end_matches(']').split(',').map(str::trim).filter(|time| !time.is_empty()).map(shown).collect();
        let (last, others) = times.split_last().expect("a list of times");
        return format!("{}, then {last}", others.join(", "));
    }
    if let Some(call) = value.strip_prefix("Duration::") {
        return match call.trim_end_matches(')').split_once('(') {
            None => "0".into(),
            Some(("from_millis", number)) => format!("{} ms", grouped(plain(number))),
            Some(("from_secs", number)) => format!("{} s", grouped(plain(number))),
            Some(_) => panic!("not a time that this test knows: {value}"),
        };
    }
    match value.split_once("<<") {
        None => grouped(plain(value)),
        Some((factor, shift)) => {
            let bytes = plain(factor) << plain(shift);
            if bytes >= 1 << 20 { format!("{} MiB", bytes >> 20) } else { format!("{} KiB", bytes >> 10) }
        }
    }
}

fn plain(number: &str) -> u64 {
    number.trim().replace('_', "").parse().expect("a number")
}

fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<_> = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy).collect();
    groups.join(",")
}
