//! Field sections (RFC 9204) with the static table only: we advertise a dynamic table of capacity 0, so any reference to one is an error.

use bytes::Bytes;

use super::head::Head;

/// Why a field section is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QpackError {
    /// Cannot be decoded (RFC 9204 §2.2, §3.1, §4.5): QPACK_DECOMPRESSION_FAILED on the connection. Says why.
    #[error("QPACK: {0}")]
    Decompression(&'static str),
    /// Decodes to more than the limit (RFC 9114 §4.2.2: names + values + 32 a field): 431.
    #[error("the field section is larger than {0} bytes")]
    TooLarge(usize),
}

/// Decodes a field section whose size by RFC 9114 §4.2.2 is at most `limit`. Works in time and memory linear in the input and `limit`.
pub fn decode(section: &Bytes, limit: usize) -> Result<Head, QpackError> { todo!() }

/// Encodes with static references where they fit and plain literals otherwise; authentication fields are never-indexed literals.
pub fn encode(head: &Head) -> Vec<u8> { todo!() }
