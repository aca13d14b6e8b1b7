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
//! | `datagram` | HTTP Datagrams and their context | 9297 §2, 9298 §5 |
//! | `capsule` | the Capsule Protocol | 9297 §3 |

pub mod codes;

pub mod settings;

pub mod frame;

pub mod head;

pub mod qpack;

pub mod template;

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
