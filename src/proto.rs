//! Bytes on the wire, without any I/O: everything here is a pure function or a state machine fed with bytes.
//!
//! | file | what | RFC |
//! | --- | --- | --- |
//! | `proto.rs` | variable-length integers | 9000 §16 |
//! | `codes` | names of error codes | 9000 §20, 9114 §8.1, 9204 §8.3, 9297 §5.2 |
//! | `settings` | SETTINGS | 9114 §7.2.4 |
//! | `frame` | HTTP/3 frames | 9114 §7 |
//! | `head` | a request or response head, verbatim, and its validation | 9114 §4.2, §4.3 |
//! | `qpack` | field sections, static table only | 9204 |
//! | `template` | URI templates of CONNECT-UDP | 9298 §2 |
//! | `url` | a relay's URL | – |
//! | `hello` | the ClientHello and its transport parameters, readable form and JA4 | 8446 §4.1.2, 9000 §18 |
//! | `datagram` | HTTP Datagrams and their context | 9297 §2, 9298 §5 |
//! | `capsule` | the Capsule Protocol | 9297 §3 |

pub mod codes;

pub mod settings;

pub mod frame;

pub mod head;

pub mod qpack;

pub mod template;

pub mod url;

pub mod hello;

pub mod datagram;

pub mod capsule;

/// The largest value a variable-length integer holds (RFC 9000 §16).
pub const VARINT_MAX: u64 = (1 << 62) - 1;

/// Reads one variable-length integer from the front of `bytes`: its value and how many bytes it took.
/// `None` when there are too few bytes. Non-minimal encodings are accepted, as RFC 9000 §16 asks.
pub fn read_varint(bytes: &[u8]) -> Option<(u64, usize)> {
    let first = *bytes.first()?;
    let len = 1 << (first >> 6);
    let value = bytes.get(1..len)?.iter().fold(u64::from(first & 0x3f), |value, byte| value << 8 | u64::from(*byte));
    Some((value, len))
}

/// Appends `value` in its shortest form. Values above [`VARINT_MAX`] do not occur on the wire and panic.
pub fn write_varint(value: u64, out: &mut Vec<u8>) {
    match varint_len(value) {
        1 => out.push(value as u8),
        2 => out.extend_from_slice(&(0x4000 | value as u16).to_be_bytes()),
        4 => out.extend_from_slice(&(0x8000_0000 | value as u32).to_be_bytes()),
        _ => out.extend_from_slice(&(0xc000_0000_0000_0000 | value).to_be_bytes()),
    }
}

/// How many bytes the shortest form of `value` takes: 1, 2, 4 or 8.
pub const fn varint_len(value: u64) -> usize {
    match value {
        0..=0x3f => 1,
        0x40..=0x3fff => 2,
        0x4000..=0x3fff_ffff => 4,
        0x4000_0000..=VARINT_MAX => 8,
        _ => panic!("a variable-length integer holds 62 bits"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The shortest form of each value at the edges of the four widths.
    const EDGES: [(u64, &[u8]); 9] = [
        (0, &[0x00]),
        (63, &[0x3f]),
        (64, &[0x40, 0x40]),
        (16_383, &[0x7f, 0xff]),
        (16_384, &[0x80, 0x00, 0x40, 0x00]),
        ((1 << 30) - 1, &[0xbf, 0xff, 0xff, 0xff]),
        (1 << 30, &[0xc0, 0, 0, 0, 0x40, 0, 0, 0]),
        // RFC 9000 §A.1
        (151_288_809_941_952_652, &[0xc2, 0x19, 0x7c, 0x5e, 0xff, 0x14, 0xe8, 0x8c]),
        (VARINT_MAX, &[0xff; 8]),
    ];

    #[test]
    fn the_shortest_form_at_every_width() {
        for (value, bytes) in EDGES {
            let mut written = Vec::new();
            write_varint(value, &mut written);
            assert_eq!((written.as_slice(), varint_len(value)), (bytes, bytes.len()), "{value}");
            assert_eq!(read_varint(bytes), Some((value, bytes.len())), "{value}");
            assert_eq!(read_varint(&[bytes, &[0xff]].concat()), Some((value, bytes.len())), "{value} and more");
        }
    }

    #[test]
    fn too_few_bytes_are_no_integer() {
        for (value, bytes) in EDGES {
            for size in 0..bytes.len() {
                assert_eq!(read_varint(&bytes[..size]), None, "{size} bytes of {value}");
            }
        }
    }

    #[test]
    fn non_minimal_forms_are_accepted() {
        for bytes in [&[0x25][..], &[0x40, 0x25], &[0x80, 0, 0, 0x25], &[0xc0, 0, 0, 0, 0, 0, 0, 0x25]] {
            assert_eq!(read_varint(bytes), Some((37, bytes.len())));
        }
    }

    #[test]
    #[should_panic(expected = "62 bits")]
    fn a_value_of_63_bits_panics() {
        write_varint(VARINT_MAX + 1, &mut Vec::new());
    }

    proptest! {
        #[test]
        fn there_and_back(value in prop_oneof![0..=VARINT_MAX, 0_u64..70_000]) {
            let mut bytes = Vec::new();
            write_varint(value, &mut bytes);
            prop_assert_eq!(read_varint(&bytes), Some((value, varint_len(value))));
        }
    }
}
