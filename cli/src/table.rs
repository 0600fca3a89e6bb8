//! Text in columns.

use std::fmt;

use comfy_table::{CellAlignment, Table as Layout, presets};

use crate::output::Tone;

/// A table of text, with a head; without the columns in which nothing stands.
pub(crate) struct Table {
    /// A `<` before it: text, which begins at the left; figures end at the right.
    heads: &'static [&'static str],
    rows: Vec<(Tone, Vec<String>)>,
}

impl Table {
    pub(crate) fn new(heads: &'static [&'static str]) -> Self {
        Self { heads, rows: Vec::new() }
    }

    pub(crate) fn push(&mut self, row: impl Into<Vec<String>>) {
        self.push_as(Tone::Calm, row);
    }

    /// Adds a row of this tone.
    pub(crate) fn push_as(&mut self, tone: Tone, row: impl Into<Vec<String>>) {
        self.rows.push((tone, row.into()));
    }

    /// Orders the rows by their first column, then by the next ones.
    pub(crate) fn sort(&mut self) {
        self.rows.sort_by(|(_, one), (_, other)| one.cmp(other));
    }

    /// Leaves out these columns, one after the other, until it fits into a width. It may still not.
    pub(crate) fn narrow(&mut self, width: usize, columns: &[&str]) {
        for head in columns {
            if self.lines().iter().all(|line| line.chars().count() <= width) {
                return;
            }
            let column = self.heads.iter().position(|other| other == head);
            for (_, row) in &mut self.rows {
                column.and_then(|column| row.get_mut(column)).into_iter().for_each(String::clear);
            }
        }
    }

    /// The head, then each row.
    fn lines(&self) -> Vec<String> {
        let shown: Vec<usize> =
            (0..self.heads.len()).filter(|column| self.rows.iter().any(|(_, row)| !row[*column].is_empty())).collect();
        let mut layout = Layout::new();
        layout.load_style(presets::NOTHING);
        layout.set_header(shown.iter().map(|column| self.heads[*column].trim_start_matches('<')));
        for (_, row) in &self.rows {
            layout.add_row(shown.iter().map(|column| &row[*column]));
        }
        for (column, shown) in layout.column_iter_mut().zip(&shown) {
            column.set_padding((0, 2));
            if !self.heads[*shown].starts_with('<') {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        layout.trim_fmt().lines().map(str::to_owned).collect()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tones = [Tone::Title].into_iter().chain(self.rows.iter().map(|(tone, _)| *tone));
        for (tone, line) in tones.zip(self.lines()) {
            writeln!(f, "{}", tone.paint(line))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_go_until_it_fits() {
        let table = || {
            let mut table = Table::new(&["<NAME", "<NODE", "COUNT", "EMPTY"]);
            for (name, count) in [("b", "1,000"), ("a", "7")] {
                table.push([name, "k3j4h5", count, ""].map(str::to_owned));
            }
            table.sort();
            table
        };
        assert_eq!(table().to_string(), "NAME  NODE    COUNT\na     k3j4h5      7\nb     k3j4h5  1,000\n");
        for (width, text) in [
            (19, "NAME  NODE    COUNT\na     k3j4h5      7\nb     k3j4h5  1,000\n"),
            (18, "NAME  COUNT\na         7\nb     1,000\n"),
            (3, "NAME\na\nb\n"),
        ] {
            let mut table = table();
            table.narrow(width, &["<NODE", "COUNT"]);
            assert_eq!(table.to_string(), text, "at {width}");
        }
    }
}
