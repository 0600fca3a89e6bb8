//! Holds the documents against the repository: their links lead somewhere, `docs/defaults.md` tells each constant of
//! `src/wire/limits.rs` with its value, and whatever can be awaited says what is lost when it is dropped.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

const PAGE: &str = include_str!("../docs/defaults.md");
const CANCELLED: &str = include_str!("../docs/cancel-safety.md");
const SOURCE: &str = include_str!("../src/wire/limits.rs");

#[test]
fn every_link_leads_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut broken = Vec::new();
    for page in files(root, "md") {
        let text = fs::read_to_string(&page).expect("a readable page");
        let folder = page.parent().expect("a page is in a folder");
        for link in links(&text).filter(|link| !link.contains("://")) {
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { page.clone() } else { folder.join(file) };
            let found = match heading {
                "" => target.exists(),
                _ => fs::read_to_string(&target).is_ok_and(|text| anchors(&text).any(|anchor| anchor == heading)),
            };
            if !found {
                broken.push(format!("{}: {link}", page.strip_prefix(root).unwrap_or(&page).display()));
            }
        }
    }
    assert!(broken.is_empty(), "{} broken links:\n{}", broken.len(), broken.join("\n"));
}

#[test]
fn links_and_anchors_are_read() {
    let text =
        "# One `two`: three\n[a](b.md) and [c d](e/f.md#one-two-three), `[no](code)`\n```\n[no](block)\n```\n[x](#y)";
    assert_eq!(links(text).collect::<Vec<_>>(), ["b.md", "e/f.md#one-two-three", "#y"]);
    assert_eq!(anchors(text).collect::<Vec<_>>(), ["one-two-three"]);
}

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

#[test]
fn whatever_can_be_awaited_says_what_is_lost_when_it_is_dropped() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    // A view of the others, in which nothing is awaited.
    let files = files(&root.join("src"), "rs").into_iter().filter(|file| !file.starts_with(root.join("src/blocking")));
    let source: String = files.map(|file| fs::read_to_string(file).expect("a readable source")).collect();
    let found = awaitable(&source);
    let silent: Vec<_> = found.iter().filter(|(_, says)| !**says).map(|(name, _)| name).collect();
    assert!(silent.is_empty(), "without a section `# Cancel safety`: {silent:?}");

    let rows = CANCELLED.lines().filter(|line| line.starts_with("| `"));
    let told = rows.flat_map(|row| row.split('|').nth(1).unwrap_or("").split('`').skip(1).step_by(2));
    let told: BTreeSet<_> = told.map(str::to_owned).collect();
    let there: BTreeSet<_> = found.into_keys().collect();
    assert_eq!(there, told, "what the source has, and what docs/cancel-safety.md tells");
}

#[test]
fn what_can_be_awaited_is_found() {
    let source = "
pub struct Wait<'a>(&'a ());

impl Future for Wait<'_> {}

/// One.
///
/// # Cancel safety
/// Fine.
#[derive(Debug)]
pub struct Messages(u8);

impl<T> Stream for Messages<T> {}

pub struct Other;

impl<'a, T: Fn() -> Wait<'a>> Socket<T> {
    /// Two.
    ///
    /// # Cancel safety
    /// Fine.
    #[inline]
    pub async fn two<U>(&self) {}

    /// Three.
    pub fn three(
        &self,
        long: usize,
    ) -> Wait<'_> {
        todo!()
    }

    pub(crate) async fn four(&self) {}

    pub fn five(&self) -> usize {
        5
    }
}

#[cfg(test)]
mod tests {
    pub async fn six() {}
}
";
    let found = awaitable(source);
    let found: Vec<_> = found.iter().map(|(name, says)| (&name[..], *says)).collect();
    assert_eq!(found, [("Messages", true), ("Socket::three", false), ("Socket::two", true)]);
}

