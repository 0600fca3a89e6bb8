//! Holds the source against the picture of the house: who may import whom, and which words are said in which room.
//!
//! A room is a folder or a file directly below `src/`. Tests inside it are left out: they may use what they need.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Each room, and what it may import besides itself: a room, or only a part of one (`pattern::lane`).
const PICTURE: &[(&str, &[&str])] = &[
    ("lib", &["*"]),
    ("id", &[]),
    // Its macro is said anywhere.
    ("planted", &[]),
    // Tests of the pure rooms together.
    ("sim", &["id", "message", "pattern", "session", "wire"]),
    ("error", &["id", "wire::limits"]),
    ("message", &["id", "error", "pattern", "wire::headers", "wire::limits"]),
    ("observe", &["id", "message"]),
    ("wire", &["id", "error"]),
    ("sync", &[]),
    ("pattern", &["id", "error", "message", "observe", "sync", "wire"]),
    ("session", &["id", "error", "wire"]),
    // The discovery sources are part of the world that a node is given.
    ("env", &["discovery"]),
    ("trust", &["id", "env", "wire"]),
    ("discovery", &["id", "env", "wire::limits"]),
    ("link", &["id", "env", "wire", "trust", "pattern::lane"]),
    ("node", &["*"]),
    // A view of the public types: it waits where they return a future.
    ("blocking", &["id", "error", "message", "observe", "env", "trust", "node", "socket", "typed"]),
    // A view of the sockets: it turns values into bytes.
    ("typed", &["id", "error", "message", "socket", "wire::limits", "wire::scan"]),
    ("socket", &["id", "error", "message", "observe", "env", "sync", "wire", "pattern", "node"]),
];

/// Words that only some rooms may say, and why.
const WORDS: &[Word] = &[
    Word { word: "tokio", rooms: &["lib", "env", "discovery", "link", "node", "socket", "sync"], why: PURE },
    Word { word: "quinn", rooms: &["env", "link", "trust"], why: "the rooms `env`, `link` and `trust` hide QUIC" },
    Word { word: "quinn_proto", rooms: &["link"], why: "the room `link` hides QUIC" },
    Word { word: "quinn_udp", rooms: &["env"], why: WORLD },
    Word { word: "tokio_util", rooms: &["env", "node"], why: PURE },
    Word { word: "rustls", rooms: &["env", "link", "trust"], why: "the rooms `env`, `link` and `trust` hide TLS" },
    Word { word: "rcgen", rooms: &["trust"], why: "certificates are made in `trust`" },
    Word { word: "mdns_sd", rooms: &["discovery"], why: "what is heard on a network is bounded in `discovery`" },
    Word { word: "if_addrs", rooms: &["discovery", "env"], why: WORLD },
    // `link` turns the world's certificate time into the type that quinn wants.
    Word { word: "SystemTime", rooms: &["env", "link"], why: WORLD },
    Word { word: "SystemTime::now", rooms: &["env"], why: WORLD },
    // Simulated time has to begin somewhere, and there is no other way to make an instant.
    Word { word: "Instant::now", rooms: &["env", "sim"], why: WORLD },
    Word { word: "spawn_blocking", rooms: &["env"], why: WORLD },
    Word { word: "thread::spawn", rooms: &["env"], why: WORLD },
    Word { word: "thread::Builder", rooms: &["env"], why: WORLD },
    Word { word: "thread::scope", rooms: &["env"], why: WORLD },
    Word { word: "thread::park", rooms: &["env"], why: WORLD },
    Word {
        word: "block_on",
        rooms: &["env", "blocking"],
        why: "who waits with a whole thread says so by using `blocking`",
    },
    Word { word: "tokio::spawn", rooms: &["env"], why: WORLD },
    Word { word: "tokio::time", rooms: &["env"], why: WORLD },
];

struct Word {
    word: &'static str,
    rooms: &'static [&'static str],
    why: &'static str,
}

const PURE: &str = "pure rooms are called, they never wait";
const WORLD: &str = "clocks, threads and tasks come in through `Env`";

#[test]
fn every_room_keeps_to_the_picture() {
    let mut offences = Vec::new();
    let mut rooms = BTreeSet::new();
    for path in sources(&root().join("src")) {
        let inside = path.strip_prefix(root().join("src")).expect("found below it").to_owned();
        rooms.insert(room(&inside));
        offences.extend(check(&inside, &fs::read_to_string(&path).expect("a readable source")));
    }
    let drawn: BTreeSet<_> = PICTURE.iter().map(|(room, _)| (*room).to_owned()).collect();
    assert_eq!(rooms, drawn, "the picture shows other rooms than there are");
    assert!(offences.is_empty(), "{} offences:\n{}", offences.len(), offences.join("\n"));
}

