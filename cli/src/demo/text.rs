//! The text that the demo counts: found, cut into pieces, counted.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::output::counted;

/// How often each word occurs.
pub(super) type Counts = HashMap<String, u64>;

/// No file beyond this size is read, in bytes: few texts are larger, and many other things are.
const MAX_FILE: u64 = 16 << 20;
/// Entries of folders that are looked at.
const MAX_ENTRIES: usize = 100_000;

/// The text files below a folder.
#[derive(Debug, Default)]
pub(super) struct Texts {
    /// The text of each file.
    pub(super) files: Vec<String>,
    pub(super) bytes: usize,
    /// Files or folders that could not be read.
    pub(super) unreadable: usize,
    /// There is more, which was left out to keep the demo short.
    pub(super) more: bool,
}

impl Texts {
    /// Reads the text files at and below `folder`, in the order of their names, up to about `most` bytes.
    pub(super) fn below(folder: &Path, most: usize) -> anyhow::Result<Self> {
        let mut texts = Self::default();
        let mut entries = 0;
        let mut folders = vec![list(folder).with_context(|| format!("cannot read the folder {}", folder.display()))?];
        while let Some(paths) = folders.last_mut() {
            let Some(path) = paths.pop() else {
                folders.pop();
                continue;
            };
            entries += 1;
            if texts.bytes >= most || entries > MAX_ENTRIES {
                texts.more = true;
                break;
            }
            // Links are not followed: they could lead in a circle, or count a text twice.
            match fs::symlink_metadata(&path) {
                Ok(meta) if meta.is_dir() && !is_left_out(&path) => match list(&path) {
                    Ok(below) => folders.push(below),
                    Err(_) => texts.unreadable += 1,
                },
                Ok(meta) if meta.is_file() && meta.len() <= MAX_FILE => texts.read(&path),
                Ok(_) => {}
                Err(_) => texts.unreadable += 1,
            }
        }
        let unreadable = match texts.unreadable {
            0 => String::new(),
            paths => format!(" ({} could not be read)", counted(paths as u64, "path")),
        };
        anyhow::ensure!(
            texts.files.iter().any(|text| words(text).next().is_some()),
            "no text below {}{unreadable}: name a folder with text files (UTF-8); hidden folders and caches are left out",
            folder.display()
        );
        Ok(texts)
    }

    fn read(&mut self, path: &Path) {
        match fs::read(path).map(String::from_utf8) {
            Ok(Ok(text)) if !text.contains('\0') => {
                self.bytes += text.len();
                self.files.push(text);
            }
            Ok(_) => {}
            Err(_) => self.unreadable += 1,
        }
    }

    /// Leaves out what goes beyond about so many bytes.
    pub(super) fn keep(&mut self, bytes: usize) {
        let (mut kept, mut most) = (0, 0);
        while most < self.files.len() && kept < bytes {
            kept += self.files[most].len();
            most += 1;
        }
        self.more |= most < self.files.len();
        self.files.truncate(most);
        if let Some(last) = self.files.last_mut()
            && let Some(beyond) = kept.checked_sub(bytes)
        {
            let end = cut(last, last.len().saturating_sub(beyond)).0.len();
            self.more |= end < last.len();
            last.truncate(end);
        }
        self.bytes = self.files.iter().map(String::len).sum();
    }

    /// All texts in pieces of about `size` bytes; no word is cut. Small files share a piece.
    pub(super) fn pieces(&self, size: usize) -> Vec<String> {
        let mut pieces = Vec::new();
        let mut piece = String::new();
        for text in &self.files {
            let mut rest = text.as_str();
            while piece.len() + rest.len() > size {
                let (head, tail) = cut(rest, size - piece.len());
                piece.push_str(head);
                pieces.push(std::mem::take(&mut piece));
                rest = tail;
            }
            if !rest.is_empty() {
                piece.push_str(rest);
                // The last word of one file and the first of the next one are two.
                piece.push('\n');
            }
            if piece.len() >= size {
                pieces.push(std::mem::take(&mut piece));
            }
        }
        pieces.extend((!piece.is_empty()).then_some(piece));
        pieces
    }
}

/// The entries of a folder, the last one first.
fn list(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    paths.sort_unstable_by(|a, b| b.cmp(a));
    Ok(paths)
}

