//! What the demo's processes say to each other, as the bodies of messages.

use anyhow::Context;
use bytes::Bytes;
use meshmq::MeshKey;
use serde::{Deserialize, Serialize};

use super::text::Counts;

/// Channel of the pieces to count.
pub(super) const PIECES: &str = "pieces";
/// Channel of what workers report.
pub(super) const COUNTS: &str = "counts";

/// What a worker is told on its standard input, as a line of JSON. A second line says that the demo is
/// over; an end without it, that the first process has died.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Start {
    /// The mesh key of this demo alone.
    #[serde(with = "revealed")]
    pub(super) key: MeshKey,
    /// Where its processes find each other.
    pub(super) folder: std::path::PathBuf,
    pub(super) name: String,
}

/// The key is text only on the way: no `Debug` shows it.
mod revealed {
    use meshmq::MeshKey;
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(key: &MeshKey, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&key.reveal())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<MeshKey, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// A piece of text to count: a line of JSON, then the text.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Piece {
    pub(super) number: u32,
    /// How many times over it is to be counted.
    pub(super) times: u64,
}

impl Piece {
    pub(super) fn encode(&self, text: &str) -> Bytes {
        let mut body = serde_json::to_vec(self).expect("plain data, into memory");
        body.reserve_exact(1 + text.len());
        body.push(b'\n');
        body.extend_from_slice(text.as_bytes());
        body.into()
    }

    pub(super) fn decode(body: &[u8]) -> anyhow::Result<(Self, &str)> {
        let (head, text) = std::str::from_utf8(body)?.split_once('\n').context("a piece without text")?;
        Ok((serde_json::from_str(head)?, text))
    }
}

/// What a worker says, with its verified node id on the outside of the message.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Report {
    /// It is in the mesh.
    Here { name: String },
    /// It begins to count a piece.
    Begun { piece: u32, attempt: u32 },
    /// It has counted a piece.
    Counted { piece: u32, attempt: u32, words: Counts },
}

impl Report {
    pub(super) fn encode(&self) -> Bytes {
        serde_json::to_vec(self).expect("plain data, into memory").into()
    }

    pub(super) fn decode(body: &[u8]) -> anyhow::Result<Self> {
        Ok(serde_json::from_slice(body)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_is_told_the_key_and_nothing_shows_it() {
        let key = MeshKey::generate().unwrap();
        let start = Start { key: key.clone(), folder: "run".into(), name: "otter".into() };
        assert!(!format!("{start:?}").contains(&key.reveal()), "{start:?}");
        let line = serde_json::to_string(&start).unwrap();
        assert_eq!(serde_json::from_str::<Start>(&line).unwrap().key, key);
    }

    #[test]
    fn a_piece_keeps_its_text() {
        let piece = Piece { number: 7, times: 3 };
        let body = piece.encode("two\nlines\n");
        assert_eq!(Piece::decode(&body).unwrap(), (piece, "two\nlines\n"));
        assert!(Piece::decode(b"no line").is_err());
        assert!(Piece::decode(b"{}\n").is_err());
    }

    #[test]
    fn a_report_keeps_its_counts() {
        let report = Report::Counted { piece: 1, attempt: 2, words: [("größe".to_owned(), 3)].into() };
        assert_eq!(Report::decode(&report.encode()).unwrap(), report);
    }
}