/// What is public in a source and can be awaited, and whether its documentation has the section: async functions, those
/// that give a future, and types that are streams, sinks or become a future.
fn awaitable(source: &str) -> BTreeMap<String, bool> {
    let implementing = |kinds: &[&str]| -> BTreeSet<String> {
        let heads = source.lines().filter(|line| line.starts_with("impl"));
        let parts = heads.filter_map(|line| Some(kinds.iter().find_map(|kind| line.split_once(kind))?.1));
        parts.map(|rest| word(rest).to_owned()).collect()
    };
    let futures = implementing(&[" Future for "]);
    let others = implementing(&[
        " IntoFuture for ",
        " Stream for ",
        " Sink<NewMessage> for ",
        " Sink<T> for ",
        " Sink<(T, M)> for ",
        " Sink<(K, T)> for ",
    ]);

    let lines: Vec<_> = source.lines().collect();
    let (mut found, mut owner) = (BTreeMap::new(), "");
    for (at, line) in lines.iter().enumerate() {
        let item = line.trim_start();
        let says = || {
            let above = lines[..at].iter().rev().map(|line| line.trim_start());
            above.take_while(|line| line.starts_with("///") || line.starts_with("#[")).any(|line| line == SECTION)
        };
        if let Some(rest) = line.strip_prefix("impl") {
            // `impl<…> Trait for Type` and `impl<…> Type`.
            let rest = behind_generics(rest).trim_start();
            owner = word(rest.split_once(" for ").map_or(rest, |(_, of)| of));
        } else if line.starts_with("mod ") {
            owner = "";
        } else if let Some(name) = item.strip_prefix("pub struct ").map(word) {
            if others.contains(name) {
                found.insert(name.to_owned(), says());
            }
        } else if let Some(name) = item.strip_prefix("pub async fn ").map(word) {
            if !owner.is_empty() {
                found.insert(format!("{owner}::{name}"), says());
            }
        } else if let Some(name) = item.strip_prefix("pub fn ").map(word) {
            let rest = lines[at..].join(" ");
            let head = rest.split('{').next().unwrap_or("");
            if head.split_once(") -> ").is_some_and(|(_, gives)| futures.contains(word(gives))) {
                found.insert(format!("{owner}::{name}"), says());
            }
        }
    }
    found
}

/// What follows the `<…>` at the beginning of a text, if there is one.
fn behind_generics(text: &str) -> &str {
    let mut depth = 0;
    for (at, c) in text.char_indices() {
        match c {
            '<' => depth += 1,
            // The arrow of a function is none of them.
            '>' if !text[..at].ends_with('-') => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return if at == 0 { text } else { &text[at + 1..] };
        }
    }
    text
}

const SECTION: &str = "/// # Cancel safety";

/// The word at the beginning of a text.
fn word(text: &str) -> &str {
    text.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or("")
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

/// All files of a kind in a folder, without what is built.
fn files(folder: &Path, kind: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a readable folder") {
        let path = entry.expect("a readable entry").path();
        let name = path.file_name().expect("an entry has a name").to_string_lossy();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            found.extend(files(&path, kind));
        } else if path.extension().is_some_and(|extension| extension == kind) {
            found.push(path);
        }
    }
    found
}

/// Where the links of a page lead; code has none.
fn links(text: &str) -> impl Iterator<Item = &str> {
    prose(text).flat_map(|line| {
        let outside_code = line.split('`').step_by(2);
        outside_code.flat_map(|part| part.split("](").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0)))
    })
}

/// The anchors of a page's headings.
fn anchors(text: &str) -> impl Iterator<Item = String> {
    prose(text).filter(|line| line.starts_with('#')).map(|line| {
        let heading = line.trim_start_matches('#').trim().to_lowercase();
        heading.replace(' ', "-").chars().filter(|c| c.is_alphanumeric() || "-_".contains(*c)).collect()
    })
}

/// The lines outside of code blocks.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut code = false;
    text.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        code ^= fence;
        !code && !fence
    })
}
