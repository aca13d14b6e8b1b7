//! SETTINGS (RFC 9114 §7.2.4).

/// SETTINGS_MAX_FIELD_SECTION_SIZE.
pub const MAX_FIELD_SECTION_SIZE: u64 = 0x6;
/// SETTINGS_ENABLE_CONNECT_PROTOCOL (RFC 9220 §3).
pub const ENABLE_CONNECT_PROTOCOL: u64 = 0x8;
/// SETTINGS_H3_DATAGRAM (RFC 9297 §2.1.1).
pub const H3_DATAGRAM: u64 = 0x33;

/// A SETTINGS frame's pairs, in the order of the wire, known or not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings(pub Vec<(u64, u64)>);

/// Why a SETTINGS payload is an error of the connection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// The payload ends inside a pair: H3_FRAME_ERROR.
    #[error("SETTINGS end inside a pair")]
    Truncated,
    /// The same identifier twice: H3_SETTINGS_ERROR.
    #[error("setting {0:#x} stands twice")]
    Duplicate(u64),
    /// An identifier of HTTP/2 that HTTP/3 reserves: H3_SETTINGS_ERROR.
    #[error("setting {0:#x} belongs to HTTP/2")]
    Reserved(u64),
    /// A value the setting cannot have (0x8 and 0x33 are 0 or 1): H3_SETTINGS_ERROR.
    #[error("setting {id:#x} cannot be {value}")]
    Value { id: u64, value: u64 },
}

impl Settings {
    /// Parses a SETTINGS payload.
    pub fn parse(payload: &[u8]) -> Result<Self, SettingsError> { todo!() }

    /// The payload, without frame header. Also encodes what [`Self::parse`] refuses, for tests and faults.
    pub fn encode(&self) -> Vec<u8> { todo!() }

    /// The value of setting `id`, if it was sent.
    pub fn get(&self, id: u64) -> Option<u64> { todo!() }
}

impl SettingsError {
    /// The HTTP/3 error code that closes the connection.
    pub fn code(&self) -> u64 { todo!() }
}