#[test]
fn offences_are_seen() {
    let offences = |file: &str, text: &str| check(Path::new(file), text).len();

    assert_eq!(offences("pattern/push.rs", "use crate::wire::frame;\nuse crate::id::NodeId;"), 0);
    assert_eq!(offences("pattern/push.rs", "use crate::node::Hall;"), 1);
    assert_eq!(offences("pattern/push.rs", "use crate::{id::NodeId, link::{Connection, Endpoint}, node};"), 3);
    assert_eq!(offences("pattern/push.rs", "fn f(hall: &crate::node::Hall) {}"), 1);
    assert_eq!(offences("pattern/push.rs", "fn f() -> Result<(), crate::Closed> {}"), 1, "a re-export hides its room");
    assert_eq!(offences("pattern/push.rs", "use super::lane::Violation;"), 0);
    assert_eq!(offences("pattern/push.rs", "use super::super::node::Hall;"), 1);
    assert_eq!(offences("pattern/mod.rs", "use super::node::Hall;"), 1);
    assert_eq!(offences("link/writer.rs", "use crate::pattern::lane::LaneEnd;"), 0);
    assert_eq!(offences("link/writer.rs", "use crate::pattern::push::Flight;"), 1, "only the seam of the room");

    assert_eq!(offences("session/mod.rs", "let now = std::time::Instant::now();"), 1);
    assert_eq!(offences("session/mod.rs", "fn f(now: std::time::Instant) {}"), 0);
    assert_eq!(offences("wire/frame.rs", "use tokio::sync::mpsc;"), 1);
    assert_eq!(offences("wire/frame.rs", "let tokio_like = 1;"), 0);
    assert_eq!(offences("node/mod.rs", "std::thread::spawn(f);"), 1);
    assert_eq!(offences("node/mod.rs", "tokio::select! { biased; x = f => {} }"), 0);
    assert_eq!(offences("node/mod.rs", "tokio::select! { x = f => {} }"), 1);

    let unsaid = r##"
        // use crate::node::Hall;
        /* tokio /* quinn */ rustls */
        const TEXT: &str = "tokio \" quinn";
        const RAW: &str = r#"tokio " quinn"#;
        const QUOTE: char = '"';
        fn borrowed<'a>(text: &'a str) {}
        #[cfg(test)]
        mod tests { use tokio::time; fn f() { let brace = '}'; } }
    "##;
    assert_eq!(offences("pattern/push.rs", unsaid), 0, "comments, texts and tests");
    assert_eq!(offences("pattern/push.rs", &format!("{unsaid} use tokio::sync;")), 1, "what follows them");
}

/// What in this file, whose path is given from `src/`, is not as the picture has it.
fn check(file: &Path, text: &str) -> Vec<String> {
    if file.iter().any(|part| part == "tests" || part == "tests.rs") {
        return Vec::new();
    }
    let here = room(file);
    let code = without_tests(&code_only(text));
    let mut offences = Vec::new();

    let (_, allowed) = PICTURE.iter().find(|(room, _)| *room == here).expect("each room is in the picture");
    for import in imports(&code) {
        let within = |part: &&str| *part == "*" || import == *part || import.starts_with(&format!("{part}::"));
        if !within(&here.as_str()) && !allowed.iter().any(within) {
            offences.push(format!("{}: `{here}` may not import `crate::{import}`", file.display()));
        }
    }
    for place in places(&code, "super") {
        let ups = code[place..].split("::").take_while(|part| *part == "super").count();
        let nested = code[..place].trim_end().ends_with("::");
        if !nested && ups >= depth(file) {
            offences.push(format!("{}: `super` leaves the room, where `crate::` would show it", file.display()));
        }
    }
    for Word { word, rooms, why } in WORDS {
        if !rooms.contains(&here.as_str()) && places(&code, word).next().is_some() {
            offences.push(format!("{}: `{here}` says `{word}`: {why}", file.display()));
        }
    }
    for place in places(&code, "select") {
        let Some(body) = code[place..].strip_prefix("select!") else { continue };
        if !body.trim_start().trim_start_matches('{').trim_start().starts_with("biased;") {
            offences.push(format!("{}: `select!` without `biased;` is not the same in two runs", file.display()));
        }
    }
    offences
}

/// The room of a file, by its path from `src/`.
fn room(file: &Path) -> String {
    let first = file.iter().next().expect("a path has a part");
    Path::new(first).file_stem().expect("so has the part").to_string_lossy().into_owned()
}

/// How many modules deep the file is: 1 for a room itself.
fn depth(file: &Path) -> usize {
    file.iter().count() - usize::from(file.ends_with("mod.rs"))
}

