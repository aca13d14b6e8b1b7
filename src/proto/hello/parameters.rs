//! QUIC transport parameters (RFC 9000 §18), as a client sends them.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error, ser::SerializeStruct};

use crate::proto::read_varint;

/// Bytes kept; clients send about 100.
const RAW: usize = 192;

/// What a client set, in its order: kept as the bytes that say so, and shown beside them as a `list`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Parameters {
    /// As they came, at most 192 bytes.
    #[serde(deserialize_with = "from_hex")]
    pub raw: Vec<u8>,
    /// There were more than are kept.
    pub cut: bool,
    /// They break off inside.
    pub damaged: bool,
}

/// One transport parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Parameter {
    /// Its registered number.
    pub id: u64,
    /// Bytes of its value.
    pub length: usize,
    /// Its value, where it is registered as an integer and is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<u64>,
}

/// RFC 9221 §3.
const MAX_DATAGRAM_FRAME_SIZE: u64 = 0x20;

impl Parameters {
    /// Reads as far as it makes sense.
    pub fn parse(bytes: &[u8]) -> Self {
        let mut rest = bytes;
        while next(&mut rest).is_some() {}
        Self { raw: bytes[..bytes.len().min(RAW)].to_vec(), cut: bytes.len() > RAW, damaged: !rest.is_empty() }
    }

    /// One after the other, as far as they are kept whole.
    pub fn list(&self) -> impl Iterator<Item = Parameter> {
        let mut rest = &self.raw[..];
        std::iter::from_fn(move || next(&mut rest)).map(|(id, value)| {
            let integer = is_integer(id).then(|| read_varint(value).filter(|(_, len)| *len == value.len())).flatten();
            Parameter { id, length: value.len(), value: integer.map(|(value, _)| value) }
        })
    }

    /// The value of an integer parameter.
    pub fn get(&self, id: u64) -> Option<u64> {
        self.list().find(|parameter| parameter.id == id)?.value
    }

    /// The largest DATAGRAM frame the client takes; none: it takes no QUIC datagrams.
    pub fn max_datagram_frame_size(&self) -> Option<u64> {
        self.get(MAX_DATAGRAM_FRAME_SIZE)
    }
}

fn next<'a>(rest: &mut &'a [u8]) -> Option<(u64, &'a [u8])> {
    let (id, id_len) = read_varint(rest)?;
    let (length, length_len) = read_varint(&rest[id_len..])?;
    let (value, behind) = rest[id_len + length_len..].split_at_checked(usize::try_from(length).ok()?)?;
    *rest = behind;
    Some((id, value))
}

const fn is_integer(id: u64) -> bool {
    matches!(id, 0x01 | 0x03..=0x0b | 0x0e | 0x20)
        || id == 0xff04_de1b // min_ack_delay
        || id == 0x3127 // initial_rtt
}

/// The registered name of a transport parameter, or the one it is commonly known by.
pub const fn parameter_name(id: u64) -> Option<&'static str> {
    Some(match id {
        0x00 => "original_destination_connection_id",
        0x01 => "max_idle_timeout",
        0x02 => "stateless_reset_token",
        0x03 => "max_udp_payload_size",
        0x04 => "initial_max_data",
        0x05 => "initial_max_stream_data_bidi_local",
        0x06 => "initial_max_stream_data_bidi_remote",
        0x07 => "initial_max_stream_data_uni",
        0x08 => "initial_max_streams_bidi",
        0x09 => "initial_max_streams_uni",
        0x0a => "ack_delay_exponent",
        0x0b => "max_ack_delay",
        0x0c => "disable_active_migration",
        0x0d => "preferred_address",
        0x0e => "active_connection_id_limit",
        0x0f => "initial_source_connection_id",
        0x10 => "retry_source_connection_id",
        // RFC 9368 §10.1
        0x11 => "version_information",
        MAX_DATAGRAM_FRAME_SIZE => "max_datagram_frame_size",
        // RFC 9287 §3
        0x2ab2 => "grease_quic_bit",
        // Google's
        0x3127 => "initial_rtt",
        0x3128 => "google_connection_options",
        0x4752 => "google_version",
        // draft-ietf-quic-ack-frequency
        0xff04_de1b => "min_ack_delay",
        // RFC 9000 §18.1: reserved to be ignored
        _ if id % 31 == 27 => "GREASE",
        _ => return None,
    })
}

impl Serialize for Parameters {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).expect("four bits are a digit");
        let hex: String = self.raw.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect();
        let mut shown = serializer.serialize_struct("Parameters", 4)?;
        shown.serialize_field("raw", &hex)?;
        shown.serialize_field("list", &self.list().collect::<Vec<_>>())?;
        shown.serialize_field("cut", &self.cut)?;
        shown.serialize_field("damaged", &self.damaged)?;
        shown.end()
    }
}

fn from_hex<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let nibbles: Option<Vec<_>> = text.chars().map(|digit| digit.to_digit(16)).collect();
    let nibbles = nibbles.filter(|nibbles| nibbles.len() % 2 == 0).ok_or_else(|| D::Error::custom("not hexadecimal"))?;
    Ok(nibbles.chunks(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_flags_and_what_nobody_knows() {
        let parameters = Parameters::parse(&[
            0x01, 0x04, 0x80, 0x00, 0x75, 0x30, // max_idle_timeout 30,000
            0x0c, 0x00, // disable_active_migration
            0x20, 0x02, 0x45, 0xdc, // max_datagram_frame_size 1500
            0x03, 0x02, 0x05, 0x05, // max_udp_payload_size: one byte too many for its integer
            0x40, 0x77, 0x03, 1, 2, 3, // 0x77, unknown
        ]);
        let as_tuples: Vec<_> = parameters.list().map(|one| (one.id, one.length, one.value)).collect();
        assert_eq!(as_tuples, [(1, 4, Some(30_000)), (0xc, 0, None), (0x20, 2, Some(1500)), (3, 2, None), (0x77, 3, None)]);
        assert_eq!((parameters.max_datagram_frame_size(), parameters.get(3), parameters.get(9)), (Some(1500), None, None));
        assert!(!parameters.damaged && !parameters.cut);
        let json = serde_json::to_string(&parameters).unwrap();
        assert!(json.starts_with(r#"{"raw":"0104800075300c00"#), "{json}");
        assert_eq!(serde_json::from_str::<Parameters>(&json).unwrap(), parameters);
    }

    #[test]
    fn what_breaks_off_keeps_what_came_before() {
        for damaged in [&[0x01, 0x01, 0x05, 0x40][..], &[0x01, 0x01, 0x05, 0x20], &[0x01, 0x01, 0x05, 0x20, 0x02, 0x45]] {
            let parameters = Parameters::parse(damaged);
            assert!(parameters.damaged, "{damaged:02x?}");
            assert_eq!(parameters.get(1), Some(5));
        }
    }

    #[test]
    fn no_more_is_kept_than_the_bounds() {
        let many: Vec<u8> = (0..400_u16).flat_map(|_| [0x40, 0x77, 0]).collect();
        let parameters = Parameters::parse(&many);
        assert_eq!((parameters.list().count(), parameters.raw.len(), parameters.cut, parameters.damaged), (RAW / 3, RAW, true, false));
    }
}
