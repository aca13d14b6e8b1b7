//! BER (X.690) from somewhere, before anything is read from it: every length in it holds.
//!
//! Where yasna passes over a value it adds its length to a position, and does not look at the sum: a length near 2^64 would panic there, or lead
//! backwards.

use yasna::{ASN1Error, ASN1ErrorKind, ASN1Result, BERReader};

/// One value of BER, read by `read`. `Err` as well if a length leads out of what it is in, or values are nested more than [`DEPTH`] deep.
pub(super) fn parse<'a, T>(bytes: &'a [u8], read: impl for<'b> FnOnce(BERReader<'a, 'b>) -> ASN1Result<T>) -> ASN1Result<T> {
    if !is_whole(bytes) {
        return Err(ASN1Error::new(ASN1ErrorKind::Eof));
    }
    yasna::parse_ber(bytes, read)
}

/// Whether it is one value of BER, with all that is in it, and nothing behind it.
pub(super) fn is_whole(bytes: &[u8]) -> bool {
    behind(bytes, DEPTH).is_some_and(<[u8]>::is_empty)
}

/// What follows the value at the front.
fn behind(bytes: &[u8], depth: usize) -> Option<&[u8]> {
    let depth = depth.checked_sub(1)?;
    let (tag, mut rest) = bytes.split_first()?;
    if tag & LONG_TAG == LONG_TAG {
        let last = rest.iter().position(|byte| byte & 0x80 == 0)?;
        rest = &rest[last + 1..];
    }
    let (first, mut rest) = rest.split_first()?;
    let constructed = tag & CONSTRUCTED != 0;
    if *first == INDEFINITE {
        let mut inner = Some(rest).filter(|_| constructed)?;
        loop {
            match inner {
                [0, 0, rest @ ..] => return Some(rest),
                _ => inner = behind(inner, depth)?,
            }
        }
    }
    let mut length = usize::from(*first);
    if first & 0x80 != 0 {
        let digits;
        (digits, rest) = rest.split_at_checked(length & 0x7f)?;
        length = digits.iter().try_fold(0_usize, |length, digit| length.checked_mul(256)?.checked_add((*digit).into()))?;
    }
    let (mut inner, rest) = rest.split_at_checked(length)?;
    while constructed && !inner.is_empty() {
        inner = behind(inner, depth)?;
    }
    Some(rest)
}

/// A tag of more than one byte: the last of them is below 128.
const LONG_TAG: u8 = 0x1f;

/// A value that consists of values.
const CONSTRUCTED: u8 = 0x20;

/// A length that is not told: two zeros are the end.
const INDEFINITE: u8 = 0x80;

/// How deep yasna reads.
const DEPTH: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_lies_within_what_it_is_in() {
        for (bytes, whole) in [
            (&[0x04, 2, 1, 2][..], true),
            (&[0x04, 0x81, 2, 1, 2], true),
            (&[0x30, 4, 0x04, 2, 1, 2], true),
            (&[0x30, 0x80, 0x04, 1, 9, 0, 0], true),
            (&[0x30, 0x80, 0x30, 0x80, 0, 0, 0, 0], true),
            (&[0x1f, 0x81, 0x00, 1, 7], true),
            (&[], false),
            (&[0x04], false),
            (&[0x04, 2, 1], false),
            (&[0x04, 2, 1, 2, 3], false),
            (&[0x30, 4, 0x04, 3, 1, 2, 3], false),
            (&[0x30, 0x80, 0x04, 1, 9, 0], false),
            (&[0x04, 0x80, 1, 0, 0], false),
            (&[0x1f, 0x81, 0x81], false),
            (&[0x04, 0x88, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1], false),
            (&[0x04, 0x89, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1], false),
            (&[0x04, 0xff, 1], false),
        ] {
            assert_eq!(is_whole(bytes), whole, "{bytes:02x?}");
        }
        let nested = |depth| [[0x30, 0x80].repeat(depth), [0, 0].repeat(depth)].concat();
        assert!(is_whole(&nested(DEPTH)) && !is_whole(&nested(DEPTH + 1)) && !is_whole(&nested(1_000_000)));
    }

    #[test]
    fn a_length_near_the_end_of_all_numbers_is_passed_over_by_nobody() {
        let hostile = [0x30, 11, 0x04, 0x88, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0];
        assert!(parse(&hostile, |reader| reader.read_sequence(|seq| seq.next().read_der())).is_err());
        assert!(parse(&[0x30, 3, 0x04, 1, 7], |reader| reader.read_sequence(|seq| seq.next().read_der())).is_ok());
    }
}
