//! QUIC's variable-length integers (RFC 9000, section 16): the two high bits of the first byte say how long it is.

use bytes::BufMut;

/// The largest value there is.
pub(crate) const MAX: u64 = (1 << 62) - 1;

/// Appends `value` in its shortest form. A value above [`MAX`] is a bug of the caller.
#[inline]
pub(crate) fn put(out: &mut impl BufMut, value: u64) {
    debug_assert!(value <= MAX);
    if value < 1 << 6 {
        out.put_u8(value as u8);
    } else if value < 1 << 14 {
        out.put_u16(value as u16 | 0x4000);
    } else if value < 1 << 30 {
        out.put_u32(value as u32 | 0x8000_0000);
    } else {
        out.put_u64(value | 0xc000_0000_0000_0000);
    }
}

/// The value at the start of `bytes` and how many bytes it takes; `None`: more bytes are needed.
#[inline]
pub(crate) fn get(bytes: &[u8]) -> Option<(u64, usize)> {
    let first = *bytes.first()?;
    match first >> 6 {
        0 => Some((u64::from(first), 1)),
        1 => Some(((u64::from(first & 0x3f) << 8) | u64::from(*bytes.get(1)?), 2)),
        2 => {
            let four: [u8; 4] = bytes.get(..4)?.try_into().ok()?;
            Some((u64::from(u32::from_be_bytes(four) & 0x3fff_ffff), 4))
        }
        _ => {
            let eight: [u8; 8] = bytes.get(..8)?.try_into().ok()?;
            Some((u64::from_be_bytes(eight) & MAX, 8))
        }
    }
}

/// Small for small differences of either sign.
pub(crate) fn zigzag(difference: i64) -> u64 {
    ((difference << 1) ^ (difference >> 63)) as u64
}

/// The inverse of [`zigzag`].
pub(crate) fn unzigzag(code: u64) -> i64 {
    (code >> 1) as i64 ^ -((code & 1) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn each_length_at_its_borders() {
        for (value, len) in
            [(0, 1), (63, 1), (64, 2), (16_383, 2), (16_384, 4), ((1 << 30) - 1, 4), (1 << 30, 8), (MAX, 8)]
        {
            let mut bytes = Vec::new();
            put(&mut bytes, value);
            assert_eq!(bytes.len(), len);
            assert_eq!(get(&bytes), Some((value, len)));
            assert_eq!(get(&bytes[..len - 1]), None, "{value} cut short");
        }
    }

    proptest! {
        #[test]
        fn any_value_comes_back(value in 0..=MAX, difference in any::<i64>()) {
            let mut bytes = Vec::new();
            put(&mut bytes, value);
            prop_assert_eq!(get(&bytes), Some((value, bytes.len())));
            prop_assert_eq!(unzigzag(zigzag(difference)), difference);
        }
    }
}
