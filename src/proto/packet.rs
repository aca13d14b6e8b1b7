//! QUIC packets as anybody on the way sees them: what long headers say in the clear (RFC 9000 §17.2, RFC 8999).

use super::read_varint;

/// One packet of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// What it is.
    pub kind: Kind,
    /// Bytes of its source connection ID; none in a short header.
    pub source: Option<usize>,
}

/// What a packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The server speaks none of our versions.
    VersionNegotiation,
    /// The first of a connection.
    Initial,
    /// Early data of the client.
    ZeroRtt,
    /// The rest of the handshake.
    Handshake,
    /// Try again with this token.
    Retry,
    /// All that follows, with a short header.
    OneRtt,
    /// Of a version unknown here.
    Foreign,
}

/// What a long header says in every version of QUIC (RFC 8999 §5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LongHeader {
    /// The version; 0 is Version Negotiation itself.
    pub version: u32,
    /// Bytes of its destination connection ID.
    pub destination: usize,
    /// Bytes of its source connection ID.
    pub source: usize,
}

impl LongHeader {
    /// That of a datagram's first packet, if it has one that is whole.
    pub fn of(datagram: &[u8]) -> Option<Self> {
        datagram.first().filter(|first| **first & LONG != 0)?;
        Self::read(datagram).map(|(header, _)| header)
    }

    /// And what follows it.
    fn read(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (head, rest) = bytes.split_at_checked(5)?;
        let version = u32::from_be_bytes(head[1..].try_into().ok()?);
        let (destination, rest) = connection_id(rest)?;
        let (source, rest) = connection_id(rest)?;
        Some((Self { version, destination, source }, rest))
    }
}

/// Whether a datagram starts with a long header of another version than 1. What is too short to say is not.
pub fn is_foreign(datagram: &[u8]) -> bool {
    matches!(datagram, [first, version @ ..] if first & LONG != 0 && version.first_chunk().is_some_and(|version| *version != VERSION_1.to_be_bytes()))
}

/// A version of QUIC (IANA's registry, and those reserved so that endpoints must not count on what is offered: RFC 9000 §15).
pub fn version_name(version: u32) -> Option<String> {
    Some(match version {
        0 => "Version Negotiation".into(),
        VERSION_1 => "v1".into(),
        0x6b33_43cf => "v2".into(),
        0xff00_0000..=0xff00_00ff => format!("draft-{:02}", version & 0xff),
        _ if version & 0x0f0f_0f0f == 0x0a0a_0a0a => "GREASE".into(),
        _ => return None,
    })
}

/// The packets of a datagram, up to the first that cannot be read or tells no length.
pub fn packets(mut datagram: &[u8]) -> Vec<Packet> {
    let mut all = Vec::new();
    while let Some(first) = datagram.first()
        && all.len() < MOST
    {
        if first & LONG == 0 {
            all.push(Packet { kind: Kind::OneRtt, source: None });
            break;
        }
        let Some((packet, rest)) = long(datagram) else { break };
        all.push(packet);
        datagram = rest;
    }
    all
}

/// A packet with a long header, and what follows it.
fn long(bytes: &[u8]) -> Option<(Packet, &[u8])> {
    let (LongHeader { version, source, .. }, rest) = LongHeader::read(bytes)?;
    let kind = match (version, bytes[0] >> 4 & 0b11) {
        (0, _) => Kind::VersionNegotiation,
        (VERSION_1, 0) => Kind::Initial,
        (VERSION_1, 1) => Kind::ZeroRtt,
        (VERSION_1, 2) => Kind::Handshake,
        (VERSION_1, _) => Kind::Retry,
        _ => Kind::Foreign,
    };
    let rest = match kind {
        Kind::Initial => skip(skip(rest)?)?,
        Kind::ZeroRtt | Kind::Handshake => skip(rest)?,
        _ => &[],
    };
    Some((Packet { kind, source: Some(source) }, rest))
}

/// A length of one byte and what it counts; gives the length.
fn connection_id(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (length, rest) = bytes.split_first()?;
    let length = usize::from(*length);
    Some((length, rest.get(length..)?))
}

/// A length as an integer and what it counts.
fn skip(bytes: &[u8]) -> Option<&[u8]> {
    let (length, at) = read_varint(bytes)?;
    bytes.get(at..)?.get(usize::try_from(length).ok()?..)
}

/// The first bit of a long header.
const LONG: u8 = 0x80;

/// RFC 9000.
const VERSION_1: u32 = 1;

/// Nobody coalesces more.
const MOST: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn long_packet(kind: u8, version: u32, source: &[u8], rest: &[u8]) -> Vec<u8> {
        let head = [&[0xc0 | kind << 4], &version.to_be_bytes()[..], &[2, 9, 9, source.len() as u8], source].concat();
        [&head, rest].concat()
    }

    #[test]
    fn coalesced_packets_are_told_apart() {
        let datagram =
            [long_packet(0, 1, &[1; 8], &[1, 7, 3, 0, 0, 0]), long_packet(2, 1, &[1; 19], &[2, 0, 0]), vec![0x40, 1, 2, 3, 0x80]].concat();
        let kinds: Vec<_> = packets(&datagram).into_iter().map(|packet| (packet.kind, packet.source)).collect();
        assert_eq!(kinds, [(Kind::Initial, Some(8)), (Kind::Handshake, Some(19)), (Kind::OneRtt, None)]);
        for cut in 0..datagram.len() {
            assert!(packets(&datagram[..cut]).len() <= 3);
        }
    }

    #[test]
    fn what_ends_a_datagram_is_named() {
        for (bytes, kind) in [
            (long_packet(3, 1, &[1; 8], &[0; 40]), Kind::Retry),
            (long_packet(0, 0, &[], &[0, 0, 0, 1]), Kind::VersionNegotiation),
            (long_packet(0, 0x6b33_43cf, &[], &[0; 40]), Kind::Foreign),
        ] {
            assert_eq!(packets(&bytes).iter().map(|packet| packet.kind).collect::<Vec<_>>(), [kind]);
        }
        assert_eq!(packets(b""), []);
    }

    #[test]
    fn a_header_of_any_version_says_as_much() {
        for version in [0, 1, 0x1a2a_3a4a, u32::MAX] {
            let bytes = long_packet(0, version, &[1; 5], &[7; 40]);
            assert_eq!(LongHeader::of(&bytes), Some(LongHeader { version, destination: 2, source: 5 }));
            assert_eq!(is_foreign(&bytes), version != 1);
            // Whole only with both connection IDs: 6 + 2 and 1 + 5 bytes.
            assert!((0..14).all(|cut| LongHeader::of(&bytes[..cut]).is_none()));
            assert!((0..5).all(|cut| !is_foreign(&bytes[..cut])));
        }
        let short = [&[0x40], &[0xff; 40][..]].concat();
        assert_eq!((LongHeader::of(&short), is_foreign(&short)), (None, false));
    }

    #[test]
    fn versions_have_their_names() {
        for (version, name) in [
            (0, Some("Version Negotiation")),
            (1, Some("v1")),
            (0x6b33_43cf, Some("v2")),
            (0xff00_001d, Some("draft-29")),
            (0x1a2a_3a4a, Some("GREASE")),
            (0xfafa_fafa, Some("GREASE")),
            (0x5130_3530, None),
        ] {
            assert_eq!(version_name(version).as_deref(), name, "{version:#x}");
        }
    }
}