/// Each path that follows a `crate::`, with groups taken apart.
fn imports(code: &str) -> Vec<String> {
    let mut paths = Vec::new();
    for place in places(code, "crate") {
        if let Some(tree) = code[place..].strip_prefix("crate::") {
            expand("", tree, &mut paths);
        }
    }
    paths
}

/// Adds the paths of a use tree such as `a::{b, c::d}` to `paths` and returns what follows the tree.
fn expand<'a>(before: &str, tree: &'a str, paths: &mut Vec<String>) -> &'a str {
    let tree = tree.trim_start();
    if let Some(mut rest) = tree.strip_prefix('{') {
        loop {
            rest = expand(before, rest, paths).trim_start();
            match rest.strip_prefix(',') {
                Some(more) => rest = more,
                None => return rest.strip_prefix('}').unwrap_or(rest),
            }
        }
    }
    let end = tree.find(|c: char| !is_word(c) && c != '*').unwrap_or(tree.len());
    let (name, rest) = tree.split_at(end);
    if name.is_empty() {
        return rest;
    }
    let path = if before.is_empty() { name.to_owned() } else { format!("{before}::{name}") };
    match rest.strip_prefix("::") {
        Some(deeper) if !deeper.starts_with('<') => expand(&path, deeper, paths),
        _ => {
            paths.push(path);
            rest
        }
    }
}

/// Where `word` stands by itself.
fn places<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    code.match_indices(word)
        .map(|(at, _)| at)
        .filter(move |at| !code[..*at].ends_with(is_word) && !code[at + word.len()..].starts_with(is_word))
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The text with comments gone and string and character literals emptied.
fn code_only(text: &str) -> String {
    let mut code = String::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            block_comment(rest)
        } else if rest.starts_with('"') {
            code.push_str("\"\"");
            string(rest)
        } else if let (true, Some(len)) = (!code.ends_with(is_word), raw_string(rest)) {
            code.push_str("\"\"");
            len
        } else if let Some(len) = character(rest) {
            code.push_str("' '");
            len
        } else {
            code.push(first);
            first.len_utf8()
        };
        rest = &rest[skipped..];
    }
    code
}

/// Length of the block comment at the start of `text`; they nest.
fn block_comment(text: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    loop {
        match text.as_bytes().get(at..at + 2) {
            Some(b"/*") => (depth, at) = (depth + 1, at + 2),
            Some(b"*/") => (depth, at) = (depth - 1, at + 2),
            Some(_) => at += 1,
            None => return text.len(),
        }
        if depth == 0 {
            return at;
        }
    }
}

/// Length of the string literal at the start of `text`.
fn string(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            '"' if !escaped => return at + 1,
            '\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    text.len()
}

/// Length of the raw string literal at the start of `text`, if there is one.
fn raw_string(text: &str) -> Option<usize> {
    let after_r = text.strip_prefix('r').or_else(|| text.strip_prefix("br"))?;
    let hashes: String = after_r.chars().take_while(|c| *c == '#').collect();
    let body = after_r[hashes.len()..].strip_prefix('"')?;
    let close = format!("\"{hashes}");
    let end = body.find(&close)? + close.len();
    Some(text.len() - body.len() + end)
}

/// Length of the character literal at the start of `text`, if there is one; a lifetime is none.
fn character(text: &str) -> Option<usize> {
    let inner = text.strip_prefix('\'')?;
    let close = match inner.strip_prefix('\\') {
        // What is escaped may be a quote itself.
        Some(escape) => 2 + escape.get(1..)?.find('\'')?,
        None => inner.chars().next()?.len_utf8(),
    };
    inner[close..].starts_with('\'').then_some(close + 2)
}

/// The code without its `#[cfg(test)]` modules.
fn without_tests(code: &str) -> String {
    let mut kept = String::new();
    let mut rest = code;
    while let Some(at) = rest.find("#[cfg(test)]") {
        kept.push_str(&rest[..at]);
        let end = rest[at..].find([';', '{']).map_or(rest.len(), |end| at + end);
        rest = match rest[end..].starts_with('{') {
            true => &rest[end + block(&rest[end..])..],
            false => rest.get(end + 1..).unwrap_or(""),
        };
    }
    kept + rest
}

/// Length of the block in braces at the start of `code`.
fn block(code: &str) -> usize {
    let mut depth = 0;
    for (at, c) in code.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 1 => return at + 1,
            '}' => depth -= 1,
            _ => {}
        }
    }
    code.len()
}

/// All Rust files below `folder`, in order.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let entries = fs::read_dir(folder).expect("a readable folder");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("a readable entry").path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
