//! Every codec against bytes nobody meant: it may refuse them, it may not panic, and what it accepts must hold together.
//!
//! On stable these are ordinary tests: random inputs for [`TIME`] each. `BOLERO_RANDOM_TEST_TIME_MS` overrules it; ten minutes of one target,
//! optimised:
//!
//! ```sh
//! BOLERO_RANDOM_TEST_TIME_MS=600000 cargo test --release --test fuzz -- frame
//! ```
//!
//! A failure prints the shrunken input and its seed; `BOLERO_RANDOM_SEED=…` tries that one first. On nightly, with `cargo install
//! cargo-bolero`, libfuzzer lets coverage lead it:
//!
//! ```sh
//! cargo +nightly bolero test frame::the_cut_changes_nothing -T 600sec
//! ```
//!
//! What that finds is kept in `tests/fuzz/__fuzz__/` and tried first by every later run, on stable too.

use std::time::Duration;

use bolero::{TypeGenerator, ValueGenerator};
use bytes::Bytes;
use masque_relay::proto::write_varint;

mod capsule;
mod datagram;
mod frame;
mod head;
mod hello;
mod log;
mod p12;
mod packet;
mod qpack;
mod settings;
mod template;
mod varint;

/// How long each target runs: long enough for some ten thousand inputs in a debug build.
const TIME: Duration = Duration::from_secs(2);

/// A few parts of a stream: many short inputs find more than few long ones.
fn parts() -> impl ValueGenerator<Output = Vec<Part>> {
    bolero::produce::<Vec<Part>>().with().len(0..8_usize)
}

/// A part of a stream. Bytes chosen blindly seldom get past the first length; these often do.
#[derive(Clone, Debug, TypeGenerator)]
enum Part {
    /// A type or an identifier as most are: one byte.
    Small(#[generator(0..64)] u8),
    /// Any integer of 62 bits.
    Integer(#[generator(0..1 << 62)] u64),
    /// A type, a length and as many bytes: a frame or a capsule.
    Record(#[generator(0..KINDS.len())] usize, Vec<u8>),
    /// A type and a length with nothing behind it.
    Front(#[generator(0..KINDS.len())] usize, u32),
    /// Anything.
    Noise(Vec<u8>),
}

/// DATA and the DATAGRAM capsule, HEADERS, SETTINGS, one of HTTP/2, and most often unknown ones.
const KINDS: [u8; 10] = [0x0, 0x0, 0x1, 0x1, 0x4, 0x8, 0xe, 0x17, 0x21, 0x3f];

/// The stream these parts make.
fn stream(parts: &[Part]) -> Bytes {
    let mut out = Vec::new();
    for part in parts {
        match part {
            Part::Small(byte) => out.push(*byte),
            Part::Integer(value) => write_varint(*value, &mut out),
            Part::Record(kind, payload) => {
                out.push(KINDS[*kind]);
                write_varint(payload.len() as u64, &mut out);
                out.extend_from_slice(payload);
            }
            Part::Front(kind, length) => {
                out.push(KINDS[*kind]);
                write_varint(u64::from(*length), &mut out);
            }
            Part::Noise(bytes) => out.extend_from_slice(bytes),
        }
    }
    out.into()
}

/// The stream in chunks: `cuts` are their sizes less one, again and again.
fn chunks(stream: &Bytes, cuts: &[u8]) -> Vec<Bytes> {
    let mut rest = stream.clone();
    let mut chunks = Vec::new();
    for cut in cuts.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        chunks.push(rest.split_to(rest.len().min(usize::from(*cut) + 1)));
    }
    chunks.push(rest);
    chunks
}