fn is_left_out(folder: &Path) -> bool {
    folder.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
        || folder.join("CACHEDIR.TAG").exists()
}

/// Cuts between two words, at `at` or soon after it.
fn cut(text: &str, at: usize) -> (&str, &str) {
    let at = text.ceil_char_boundary(at);
    let end = text[at..].find(|c: char| !c.is_alphanumeric()).map_or(text.len(), |found| at + found);
    text.split_at(end)
}

/// The words of a text: what stands between characters that are neither letters nor digits.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty())
}

/// Adds the words of a text, in lower case, to the counts.
pub(super) fn count(text: &str, counts: &mut Counts) {
    let mut lower = String::new();
    for word in words(text) {
        lower.clear();
        lower.extend(word.chars().flat_map(char::to_lowercase));
        match counts.get_mut(&lower) {
            Some(count) => *count += 1,
            None => {
                counts.insert(lower.clone(), 1);
            }
        }
    }
}

/// Adds `more` to `counts`, `times` over.
pub(super) fn add(counts: &mut Counts, more: &Counts, times: u64) {
    for (word, count) in more {
        *counts.entry(word.clone()).or_default() += count * times;
    }
}

/// How many words that are.
pub(super) fn total(counts: &Counts) -> u64 {
    counts.values().sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(text: &str) -> Counts {
        let mut counts = Counts::new();
        count(text, &mut counts);
        counts
    }

    fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, content) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        folder
    }

    #[test]
    fn words_are_letters_and_digits_in_lower_case() {
        let expected = [("the", 2), ("quick", 1), ("2nd", 1), ("größe", 1), ("don", 1), ("t", 1)];
        let expected: Counts = expected.iter().map(|(word, n)| ((*word).to_owned(), *n)).collect();
        assert_eq!(counts("The quick — THE 2nd, (Größe)! don't"), expected);
        assert_eq!(total(&expected), 7);
        assert_eq!(counts(" .,;\n"), Counts::new());
    }

    #[test]
    fn pieces_hold_every_word_once_whatever_their_size() {
        let files = ["one two three", "Größe größer", "", "four\n", "a-very-long-line-of-words-without-a-single-space"];
        let bytes = files.iter().map(|text| text.len()).sum();
        let texts = Texts { files: files.map(str::to_owned).to_vec(), bytes, ..Texts::default() };
        let whole = counts(&files.join("\n"));
        for size in 1..100 {
            let mut sum = Counts::new();
            let pieces = texts.pieces(size);
            pieces.iter().for_each(|piece| count(piece, &mut sum));
            assert_eq!(sum, whole, "pieces of {size}");
            assert!(pieces.iter().all(|piece| !piece.is_empty()));
        }
        assert_eq!(texts.pieces(1000).len(), 1);
    }

    #[test]
    fn text_is_found_and_everything_else_is_not() {
        let folder = folder(&[
            ("a.txt", b"one"),
            ("below/further/b", b"two"),
            ("binary", b"three\0"),
            ("latin", b"f\xfcr"),
            (".git/config", b"hidden"),
            (".env", b"hidden file, not a folder"),
            ("target/CACHEDIR.TAG", b"Signature: 8a477f597d28d172789f06886806bc55"),
            ("target/c.txt", b"cache"),
        ]);
        std::os::unix::fs::symlink(folder.path(), folder.path().join("circle")).unwrap();
        let texts = Texts::below(folder.path(), 1 << 20).unwrap();
        assert_eq!(texts.files, ["hidden file, not a folder", "one", "two"]);
        assert_eq!((texts.unreadable, texts.more), (0, false));
        assert!(Texts::below(folder.path(), 10).unwrap().more);
    }

    #[test]
    fn a_folder_without_text_or_without_folder_is_named() {
        let empty = folder(&[("binary", b"\0"), ("blank", b" \n.\n")]);
        let error = Texts::below(empty.path(), 1 << 20).unwrap_err().to_string();
        assert!(error.starts_with("no text below") && error.contains(&empty.path().display().to_string()), "{error}");
        let error = format!("{:#}", Texts::below(&empty.path().join("absent"), 1 << 20).unwrap_err());
        assert!(error.contains("absent") && error.contains("No such file"), "{error}");
        let error = format!("{:#}", Texts::below(&empty.path().join("blank"), 1 << 20).unwrap_err());
        assert!(error.contains("Not a directory"), "{error}");
    }
}
