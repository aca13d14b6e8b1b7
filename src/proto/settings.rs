//! SETTINGS (RFC 9114 §7.2.4).

use super::{codes::h3, read_varint, write_varint};

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
    Value {
        /// Which setting.
        id: u64,
        /// What it was set to.
        value: u64,
    },
}

impl Settings {
    /// Parses a SETTINGS payload.
    pub fn parse(mut payload: &[u8]) -> Result<Self, SettingsError> {
        let mut settings = Self::default();
        while !payload.is_empty() {
            let (id, first) = read_varint(payload).ok_or(SettingsError::Truncated)?;
            let (value, second) = read_varint(&payload[first..]).ok_or(SettingsError::Truncated)?;
            payload = &payload[first + second..];
            match id {
                // RFC 9114 §7.2.4.1, §11.2.2.
                0x0 | 0x2..=0x5 => return Err(SettingsError::Reserved(id)),
                // RFC 8441 §3, RFC 9297 §2.1.1.
                ENABLE_CONNECT_PROTOCOL | H3_DATAGRAM if value > 1 => return Err(SettingsError::Value { id, value }),
                _ if settings.get(id).is_some() => return Err(SettingsError::Duplicate(id)),
                _ => settings.0.push((id, value)),
            }
        }
        Ok(settings)
    }

    /// The payload, without frame header. Also encodes what [`Self::parse`] refuses, for tests and faults.
    pub fn encode(&self) -> Vec<u8> {
        let mut payload = Vec::with_capacity(self.0.len() * 4);
        for (id, value) in &self.0 {
            write_varint(*id, &mut payload);
            write_varint(*value, &mut payload);
        }
        payload
    }

    /// The value of setting `id`, if it was sent.
    pub fn get(&self, id: u64) -> Option<u64> {
        self.0.iter().find_map(|(other, value)| (*other == id).then_some(*value))
    }
}

impl SettingsError {
    /// The HTTP/3 error code that closes the connection.
    pub const fn code(&self) -> u64 {
        match self {
            Self::Truncated => h3::FRAME_ERROR,
            Self::Duplicate(_) | Self::Reserved(_) | Self::Value { .. } => h3::SETTINGS_ERROR,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_broken_rule_has_its_code() {
        for (bytes, want, code) in [
            (&[0x33][..], SettingsError::Truncated, h3::FRAME_ERROR),
            (&[0x33, 0x40], SettingsError::Truncated, h3::FRAME_ERROR),
            (&[0x33, 1, 0x33, 1], SettingsError::Duplicate(0x33), h3::SETTINGS_ERROR),
            (&[0x2, 0], SettingsError::Reserved(2), h3::SETTINGS_ERROR),
            (&[0x5, 0], SettingsError::Reserved(5), h3::SETTINGS_ERROR),
            (&[0x33, 2], SettingsError::Value { id: 0x33, value: 2 }, h3::SETTINGS_ERROR),
            (&[0x8, 2], SettingsError::Value { id: 0x8, value: 2 }, h3::SETTINGS_ERROR),
        ] {
            assert_eq!(Settings::parse(bytes), Err(want.clone()), "{bytes:02x?}");
            assert_eq!(want.code(), code);
        }
    }

    #[test]
    fn unknown_settings_are_kept_in_their_order() {
        let settings = Settings(vec![(0x21, 9), (H3_DATAGRAM, 1), (0xffd277, 1), (MAX_FIELD_SECTION_SIZE, 16_384)]);
        let read = Settings::parse(&settings.encode()).unwrap();
        assert_eq!(read, settings);
        assert_eq!(read.get(H3_DATAGRAM), Some(1));
        assert_eq!(read.get(ENABLE_CONNECT_PROTOCOL), None);
    }

    proptest! {
        #[test]
        fn settings_go_there_and_back(pairs in proptest::collection::btree_map(0x40..super::super::VARINT_MAX, 0..super::super::VARINT_MAX, 0..20)) {
            let settings = Settings(pairs.into_iter().collect());
            prop_assert_eq!(Settings::parse(&settings.encode()), Ok(settings));
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            if let Ok(settings) = Settings::parse(&bytes) {
                prop_assert_eq!(Settings::parse(&settings.encode()), Ok(settings));
            }
        }
    }
}
