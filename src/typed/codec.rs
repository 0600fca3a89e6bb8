//! Which bytes? MessagePack, structs as maps with the names of their fields: one value a body, and nothing behind it.
//!
//! What comes from others is looked through before it is decoded: a decoder recurses over what it reads, also where it counts
//! no depth, and a body that is nested a million times must cost an error and not the process.

use std::io::Cursor;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::wire::limits::MAX_VALUE_DEPTH;
use crate::wire::scan::{Flaw, value};

/// Why bytes are not the value that was expected, and at which of them that showed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) at: usize,
    pub(super) why: String,
}

/// The value's bytes.
///
/// # Errors
/// It has none, for people.
pub(super) fn encode<T: Serialize>(of: &T) -> Result<Bytes, String> {
    let bytes = rmp_serde::to_vec_named(of).map_err(|error| error.to_string())?;
    // Whatever is sent here can be read there.
    value(&bytes).map_err(|(flaw, _)| said(flaw))?;
    Ok(bytes.into())
}

/// The inverse of [`encode`].
pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Fault> {
    if let Err((flaw, at)) = value(bytes) {
        return Err(Fault { at, why: said(flaw) });
    }
    rmp_serde::from_slice(bytes).or_else(|_| locate(bytes))
}

/// Once more, with an eye on the place.
#[cold]
fn locate<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Fault> {
    let mut decoder = rmp_serde::Deserializer::new(Cursor::new(bytes));
    T::deserialize(&mut decoder).map_err(|error| Fault { at: decoder.position() as usize, why: error.to_string() })
}

fn said(flaw: Flaw) -> String {
    match flaw {
        Flaw::TooDeep => format!("it is nested deeper than {MAX_VALUE_DEPTH} levels"),
        Flaw::CutShort => "it is cut short".into(),
        Flaw::Reserved => "there is a byte that MessagePack does not use".into(),
        Flaw::Trailing => "bytes stand behind the value".into(),
        Flaw::TooMany => "it has too many elements".into(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    struct Job {
        file: String,
        width: u32,
        #[serde(default)]
        tags: Vec<String>,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    enum Nested {
        End,
        In(Box<Self>),
    }

    fn why<T: DeserializeOwned + std::fmt::Debug>(bytes: &[u8]) -> (usize, String) {
        let fault = decode::<T>(bytes).unwrap_err();
        (fault.at, fault.why)
    }

    #[test]
    fn a_struct_is_a_map_with_the_names_of_its_fields() {
        let job = Job { file: "a".into(), width: 7, tags: vec!["x".into()] };
        let bytes = encode(&job).unwrap();
        assert_eq!(&bytes[..], b"\x83\xa4file\xa1a\xa5width\x07\xa4tags\x91\xa1x");
        assert_eq!(decode::<Job>(&bytes), Ok(job.clone()));
        // Unknown ones are ignored, and a default stands for one that is missing: so a type can grow.
        let other = b"\x83\xa5width\x07\xa4file\xa1a\xa4more\x81\xa1x\xc0";
        assert_eq!(decode::<Job>(other), Ok(Job { tags: Vec::new(), ..job }));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        let good = encode(&Job { file: "a".into(), width: 7, tags: Vec::new() }).unwrap();
        assert_eq!(why::<Job>(b"\x81\xa4file\xa1a"), (8, "missing field `width`".into()));
        let (at, text) = why::<Job>(b"\x82\xa4file\xa1a\xa5width\xa1b");
        assert_eq!((at, &text[..]), (15, "wrong msgpack marker FixStr(1)"));
        assert_eq!(why::<Job>(b""), (0, "it is cut short".into()));
        assert_eq!(why::<Job>(&good[..good.len() - 1]).1, "it is cut short");
        assert_eq!(why::<Job>(&[&good[..], b"\x00"].concat()), (good.len(), "bytes stand behind the value".into()));
        assert_eq!(why::<u64>(b"\xc1"), (0, "there is a byte that MessagePack does not use".into()));
        assert_eq!(why::<Vec<u64>>(b"\xdd\xff\xff\xff\xff\x01").1, "it is cut short");
    }

    #[test]
    fn a_deep_nesting_costs_an_error() {
        // A map for each level, and the text for the innermost one.
        let nested = |levels: usize| (0..levels).fold(Nested::End, |inside, _| Nested::In(Box::new(inside)));
        let most = MAX_VALUE_DEPTH;
        assert_eq!(decode::<Nested>(&encode(&nested(most)).unwrap()), Ok(nested(most)));
        assert!(encode(&nested(most + 1)).unwrap_err().contains("128 levels"));
        for million in [b"\x81\xa2In".repeat(1 << 20), b"\x91".repeat(1 << 20), b"\x81\xc0".repeat(1 << 20)] {
            assert!(why::<Nested>(&million).1.contains("128 levels"));
            assert!(why::<serde::de::IgnoredAny>(&million).1.contains("128 levels"));
        }
    }

    #[test]
    fn what_has_no_form_is_refused() {
        struct No;
        impl Serialize for No {
            fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
                Err(serde::ser::Error::custom("out of order"))
            }
        }
        assert!(encode(&No).unwrap_err().contains("out of order"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode::<Job>(&bytes);
            let _ = decode::<Nested>(&bytes);
            let _ = decode::<BTreeMap<String, Vec<Option<u64>>>>(&bytes);
        }

        #[test]
        fn any_value_comes_back(file in ".*", width: u32, tags in proptest::collection::vec(".*", 0..4)) {
            let job = Job { file, width, tags };
            prop_assert_eq!(decode::<Job>(&encode(&job).unwrap()), Ok(job));
        }
    }
}
