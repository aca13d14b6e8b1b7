//! Field sections: bounded, and what decodes is encoded and decoded the same.

use bolero::{TypeGenerator, check};
use bytes::Bytes;
use masque_relay::proto::{head::Head, qpack};

/// What a field line begins with (RFC 9204 §4.5), and what follows it.
#[derive(Debug, TypeGenerator)]
enum Line {
    /// A field of the static table, or just behind its end.
    Indexed(#[generator(0..128)] u8),
    /// A name of the static table and a value.
    NameReference(#[generator(0..128)] u8, #[generator(0..2)] u8, Vec<u8>),
    /// A name and a value, each plain (0) or Huffman-coded (1).
    Literal(#[generator(0..4)] u8, Name, #[generator(0..2)] u8, Vec<u8>),
    /// Anything.
    Noise(Vec<u8>),
}

/// Short enough for a prefix of three bits.
type Name = [u8; 5];

#[test]
fn what_decodes_is_encoded_and_decoded_the_same() {
    let lines = bolero::produce::<Vec<Line>>().with().len(0..6_usize);
    check!().with_generator((lines, bolero::produce::<u8>())).with_test_time(super::TIME).for_each(|(lines, limit)| {
        let limit = 16 * usize::from(*limit);
        let Ok(head) = qpack::decode(&section(lines), limit) else { return };
        assert!(size(&head) <= limit);
        assert_eq!(qpack::decode(&qpack::encode(&head).into(), limit), Ok(head));
    });
}

#[test]
fn blind_bytes_are_decoded_or_refused() {
    check!().with_test_time(super::TIME).for_each(|bytes| {
        if let Ok(head) = qpack::decode(&Bytes::copy_from_slice(bytes), 4096) {
            assert!(size(&head) <= 4096);
            assert_eq!(qpack::decode(&qpack::encode(&head).into(), 4096), Ok(head));
        }
    });
}

/// RFC 9114 §4.2.2.
fn size(head: &Head) -> usize {
    head.fields.iter().map(|(name, value)| name.len() + value.len() + 32).sum()
}

fn section(lines: &[Line]) -> Bytes {
    let mut out = vec![0, 0];
    for line in lines {
        match line {
            Line::Indexed(index @ 0..63) => out.push(0b1100_0000 | index),
            Line::Indexed(index) => out.extend([0xff, index - 63]),
            Line::NameReference(index, huffman, value) => {
                match index {
                    0..15 => out.push(0b0101_0000 | index),
                    _ => out.extend([0b0101_1111, index - 15]),
                }
                string(*huffman, value, &mut out);
            }
            Line::Literal(flags, name, huffman, value) => {
                out.push(0b0010_0000 | flags << 3 | name.len() as u8);
                out.extend(name);
                string(*huffman, value, &mut out);
            }
            Line::Noise(bytes) => out.extend_from_slice(bytes),
        }
    }
    out.into()
}

fn string(huffman: u8, value: &[u8], out: &mut Vec<u8>) {
    let value = &value[..value.len().min(126)];
    out.push(huffman << 7 | value.len() as u8);
    out.extend_from_slice(value);
}
