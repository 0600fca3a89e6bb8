//! Holds `docs/guarantees.md` against the tests: each promise names at least one, and none of them is missing or ignored.
//! The tests that `docs/cancel-safety.md` names are looked at, too.

use std::fs;
use std::path::Path;

const PAGE: &str = include_str!("../docs/guarantees.md");
const CANCELLED: &str = include_str!("../docs/cancel-safety.md");

#[test]
fn every_promise_has_its_test() {
    let mut faults = Vec::new();
    let mut promises = 0;
    for row in rows(PAGE).chain(rows(CANCELLED)) {
        promises += 1;
        let tests = named(row);
        if tests.is_empty() {
            faults.push(format!("no test is named: {row}"));
        }
        for test in tests {
            let source = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(test.file));
            match source.map(|source| find(&source, test.name)) {
                Ok(Found::Runs) => {}
                Ok(Found::Ignored) => faults.push(format!("ignored: {}::{}", test.file, test.name)),
                Ok(Found::Nowhere) => faults.push(format!("no such test: {}::{}", test.file, test.name)),
                Err(error) => faults.push(format!("{}: {error}", test.file)),
            }
        }
    }
    assert!(promises > 0, "the page has no table of promises");
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn faults_are_seen() {
    let page = "
| promise | test |
|---|---|
| One. | `tests/a.rs::one`, `src/b/tests.rs::two` |
| Three, with `code` and no test. | to come |

| what | default |
|---|---|
| another table | 1 |

A sentence that names `tests/c.rs::three`.
";
    let rows: Vec<_> = rows(page).collect();
    assert_eq!(rows.len(), 3);
    let tests: Vec<_> = named(rows[0]).into_iter().map(|test| (test.file, test.name)).collect();
    assert_eq!(tests, [("tests/a.rs", "one"), ("src/b/tests.rs", "two")]);
    assert!(named(rows[1]).is_empty());

    let source = "
        #[test]
        fn runs() {}

        /// Told.
        #[tokio::test(flavor = \"current_thread\")]
        #[cfg(target_os = \"linux\")]
        async fn runs_too() {}

        #[netsim::test(seeds = 5)]
        async fn runs_over_seeds(sim: Sim) {}

        #[test]
        #[ignore = \"slow\"]
        fn ignored() {}

        #[test]
        #[cfg_attr(target_os = \"linux\", ignore)]
        fn ignored_here() {}

        fn no_test() {}

        #[cfg(test)]
        fn only_for_tests() {}

        #[test_case]
        fn of_another_kind() {}

        // #[test]
        // fn put_out() {}
    ";
    assert_eq!(find(source, "runs"), Found::Runs);
    assert_eq!(find(source, "runs_too"), Found::Runs);
    assert_eq!(find(source, "runs_over_seeds"), Found::Runs);
    assert_eq!(find(source, "ignored"), Found::Ignored);
    assert_eq!(find(source, "ignored_here"), Found::Ignored);
    for name in ["no_test", "only_for_tests", "of_another_kind", "put_out", "run", "missing"] {
        assert_eq!(find(source, name), Found::Nowhere, "{name}");
    }
}

/// The rows of the tables that are headed `promise` and `test`, and whatever else names a test.
fn rows(page: &str) -> impl Iterator<Item = &str> {
    let mut inside = false;
    page.lines().filter(move |line| {
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        let heads = cells == ["", "promise", "test", ""];
        inside = heads || (inside && line.starts_with('|'));
        (inside && !heads && !line.starts_with("|--")) || line.contains(".rs::")
    })
}

/// A test as the page names it: `file::name` in backticks.
struct Named<'a> {
    file: &'a str,
    name: &'a str,
}

fn named(row: &str) -> Vec<Named<'_>> {
    let quoted = row.split('`').skip(1).step_by(2);
    quoted
        .filter_map(|text| text.split_once(".rs::").map(|(stem, name)| Named { file: &text[..stem.len() + 3], name }))
        .collect()
}

#[derive(Debug, PartialEq, Eq)]
enum Found {
    Runs,
    Ignored,
    Nowhere,
}

/// Looks for the test function of this name, and through the attributes above it.
fn find(source: &str, name: &str) -> Found {
    let lines: Vec<_> = source.lines().map(str::trim).collect();
    let heads = [format!("fn {name}("), format!("async fn {name}(")];
    let mut found = Found::Nowhere;
    for (at, _) in lines.iter().enumerate().filter(|(_, line)| heads.iter().any(|head| line.starts_with(head))) {
        let above = lines[..at].iter().rev().take_while(|line| line.starts_with("#[") || line.starts_with("//"));
        let attributes: Vec<_> = above.filter(|line| line.starts_with("#[")).collect();
        // Also inside `proptest!`, where each test has the attribute.
        let forms = ["#[tokio::test", "#[netsim::test"];
        let is_test =
            |attribute: &&&str| **attribute == "#[test]" || forms.iter().any(|form| attribute.starts_with(form));
        if !attributes.iter().any(is_test) {
            continue;
        }
        if attributes.iter().any(|attribute| attribute.contains("ignore")) {
            return Found::Ignored;
        }
        found = Found::Runs;
    }
    found
}
