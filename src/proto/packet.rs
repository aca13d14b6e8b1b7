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
    let (head, rest) = bytes.split_at_checked(5)?;
    let version = u32::from_be_bytes(head[1..].try_into().ok()?);
    let (_, rest) = connection_id(rest)?;
    let (source, rest) = connection_id(rest)?;
    let kind = match (version, head[0] >> 4 & 0b11) {
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
}
