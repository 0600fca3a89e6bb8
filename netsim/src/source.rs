//! The line of the source that a message is about.

use std::panic::Location;
use std::path::Path;

/// The place and, where the source is at hand, what stands there.
pub(crate) fn at(place: &Location<'_>) -> String {
    match line(place) {
        Some(line) => format!("{}:{}: {line}", place.file(), place.line()),
        None => format!("{}:{}", place.file(), place.line()),
    }
}

/// A file's name is given from where the compiler ran, which is a folder of this one or above.
fn line(place: &Location<'_>) -> Option<String> {
    let here = std::env::current_dir().ok()?;
    let text =
        here.ancestors().find_map(|folder| std::fs::read_to_string(folder.join(Path::new(place.file()))).ok())?;
    let line = text.lines().nth(usize::try_from(place.line()).ok()?.checked_sub(1)?)?;
    Some(line.trim().to_owned())
}
