//! SETTINGS (RFC 9114 §7.2.4).

use std::collections::HashSet;

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
        /// The setting's identifier.
        id: u64,
        /// What it was set to.
        value: u64,
    },
}

impl Settings {
    /// Parses a SETTINGS payload. How long it may be is the caller's to bound; time and memory are linear in it.
    pub fn parse(payload: &[u8]) -> Result<Self, SettingsError> {
        let mut rest = payload;
        let mut pairs = Vec::new();
        let mut seen = HashSet::new();
        while !rest.is_empty() {
            let id = take_varint(&mut rest)?;
            let value = take_varint(&mut rest)?;
            match id {
                // RFC 9114 §7.2.4.1, §11.2.2.
                0x0 | 0x2..=0x5 => return Err(SettingsError::Reserved(id)),
                // RFC 8441 §3, RFC 9297 §2.1.1.
                ENABLE_CONNECT_PROTOCOL | H3_DATAGRAM if value > 1 => return Err(SettingsError::Value { id, value }),
                _ if !seen.insert(id) => return Err(SettingsError::Duplicate(id)),
                _ => pairs.push((id, value)),
            }
        }
        Ok(Self(pairs))
    }

    /// The payload, without frame header. Also encodes what [`Self::parse`] refuses, for tests and faults.
    pub fn encode(&self) -> Vec<u8> {
        let mut payload = Vec::new();
        for (id, value) in &self.0 {
            write_varint(*id, &mut payload);
            write_varint(*value, &mut payload);
        }
        payload
    }

    /// The value of setting `id`, if it was sent.
    pub fn get(&self, id: u64) -> Option<u64> {
        self.0.iter().find(|(sent, _)| *sent == id).map(|(_, value)| *value)
    }
}

fn take_varint(rest: &mut &[u8]) -> Result<u64, SettingsError> {
    let (value, size) = read_varint(rest).ok_or(SettingsError::Truncated)?;
    *rest = &rest[size..];
    Ok(value)
}

impl SettingsError {
    /// The HTTP/3 error code that closes the connection.
    pub fn code(&self) -> u64 {
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
    use crate::proto::VARINT_MAX;

    fn parse(pairs: &[(u64, u64)]) -> Result<Settings, SettingsError> {
        Settings::parse(&Settings(pairs.to_vec()).encode())
    }

    #[test]
    fn settings_known_or_not_are_kept_in_their_order() {
        let pairs = [
            (H3_DATAGRAM, 1),
            (0x21, VARINT_MAX),
            (MAX_FIELD_SECTION_SIZE, 16_384),
            (ENABLE_CONNECT_PROTOCOL, 0),
            (1, 64),
            (VARINT_MAX, 63),
        ];
        let settings = parse(&pairs).unwrap();
        assert_eq!(settings.0, pairs);
        assert_eq!((settings.get(H3_DATAGRAM), settings.get(VARINT_MAX), settings.get(0x7)), (Some(1), Some(63), None));
        assert_eq!(Settings::parse(&[]), Ok(Settings::default()));
    }

    #[test]
    fn non_minimal_varints_are_accepted() {
        assert_eq!(Settings::parse(&[0x40, 0x33, 0x80, 0, 0, 1]), Ok(Settings(vec![(H3_DATAGRAM, 1)])));
    }

    #[test]
    fn a_payload_that_ends_inside_a_pair_is_truncated() {
        let payload = Settings(vec![(0x4000, 0x4000)]).encode();
        for at in 1..payload.len() {
            assert_eq!(Settings::parse(&payload[..at]), Err(SettingsError::Truncated), "{at} bytes");
        }
    }

    #[test]
    fn an_identifier_twice_is_refused() {
        for id in [1, H3_DATAGRAM, 0x21, VARINT_MAX] {
            assert_eq!(parse(&[(id, 0), (0x7, 0), (id, 1)]), Err(SettingsError::Duplicate(id)));
        }
        assert_eq!(Settings::parse(&[0x33, 1, 0x40, 0x33, 1]), Err(SettingsError::Duplicate(H3_DATAGRAM)), "whatever its encoding");
    }

    #[test]
    fn identifiers_of_http_2_are_refused() {
        for id in [0, 2, 3, 4, 5] {
            assert_eq!(parse(&[(id, 0)]), Err(SettingsError::Reserved(id)));
        }
        for id in [1, 6, 7, 9] {
            assert!(parse(&[(id, 100)]).is_ok(), "{id}");
        }
    }

    #[test]
    fn switches_are_zero_or_one() {
        for id in [ENABLE_CONNECT_PROTOCOL, H3_DATAGRAM] {
            for value in [0, 1] {
                assert!(parse(&[(id, value)]).is_ok());
            }
            for value in [2, 63, 64, VARINT_MAX] {
                assert_eq!(parse(&[(id, value)]), Err(SettingsError::Value { id, value }));
            }
        }
    }

    #[test]
    fn many_settings_are_linear() {
        let pairs: Vec<_> = (0x100..0x100 + 200_000).map(|id| (id, id)).collect();
        assert_eq!(parse(&pairs).map(|settings| settings.0.len()), Ok(pairs.len()));
    }

    #[test]
    fn errors_know_their_code() {
        assert_eq!(SettingsError::Truncated.code(), 0x106);
        for error in [SettingsError::Duplicate(1), SettingsError::Reserved(2), SettingsError::Value { id: H3_DATAGRAM, value: 2 }] {
            assert_eq!(error.code(), 0x109);
        }
    }

    proptest! {
        #[test]
        fn there_and_back(sent in prop::collection::hash_map(0x34..=VARINT_MAX, 0..=VARINT_MAX, 0..20)) {
            let sent = Settings(sent.into_iter().collect());
            prop_assert_eq!(Settings::parse(&sent.encode()), Ok(sent));
        }
    }
}
